package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

const (
	// atOnce is how many services the janitor settles under one hold of the lock.
	atOnce = 256
	// many is how many services there must be at least for most of them to be
	// more than chance.
	many = 4
)

// Run is the janitor: at every interval it warns of services that were not heard
// for half the TTL, marks those unhealthy that were not for all of it, and
// forgets those that have long been silent; in between it saves what heartbeats
// have told. It returns nil when ctx ends and everything is saved.
func (r *Registry) Run(ctx context.Context) error {
	r.mu.Lock()
	r.clock.begin(time.Now())
	r.mu.Unlock()
	pass := time.NewTicker(r.opts.JanitorInterval)
	defer pass.Stop()
	save := time.NewTicker(beatInterval)
	defer save.Stop()
	if r.opts.Store == nil {
		save.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			_ = r.save(true)
			return nil
		case <-pass.C:
			r.pass()
			_ = r.settle()
		case <-save.C:
			_ = r.save(true)
		}
	}
}

// pass is one pass of the janitor.
func (r *Registry) pass() {
	p := pass{r: r}
	p.locked(func(now time.Time) {
		p.at = r.time(now)
		r.clock.pass(now)
		r.calmDown(now)
	})
	p.each(r.warnOne)
	hold := false
	p.locked(func(time.Time) { hold = r.holds(p.at) })
	if !hold {
		p.each(r.blameOne)
		p.each(r.expireOne)
	}
	p.locked(func(time.Time) { r.passed = p.took })
}

// pass is one under way.
type pass struct {
	r    *Registry
	at   time.Duration // on the registry's clock
	took time.Duration // with the lock held
}

// locked does something with the lock held.
func (p *pass) locked(do func(now time.Time)) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	now := time.Now()
	do(now)
	p.took += time.Since(now)
}

// each does one thing after the other until there is none, and gives up the
// lock now and then.
func (p *pass) each(one func(at time.Duration, now time.Time) bool) {
	for more := true; more; {
		p.locked(func(now time.Time) {
			for i := 0; more && i < atOnce; i++ {
				more = one(p.at, now)
			}
		})
	}
}

// warnOne warns of the first service that was not heard for half the TTL. The
// next three, like it, report whether there was one; the caller holds r.mu.
func (r *Registry) warnOne(at time.Duration, now time.Time) bool {
	rec := r.passing.first
	if rec == nil || at-rec.heard < r.opts.TTL/2 {
		return false
	}
	r.warning.take(rec)
	if rec.Healthy && at-rec.heard < r.opts.TTL {
		rec.Tier = Warning
		r.commit(rec, now, journal.Health, "warning: no heartbeat for "+span(at-rec.heard), healthData(true))
	}
	return true
}

// holds reports whether this pass is to blame nobody: most of many services
// are silent, which is more likely flowctl's fault, or the network's, than
// theirs. The next pass believes it.
func (r *Registry) holds(at time.Duration) bool {
	due := r.warning.first != nil && at-r.warning.first.heard >= r.opts.TTL
	all := r.warning.length + r.passing.length
	most := all >= many && 2*r.warning.length > all
	hold := due && most && !r.held
	if hold {
		r.opts.Record(journal.Entry{Time: time.Now(), Kind: journal.Notice, Text: fmt.Sprintf(
			"%d of %d services have not been heard for %s or longer: looking again before any is called unhealthy", r.warning.length, all, span(r.opts.TTL/2))})
	}
	r.held = due && most
	return hold
}

// blameOne makes the first service unhealthy that was not heard for the TTL.
func (r *Registry) blameOne(at time.Duration, now time.Time) bool {
	rec := r.warning.first
	if rec == nil || at-rec.heard < r.opts.TTL {
		return false
	}
	if rec.expected == nil {
		r.silent.take(rec)
	} else {
		rec.leaveQueue()
	}
	reason := "no heartbeat for " + span(now.Sub(rec.LastSeen))
	if rec.Tier == Unheard {
		reason = "no heartbeat since the control plane was started anew"
	}
	r.ail(rec, now, reason)
	return true
}

// expireOne forgets the first service that has been silent for long enough.
func (r *Registry) expireOne(at time.Duration, now time.Time) bool {
	rec := r.silent.first
	if rec == nil || at-rec.heard < r.opts.ExpireAfter {
		return false
	}
	r.commit(rec, now, journal.Register, "expired after "+span(now.Sub(rec.LastSeen))+" of silence", nil)
	r.remove(rec)
	return true
}

package registry

import (
	"context"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// Run is the janitor: at every interval it marks services unhealthy that were
// not heard for the TTL. It returns nil when ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(r.opts.JanitorInterval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now := time.Now()
			r.sweep(last, now)
			last = now
		}
	}
}

// sweep is one pass of the janitor; last was the one before. Times carry the
// monotonic clock, so that nobody expires because the wall clock was set.
func (r *Registry) sweep(last, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	late := r.lateness(last, now)
	if late > 0 {
		r.opts.Record(journal.Entry{Time: now, Kind: journal.Notice,
			Text: "flowctl was held up for " + span(late) + "; heartbeats may come as much later"})
	}
	for _, rec := range r.records {
		rec.deadline = rec.deadline.Add(late)
		switch {
		case (rec.Registered || rec.Adopted) && !rec.deaf && !rec.stale && !now.Before(rec.deadline):
			rec.stale = true
			r.ail(rec, now, "no heartbeat for "+span(now.Sub(rec.LastSeen)))
		case rec.expected == nil && rec.stale && now.Sub(rec.LastSeen) >= r.opts.ForgetAfter:
			r.commit(rec, now, journal.Register, "forgotten after "+span(now.Sub(rec.LastSeen))+" of silence", nil)
			r.remove(rec)
		}
	}
}

// lateness says by how much a pass overran its time, when that is too much to
// be scheduling: flowctl was stopped, or starved, and could not hear anyone,
// so that silence in that time is nobody's fault.
func (r *Registry) lateness(last, now time.Time) time.Duration {
	slack := max(r.opts.JanitorInterval/2, 100*time.Millisecond)
	late := now.Sub(last) - r.opts.JanitorInterval
	if late <= slack {
		return 0
	}
	return late
}

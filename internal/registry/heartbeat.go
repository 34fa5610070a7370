package registry

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// reportsUnhealthy is the reason of a service that calls itself unhealthy.
const reportsUnhealthy = "reports itself unhealthy"

// Beat is one heartbeat. The registry keeps Metrics: do not change it afterwards.
type Beat struct {
	// Metrics replace those of the beat before.
	Metrics map[string]float64
	// Reported is what the service says of its health; "" leaves what it said
	// before.
	Reported Health
}

// Heartbeat notes a sign of life of the service that goes by id. A service
// nobody registered is adopted. known is false as long as a registration would
// be welcome. Beats of a service that has exited or left change nothing. The
// error wraps ErrInvalidID or ErrFull, or says that a change of its health could
// not be saved.
func (r *Registry) Heartbeat(id string, beat Beat) (known bool, err error) {
	known, changed, err := r.heartbeat(id, beat)
	if changed && err == nil {
		err = r.settle()
	}
	return known, err
}

func (r *Registry) heartbeat(id string, beat Beat) (known, changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.find(id)
	if rec == nil {
		if rec, err = r.adopt(id); err != nil {
			return false, false, err
		}
	}
	if rec.deaf {
		return true, false, nil
	}
	now, before := time.Now(), r.revision
	r.heard(rec, now)
	r.takeMetrics(rec, beat.Metrics)
	if !rec.Registered && !rec.Adopted {
		rec.Adopted, rec.Healthy, rec.Tier, rec.Reason = true, true, Passing, ""
		r.commit(rec, now, journal.Register, "adopted: heartbeats of an id nobody registered", nil)
	}
	r.judge(rec, now, beat.Reported)
	return rec.Registered, r.revision != before, nil
}

// adopt adds a service that nobody has registered. The caller holds r.mu.
func (r *Registry) adopt(id string) (*record, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalidID)
	}
	if err := r.room(1, 0); err != nil {
		return nil, err
	}
	return r.create(id), nil
}

// judge settles the health of a service that was just heard. The caller holds
// r.mu.
func (r *Registry) judge(rec *record, now time.Time, reported Health) {
	said := rec.Reported
	rec.Reported = cmp.Or(reported, said)
	switch {
	case rec.Reported == Unhealthy:
		if rec.Reason != reportsUnhealthy {
			r.ail(rec, now, reportsUnhealthy)
		}
	case !rec.Healthy:
		lasted := time.Duration(r.moment(now) - rec.unhealthySince)
		text := "healthy again after " + span(lasted)
		if rec.Tier == Unheard {
			text = "heard again, " + span(lasted) + " after the control plane was started anew"
		}
		rec.Healthy, rec.Tier, rec.Reason = true, Passing, ""
		r.commit(rec, now, journal.Health, text, healthData(true))
		r.countChange(rec, now)
	case rec.Tier == Warning:
		rec.Tier = Passing
		r.commit(rec, now, journal.Health, "heard again", healthData(true))
	case said == rec.Reported:
		// The usual heartbeat: nothing to say.
	case said == Unknown && rec.Reported == Healthy:
		r.commit(rec, now, "", "", nil)
	default:
		r.commit(rec, now, journal.Health, "reports itself "+string(rec.Reported), healthData(true))
	}
}

// Exited says that the process of an expected component was seen to end: its
// service is unhealthy at once, for that reason, and heartbeats that are still
// on their way revive nothing.
func (r *Registry) Exited(id, reason string) error {
	r.exited(id, reason)
	return r.settle()
}

func (r *Registry) exited(id, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.expected[id]
	if rec == nil {
		return
	}
	now := time.Now()
	rec.running, rec.deaf = false, true
	rec.leaveQueue()
	if rec.Healthy {
		r.ail(rec, now, reason)
		return
	}
	rec.Tier, rec.Reason = Critical, reason
	r.commit(rec, now, "", "", nil)
}

// Deregister says that a service leaves, and reports whether it was there. One
// that belongs to an expected component is kept for Get, others are forgotten,
// but for their history.
func (r *Registry) Deregister(id string) (there bool, err error) {
	if !r.deregister(id) {
		return false, nil
	}
	return true, r.settle()
}

func (r *Registry) deregister(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.find(id)
	if rec == nil || !rec.Registered && !rec.Adopted {
		return false
	}
	now := time.Now()
	rec.Registered, rec.Adopted, rec.Healthy = false, false, false
	rec.Left, rec.deaf, rec.Tier, rec.Reason = true, true, Critical, "left"
	rec.LastSeen, rec.unhealthySince = now, r.moment(now)
	rec.leaveQueue()
	r.commit(rec, now, journal.Register, "left", nil)
	if rec.expected == nil {
		r.remove(rec)
	}
	return true
}

// heard notes a sign of life. The caller holds r.mu.
func (r *Registry) heard(rec *record, now time.Time) {
	if !rec.seen {
		rec.seen = true
		if rec.FirstSeen.IsZero() {
			rec.FirstSeen = now
		}
	}
	rec.LastSeen = now
	rec.heard = r.time(now)
	r.passing.take(rec)
	if r.opts.Store != nil {
		r.unsaved.beat(rec)
	}
}

// time is the registry's clock; that it has stood still is told. The caller holds r.mu.
func (r *Registry) time(now time.Time) time.Duration {
	at, stood := r.clock.now(now)
	if stood > 0 {
		r.opts.Record(journal.Entry{Time: now, Kind: journal.Notice,
			Text: "flowctl was held up for " + span(stood) + "; heartbeats may come as much later"})
	}
	return at
}

// ail makes a service unhealthy, or unhealthy for another reason. The caller
// holds r.mu.
func (r *Registry) ail(rec *record, now time.Time, reason string) {
	was := rec.Healthy
	if was {
		rec.unhealthySince = r.moment(now)
	}
	rec.Healthy, rec.Tier, rec.Reason = false, Critical, reason
	r.commit(rec, now, journal.Health, "unhealthy: "+reason, healthData(false))
	if was {
		r.countChange(rec, now)
	}
}

func healthData(healthy bool) map[string]string {
	return map[string]string{"healthy": strconv.FormatBool(healthy)}
}

// span words a duration for people: no more digits than matter.
func span(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}

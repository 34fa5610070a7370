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
// error wraps ErrInvalidID.
func (r *Registry) Heartbeat(id string, beat Beat) (known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.find(id)
	if rec == nil {
		if err := checkID(id); err != nil {
			return false, err
		}
		if id == "" {
			return false, fmt.Errorf("%w: it is empty", ErrInvalidID)
		}
		rec = r.create(id)
	}
	if rec.deaf {
		return true, nil
	}
	now := time.Now()
	rec.heard(now, r.opts.TTL)
	rec.Metrics = beat.Metrics
	if !rec.Registered && !rec.Adopted {
		rec.Adopted, rec.Healthy, rec.Reason = true, true, ""
		r.commit(rec, now, journal.Register, "adopted: heartbeats of an id nobody registered", nil)
	}
	r.judge(rec, now, beat.Reported)
	return rec.Registered, nil
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
		rec.Healthy, rec.Reason = true, ""
		r.commit(rec, now, journal.Health, "healthy again after "+span(now.Sub(rec.unhealthySince)), healthData(true))
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
func (r *Registry) Exited(id, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.expected[id]
	if rec == nil {
		return
	}
	now := time.Now()
	rec.running, rec.deaf = false, true
	if rec.Healthy {
		r.ail(rec, now, reason)
		return
	}
	rec.Reason = reason
	r.commit(rec, now, "", "", nil)
}

// Deregister says that a service leaves, and reports whether it was there. One
// that belongs to an expected component is kept for Get, others are forgotten.
func (r *Registry) Deregister(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.find(id)
	if rec == nil || !rec.Registered && !rec.Adopted {
		return false
	}
	now := time.Now()
	rec.Registered, rec.Adopted, rec.Healthy = false, false, false
	rec.Left, rec.deaf, rec.Reason = true, true, "left"
	rec.LastSeen, rec.unhealthySince = now, now
	r.commit(rec, now, journal.Register, "left", nil)
	if rec.expected == nil {
		r.remove(rec)
	}
	return true
}

// heard notes a sign of life.
func (rec *record) heard(now time.Time, ttl time.Duration) {
	if !rec.seen {
		rec.seen, rec.FirstSeen = true, now
	}
	rec.LastSeen, rec.stale = now, false
	rec.deadline = now.Add(ttl)
}

// ail makes a service unhealthy, or unhealthy for another reason. The caller
// holds r.mu.
func (r *Registry) ail(rec *record, now time.Time, reason string) {
	if rec.Healthy {
		rec.unhealthySince = now
	}
	rec.Healthy, rec.Reason = false, reason
	r.commit(rec, now, journal.Health, "unhealthy: "+reason, healthData(false))
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

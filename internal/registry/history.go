package registry

import (
	"fmt"
	"slices"
	"time"
	"unique"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// A service whose health has changed flaps times within flapWindow is flapping,
// until no more than calm changes are left in it.
const (
	flaps      = 6
	calm       = 2
	flapWindow = 5 * time.Minute
)

// History returns what is remembered of the service that goes by id, the oldest
// event first, and the service as it is or, if it is no more, as it last was.
func (r *Registry) History(id string) (service Service, events []Event, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.find(id); rec != nil && rec.seen {
		return rec.Service, slices.Clone(rec.history), true
	}
	if rec := r.past.byID[id]; rec != nil {
		return rec.Service, slices.Clone(rec.history), true
	}
	return Service{}, nil, false
}

// remember adds an event; the oldest go.
func (rec *record) remember(e Event) {
	if len(rec.history) == maxHistory {
		rec.history = slices.Delete(rec.history, 0, 1)
	}
	e.Text = unique.Make(e.Text).Value() // much the same happens to very many
	rec.history = append(rec.history, e)
}

// healthChanges is how often its health has changed since a time.
func (rec *record) healthChanges(since time.Time) int {
	n := 0
	for i, e := range rec.history {
		was := i > 0 && rec.history[i-1].Tier.healthy()
		if i > 0 && e.Tier.healthy() != was && e.Time.After(since) {
			n++
		}
	}
	return n
}

func (t Tier) healthy() bool { return t == Passing || t == Warning }

// countChange is called after each change of a service's health. The caller holds r.mu.
func (r *Registry) countChange(rec *record, now time.Time) {
	if n := rec.healthChanges(now.Add(-flapWindow)); n >= flaps && !rec.Flapping {
		rec.Flapping = true
		r.flapping[rec] = struct{}{}
		r.commit(rec, now, journal.Health, fmt.Sprintf("is flapping: its health has changed %d times within %s", n, flapWindow), healthData(rec.Healthy))
	}
}

// calmDown ends the flapping of those who flap no more. The caller holds r.mu.
func (r *Registry) calmDown(now time.Time) {
	for rec := range r.flapping {
		if rec.healthChanges(now.Add(-flapWindow)) <= calm {
			delete(r.flapping, rec)
			rec.Flapping = false
			r.commit(rec, now, journal.Health, "flaps no more", healthData(rec.Healthy))
		}
	}
}

// past holds the services that are no more, for their history: a bounded
// number of them, the oldest go. The registry's lock guards it.
type past struct {
	byID  map[string]*record
	order []*record // oldest first; those that have come back are still in it
}

// add keeps a record that was removed, and returns one that is forgotten for it, or nil.
func (p *past) add(rec *record) *record {
	if p.byID == nil {
		p.byID = make(map[string]*record)
	}
	p.byID[rec.ID] = rec
	p.order = append(p.order, rec)
	if len(p.order) <= maxPast {
		return nil
	}
	oldest := p.order[0]
	p.order = p.order[1:]
	if p.byID[oldest.ID] != oldest { // it has come back since
		return nil
	}
	delete(p.byID, oldest.ID)
	return oldest
}

// take takes out the record of a service that has come back, or returns nil.
func (p *past) take(id string) *record {
	rec := p.byID[id]
	delete(p.byID, id)
	return rec
}

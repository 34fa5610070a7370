package registry

import (
	"context"
	"fmt"
	"iter"
)

// Await returns the service called id as soon as cond holds for it. It is
// woken by registrations, changes of health and leaving, not by heartbeats.
// cond is not asked while the service has never been heard of, and must not
// block. The error is ctx's.
func (r *Registry) Await(ctx context.Context, id string, cond func(Service) bool) (Service, error) {
	for {
		service, seen, changed := r.watch(id)
		if seen && cond(service) {
			return service, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return service, fmt.Errorf("wait for service %s: %w", id, context.Cause(ctx))
		}
	}
}

// watch returns the service as it is, whether it has ever been heard of, and a
// channel that is closed at its next change: no change is missed in between.
func (r *Registry) watch(id string) (service Service, seen bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.records[id]; rec != nil {
		service, seen = rec.Service, rec.seen
	}
	ch, ok := r.waiters[id]
	if !ok {
		ch = make(chan struct{})
		r.waiters[id] = ch
	}
	return service, seen, ch
}

// Update is what a watcher is told.
type Update struct {
	// Changed are services that are as given now, Gone the ids of those that have
	// left, have expired, or that the filter lets through no more.
	Changed []Service
	Gone    []string
	// All is true when nothing that was told before counts any more: at the
	// beginning, and when the watcher has been so slow that changes it has not seen
	// are not known any more. Changed here and in what follows is all there are.
	All bool
	// Revision is the registry's, of the last change that the watcher has been told of.
	Revision uint64
}

// Watch yields all services that the filter lets through and then what changes
// among them, without a gap, until ctx is done, a few at a time. Several changes of
// one service may become one. A heartbeat is no change.
func (r *Registry) Watch(ctx context.Context, f Filter) iter.Seq[Update] {
	return func(yield func(Update) bool) {
		w := watcher{registry: r, filter: f, told: make(map[string]struct{})}
		w.all()
		for {
			u, wake := w.next()
			if (u.All || len(u.Changed) > 0 || len(u.Gone) > 0) && !yield(u) {
				return
			}
			if wake == nil {
				continue
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

// watcher is a Watch under way.
type watcher struct {
	registry *Registry
	filter   Filter
	seen     uint64              // the revision it has been told of
	told     map[string]struct{} // ids it has been told of, and not that they are gone
	// rest are those of all services that are still to be told, anew is true before the first.
	rest []*record
	anew bool
}

// all begins to tell all services. They may be newer than seen when they are told:
// then they are told once more.
func (w *watcher) all() {
	w.registry.mu.Lock()
	w.seen = w.registry.revision
	w.registry.mu.Unlock()
	w.filter.First = 0
	w.rest, w.anew = w.registry.ordered(), true
	clear(w.told)
}

// some returns the next of all services. The caller holds the registry's lock.
func (w *watcher) some() Update {
	u := Update{All: w.anew, Revision: w.seen}
	n := min(atOnce, len(w.rest))
	for _, rec := range w.rest[:n] {
		if rec.listed() && w.filter.Matches(&rec.Service) {
			u.Changed = append(u.Changed, rec.Service)
			w.told[rec.ID] = struct{}{}
		}
	}
	w.rest, w.anew = w.rest[n:], false
	return u
}

// next returns what is to be told next; if there is nothing, a channel that is
// closed at the next change.
func (w *watcher) next() (u Update, wake <-chan struct{}) {
	r := w.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case w.anew || len(w.rest) > 0:
		return w.some(), nil
	case w.seen == r.revision:
		return Update{}, r.changes.wake()
	}
	if !r.changes.known(w.seen) {
		r.mu.Unlock()
		defer r.mu.Lock()
		w.all()
		return Update{}, nil
	}
	u.Revision = min(r.revision, w.seen+atOnce)
	for n := w.seen + 1; n <= u.Revision; n++ {
		rec := r.changes.at(n)
		switch {
		case rec.Revision != n: // it has changed again since, and is met there
		case rec.listed() && w.filter.Matches(&rec.Service):
			u.Changed = append(u.Changed, rec.Service)
			w.told[rec.ID] = struct{}{}
		default:
			if _, was := w.told[rec.ID]; was {
				u.Gone = append(u.Gone, rec.ID)
				delete(w.told, rec.ID)
			}
		}
	}
	w.seen = u.Revision
	return u, nil
}

// A watcher may be late by so many changes at least, and by so many for each
// service: then it is cheaper to tell it of all there are.
const (
	fewChanges        = 8192
	changesPerService = 4
)

// changes are the last changes, by their revisions, of which each is one more
// than the one before. The registry's lock guards them.
type changes struct {
	ring    []*record // that of revision n is at n modulo its length
	last    uint64    // revision
	changed chan struct{}
}

// add notes a change of rec, whose revision is set; services is how many there are.
func (c *changes) add(rec *record, services int) {
	if len(c.ring) < max(fewChanges, changesPerService*services/2) {
		c.grow(max(fewChanges, changesPerService*services))
	}
	c.last = rec.Revision
	c.ring[c.last%uint64(len(c.ring))] = rec
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// grow makes room for more changes.
func (c *changes) grow(size int) {
	old := *c
	c.ring = make([]*record, size)
	for n := max(old.last, uint64(len(old.ring))) - uint64(len(old.ring)) + 1; n <= old.last; n++ {
		c.ring[n%uint64(size)] = old.at(n)
	}
}

// at is the service that changed at a revision that is known.
func (c *changes) at(revision uint64) *record { return c.ring[revision%uint64(len(c.ring))] }

// known reports whether all changes after a revision are known.
func (c *changes) known(revision uint64) bool { return c.last-revision <= uint64(len(c.ring)) }

// wake returns a channel that is closed at the next change.
func (c *changes) wake() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

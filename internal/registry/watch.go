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
	ids, upTo, known := r.changes.since(w.seen)
	if !known {
		r.mu.Unlock()
		defer r.mu.Lock()
		w.all()
		return Update{}, nil
	}
	w.seen, u.Revision = upTo, upTo
	for _, id := range ids {
		rec := r.records[id]
		if rec != nil && rec.listed() && w.filter.Matches(&rec.Service) {
			u.Changed = append(u.Changed, rec.Service)
			w.told[id] = struct{}{}
		} else if _, was := w.told[id]; was {
			u.Gone = append(u.Gone, id)
			delete(w.told, id)
		}
	}
	return u, nil
}

// maxChanges is how many changes a watcher may be late.
const maxChanges = 8192

// changes are the ids of the services that have changed last, in order. The
// registry's lock guards them.
type changes struct {
	ids     []string // a ring: that of revision n is at n % maxChanges
	last    uint64   // revision
	changed chan struct{}
}

// add notes a change, whose revision is one more than that of the one before.
func (c *changes) add(revision uint64, id string) {
	if c.ids == nil {
		c.ids = make([]string, maxChanges)
	}
	c.ids[revision%maxChanges] = id
	c.last = revision
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// since returns the ids of the services that have changed after a revision, each
// once, up to a later one; known is false when not all are known any more.
func (c *changes) since(revision uint64) (ids []string, upTo uint64, known bool) {
	if c.last-revision > maxChanges {
		return nil, 0, false
	}
	upTo = min(c.last, revision+atOnce)
	seen := make(map[string]struct{})
	for n := revision + 1; n <= upTo; n++ {
		id := c.ids[n%maxChanges]
		if _, again := seen[id]; !again {
			seen[id] = struct{}{}
			ids = append(ids, id)
		}
	}
	return ids, upTo, true
}

// wake returns a channel that is closed at the next change.
func (c *changes) wake() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

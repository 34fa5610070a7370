package registry

import (
	"context"
	"fmt"
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

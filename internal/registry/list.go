package registry

import (
	"iter"
	"slices"
	"strings"
)

// List returns the services that have not left and that the filter lets
// through, ordered by id. It looks at a few at a time, so that nobody waits for
// long: each is as it was at some moment of the call.
func (r *Registry) List(f Filter) []Service {
	services := make([]Service, 0, 16)
	for some := range r.Some(f) {
		services = append(services, some...)
	}
	return services
}

// Some yields what List returns, a few at a time. What it yields is its own again
// after that.
func (r *Registry) Some(f Filter) iter.Seq[[]Service] {
	return func(yield func([]Service) bool) {
		services := make([]Service, 0, atOnce)
		for records := range slices.Chunk(r.ordered(), atOnce) {
			services = services[:0]
			r.mu.Lock()
			for _, rec := range records {
				if rec.listed() && f.Matches(&rec.Service) {
					services = append(services, rec.Service)
				}
			}
			r.mu.Unlock()
			if len(services) > 0 && !yield(services) {
				return
			}
		}
	}
}

// listed reports whether a record is one that others see.
func (rec *record) listed() bool { return rec.seen && !rec.Left && !rec.gone }

// order is all records by id, as long as none comes or goes. The registry's
// lock guards it.
type order struct {
	records []*record
	known   bool
	version uint64
}

// forget is called when a record has come or gone.
func (o *order) forget() {
	o.known, o.records = false, nil
	o.version++
}

// ordered returns all records by id. The slice is shared.
func (r *Registry) ordered() []*record {
	r.mu.Lock()
	if r.order.known {
		defer r.mu.Unlock()
		return r.order.records
	}
	all := make([]*record, 0, len(r.records))
	for _, rec := range r.records {
		all = append(all, rec)
	}
	version := r.order.version
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b *record) int { return strings.Compare(a.ID, b.ID) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.order.version == version {
		r.order.records, r.order.known = all, true
	}
	return all
}

// Sizes counts services, by tier: how many there are that have not left.
func (r *Registry) Sizes() map[Tier]int {
	sizes := map[Tier]int{Passing: 0, Warning: 0, Critical: 0, Unheard: 0}
	for records := range slices.Chunk(r.ordered(), atOnce) {
		r.mu.Lock()
		for _, rec := range records {
			if rec.listed() {
				sizes[rec.Tier]++
			}
		}
		r.mu.Unlock()
	}
	return sizes
}

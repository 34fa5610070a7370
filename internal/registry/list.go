package registry

import (
	"iter"
	"slices"
	"strings"
	"time"
)

// List returns the services that have not left and that the filter lets
// through, ordered by id: each is as it was at some moment of the call.
func (r *Registry) List(f Filter) []Service {
	services := []Service{}
	r.Visit(f, func(s *Service) { services = append(services, *s) })
	return services
}

// Visit calls visit with the services that List returns, without a copy: visit
// must be quick, keep none, and not call the registry. It looks at a few at a
// time, so that nobody else waits for long.
func (r *Registry) Visit(f Filter, visit func(*Service)) {
	r.lists <- struct{}{}
	defer func() { <-r.lists }()
	visited := 0
	for records := r.ordered(); len(records) > 0; {
		n := min(atOnce, len(records))
		r.mu.Lock()
		for _, rec := range records[:n] {
			if !rec.listed() || !f.Matches(&rec.Service) {
				continue
			}
			if visited++; f.First > 0 && visited > f.First {
				r.mu.Unlock()
				return
			}
			visit(&rec.Service)
		}
		r.mu.Unlock()
		records = records[n:]
	}
}

// manyLists is how many lists are made at a time: more would only queue for the
// lock, and keep heartbeats waiting.
const manyLists = 2

// Some yields what List returns, a few at a time, to one who
// takes long over them. What it yields is its own again after that.
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

// Stats are a registry in numbers.
type Stats struct {
	// Tiers is how many services there are that have not left, by tier.
	Tiers map[Tier]int
	// Pass is for how long the janitor's last pass has held others up.
	Pass time.Duration
}

// Stats counts.
func (r *Registry) Stats() Stats {
	stats := Stats{Tiers: map[Tier]int{Passing: 0, Warning: 0, Critical: 0, Unheard: 0}}
	r.Visit(Filter{}, func(s *Service) { stats.Tiers[s.Tier]++ })
	r.mu.Lock()
	defer r.mu.Unlock()
	stats.Pass = r.passed
	return stats
}

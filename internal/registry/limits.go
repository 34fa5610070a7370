package registry

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// ErrTooLarge is the error for a registration that says more than is kept.
var ErrTooLarge = errors.New("registration too large")

// ErrFull is the error for a service that there is no room for.
var ErrFull = errors.New("too many services")

// What is kept of a service is bounded, so that no client can fill the memory.
const (
	maxEntries  = 64       // of metadata, of event types
	maxText     = 1 << 10  // bytes of one text
	maxTexts    = 16 << 10 // bytes of all texts of a registration
	maxMetrics  = 64       // of a heartbeat
	maxName     = 256      // bytes of a metric's name
	maxHistory  = 32       // events of a service
	maxPast     = 1000     // services that are no more and whose history is kept
	maxPastRuns = 1000     // pipeline runs
)

// check refuses registrations that are malformed or too large.
func (reg *Registration) check() error {
	for _, id := range append([]string{reg.Identity, reg.ServiceID, reg.ComponentID}, reg.V1IDs...) {
		if err := checkID(id); err != nil {
			return err
		}
	}
	if n := max(len(reg.Metadata), len(reg.Inputs), len(reg.Outputs)); n > maxEntries {
		return fmt.Errorf("%w: it has %d entries of metadata or event types, more than %d", ErrTooLarge, n, maxEntries)
	}
	total := 0
	for text := range reg.texts() {
		total += len(text)
		if len(text) > maxText || total > maxTexts {
			return fmt.Errorf("%w: a text may have %d bytes, all together %d", ErrTooLarge, maxText, maxTexts)
		}
	}
	return nil
}

// texts are those that are kept of a registration, but for its ids.
func (reg *Registration) texts() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, texts := range [][]string{reg.Inputs, reg.Outputs, {reg.HealthEndpoint, reg.Name, reg.Description, reg.Version}} {
			for _, text := range texts {
				if !yield(text) {
					return
				}
			}
		}
		for key, value := range reg.Metadata {
			if !yield(key) || !yield(value) {
				return
			}
		}
	}
}

// size is what is kept of a registration, more or less, in bytes.
func (reg *Registration) size() int {
	total := 0
	for text := range reg.texts() {
		total += len(text) + 16
	}
	return total
}

// bounded returns the metrics of a heartbeat that are kept: all, or the first by
// name, so that they stay the same from one heartbeat to the next; and their size,
// more or less, in bytes.
func bounded(metrics map[string]float64) (kept map[string]float64, size int) {
	fine := len(metrics) <= maxMetrics
	for name := range metrics {
		size += len(name) + 24
		fine = fine && len(name) <= maxName
	}
	if fine {
		return metrics, size
	}
	kept, size = make(map[string]float64, maxMetrics), 0
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if len(kept) < maxMetrics && len(name) <= maxName {
			kept[name] = metrics[name]
			size += len(name) + 24
		}
	}
	return kept, size
}

// takeMetrics takes over the metrics of a heartbeat. Those of strangers are left
// out while there is no room for them. The caller holds r.mu.
func (r *Registry) takeMetrics(rec *record, metrics map[string]float64) {
	kept, size := bounded(metrics)
	if grown := size - rec.measured; rec.expected == nil && grown > 0 && r.size+grown > r.opts.MaxSize {
		kept, size = nil, 0
	}
	r.size += size - rec.measured
	rec.Metrics, rec.measured = kept, size
}

// room makes room for a service that no pipeline expects, one more or one that
// grows by so many bytes: those go that have been silent for longest. The caller
// holds r.mu.
func (r *Registry) room(more, bytes int) error {
	for len(r.records)-len(r.expected)+more > r.opts.MaxServices || bytes > 0 && r.size+bytes > r.opts.MaxSize {
		oldest := r.silent.first
		if oldest == nil {
			return fmt.Errorf("%w: %d are registered, and all have been heard of late", ErrFull, len(r.records))
		}
		r.commit(oldest, time.Now(), journal.Register, "forgotten: there are too many services", nil)
		r.remove(oldest)
	}
	return nil
}

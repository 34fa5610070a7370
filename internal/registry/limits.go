package registry

import (
	"errors"
	"fmt"
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
	maxHistory  = 32       // events of a service
	maxPast     = 1000     // services that are no more and whose history is kept
	maxPastRuns = 1000     // pipeline runs
)

// check refuses registrations that are malformed or too large.
func (reg *Registration) check() error {
	for _, id := range append([]string{reg.ServiceID, reg.ComponentID}, reg.V1IDs...) {
		if err := checkID(id); err != nil {
			return err
		}
	}
	if n := max(len(reg.Metadata), len(reg.Inputs), len(reg.Outputs)); n > maxEntries {
		return fmt.Errorf("%w: it has %d entries of metadata or event types, more than %d", ErrTooLarge, n, maxEntries)
	}
	longest, total := 0, 0
	count := func(text string) {
		longest = max(longest, len(text))
		total += len(text)
	}
	for _, text := range []string{reg.HealthEndpoint, reg.Name, reg.Description, reg.Version} {
		count(text)
	}
	for _, types := range [][]string{reg.Inputs, reg.Outputs} {
		for _, text := range types {
			count(text)
		}
	}
	for key, value := range reg.Metadata {
		count(key)
		count(value)
	}
	if longest > maxText || total > maxTexts {
		return fmt.Errorf("%w: a text may have %d bytes, all together %d", ErrTooLarge, maxText, maxTexts)
	}
	return nil
}

// bounded returns the metrics of a heartbeat that are kept: all, or the first by
// name, so that they stay the same from one heartbeat to the next.
func bounded(metrics map[string]float64) map[string]float64 {
	fine := len(metrics) <= maxMetrics
	for name := range metrics {
		fine = fine && len(name) <= maxText
	}
	if fine {
		return metrics
	}
	kept := make(map[string]float64, maxMetrics)
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if len(kept) < maxMetrics && len(name) <= maxText {
			kept[name] = metrics[name]
		}
	}
	return kept
}

// room makes room for one more service that no pipeline expects: the one that
// has been silent for longest goes. The caller holds r.mu.
func (r *Registry) room() error {
	if len(r.records)-len(r.expected) < r.opts.MaxServices {
		return nil
	}
	oldest := r.silent.first
	if oldest == nil {
		return fmt.Errorf("%w: %d are registered, and all have been heard of late", ErrFull, len(r.records))
	}
	r.commit(oldest, time.Now(), journal.Register, "forgotten: there are too many services", nil)
	r.remove(oldest)
	return nil
}

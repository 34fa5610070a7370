package engine

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// progress reports when a component's progress metric has stood still for its
// stall time although what it waits for moved meanwhile.
func (e *Engine) progress(ctx context.Context, c plan.Component, report func(error)) {
	w := &progressWatch{engine: e, component: c, last: time.Now()}
	w.value, w.known = e.metric(c.ID, c.Progress.Metric)
	w.upstream = w.upstreamMetrics()
	ticker := time.NewTicker(min(max(c.Progress.Stall/8, 50*time.Millisecond), 5*time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if w.stalled(now) {
				report(fmt.Errorf("made no progress for %s: its metric %s stands at %v", pipeline.FormatDuration(c.Progress.Stall), c.Progress.Metric, w.value))
				return
			}
		}
	}
}

// progressWatch compares a component's progress with that of what it waits for.
type progressWatch struct {
	engine    *Engine
	component plan.Component
	value     float64
	known     bool // the metric has been seen
	last      time.Time
	// upstream is what the upstream said when value last changed; moved that it says something else since.
	upstream []map[string]float64
	moved    bool
}

// stalled looks once more and reports whether the component has stood still for too long.
func (w *progressWatch) stalled(now time.Time) bool {
	upstream := w.upstreamMetrics()
	value, known := w.engine.metric(w.component.ID, w.component.Progress.Metric)
	if value != w.value || known != w.known {
		w.value, w.known, w.last, w.upstream, w.moved = value, known, now, upstream, false
		return false
	}
	for i := range upstream {
		w.moved = w.moved || !maps.Equal(upstream[i], w.upstream[i])
	}
	return (w.moved || len(upstream) == 0) && now.Sub(w.last) >= w.component.Progress.Stall
}

// upstreamMetrics returns what shows the progress of each component this one
// waits for: the metric of the same name if it has one, else all its metrics.
func (w *progressWatch) upstreamMetrics() []map[string]float64 {
	var all []map[string]float64
	for _, edge := range w.component.After {
		s, ok := w.engine.plane.services.Get(edge.ID)
		if !ok {
			all = append(all, nil)
			continue
		}
		if v, ok := s.Metrics[w.component.Progress.Metric]; ok {
			all = append(all, map[string]float64{w.component.Progress.Metric: v})
		} else {
			all = append(all, s.Metrics)
		}
	}
	return all
}

// metric returns a service's metric, as it last said.
func (e *Engine) metric(id, name string) (float64, bool) {
	s, ok := e.plane.services.Get(id)
	if !ok {
		return 0, false
	}
	v, ok := s.Metrics[name]
	return v, ok
}

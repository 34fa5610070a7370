package metrics

import "github.com/prometheus/client_golang/prometheus"

// Component is what a run knows of one of its components.
type Component struct {
	ID, Role, State   string
	Restarts, Attempt int
	// LogBytes is how much it has printed.
	LogBytes int64
}

// Run is a run of a pipeline.
type Run interface {
	// Components are its components now.
	Components() []Component
}

var (
	stateDesc    = prometheus.NewDesc("flowctl_component_state", "1 for the state that a component is in.", []string{"pipeline", "component", "role", "state"}, nil)
	restartsDesc = prometheus.NewDesc("flowctl_component_restarts_total", "How often the restart policy has started a component again.", []string{"pipeline", "component"}, nil)
	attemptsDesc = prometheus.NewDesc("flowctl_component_attempts_total", "How often a component has been started.", []string{"pipeline", "component"}, nil)
	logsDesc     = prometheus.NewDesc("flowctl_component_log_bytes_total", "How much a component has printed.", []string{"pipeline", "component"}, nil)
)

// Show shows the components of a run of a pipeline as well. It must be called once at most.
func (m *Metrics) Show(pipeline string, run Run) {
	m.registry.MustRegister(&componentCollector{pipeline, run})
}

// componentCollector shows components.
type componentCollector struct {
	pipeline string
	run      Run
}

// Describe implements prometheus.Collector.
func (c *componentCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{stateDesc, restartsDesc, attemptsDesc, logsDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *componentCollector) Collect(to chan<- prometheus.Metric) {
	for _, x := range c.run.Components() {
		to <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, 1, c.pipeline, x.ID, x.Role, x.State)
		to <- prometheus.MustNewConstMetric(restartsDesc, prometheus.CounterValue, float64(x.Restarts), c.pipeline, x.ID)
		to <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, float64(x.Attempt), c.pipeline, x.ID)
		to <- prometheus.MustNewConstMetric(logsDesc, prometheus.CounterValue, float64(x.LogBytes), c.pipeline, x.ID)
	}
}

// Package metrics shows what flowctl counts and measures to Prometheus: its own
// work, and the metrics that services send with their heartbeats. It asks when it
// is asked, and bounds how much one answer holds.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
)

// Metrics counts and measures. Its methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
	probes   *prometheus.HistogramVec
}

// quick are the bounds, in seconds, of what mostly takes less than a millisecond.
var quick = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// New returns metrics of this process, of calls and of services.
func New(version string, services Services) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "flowctl_rpc_duration_seconds", Help: "How long calls of the control plane took, by method and outcome.", Buckets: quick,
		}, []string{"method", "code"}),
		probes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "flowctl_probe_duration_seconds", Help: "How long probes took, by component and outcome.", Buckets: quick,
		}, []string{"component", "outcome"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "flowctl_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.calls, m.probes, build, &serviceCollector{services},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// Call notes a call that has ended. Methods are those that are served, few.
func (m *Metrics) Call(method string, code codes.Code, took time.Duration) {
	m.calls.WithLabelValues(method, code.String()).Observe(took.Seconds())
}

// Probe notes a probe of a component that has ended.
func (m *Metrics) Probe(component string, took time.Duration, err error) {
	outcome := "passed"
	if err != nil {
		outcome = "failed"
	}
	m.probes.WithLabelValues(component, outcome).Observe(took.Seconds())
}

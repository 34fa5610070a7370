package metrics

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// Services are what a registry knows.
type Services interface {
	List(registry.Filter) []registry.Service
	Stats() registry.Stats
}

// One answer holds at most so many services, and so many metrics of each.
const (
	maxServices = 1000
	maxMetrics  = 32
)

var (
	servicesDesc = prometheus.NewDesc("flowctl_services", "How many services are registered, by tier.", []string{"tier"}, nil)
	healthyDesc  = prometheus.NewDesc("flowctl_service_healthy", "Whether a service is healthy.", []string{"pipeline", "component", "service", "role"}, nil)
	heardDesc    = prometheus.NewDesc("flowctl_service_last_seen_timestamp_seconds", "When a service was last heard.", []string{"pipeline", "component", "service"}, nil)
	metricDesc   = prometheus.NewDesc("flowctl_component_metric", "A metric that a component sends with its heartbeats.", []string{"pipeline", "component", "service", "metric"}, nil)
	passDesc     = prometheus.NewDesc("flowctl_janitor_lock_seconds", "For how long the janitor's last pass has held up others.", nil, nil)
	leftOutDesc  = prometheus.NewDesc("flowctl_metrics_left_out", "How many services and metrics of services this answer leaves out: there are too many.", nil, nil)
)

// serviceCollector shows services.
type serviceCollector struct{ services Services }

// Describe implements prometheus.Collector.
func (c *serviceCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{servicesDesc, healthyDesc, heardDesc, metricDesc, passDesc, leftOutDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *serviceCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		for i := range labels { // clients choose them
			labels[i] = strings.ToValidUTF8(labels[i], "\ufffd")
		}
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	stats := c.services.Stats()
	for tier, n := range stats.Tiers {
		gauge(servicesDesc, float64(n), string(tier))
	}
	gauge(passDesc, stats.Pass.Seconds())
	all := 0
	for _, n := range stats.Tiers {
		all += n
	}
	leftOut := max(all-maxServices, 0)
	for _, s := range c.services.List(registry.Filter{First: maxServices}) {
		healthy := 0.0
		if s.Healthy {
			healthy = 1
		}
		gauge(healthyDesc, healthy, s.Pipeline, s.Component, s.ID, string(s.Role))
		gauge(heardDesc, float64(s.LastSeen.UnixMilli())/1000, s.Pipeline, s.Component, s.ID)
		shown := make(map[string]bool) // what two names have become must not be twice
		for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
			label := strings.ToValidUTF8(name, "\ufffd")
			if len(shown) == maxMetrics || shown[label] {
				leftOut++
				continue
			}
			shown[label] = true
			gauge(metricDesc, s.Metrics[name], s.Pipeline, s.Component, s.ID, label)
		}
	}
	gauge(leftOutDesc, float64(leftOut))
}

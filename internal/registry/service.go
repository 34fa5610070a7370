package registry

import (
	"slices"
	"time"
)

// Role is a service's place in a pipeline; "" means it did not say.
type Role string

// The roles.
const (
	Source    Role = "source"
	Processor Role = "processor"
	Sink      Role = "sink"
)

// Health is what a service says of itself.
type Health string

// What services say. Degraded services still count as healthy.
const (
	Unknown   Health = "unknown"
	Starting  Health = "starting"
	Healthy   Health = "healthy"
	Degraded  Health = "degraded"
	Unhealthy Health = "unhealthy"
	Stopping  Health = "stopping"
)

// Tier is the registry's own verdict on a service.
type Tier string

// The tiers. Passing and warning services are healthy, the others are not.
const (
	// Passing: heard within half the TTL.
	Passing Tier = "passing"
	// Warning: not heard for half the TTL.
	Warning Tier = "warning"
	// Critical: not heard for the TTL, has exited, has left, or calls itself unhealthy.
	Critical Tier = "critical"
	// Unheard: known from a store, and not heard since; for one TTL at most.
	Unheard Tier = "unknown"
)

// Service is what the registry knows of one service. It is a value of its own,
// safe to keep; its slices and maps are shared and must not be changed.
type Service struct {
	// ID is the service's id: the component's where it belongs to one, with the
	// pipeline's name before it where several pipelines share a control plane.
	ID string
	// Pipeline and Component are whose it is, as attributed; for services no
	// pipeline expects Component is what they claim, and Pipeline is "".
	Pipeline, Component string
	Role                Role
	// Inputs and Outputs are event types.
	Inputs, Outputs []string
	// HealthEndpoint is a URL or host:port the service named.
	HealthEndpoint string
	// MaxInflight is the most messages it takes at once; 0: it did not say.
	MaxInflight int
	Metadata    map[string]string
	// Name, Description and Version are known of flowctl.v1 services only.
	Name, Description, Version string

	// FirstSeen is when the id was first heard of, RegisteredAt when it last
	// registered (zero: never), LastSeen when it last gave a sign of life.
	FirstSeen, RegisteredAt, LastSeen time.Time
	// Registered is true when the component's current attempt has registered.
	Registered bool
	// Adopted is true for a service known by its heartbeats alone.
	Adopted bool
	// Left is true when the service has deregistered.
	Left bool
	// Tier is the verdict, and Healthy its short form: heartbeats come and do not
	// say unhealthy.
	Tier    Tier
	Healthy bool
	// Flapping is true while its health changes often.
	Flapping bool
	// Reported is what the service last said of its own health.
	Reported Health
	// Reason says why the service is not healthy, as in "no heartbeat for 30s".
	Reason string
	// Metrics are those of the last heartbeat.
	Metrics map[string]float64
	// Revision is the registry's revision at the service's last change, other
	// than a heartbeat. It grows by one with every change of any service.
	Revision uint64
}

// Unwell reports whether a service is known not to be healthy. Of one that has
// not been heard since the control plane was started anew nothing is known yet,
// nor of one that is expected and has neither registered nor beaten; one that has
// left is about to end, which is no trouble.
func (s *Service) Unwell() bool {
	return !s.Healthy && !s.Left && s.Tier != Unheard && (s.Registered || s.Adopted)
}

// Event is something that happened to a service.
type Event struct {
	Time time.Time
	// Tier is the verdict from then on.
	Tier Tier
	Text string
}

// Filter chooses services; the zero value lets all through.
type Filter struct {
	// Role, if not empty, is the one wanted.
	Role Role
	// Pipeline, if not empty, is the one they belong to.
	Pipeline string
	// Produces and Consumes are event types, of which a service gives or takes any.
	Produces, Consumes []string
	// Events are event types of which a service gives or takes any.
	Events []string
	// Metadata is what a service carries, all of it.
	Metadata map[string]string
	// Healthy lets only healthy services through.
	Healthy bool
	// First, if not 0, is how many are listed at most. A watcher is told of all.
	First int
}

// Matches reports whether the filter lets s through.
func (f Filter) Matches(s *Service) bool {
	if f.Healthy && !s.Healthy || f.Role != "" && f.Role != s.Role || f.Pipeline != "" && f.Pipeline != s.Pipeline {
		return false
	}
	for key, want := range f.Metadata {
		if got, ok := s.Metadata[key]; !ok || got != want {
			return false
		}
	}
	return anyOf(f.Produces, s.Outputs) && anyOf(f.Consumes, s.Inputs) && (anyOf(f.Events, s.Inputs) || anyOf(f.Events, s.Outputs))
}

// anyOf reports whether any of wanted is in have; when nothing is wanted it is.
func anyOf(wanted, have []string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(have, w) })
}

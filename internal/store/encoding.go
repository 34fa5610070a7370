package store

import (
	"maps"
	"math"
	"time"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// The types below are what is in the database: their names must not change, new
// fields may come. Ids are the keys.

type service struct {
	Pipeline       string             `json:"pipeline,omitempty"`
	Component      string             `json:"component,omitempty"`
	Role           string             `json:"role,omitempty"`
	Inputs         []string           `json:"inputs,omitempty"`
	Outputs        []string           `json:"outputs,omitempty"`
	HealthEndpoint string             `json:"health_endpoint,omitempty"`
	MaxInflight    int                `json:"max_inflight,omitempty"`
	Metadata       map[string]string  `json:"metadata,omitempty"`
	Name           string             `json:"name,omitempty"`
	Description    string             `json:"description,omitempty"`
	Version        string             `json:"version,omitempty"`
	FirstSeen      time.Time          `json:"first_seen,omitzero"`
	RegisteredAt   time.Time          `json:"registered_at,omitzero"`
	LastSeen       time.Time          `json:"last_seen,omitzero"`
	Registered     bool               `json:"registered,omitempty"`
	Adopted        bool               `json:"adopted,omitempty"`
	Left           bool               `json:"left,omitempty"`
	Reported       string             `json:"reported,omitempty"`
	Reason         string             `json:"reason,omitempty"`
	Metrics        map[string]float64 `json:"metrics,omitempty"`
	Attempt        string             `json:"attempt,omitempty"`
	Aliases        []string           `json:"aliases,omitempty"`
	History        []event            `json:"history,omitempty"`
	Gone           bool               `json:"gone,omitempty"`
	Deaf           bool               `json:"deaf,omitempty"`
}

type event struct {
	Time time.Time `json:"time"`
	Tier string    `json:"tier"`
	Text string    `json:"text"`
}

// storedBeat is kept apart from its service, as it changes often.
type storedBeat struct {
	LastSeen time.Time          `json:"last_seen"`
	Metrics  map[string]float64 `json:"metrics,omitempty"`
}

type run struct {
	Pipeline   string              `json:"pipeline,omitempty"`
	Status     string              `json:"status"`
	Start      time.Time           `json:"start"`
	End        time.Time           `json:"end,omitzero"`
	Config     string              `json:"config,omitempty"`
	Components []string            `json:"components,omitempty"`
	Error      string              `json:"error,omitempty"`
	Metrics    registry.RunMetrics `json:"metrics,omitzero"`
}

func storedService(s *registry.SavedService) service {
	stored := service{
		Pipeline: s.Pipeline, Component: s.Component, Role: string(s.Role), Inputs: s.Inputs, Outputs: s.Outputs,
		HealthEndpoint: s.HealthEndpoint, MaxInflight: s.MaxInflight, Metadata: s.Metadata,
		Name: s.Name, Description: s.Description, Version: s.Version,
		FirstSeen: s.FirstSeen, RegisteredAt: s.RegisteredAt, LastSeen: s.LastSeen,
		Registered: s.Registered, Adopted: s.Adopted, Left: s.Left, Reported: string(s.Reported), Reason: s.Reason,
		Metrics: finite(s.Metrics), Attempt: s.Attempt, Aliases: s.Aliases, Gone: s.Gone, Deaf: s.Deaf,
	}
	for _, e := range s.History {
		stored.History = append(stored.History, event{e.Time, string(e.Tier), e.Text})
	}
	return stored
}

// restore is the service as the registry knows it. Its health is for the
// registry to find out.
func (s *service) restore(id string) registry.SavedService {
	restored := registry.SavedService{Attempt: s.Attempt, Aliases: s.Aliases, Gone: s.Gone, Deaf: s.Deaf}
	restored.Service = registry.Service{
		ID: id, Pipeline: s.Pipeline, Component: s.Component, Role: registry.Role(s.Role), Inputs: s.Inputs, Outputs: s.Outputs,
		HealthEndpoint: s.HealthEndpoint, MaxInflight: s.MaxInflight, Metadata: s.Metadata,
		Name: s.Name, Description: s.Description, Version: s.Version,
		FirstSeen: s.FirstSeen, RegisteredAt: s.RegisteredAt, LastSeen: s.LastSeen,
		Registered: s.Registered, Adopted: s.Adopted, Left: s.Left, Reported: registry.Health(s.Reported), Reason: s.Reason,
		Metrics: s.Metrics, Tier: registry.Critical,
	}
	for _, e := range s.History {
		restored.History = append(restored.History, registry.Event{Time: e.Time, Tier: registry.Tier(e.Tier), Text: e.Text})
	}
	return restored
}

func storedRun(r *registry.PipelineRun) run {
	stored := run{r.Pipeline, string(r.Status), r.Start, r.End, r.Config, r.Components, r.Error, r.Metrics}
	m := &stored.Metrics
	if odd(m.EventsPerSecond) {
		m.EventsPerSecond = 0
	}
	m.Components = maps.Clone(m.Components)
	for id, c := range m.Components {
		if odd(c.ProcessingMilliseconds) {
			c.ProcessingMilliseconds = 0
			m.Components[id] = c
		}
	}
	return stored
}

// odd reports whether JSON has no word for a number.
func odd(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// finite is metrics without those that JSON has no words for: a service sends
// them again, if it still has them.
func finite(metrics map[string]float64) map[string]float64 {
	for _, v := range metrics {
		if odd(v) {
			metrics = maps.Clone(metrics)
			maps.DeleteFunc(metrics, func(_ string, v float64) bool { return odd(v) })
			return metrics
		}
	}
	return metrics
}

func (r *run) restore(id string) registry.PipelineRun {
	return registry.PipelineRun{
		ID: id, Pipeline: r.Pipeline, Status: registry.RunStatus(r.Status), Start: r.Start, End: r.End,
		Config: r.Config, Components: r.Components, Error: r.Error, Metrics: r.Metrics,
	}
}

package flowctl

import (
	"log/slog"
	"maps"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
)

// Role is a component's place in a pipeline.
type Role string

// The roles.
const (
	Source    Role = "source"
	Processor Role = "processor"
	Sink      Role = "sink"
)

// Health is what a component says of itself.
type Health string

// What a component can say. It is Healthy from Join on unless it says otherwise.
const (
	Starting  Health = "starting"
	Healthy   Health = "healthy"
	Degraded  Health = "degraded"
	Unhealthy Health = "unhealthy"
	stopping  Health = "stopping"
)

// Component is what a component tells the control plane of itself.
type Component struct {
	// ID is the component's name in the pipeline. The environment overrides
	// it; one of the two must be there.
	ID   string
	Role Role
	// Inputs and Outputs are event types.
	Inputs, Outputs []string
	// MaxInflight is the most messages it takes at once; 0 says nothing.
	MaxInflight int
	Metadata    map[string]string
	// HealthPort is where GET /health is served. The environment overrides it;
	// 0 in both: nowhere.
	HealthPort int
	// Logger receives what happens between the component and its control
	// plane; nil discards it.
	Logger *slog.Logger
}

// serviceInfo is what c says when it registers.
func (c Component) serviceInfo(healthEndpoint string) *flowctlpb.ServiceInfo {
	metadata := map[string]string{}
	maps.Copy(metadata, c.Metadata)
	metadata["component_id"] = c.ID
	return &flowctlpb.ServiceInfo{
		ServiceId:        c.ID,
		ComponentId:      c.ID,
		ServiceType:      c.Role.wire(),
		InputEventTypes:  c.Inputs,
		OutputEventTypes: c.Outputs,
		HealthEndpoint:   healthEndpoint,
		MaxInflight:      int32(c.MaxInflight),
		Metadata:         metadata,
	}
}

func (r Role) wire() flowctlpb.ServiceType {
	switch r {
	case Source:
		return flowctlpb.ServiceType_SERVICE_TYPE_SOURCE
	case Processor:
		return flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR
	case Sink:
		return flowctlpb.ServiceType_SERVICE_TYPE_SINK
	default:
		return flowctlpb.ServiceType_SERVICE_TYPE_UNSPECIFIED
	}
}

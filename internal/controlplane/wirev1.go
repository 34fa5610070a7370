package controlplane

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// wireV1 serves flowctl.v1.ControlPlaneService.
type wireV1 struct {
	flowctlv1.UnimplementedControlPlaneServiceServer
	registry *registry.Registry
	access   Access
}

// RegisterComponent takes a service in.
func (w *wireV1) RegisterComponent(ctx context.Context, in *flowctlv1.RegisterRequest) (*flowctlv1.RegisterResponse, error) {
	c := in.GetComponent()
	if c == nil {
		return nil, errNoComponent
	}
	identity, err := w.access.identity(ctx, w.registry, in.GetComponentId(), c.GetId())
	if err != nil {
		return nil, err
	}
	service, err := w.registry.Register(registry.Registration{
		Identity:       identity,
		ServiceID:      c.GetId(),
		V1IDs:          []string{in.GetComponentId(), c.GetId()},
		Role:           roleOfV1(c.GetType()),
		Inputs:         c.GetInputEventTypes(),
		Outputs:        c.GetOutputEventTypes(),
		HealthEndpoint: c.GetEndpoint(),
		Metadata:       c.GetMetadata(),
		Name:           c.GetName(),
		Description:    c.GetDescription(),
		Version:        c.GetVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &flowctlv1.RegisterResponse{ServiceId: service.ID, AssignedTopics: topics(service)}, nil
}

// UnregisterComponent lets a service leave; one that is not there has left.
func (w *wireV1) UnregisterComponent(ctx context.Context, in *flowctlv1.UnregisterRequest) (*emptypb.Empty, error) {
	id, err := w.access.speaker(ctx, w.registry, in.GetServiceId())
	if err != nil {
		return nil, err
	}
	_, err = w.registry.Deregister(id)
	return &emptypb.Empty{}, err
}

// Heartbeat notes a sign of life. Metrics that are no numbers are left out.
func (w *wireV1) Heartbeat(ctx context.Context, in *flowctlv1.HeartbeatRequest) (*emptypb.Empty, error) {
	metrics := make(map[string]float64, len(in.GetMetrics()))
	for name, text := range in.GetMetrics() {
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			metrics[name] = value
		}
	}
	return beat(ctx, w.registry, w.access, in.GetServiceId(), registry.Beat{Metrics: metrics, Reported: reportedOf(in.GetStatus())})
}

// GetComponentStatus answers for one service.
func (w *wireV1) GetComponentStatus(_ context.Context, in *flowctlv1.ComponentStatusRequest) (*flowctlv1.ComponentStatusResponse, error) {
	service, err := lookUp(w.registry, in.GetServiceId())
	if err != nil {
		return nil, err
	}
	return componentStatus(service), nil
}

// ListComponents answers for the healthy services, or for all on request.
func (w *wireV1) ListComponents(_ context.Context, in *flowctlv1.ListComponentsRequest) (*flowctlv1.ListComponentsResponse, error) {
	list := &flowctlv1.ListComponentsResponse{}
	for _, service := range w.registry.List(registry.Filter{Role: roleOfV1(in.GetTypeFilter()), Healthy: !in.GetIncludeUnhealthy()}) {
		list.Components = append(list.Components, componentStatus(service))
	}
	return list, nil
}

// DiscoverComponents answers for the healthy services that take or give any of
// the event types and carry all of the metadata.
func (w *wireV1) DiscoverComponents(_ context.Context, in *flowctlv1.DiscoveryRequest) (*flowctlv1.DiscoveryResponse, error) {
	found := &flowctlv1.DiscoveryResponse{}
	for _, service := range w.registry.List(registry.Filter{
		Role: roleOfV1(in.GetType()), Events: in.GetEventTypes(), Metadata: in.GetMetadataFilters(), Healthy: true,
	}) {
		found.Components = append(found.Components, componentInfo(service))
	}
	return found, nil
}

func componentStatus(service registry.Service) *flowctlv1.ComponentStatusResponse {
	metrics := make(map[string]string, len(service.Metrics))
	for name, value := range service.Metrics {
		metrics[name] = strconv.FormatFloat(value, 'g', -1, 64)
	}
	status := &flowctlv1.ComponentStatusResponse{
		Component:     componentInfo(service),
		Status:        statusOf(service),
		LastHeartbeat: timestamppb.New(service.LastSeen),
		Metrics:       metrics,
	}
	if !service.RegisteredAt.IsZero() {
		status.RegisteredAt = timestamppb.New(service.RegisteredAt)
	}
	return status
}

func componentInfo(service registry.Service) *flowctlv1.ComponentInfo {
	return &flowctlv1.ComponentInfo{
		Id:               service.ID,
		Name:             service.Name,
		Description:      service.Description,
		Version:          service.Version,
		Type:             typeOfV1(service.Role),
		InputEventTypes:  service.Inputs,
		OutputEventTypes: service.Outputs,
		Endpoint:         service.HealthEndpoint,
		Metadata:         service.Metadata,
	}
}

// roleOfV1 reads a component type; 4, as on the older wire, is a sink.
func roleOfV1(t flowctlv1.ComponentType) registry.Role {
	switch t {
	case flowctlv1.ComponentType_COMPONENT_TYPE_SOURCE:
		return registry.Source
	case flowctlv1.ComponentType_COMPONENT_TYPE_PROCESSOR:
		return registry.Processor
	case flowctlv1.ComponentType_COMPONENT_TYPE_CONSUMER, 4:
		return registry.Sink
	default:
		return ""
	}
}

func typeOfV1(role registry.Role) flowctlv1.ComponentType {
	switch role {
	case registry.Source:
		return flowctlv1.ComponentType_COMPONENT_TYPE_SOURCE
	case registry.Processor:
		return flowctlv1.ComponentType_COMPONENT_TYPE_PROCESSOR
	case registry.Sink:
		return flowctlv1.ComponentType_COMPONENT_TYPE_CONSUMER
	default:
		return flowctlv1.ComponentType_COMPONENT_TYPE_UNSPECIFIED
	}
}

// reportedOf reads a health status. UNKNOWN is what SDKs send always: alive.
func reportedOf(s flowctlv1.HealthStatus) registry.Health {
	switch s {
	case flowctlv1.HealthStatus_HEALTH_STATUS_STARTING:
		return registry.Starting
	case flowctlv1.HealthStatus_HEALTH_STATUS_HEALTHY:
		return registry.Healthy
	case flowctlv1.HealthStatus_HEALTH_STATUS_DEGRADED:
		return registry.Degraded
	case flowctlv1.HealthStatus_HEALTH_STATUS_UNHEALTHY:
		return registry.Unhealthy
	case flowctlv1.HealthStatus_HEALTH_STATUS_STOPPING:
		return registry.Stopping
	default:
		return registry.Unknown
	}
}

// statusOf is the verdict: what the service says counts while it is heard.
func statusOf(service registry.Service) flowctlv1.HealthStatus {
	if service.Tier == registry.Unheard {
		return flowctlv1.HealthStatus_HEALTH_STATUS_UNKNOWN
	}
	if !service.Healthy {
		return flowctlv1.HealthStatus_HEALTH_STATUS_UNHEALTHY
	}
	switch service.Reported {
	case registry.Starting:
		return flowctlv1.HealthStatus_HEALTH_STATUS_STARTING
	case registry.Degraded:
		return flowctlv1.HealthStatus_HEALTH_STATUS_DEGRADED
	case registry.Stopping:
		return flowctlv1.HealthStatus_HEALTH_STATUS_STOPPING
	default:
		return flowctlv1.HealthStatus_HEALTH_STATUS_HEALTHY
	}
}

package controlplane

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// The response header by which a heartbeat asks for a registration.
const (
	RegisterHeader = "flowctl-register"
	RegisterAgain  = "again"
)

// wire serves flowctl.ControlPlane.
type wire struct {
	flowctlpb.UnimplementedControlPlaneServer
	registry *registry.Registry
	access   Access
	run      Run // nil: there is none
}

// Register takes a service in.
func (w *wire) Register(ctx context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	identity, err := w.access.identity(ctx, w.registry, in.GetComponentId(), in.GetServiceId())
	if err != nil {
		return nil, err
	}
	service, err := w.registry.Register(registry.Registration{
		Identity:       identity,
		ServiceID:      in.GetServiceId(),
		ComponentID:    in.GetComponentId(),
		Role:           roleOf(in.GetServiceType()),
		Inputs:         in.GetInputEventTypes(),
		Outputs:        in.GetOutputEventTypes(),
		HealthEndpoint: in.GetHealthEndpoint(),
		MaxInflight:    int(in.GetMaxInflight()),
		Metadata:       in.GetMetadata(),
	})
	if err != nil {
		return nil, err
	}
	return &flowctlpb.RegistrationAck{ServiceId: service.ID, TopicNames: topics(service)}, nil
}

// Heartbeat notes a sign of life.
func (w *wire) Heartbeat(ctx context.Context, in *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	return beat(ctx, w.registry, w.access, in.GetServiceId(), registry.Beat{Metrics: in.GetMetrics()})
}

// GetServiceStatus answers for one service.
func (w *wire) GetServiceStatus(_ context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.ServiceStatus, error) {
	service, err := lookUp(w.registry, in.GetServiceId())
	if err != nil {
		return nil, err
	}
	return serviceStatus(service), nil
}

// ListServices answers for all services.
func (w *wire) ListServices(context.Context, *emptypb.Empty) (*flowctlpb.ServiceList, error) {
	list := &flowctlpb.ServiceList{}
	var shelf []struct {
		status flowctlpb.ServiceStatus
		heard  timestamppb.Timestamp
	} // there may be very many: not each is allocated alone
	w.registry.Visit(registry.Filter{}, func(service *registry.Service) {
		if len(shelf) == 0 {
			shelf = slices.Grow(shelf, 256)[:256]
		}
		next := &shelf[0]
		shelf = shelf[1:]
		next.heard.Seconds, next.heard.Nanos = service.LastSeen.Unix(), int32(service.LastSeen.Nanosecond())
		fillStatus(&next.status, service, &next.heard)
		list.Services = append(list.Services, &next.status)
	})
	return list, nil
}

// beat passes a heartbeat on and asks for a registration where one is missing.
func beat(ctx context.Context, reg *registry.Registry, access Access, id string, b registry.Beat) (*emptypb.Empty, error) {
	id, err := access.speaker(ctx, reg, id)
	if err != nil {
		return nil, err
	}
	known, err := reg.Heartbeat(id, b)
	if err != nil {
		return nil, err
	}
	if !known {
		if err := grpc.SetHeader(ctx, metadata.Pairs(RegisterHeader, RegisterAgain)); err != nil {
			return nil, fmt.Errorf("ask %s to register: %w", id, err)
		}
	}
	return &emptypb.Empty{}, nil
}

// lookUp finds the service that goes by id and has not left.
func lookUp(reg *registry.Registry, id string) (registry.Service, error) {
	service, ok := reg.Get(id)
	if !ok || service.Left {
		return registry.Service{}, unknownService(id)
	}
	return service, nil
}

// topics are the names of a service's output streams; sinks have none.
func topics(service registry.Service) []string {
	if service.Role != registry.Source && service.Role != registry.Processor {
		return nil
	}
	names := make([]string, len(service.Outputs))
	for i, output := range service.Outputs {
		names[i] = output + ".v1"
	}
	return names
}

func serviceStatus(service registry.Service) *flowctlpb.ServiceStatus {
	s := &flowctlpb.ServiceStatus{}
	fillStatus(s, &service, timestamppb.New(service.LastSeen))
	return s
}

func fillStatus(s *flowctlpb.ServiceStatus, service *registry.Service, heard *timestamppb.Timestamp) {
	s.ServiceId, s.ComponentId, s.ServiceType = service.ID, service.Component, typeOf(service.Role)
	s.IsHealthy, s.LastHeartbeat, s.Metrics = service.Healthy, heard, service.Metrics
}

// roleOf reads a service type. 4 is what Node clients send for a consumer and
// later servers for a pipeline.
func roleOf(t flowctlpb.ServiceType) registry.Role {
	switch t {
	case flowctlpb.ServiceType_SERVICE_TYPE_SOURCE:
		return registry.Source
	case flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR:
		return registry.Processor
	case flowctlpb.ServiceType_SERVICE_TYPE_SINK, flowctlpb.ServiceType_SERVICE_TYPE_CONSUMER:
		return registry.Sink
	default:
		return ""
	}
}

func typeOf(role registry.Role) flowctlpb.ServiceType {
	switch role {
	case registry.Source:
		return flowctlpb.ServiceType_SERVICE_TYPE_SOURCE
	case registry.Processor:
		return flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR
	case registry.Sink:
		return flowctlpb.ServiceType_SERVICE_TYPE_SINK
	default:
		return flowctlpb.ServiceType_SERVICE_TYPE_UNSPECIFIED
	}
}

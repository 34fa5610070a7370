package controlplane

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// registryService serves flowctl.registry.v1.
type registryService struct {
	registryv1.UnimplementedRegistryServiceServer
	registry *registry.Registry
	joined   *joined
	own      string // the pipeline whose control plane this is, "" if it stands alone
	// instance names this start of the control plane.
	instance string
	// stopping ends when the server stops.
	stopping context.Context
	// watching holds a token for each watch under way.
	watching chan struct{}
}

// ListServices answers for the services that the filter lets through.
func (s *registryService) ListServices(_ context.Context, in *registryv1.ListServicesRequest) (*registryv1.ListServicesResponse, error) {
	return &registryv1.ListServicesResponse{Services: servicesToWire(s.registry.List(filterFromWire(in.GetFilter())))}, nil
}

// DescribeService answers for one service, with its history.
func (s *registryService) DescribeService(_ context.Context, in *registryv1.DescribeServiceRequest) (*registryv1.DescribeServiceResponse, error) {
	service, events, known := s.registry.History(in.GetId())
	if !known {
		return nil, unknownService(in.GetId())
	}
	_, alive := s.registry.Get(in.GetId())
	out := &registryv1.DescribeServiceResponse{Service: serviceToWire(&service), Gone: !alive}
	for _, e := range events {
		out.History = append(out.History, &registryv1.Event{Time: timestamppb.New(e.Time), Tier: string(e.Tier), Text: e.Text})
	}
	return out, nil
}

const (
	// beatsEvery is how often metrics are sent to watchers that want them.
	beatsEvery = time.Second
	// maxWatches is how many may watch at a time: what each was told is remembered.
	maxWatches = 2048
)

// WatchServices sends what changes.
func (s *registryService) WatchServices(in *registryv1.WatchServicesRequest, stream grpc.ServerStreamingServer[registryv1.WatchServicesResponse]) error {
	select {
	case s.watching <- struct{}{}:
		defer func() { <-s.watching }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d watch already, which is as many as may", maxWatches)
	}
	filter := filterFromWire(in.GetFilter())
	if !in.GetMetrics() {
		return s.watch(stream.Context(), filter, stream.Send)
	}
	// Two send: one after the other, by way of this goroutine.
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	updates, watched := make(chan *registryv1.WatchServicesResponse), make(chan error, 1)
	go func() {
		watched <- s.watch(ctx, filter, func(u *registryv1.WatchServicesResponse) error {
			select {
			case updates <- u:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	beats := beats{registryService: s, filter: filter}
	tick := time.NewTicker(beatsEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case next := <-updates:
			err = stream.Send(next)
		case <-tick.C:
			err = beats.send(stream.Send)
		case err := <-watched:
			return err
		}
		if err != nil {
			cancel()
			<-watched
			return err
		}
	}
}

// watch passes on what changes until ctx is done.
func (s *registryService) watch(ctx context.Context, filter registry.Filter, send func(*registryv1.WatchServicesResponse) error) error {
	for u := range s.registry.Watch(ctx, filter) {
		if err := send(&registryv1.WatchServicesResponse{Changed: servicesToWire(u.Changed), Gone: u.Gone, All: u.All, Instance: s.instance}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// beats finds the services that have been heard since the last time.
type beats struct {
	*registryService
	filter registry.Filter
	last   time.Time
}

// send sends what has been heard.
func (b *beats) send(send func(*registryv1.WatchServicesResponse) error) error {
	since := b.last
	b.last = time.Now()
	for some := range b.registry.Some(b.filter) {
		heard := slices.DeleteFunc(some, func(s registry.Service) bool { return s.LastSeen.Before(since) })
		if len(heard) == 0 {
			continue
		}
		if err := send(&registryv1.WatchServicesResponse{Changed: servicesToWire(heard), Instance: b.instance}); err != nil {
			return err
		}
	}
	return nil
}

func filterFromWire(f *registryv1.Filter) registry.Filter {
	return registry.Filter{
		Role: registry.Role(f.GetRole()), Pipeline: f.GetPipeline(), Produces: f.GetProduces(), Consumes: f.GetConsumes(),
		Metadata: f.GetMetadata(), Healthy: f.GetHealthy(),
	}
}

func filterToWire(f registry.Filter) *registryv1.Filter {
	return &registryv1.Filter{
		Role: string(f.Role), Pipeline: f.Pipeline, Produces: f.Produces, Consumes: f.Consumes, Metadata: f.Metadata, Healthy: f.Healthy,
	}
}

func servicesToWire(services []registry.Service) []*registryv1.Service {
	out := make([]*registryv1.Service, len(services))
	for i := range services {
		out[i] = serviceToWire(&services[i])
	}
	return out
}

func serviceToWire(s *registry.Service) *registryv1.Service {
	return &registryv1.Service{
		Id: s.ID, Pipeline: s.Pipeline, Component: s.Component, Role: string(s.Role), Inputs: s.Inputs, Outputs: s.Outputs,
		HealthEndpoint: s.HealthEndpoint, MaxInflight: int32(s.MaxInflight), Metadata: s.Metadata,
		Name: s.Name, Description: s.Description, Version: s.Version,
		FirstSeen: timeToWire(s.FirstSeen), RegisteredAt: timeToWire(s.RegisteredAt), LastSeen: timeToWire(s.LastSeen),
		Registered: s.Registered, Adopted: s.Adopted, Left: s.Left, Tier: string(s.Tier), Healthy: s.Healthy, Flapping: s.Flapping,
		Reported: string(s.Reported), Reason: s.Reason, Metrics: s.Metrics, Revision: s.Revision,
	}
}

func serviceFromWire(w *registryv1.Service) registry.Service {
	return registry.Service{
		ID: w.GetId(), Pipeline: w.GetPipeline(), Component: w.GetComponent(), Role: registry.Role(w.GetRole()), Inputs: w.GetInputs(), Outputs: w.GetOutputs(),
		HealthEndpoint: w.GetHealthEndpoint(), MaxInflight: int(w.GetMaxInflight()), Metadata: w.GetMetadata(),
		Name: w.GetName(), Description: w.GetDescription(), Version: w.GetVersion(),
		FirstSeen: timeFromWire(w.GetFirstSeen()), RegisteredAt: timeFromWire(w.GetRegisteredAt()), LastSeen: timeFromWire(w.GetLastSeen()),
		Registered: w.GetRegistered(), Adopted: w.GetAdopted(), Left: w.GetLeft(), Tier: registry.Tier(w.GetTier()), Healthy: w.GetHealthy(), Flapping: w.GetFlapping(),
		Reported: registry.Health(w.GetReported()), Reason: w.GetReason(), Metrics: w.GetMetrics(), Revision: w.GetRevision(),
	}
}

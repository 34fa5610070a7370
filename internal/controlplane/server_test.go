package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a control plane and a client of either generation.
type rig struct {
	registry *registry.Registry
	conn     *grpc.ClientConn
	old      flowctlpb.ControlPlaneClient
	v1       flowctlv1.ControlPlaneServiceClient
	stop     func() time.Duration // stops the server, says how long that took
}

// inBubble runs a test in virtual time against a control plane over bufconn.
func inBubble(t *testing.T, test func(t *testing.T, b *rig)) {
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(1 << 20)
		b := serve(t, lis, "passthrough:///bufconn", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return lis.DialContext(ctx)
		}))
		test(t, b)
		b.conn.Close()
		b.stop()
	})
}

// serve runs a control plane on lis and dials it.
func serve(t *testing.T, lis net.Listener, target string, opts ...grpc.DialOption) *rig {
	t.Helper()
	b := &rig{registry: registry.New(registry.Options{})}
	ctx, cancel := context.WithCancel(context.Background())
	served, swept := make(chan error, 1), make(chan error, 1)
	server := newServer(t, Options{Registry: b.registry})
	go func() { served <- server.Serve(ctx, lis) }()
	go func() { swept <- b.registry.Run(ctx) }()
	b.stop = sync.OnceValue(func() time.Duration {
		began := time.Now()
		cancel()
		if err := errors.Join(<-served, <-swept); err != nil {
			t.Errorf("stop: %v", err)
		}
		return time.Since(began)
	})
	conn, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())...)
	if err != nil {
		t.Fatal(err)
	}
	b.conn, b.old, b.v1 = conn, flowctlpb.NewControlPlaneClient(conn), flowctlv1.NewControlPlaneServiceClient(conn)
	return b
}

func newServer(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v (%s), want %s", what, err, got, want)
	}
}

// oldBeat sends a heartbeat and returns whether a registration is asked for.
func (b *rig) oldBeat(t *testing.T, id string, metrics map[string]float64) bool {
	t.Helper()
	var header metadata.MD
	_, err := b.old.Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: id, Metrics: metrics}, grpc.Header(&header))
	if err != nil {
		t.Fatalf("heartbeat of %s: %v", id, err)
	}
	return cmp.Equal(header.Get(RegisterHeader), []string{RegisterAgain})
}

func (b *rig) status(t *testing.T, id string) *flowctlpb.ServiceStatus {
	t.Helper()
	s, err := b.old.GetServiceStatus(t.Context(), &flowctlpb.ServiceInfo{ServiceId: id})
	if err != nil {
		t.Fatalf("status of %s: %v", id, err)
	}
	return s
}

// A client of the old generation: no component id, an id made up by itself.
func TestOldClient(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		b.registry.Expect(registry.Expected{ID: "ttp", Role: registry.Processor, HealthPort: 8089})
		ack, err := b.old.Register(t.Context(), &flowctlpb.ServiceInfo{
			ServiceId: "ttp-7f3a", ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR,
			InputEventTypes: []string{"raw"}, OutputEventTypes: []string{"token.transfer", "fee"},
			HealthEndpoint: "http://localhost:8089/health", MaxInflight: 100,
		})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "id", ack.GetServiceId(), "ttp")
		same(t, "topics", ack.GetTopicNames(), []string{"token.transfer.v1", "fee.v1"})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if b.status(t, "ttp").GetIsHealthy() {
			t.Error("healthy after 30s of silence")
		}
		if b.oldBeat(t, "ttp-7f3a", map[string]float64{"events": 7}) { // it ignores the ack's id
			t.Error("asked to register again")
		}
		got := b.status(t, "ttp-7f3a")
		if !got.GetIsHealthy() || got.GetServiceId() != "ttp" || got.GetComponentId() != "ttp" || got.GetMetrics()["events"] != 7 ||
			!got.GetLastHeartbeat().AsTime().Equal(time.Now()) {
			t.Errorf("after the beat: %v", got)
		}
	})
}

func TestTypes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		for number, want := range []registry.Role{"", registry.Source, registry.Processor, registry.Sink, registry.Sink, ""} {
			id := fmt.Sprint("old", number)
			ack, err := b.old.Register(t.Context(), &flowctlpb.ServiceInfo{
				ServiceId: id, ServiceType: flowctlpb.ServiceType(number), OutputEventTypes: []string{"x"},
			})
			if err != nil {
				t.Fatalf("type %d: %v", number, err)
			}
			service, _ := b.registry.Get(id)
			same(t, "role of "+id, service.Role, want)
			if topics := len(ack.GetTopicNames()); (topics == 1) != (want == registry.Source || want == registry.Processor) {
				t.Errorf("type %d has %d topics", number, topics)
			}
			id = fmt.Sprint("v1-", number)
			if _, err := b.v1.RegisterComponent(t.Context(), &flowctlv1.RegisterRequest{
				Component: &flowctlv1.ComponentInfo{Id: id, Type: flowctlv1.ComponentType(number)},
			}); err != nil {
				t.Fatalf("v1 type %d: %v", number, err)
			}
			service, _ = b.registry.Get(id)
			same(t, "role of "+id, service.Role, want)
		}
		same(t, "type of a consumer", b.status(t, "old4").GetServiceType(), flowctlpb.ServiceType_SERVICE_TYPE_SINK)
	})
}

func TestAdoptionAsksForARegistration(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		if !b.oldBeat(t, "lost", nil) {
			t.Error("not asked to register")
		}
		var header metadata.MD
		if _, err := b.v1.Heartbeat(t.Context(), &flowctlv1.HeartbeatRequest{ServiceId: "lost"}, grpc.Header(&header)); err != nil {
			t.Error(err)
		}
		same(t, "v1 header", header.Get(RegisterHeader), []string{RegisterAgain})
		if !b.status(t, "lost").GetIsHealthy() {
			t.Error("adopted, but not healthy")
		}
		ack, err := b.old.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_SINK})
		if err != nil || !strings.HasPrefix(ack.GetServiceId(), "sink-") {
			t.Errorf("registered without an id: %v, %v", ack, err)
		}
		if b.oldBeat(t, ack.GetServiceId(), nil) {
			t.Error("asked to register again")
		}
	})
}

func TestV1(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		b.registry.Expect(registry.Expected{ID: "ttp", Role: registry.Processor})
		info := &flowctlv1.ComponentInfo{
			Id: "ttp-1", Name: "TTP", Description: "transfers", Version: "1.2", Type: flowctlv1.ComponentType_COMPONENT_TYPE_PROCESSOR,
			InputEventTypes: []string{"raw"}, OutputEventTypes: []string{"transfer"}, Endpoint: "localhost:50051",
			Metadata: map[string]string{"net": "test"},
		}
		ack, err := b.v1.RegisterComponent(t.Context(), &flowctlv1.RegisterRequest{Component: info, ComponentId: "ttp"})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "id", ack.GetServiceId(), "ttp")
		same(t, "topics", ack.GetAssignedTopics(), []string{"transfer.v1"})
		if _, err := b.v1.Heartbeat(t.Context(), &flowctlv1.HeartbeatRequest{
			ServiceId: "ttp", Metrics: map[string]string{"events": "296.5", "version": "one"},
		}); err != nil {
			t.Fatal(err)
		}
		got, err := b.v1.GetComponentStatus(t.Context(), &flowctlv1.ComponentStatusRequest{ServiceId: "ttp"})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "status UNKNOWN means alive", got.GetStatus(), flowctlv1.HealthStatus_HEALTH_STATUS_HEALTHY)
		same(t, "metrics", got.GetMetrics(), map[string]string{"events": "296.5"})
		c := got.GetComponent()
		same(t, "component",
			[]string{c.GetId(), c.GetName(), c.GetDescription(), c.GetVersion(), c.GetEndpoint(), c.GetType().String(), c.GetMetadata()["net"]},
			[]string{"ttp", "TTP", "transfers", "1.2", "localhost:50051", "COMPONENT_TYPE_PROCESSOR", "test"})
		if got.GetRegisteredAt() == nil || b.status(t, "ttp").GetServiceType() != flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR {
			t.Errorf("the two services differ: %v", got)
		}
		for _, step := range []struct{ said, want flowctlv1.HealthStatus }{
			{flowctlv1.HealthStatus_HEALTH_STATUS_STARTING, flowctlv1.HealthStatus_HEALTH_STATUS_STARTING},
			{flowctlv1.HealthStatus_HEALTH_STATUS_DEGRADED, flowctlv1.HealthStatus_HEALTH_STATUS_DEGRADED},
			{flowctlv1.HealthStatus_HEALTH_STATUS_UNHEALTHY, flowctlv1.HealthStatus_HEALTH_STATUS_UNHEALTHY},
			{flowctlv1.HealthStatus_HEALTH_STATUS_STOPPING, flowctlv1.HealthStatus_HEALTH_STATUS_STOPPING},
			{flowctlv1.HealthStatus_HEALTH_STATUS_HEALTHY, flowctlv1.HealthStatus_HEALTH_STATUS_HEALTHY},
		} {
			b.v1.Heartbeat(t.Context(), &flowctlv1.HeartbeatRequest{ServiceId: "ttp", Status: step.said})
			got, _ := b.v1.GetComponentStatus(t.Context(), &flowctlv1.ComponentStatusRequest{ServiceId: "ttp"})
			same(t, "after "+step.said.String(), got.GetStatus(), step.want)
		}
		if _, err := b.v1.UnregisterComponent(t.Context(), &flowctlv1.UnregisterRequest{ServiceId: "ttp-1"}); err != nil {
			t.Fatal(err)
		}
		_, err = b.v1.GetComponentStatus(t.Context(), &flowctlv1.ComponentStatusRequest{ServiceId: "ttp"})
		wantCode(t, "status of one that left", err, codes.NotFound)
		_, err = b.v1.UnregisterComponent(t.Context(), &flowctlv1.UnregisterRequest{ServiceId: "ttp-1"})
		wantCode(t, "leaving twice", err, codes.OK)
	})
}

func TestListAndDiscover(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		b.registry.Register(registry.Registration{ServiceID: "dead", Role: registry.Source, Outputs: []string{"raw"}})
		time.Sleep(40 * time.Second)
		synctest.Wait()
		b.registry.Register(registry.Registration{ServiceID: "sink", Role: registry.Sink, Inputs: []string{"raw"}})
		b.registry.Register(registry.Registration{
			ServiceID: "live", Role: registry.Source, Outputs: []string{"raw"}, Metadata: map[string]string{"net": "test", "x": "y"},
		})
		list := func(in *flowctlv1.ListComponentsRequest) (ids []string) {
			out, err := b.v1.ListComponents(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range out.GetComponents() {
				ids = append(ids, c.GetComponent().GetId())
			}
			return ids
		}
		source := flowctlv1.ComponentType_COMPONENT_TYPE_SOURCE
		same(t, "healthy", list(&flowctlv1.ListComponentsRequest{}), []string{"live", "sink"})
		same(t, "all", list(&flowctlv1.ListComponentsRequest{IncludeUnhealthy: true}), []string{"dead", "live", "sink"})
		same(t, "sources", list(&flowctlv1.ListComponentsRequest{TypeFilter: source}), []string{"live"})
		discover := func(in *flowctlv1.DiscoveryRequest) (ids []string) {
			out, err := b.v1.DiscoverComponents(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range out.GetComponents() {
				ids = append(ids, c.GetId())
			}
			return ids
		}
		same(t, "any event", discover(&flowctlv1.DiscoveryRequest{EventTypes: []string{"other", "raw"}}), []string{"live", "sink"})
		same(t, "type and event", discover(&flowctlv1.DiscoveryRequest{Type: source, EventTypes: []string{"raw"}}), []string{"live"})
		same(t, "no such event", discover(&flowctlv1.DiscoveryRequest{EventTypes: []string{"other"}}), []string(nil))
		same(t, "all metadata", discover(&flowctlv1.DiscoveryRequest{MetadataFilters: map[string]string{"net": "test", "x": "y"}}), []string{"live"})
		same(t, "not all metadata", discover(&flowctlv1.DiscoveryRequest{MetadataFilters: map[string]string{"net": "test", "x": "z"}}), []string(nil))
		old, err := b.old.ListServices(t.Context(), &emptypb.Empty{})
		if err != nil || len(old.GetServices()) != 3 || old.GetServices()[0].GetServiceId() != "dead" {
			t.Errorf("ListServices: %v, %v", old, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		_, err := b.v1.RegisterComponent(t.Context(), &flowctlv1.RegisterRequest{ComponentId: "x"})
		wantCode(t, "no component", err, codes.InvalidArgument)
		_, err = b.old.Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{})
		wantCode(t, "heartbeat of nobody", err, codes.InvalidArgument)
		_, err = b.old.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: "a\nb"})
		wantCode(t, "unprintable id", err, codes.InvalidArgument)
		_, err = b.old.GetServiceStatus(t.Context(), &flowctlpb.ServiceInfo{ServiceId: "nobody"})
		wantCode(t, "status of nobody", err, codes.NotFound)
		_, err = b.old.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: strings.Repeat("x", 5<<20)})
		wantCode(t, "a message of 5 MiB", err, codes.ResourceExhausted)
	})
}

func TestErrorTranslation(t *testing.T) {
	for want, err := range map[codes.Code]error{
		codes.OK:               nil,
		codes.InvalidArgument:  fmt.Errorf("x: %w", registry.ErrInvalidID),
		codes.NotFound:         fmt.Errorf("x: %w", errNotFound),
		codes.Canceled:         fmt.Errorf("x: %w", context.Canceled),
		codes.DeadlineExceeded: fmt.Errorf("x: %w", context.DeadlineExceeded),
		codes.Internal:         io.ErrUnexpectedEOF,
		codes.Unavailable:      status.Error(codes.Unavailable, "as it is"),
	} {
		wantCode(t, "translated", wireError(err), want)
	}
}

func TestPanicIsOneCallsAffair(t *testing.T) {
	s := newServer(t, Options{Registry: registry.New(registry.Options{})})
	_, err := s.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(context.Context, any) (any, error) { panic("boom") })
	wantCode(t, "unary", err, codes.Internal)
	err = s.stream(t.Context(), nil, &quietStream{ctx: t.Context()}, "/test/Stream", func(any, grpc.ServerStream) error { panic("boom") })
	wantCode(t, "stream", err, codes.Internal)
}

type quietStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *quietStream) Context() context.Context { return s.ctx }

func TestHealthAndReflection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		for _, name := range []string{"", "flowctl.ControlPlane", "flowctl.v1.ControlPlaneService"} {
			got, err := healthpb.NewHealthClient(b.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("health of %q: %v, %v", name, got, err)
			}
		}
		stream, err := reflectionpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range got.GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		for _, want := range []string{"flowctl.ControlPlane", "flowctl.v1.ControlPlaneService"} {
			if !strings.Contains(strings.Join(names, " "), want) {
				t.Errorf("reflection lists %v", names)
			}
		}
		stream.CloseSend()
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("end of reflection: %v", err)
		}
	})
}

func TestStopEndsWatchesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		watch, err := healthpb.NewHealthClient(b.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		if took := b.stop(); took > 100*time.Millisecond {
			t.Errorf("stop took %s", took)
		}
		if _, err := watch.Recv(); err == nil {
			t.Error("the watch goes on")
		}
	})
}

func TestStopIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *rig) {
		hanging, err := reflectionpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the server waits for a request that does not come
		if took := b.stop(); took != stopGrace {
			t.Errorf("stop took %s", took)
		}
		if _, err := hanging.Recv(); err == nil {
			t.Error("the stream goes on")
		}
	})
}

func TestStopDespiteSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(1 << 20)
		b := serve(t, lis, "passthrough:///unused")
		defer b.conn.Close()
		silent, err := lis.DialContext(t.Context()) // connects, and never says a word
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		synctest.Wait()
		if took := b.stop(); took > stopGrace {
			t.Errorf("stop took %s", took)
		}
	})
}

func TestStopBeforeStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, Options{Registry: registry.New(registry.Options{})}).Serve(ctx, lis); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", lis.Addr().String()); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
}

func TestServeOnABrokenListener(t *testing.T) {
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	err = newServer(t, Options{Registry: registry.New(registry.Options{})}).Serve(t.Context(), lis)
	if err == nil || !strings.Contains(err.Error(), "serve control plane on 127.0.0.1:") {
		t.Errorf("Serve: %v", err)
	}
}

func TestHammer(t *testing.T) {
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	b := serve(t, lis, lis.Addr().String())
	var clients sync.WaitGroup
	for c := range 16 {
		clients.Go(func() {
			for i := range 40 {
				id := fmt.Sprint("s", c, "-", i%4)
				b.registry.Expect(registry.Expected{ID: id, Role: registry.Source})
				b.old.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: id})
				b.oldBeat(t, id, map[string]float64{"i": float64(i)})
				b.v1.Heartbeat(t.Context(), &flowctlv1.HeartbeatRequest{ServiceId: id})
				b.old.ListServices(t.Context(), &emptypb.Empty{})
				b.registry.Exited(id, "test")
				b.v1.UnregisterComponent(t.Context(), &flowctlv1.UnregisterRequest{ServiceId: id})
			}
		})
	}
	clients.Wait()
	b.conn.Close()
	b.stop()
}

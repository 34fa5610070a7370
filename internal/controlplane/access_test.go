package controlplane

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// everything is all services that a control plane of a run serves.
var everything = []grpc.ServiceDesc{
	flowctlpb.ControlPlane_ServiceDesc, flowctlv1.ControlPlaneService_ServiceDesc, registryv1.RegistryService_ServiceDesc,
	runv1.RunService_ServiceDesc, healthpb.Health_ServiceDesc, reflectionpb.ServerReflection_ServiceDesc,
}

// methods are their methods' full names.
func methods() (all []string) {
	for _, service := range everything {
		for _, m := range service.Methods {
			all = append(all, "/"+service.ServiceName+"/"+m.MethodName)
		}
		for _, m := range service.Streams {
			all = append(all, "/"+service.ServiceName+"/"+m.StreamName)
		}
	}
	return all
}

// forOperators are methods that need an operator: some of them however open the control plane is.
func forOperators(method string, required bool) bool {
	return strings.HasPrefix(method, "/flowctl.run.v1.") || required && slices.Contains([]string{
		"/flowctl.registry.v1.RegistryService/Join", "/flowctl.ControlPlane/CreatePipelineRun",
		"/flowctl.ControlPlane/UpdatePipelineRun", "/flowctl.ControlPlane/StopPipelineRun",
	}, method)
}

// knock calls a method with an empty message, or two, and returns the answer's code.
// Streams are calls like any others here.
func knock(t *testing.T, conn grpc.ClientConnInterface, method, token string) codes.Code {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, accessHeader, token)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.SendMsg(&emptypb.Empty{})
	_ = stream.CloseSend()
	if err = stream.RecvMsg(&emptypb.Empty{}); err == io.EOF {
		err = nil
	}
	return status.Code(err)
}

func TestWhoMayCallWhat(t *testing.T) {
	for _, required := range []bool{false, true} {
		run := &fakeRun{journal: journal.New(journal.Options{})}
		run.journal.Close() // who follows it comes to its end
		o := open(t, Options{Run: run, Access: Access{Token: rightToken, Required: required}})
		conn := o.client(Target{}).conn
		for name, caller := range map[string]struct {
			token           string
			named, operator bool
		}{
			"nobody":                  {},
			"a component":             {token: accessScheme + ComponentToken(rightToken, "src"), named: true},
			"the operator":            {token: accessScheme + rightToken, named: true, operator: true},
			"another plane's":         {token: accessScheme + ComponentToken("another", "src")},
			"half a token":            {token: accessScheme + rightToken[1:]},
			"another component's mac": {token: accessScheme + "c2luaw." + strings.SplitN(ComponentToken(rightToken, "src"), ".", 2)[1]},
			"an empty token":          {token: accessScheme},
			"another scheme":          {token: "Basic " + rightToken},
		} {
			for _, method := range methods() {
				code := knock(t, conn, method, caller.token)
				allowed := caller.operator || !forOperators(method, required) && (caller.named || !required || strings.HasPrefix(method, "/grpc.health.v1."))
				// Without a duty to show a token, components are turned away for a wrong one only.
				if code == codes.Unauthenticated && !required && strings.HasPrefix(caller.token, accessScheme) && !caller.named {
					continue
				}
				if denied := code == codes.Unauthenticated || code == codes.PermissionDenied; denied == allowed || code == codes.Unimplemented {
					t.Errorf("required %v, %s: %s: %s", required, name, method, code)
				}
			}
		}
		o.stop()
	}
}

// caller is a client that shows a token.
func (o *opened) caller(token string) (flowctlpb.ControlPlaneClient, flowctlv1.ControlPlaneServiceClient) {
	c := o.client(Target{Token: token})
	return flowctlpb.NewControlPlaneClient(c.conn), flowctlv1.NewControlPlaneServiceClient(c.conn)
}

// component is a client with the token of a component.
func (o *opened) component(id string) (flowctlpb.ControlPlaneClient, flowctlv1.ControlPlaneServiceClient) {
	return o.caller(ComponentToken(rightToken, id))
}

// However a component says that it is another one, it is refused or taken for itself.
func TestAComponentSpeaksForItselfOnly(t *testing.T) {
	for _, known := range []string{"expected", "a stranger", "not there yet"} {
		t.Run(known, func(t *testing.T) {
			o := open(t, Options{Access: Access{Token: rightToken, Required: true}})
			if known == "expected" {
				for _, id := range []string{"good", "evil"} {
					if _, err := o.registry.Expect(registry.Expected{ID: id, Role: registry.Source, HealthPort: 8088}); err != nil {
						t.Fatal(err)
					}
				}
			}
			good, goodV1 := o.component("good")
			evil, evilV1 := o.component("evil")
			join := func() {
				t.Helper()
				ack, err := good.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: "good"})
				if err != nil || ack.GetServiceId() != "good" {
					t.Fatalf("good is registered as %q: %v", ack.GetServiceId(), err)
				}
			}
			if known != "not there yet" {
				join()
			}
			for name, attempt := range map[string]func() error{
				"component id": func() error {
					_, err := evil.Register(t.Context(), &flowctlpb.ServiceInfo{ComponentId: "good"})
					return err
				},
				"service id": func() error {
					_, err := evil.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: "good"})
					return err
				},
				"its own component id and another's service id": func() error {
					_, err := evil.Register(t.Context(), &flowctlpb.ServiceInfo{ComponentId: "evil", ServiceId: "good"})
					return err
				},
				"metadata": func() error {
					_, err := evil.Register(t.Context(), &flowctlpb.ServiceInfo{Metadata: map[string]string{"component_id": "good"}})
					return err
				},
				"health port": func() error {
					_, err := evil.Register(t.Context(), &flowctlpb.ServiceInfo{HealthEndpoint: "http://localhost:8088/health", ServiceType: 1})
					return err
				},
				"v1 ids": func() error {
					_, err := evilV1.RegisterComponent(t.Context(), &flowctlv1.RegisterRequest{ComponentId: "evil", Component: &flowctlv1.ComponentInfo{Id: "good"}})
					return err
				},
				"v1 component": func() error {
					_, err := evilV1.RegisterComponent(t.Context(), &flowctlv1.RegisterRequest{ComponentId: "good", Component: &flowctlv1.ComponentInfo{Id: "evil"}})
					return err
				},
				"heartbeat": func() error {
					_, err := evil.Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: "good", Metrics: map[string]float64{"evil": 1}})
					return err
				},
				"v1 heartbeat": func() error {
					_, err := evilV1.Heartbeat(t.Context(), &flowctlv1.HeartbeatRequest{ServiceId: "good", Status: flowctlv1.HealthStatus_HEALTH_STATUS_UNHEALTHY})
					return err
				},
				"unregister": func() error {
					_, err := evilV1.UnregisterComponent(t.Context(), &flowctlv1.UnregisterRequest{ServiceId: "good"})
					return err
				},
			} {
				if code := status.Code(attempt()); !slices.Contains([]codes.Code{codes.OK, codes.PermissionDenied}, code) {
					t.Errorf("%s: %s", name, code)
				}
			}
			if known == "not there yet" {
				join()
			}
			beaten, err := goodV1.Heartbeat(t.Context(), &flowctlv1.HeartbeatRequest{ServiceId: "good"})
			if err != nil {
				t.Fatalf("good's heartbeat: %v, %v", beaten, err)
			}
			if s, ok := o.registry.Get("good"); !ok || s.ID != "good" || !s.Registered || !s.Healthy || s.Left || len(s.Metrics) > 0 {
				t.Errorf("good is %+v", s)
			}
		})
	}
}

// A component that has proven who it is may go by any id of its own.
func TestAComponentUnderAnIDOfItsOwn(t *testing.T) {
	o := open(t, Options{Access: Access{Token: rightToken, Required: true}})
	old, v1 := o.component("ttp")
	ack, err := old.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: "ttp-7f3a"})
	if err != nil || ack.GetServiceId() != "ttp" {
		t.Fatalf("%v, %v", ack, err)
	}
	if _, err := old.Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: "ttp-7f3a", Metrics: map[string]float64{"n": 1}}); err != nil {
		t.Error(err)
	}
	if s, _ := o.registry.Get("ttp"); s.Metrics["n"] != 1 {
		t.Errorf("after a heartbeat: %+v", s)
	}
	if _, err := v1.UnregisterComponent(t.Context(), &flowctlv1.UnregisterRequest{ServiceId: "ttp-7f3a"}); err != nil {
		t.Error(err)
	}
	if s, there := o.registry.Get("ttp"); there && !s.Left {
		t.Errorf("after its goodbye: %+v", s)
	}
}

// What a refused client has sent is not sent on at any length.
func TestRefusalsAreShort(t *testing.T) {
	o := open(t, Options{Access: Access{Token: rightToken, Required: true}})
	long := strings.Repeat("\x1b[2J", 50_000)
	evil, evilV1 := o.component("evil")
	_, err := evil.Register(t.Context(), &flowctlpb.ServiceInfo{ComponentId: long})
	wantCode(t, "a long claim", err, codes.PermissionDenied)
	o.notices.await(t, "evil cannot speak for ")
	if told, _ := o.notices.all(); len(told[0]) > 1000 || strings.Contains(told[0], "\x1b") {
		t.Errorf("a notice of %d bytes: %.100q", len(told[0]), told[0])
	}
	_, err = evilV1.GetComponentStatus(t.Context(), &flowctlv1.ComponentStatusRequest{ServiceId: long})
	wantCode(t, "a long id", err, codes.NotFound)
	_, err = evil.GetPipelineRun(t.Context(), &flowctlpb.GetPipelineRunRequest{RunId: long})
	wantCode(t, "a long run id", err, codes.NotFound)
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

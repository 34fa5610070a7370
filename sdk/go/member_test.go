package flowctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/registry"
)

func TestMain(m *testing.M) {
	if runAsComponent() {
		return
	}
	// The idle connections of the default client are the tests' own.
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultClient.CloseIdleConnections() }))
}

// plane is a control plane on a port of its own.
type plane struct {
	registry *registry.Registry
	addr     string
	stop     func()
}

// startPlane serves on addr, or on a free port if that is "".
func startPlane(t *testing.T, addr string) *plane {
	t.Helper()
	port := 0
	if addr != "" {
		_, text, _ := net.SplitHostPort(addr)
		port, _ = strconv.Atoi(text)
	}
	lis, err := controlplane.Listen("127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{registry: registry.New(registry.Options{}), addr: lis.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server, err := controlplane.New(controlplane.Options{Registry: p.registry})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- server.Serve(ctx, lis) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// await waits until the service of that id is as cond wants it.
func (p *plane) await(t *testing.T, id string, cond func(registry.Service) bool) registry.Service {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := p.registry.Await(ctx, id, cond)
	if err != nil {
		t.Fatalf("%v; it is %+v", err, s)
	}
	return s
}

func registered(s registry.Service) bool { return s.Registered }

// setEnvironment is what flowctl would set.
func setEnvironment(t *testing.T, endpoint, id, interval string) {
	t.Helper()
	for _, name := range []string{"FLOWCTL_ENABLED", "FLOWCTL_COMPONENT_ID", "FLOWCTL_SERVICE_ID", "SERVICE_ID", "HEALTH_PORT", "HEALTH_ENDPOINT",
		"FLOWCTL_TLS_CA", "FLOWCTL_TLS_CERT", "FLOWCTL_TLS_KEY", "FLOWCTL_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("ENABLE_FLOWCTL", "true")
	t.Setenv("FLOWCTL_ENDPOINT", endpoint)
	t.Setenv("COMPONENT_ID", id)
	t.Setenv("FLOWCTL_HEARTBEAT_INTERVAL", interval)
}

func join(t *testing.T, c Component) *Member {
	t.Helper()
	m, err := Join(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Leave() })
	return m
}

// freePort returns a port nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

func TestJoinAndLeave(t *testing.T) {
	for _, spelling := range []string{"%s", "http://%s", "http://%s/"} {
		t.Run(fmt.Sprintf(spelling, "host"), func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // must not be asked
			p := startPlane(t, "")
			p.registry.Expect(registry.Expected{ID: "ttp", Role: registry.Processor})
			setEnvironment(t, fmt.Sprintf(spelling, p.addr), "ttp", "10000ms")
			port := freePort(t)
			began := time.Now()
			m := join(t, Component{
				ID: "overridden", Role: Processor, Inputs: []string{"raw"}, Outputs: []string{"transfer"},
				MaxInflight: 7, Metadata: map[string]string{"net": "test"}, HealthPort: port,
			})
			got := p.await(t, "ttp", registered)
			t.Logf("registered after %s", time.Since(began))
			if m.ID() != "ttp" || got.Role != registry.Processor || got.MaxInflight != 7 ||
				got.HealthEndpoint != fmt.Sprintf("http://localhost:%d/health", port) {
				t.Errorf("registered as %+v", got)
			}
			if diff := cmp.Diff(map[string]string{"net": "test", "component_id": "ttp"}, got.Metadata); diff != "" {
				t.Error(diff)
			}
			m.Count("events", 200)
			m.Count("events", 96)
			m.Report("ledger", 53312000)
			if err := m.Leave(); err != nil {
				t.Error(err)
			}
			left := p.await(t, "ttp", func(s registry.Service) bool { return s.Left })
			if diff := cmp.Diff(map[string]float64{"events": 296, "ledger": 53312000}, left.Metrics); diff != "" {
				t.Errorf("the last metrics: %s", diff)
			}
			if err := m.Leave(); err != nil || m.Context().Err() == nil {
				t.Errorf("left twice: %v", err)
			}
			if conn, err := net.Dial("tcp", fmt.Sprint("localhost:", port)); err == nil {
				conn.Close()
				t.Error("the health port is still open")
			}
		})
	}
}

func TestHeartbeats(t *testing.T) {
	p := startPlane(t, "")
	setEnvironment(t, p.addr, "a", "20")
	m := join(t, Component{Role: Source})
	first := p.await(t, "a", registered)
	m.SetHealth(Degraded, "the lake is far away")
	m.Report("n", 0.1)
	got := p.await(t, "a", func(s registry.Service) bool { return s.Reported == registry.Degraded })
	if !got.LastSeen.After(first.LastSeen) || got.Metrics["n"] != 0.1 || !got.Healthy {
		t.Errorf("after a heartbeat: %+v", got)
	}
	m.SetHealth(Unhealthy, "no lake")
	p.await(t, "a", func(s registry.Service) bool { return !s.Healthy })
	m.SetHealth(Healthy, "")
	p.await(t, "a", func(s registry.Service) bool { return s.Healthy })
}

func TestBeatNow(t *testing.T) {
	p := startPlane(t, "")
	setEnvironment(t, p.addr, "a", "1h")
	m := join(t, Component{})
	p.await(t, "a", registered)
	m.Report("n", 1)
	// The answer to the registration may still be on its way.
	for m.Beat(t.Context()) != nil && t.Context().Err() == nil {
	}
	if got, _ := p.registry.Get("a"); got.Metrics["n"] != 1 {
		t.Errorf("after Beat: %+v", got)
	}
	p.stop()
	if err := m.Beat(t.Context()); err == nil {
		t.Error("Beat succeeded with nobody there")
	}
	began := time.Now()
	if err := m.Leave(); err == nil || time.Since(began) > callTimeout-time.Second {
		t.Errorf("Leave with nobody there: %v after %s", err, time.Since(began))
	}
}

func TestForgetfulControlPlane(t *testing.T) {
	first := startPlane(t, "")
	setEnvironment(t, first.addr, "a", "1h") // no heartbeat helps
	join(t, Component{Role: Sink})
	first.await(t, "a", registered)
	first.stop()
	second := startPlane(t, first.addr)
	began := time.Now()
	got := second.await(t, "a", registered)
	t.Logf("registered again after %s", time.Since(began))
	if got.Role != registry.Sink {
		t.Errorf("registered again as %+v", got)
	}
}

// A registry that forgets while the connection stays up says so in its answer.
func TestForgottenOnALivingConnection(t *testing.T) {
	p := startPlane(t, "")
	setEnvironment(t, p.addr, "a", "20ms")
	join(t, Component{Role: Sink})
	p.await(t, "a", registered)
	p.registry.Deregister("a")
	p.await(t, "a", registered)
}

func TestControlPlaneComesUpLate(t *testing.T) {
	addr := fmt.Sprint("127.0.0.1:", freePort(t))
	setEnvironment(t, addr, "a", "10s")
	m := join(t, Component{})
	if err := m.Beat(t.Context()); err == nil {
		t.Error("Beat succeeded before there was a control plane")
	}
	p := startPlane(t, addr)
	p.await(t, "a", registered)
}

func TestNoControlPlane(t *testing.T) {
	setEnvironment(t, fmt.Sprint("127.0.0.1:", freePort(t)), "a", "10s")
	m := join(t, Component{})
	began := time.Now()
	if err := m.Leave(); err != nil || time.Since(began) > farewellTimeout {
		t.Errorf("Leave, never registered: %v after %s", err, time.Since(began))
	}
	t.Setenv("ENABLE_FLOWCTL", "")
	m = join(t, Component{})
	if err := errors.Join(m.Beat(t.Context()), m.Leave()); err != nil {
		t.Errorf("alone: %v", err)
	}
}

// A control plane that accepts connections and never answers holds nobody up.
func TestHangingControlPlane(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	setEnvironment(t, lis.Addr().String(), "a", "10s")
	m := join(t, Component{})
	began := time.Now()
	if err := m.Leave(); err != nil || time.Since(began) > farewellTimeout {
		t.Errorf("Leave: %v after %s", err, time.Since(began))
	}
}

// slow takes its time to answer a registration.
type slow struct {
	flowctlpb.UnimplementedControlPlaneServer
	called, answer chan struct{}
	beaten         chan string
}

func (s *slow) Register(ctx context.Context, _ *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	close(s.called)
	select {
	case <-s.answer:
		return &flowctlpb.RegistrationAck{ServiceId: "chosen"}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slow) Heartbeat(_ context.Context, in *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	s.beaten <- in.GetServiceId()
	return &emptypb.Empty{}, nil
}

// A component that leaves while its registration is under way says farewell
// all the same, unless the control plane does not answer in time.
func TestLeaveWhileRegistering(t *testing.T) {
	for _, answers := range []bool{true, false} {
		s := &slow{called: make(chan struct{}), answer: make(chan struct{}), beaten: make(chan string, 1)}
		addr := serveForeign(t, s)
		setEnvironment(t, addr, "a", "10s")
		m := join(t, Component{})
		<-s.called
		left := make(chan error, 1)
		began := time.Now()
		go func() { left <- m.Leave() }()
		if answers {
			close(s.answer)
			if got := <-s.beaten; got != "chosen" {
				t.Errorf("farewell of %q", got)
			}
		}
		if err := <-left; err != nil || time.Since(began) > callTimeout-time.Second { // a call's own bound is longer
			t.Errorf("answers %t: %v after %s", answers, err, time.Since(began))
		}
	}
}

// serveForeign serves somebody else's control plane and returns its address.
func serveForeign(t *testing.T, plane flowctlpb.ControlPlaneServer) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	flowctlpb.RegisterControlPlaneServer(server, plane)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

// older is a control plane of another make: it serves only the older service,
// refuses the first registrations, chooses ids, and knows no adoption.
type older struct {
	flowctlpb.UnimplementedControlPlaneServer
	mu       sync.Mutex
	refusals int
	known    bool
	news     chan string
}

func (o *older) Register(_ context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refusals > 0 {
		o.refusals--
		return nil, status.Error(codes.Internal, "not yet")
	}
	o.known = true
	o.news <- "registered " + in.GetServiceId()
	return &flowctlpb.RegistrationAck{ServiceId: "chosen"}, nil
}

func (o *older) Heartbeat(_ context.Context, in *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known {
		return nil, status.Error(codes.NotFound, "who?")
	}
	o.known = false // forgets at once
	o.news <- "heartbeat " + in.GetServiceId()
	return &emptypb.Empty{}, nil
}

func TestOlderControlPlane(t *testing.T) {
	o := &older{refusals: 2, news: make(chan string, 1000)}
	setEnvironment(t, serveForeign(t, o), "a", "20ms")
	m := join(t, Component{})
	m.SetHealth(Degraded, "still heard by the older service")
	for _, want := range []string{"registered a", "heartbeat chosen", "registered a", "heartbeat chosen"} {
		if got := <-o.news; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if err := m.Leave(); err != nil {
		t.Errorf("Leave: %v", err)
	}
}

func TestHealthEndpoint(t *testing.T) {
	port := freePort(t)
	setEnvironment(t, "localhost:1", "a", "10s")
	t.Setenv("ENABLE_FLOWCTL", "false")
	t.Setenv("HEALTH_PORT", strconv.Itoa(port))
	m := join(t, Component{Role: Sink, HealthPort: 1}) // the environment wins
	ask := func() map[string]any {
		resp, err := http.Get(fmt.Sprintf("http://localhost:%d/health", port))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		var got map[string]any
		if err := json.Unmarshal(body, &got); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d, %v: %s", resp.StatusCode, err, body)
		}
		return got
	}
	want := map[string]any{"status": "healthy", "component": "a", "role": "sink", "metrics": map[string]any{}}
	if diff := cmp.Diff(want, ask()); diff != "" {
		t.Error(diff)
	}
	m.Report("n", 2)
	m.Report("rate", math.NaN())
	m.Report("lag", math.Inf(1))
	m.SetHealth(Unhealthy, "no lake")
	want["status"], want["reason"], want["metrics"] = "unhealthy", "no lake", map[string]any{"n": 2.0}
	if diff := cmp.Diff(want, ask()); diff != "" {
		t.Error(diff)
	}
}

func TestJoinRefuses(t *testing.T) {
	setEnvironment(t, "localhost:1", "", "10s")
	if _, err := Join(t.Context(), Component{}); err == nil || !strings.Contains(err.Error(), "set Component.ID or COMPONENT_ID") {
		t.Errorf("without an id: %v", err)
	}
	lis, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	port := lis.Addr().(*net.TCPAddr).Port
	_, err = Join(t.Context(), Component{ID: "a", HealthPort: port})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("join as a: serve health on port %d:", port)) {
		t.Errorf("taken health port: %v", err)
	}
	t.Setenv("FLOWCTL_ENDPOINT", "nowhere")
	if _, err := Join(t.Context(), Component{ID: "a"}); err == nil || !strings.Contains(err.Error(), "FLOWCTL_ENDPOINT") {
		t.Errorf("bad endpoint: %v", err)
	}
}

func TestParentContext(t *testing.T) {
	p := startPlane(t, "")
	setEnvironment(t, p.addr, "a", "20ms")
	parent, cancel := context.WithCancel(t.Context())
	m, err := Join(parent, Component{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Leave()
	p.await(t, "a", registered)
	cancel()
	<-m.Context().Done()
	// It is draining, and lives.
	m.SetHealth(Degraded, "draining")
	p.await(t, "a", func(s registry.Service) bool { return s.Reported == registry.Degraded })
}

func TestConcurrentUse(t *testing.T) {
	p := startPlane(t, "")
	setEnvironment(t, p.addr, "a", "1ms")
	m := join(t, Component{})
	p.await(t, "a", registered)
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for range 200 {
				m.Count("n", 1)
				m.Report(fmt.Sprint("m", i), 1)
				m.SetHealth(Healthy, "")
			}
			m.Beat(t.Context())
			if i%2 == 0 {
				m.Leave()
			}
		})
	}
	users.Wait()
	m.Leave()
	if got, _ := p.registry.Get("a"); got.Left {
		t.Errorf("a stranger that left is kept: %+v", got)
	}
}

package controlplane

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// fuzzed is a control plane in memory, for as long as the fuzzing lasts.
type fuzzed struct {
	lis  *bufconn.Listener
	conn *grpc.ClientConn // an operator's, that sends bytes as they are
	// panics are those of handlers.
	panics *record
}

// record is what was written.
type record struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// take returns what was written since the last time.
func (r *record) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.text.Reset()
	return r.text.String()
}

func openFuzzed(f *testing.F, files TLSFiles) *fuzzed {
	z := &fuzzed{lis: bufconn.Listen(1 << 16), panics: &record{}}
	run := &fakeRun{journal: journal.New(journal.Options{})}
	run.journal.Close()
	server, err := New(Options{
		Registry: registry.New(registry.Options{MaxServices: 1000}), Run: run, Access: Access{Token: rightToken}, TLS: files,
		Metrics: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(z.panics, nil)),
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, z.lis) }()
	z.conn, err = grpc.NewClient("passthrough:///fuzzed", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithPerRPCCredentials(access(rightToken)), grpc.WithDefaultCallOptions(grpc.ForceCodec(asItIs{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return z.lis.DialContext(ctx) }))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		z.conn.Close()
		cancel()
		if err := <-served; err != nil {
			f.Error(err)
		}
	})
	return z
}

// asItIs is a codec for messages that are bytes already.
type asItIs struct{}

func (asItIs) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (asItIs) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (asItIs) Name() string                       { return "proto" }

// call sends bytes to a method and returns the code of its answer, or of the first
// of several.
func (z *fuzzed) call(ctx context.Context, method string, messages ...[]byte) (codes.Code, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := z.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return status.Code(err), err
	}
	for _, m := range messages {
		_ = stream.SendMsg(m)
	}
	_ = stream.CloseSend()
	var answer []byte
	if err = stream.RecvMsg(&answer); err == io.EOF {
		err = nil
	}
	return status.Code(err), err
}

// healthy reports whether the control plane answers still.
func (z *fuzzed) healthy(t *testing.T) {
	t.Helper()
	if code, err := z.call(t.Context(), "/grpc.health.v1.Health/Check", nil); code != codes.OK {
		t.Errorf("it does not answer any more: %v", err)
	}
	if text := z.panics.take(); text != "" {
		t.Errorf("a handler has panicked: %s", text)
	}
}

// Whatever bytes a method gets for a message, it answers, and nothing breaks.
func FuzzMessages(f *testing.F) {
	z := openFuzzed(f, TLSFiles{})
	all := methods()
	for i := range all {
		for _, m := range meaningful {
			f.Add(i, encoded(f, m), []byte{})
		}
		for _, raw := range []string{"", "\x00", "\xff", "\x0a\xff\xff\xff\xff\x0f", "\x0a\x02\xff\xfe", strings.Repeat("\x0a\x00", 1000), strings.Repeat("\x3a\x02\x0a\x00", 500), "\x0b\x0b\x0b\x0b", strings.Repeat("\x0b", 20000)} {
			f.Add(i, []byte(raw), []byte(raw))
		}
	}
	hello := encoded(f, &registryv1.JoinRequest{Hello: &registryv1.Hello{Pipeline: "p", Run: "r"}})
	for i, method := range all {
		if strings.HasSuffix(method, "/Join") {
			for _, step := range steps {
				f.Add(i, hello, encoded(f, step))
			}
		}
	}
	f.Fuzz(func(t *testing.T, i int, first, second []byte) {
		if i < 0 || i >= len(all) || len(first)+len(second) > maxMessage {
			t.Skip()
		}
		messages := [][]byte{first}
		if len(second) > 0 {
			messages = append(messages, second)
		}
		if code, err := z.call(t.Context(), all[i], messages...); code == codes.DeadlineExceeded || code == codes.Unavailable || code == codes.Unimplemented && len(messages) == 1 {
			t.Errorf("%s: %v", all[i], err)
		}
		z.healthy(t)
	})
}

// meaningful are messages with something in every field, which mean something to some method.
var meaningful = []proto.Message{
	&flowctlpb.ServiceInfo{
		ServiceId: "a", ServiceType: 4, InputEventTypes: []string{"x"}, OutputEventTypes: []string{"y", ""}, HealthEndpoint: "http://localhost:99999/health",
		MaxInflight: -1, Metadata: map[string]string{"component_id": "b", "": ""}, ComponentId: "c",
	},
	&flowctlpb.ServiceHeartbeat{ServiceId: "a", Metrics: map[string]float64{"": 1, "n": -1e308}},
	&flowctlpb.CreatePipelineRunRequest{RunId: "r", PipelineName: "p", ConfigYaml: "c", ComponentIds: []string{"a"}},
	&flowctlpb.UpdatePipelineRunRequest{RunId: "r", Status: 77, Error: "e", Metrics: &flowctlpb.RunMetrics{ComponentMetrics: map[string]*flowctlpb.ComponentMetrics{"a": nil}}},
	&flowctlpb.ListPipelineRunsRequest{PipelineName: "p", Limit: -1, Status: 5},
	&flowctlv1.RegisterRequest{ComponentId: "a", Component: &flowctlv1.ComponentInfo{Id: "b", Type: -1, Metadata: map[string]string{"k": "v"}}},
	&flowctlv1.RegisterRequest{ComponentId: "a"},
	&flowctlv1.HeartbeatRequest{ServiceId: "a", Status: 3, Metrics: map[string]string{"n": "NaN", "x": "1e999", "": "0x1p-2"}},
	&flowctlv1.ListComponentsRequest{IncludeUnhealthy: true, TypeFilter: 99},
	&flowctlv1.DiscoveryRequest{EventTypes: []string{""}, MetadataFilters: map[string]string{"": ""}},
	&registryv1.WatchServicesRequest{Filter: &registryv1.Filter{Metadata: map[string]string{"a": "b"}, Produces: []string{"x"}}, Metrics: true},
	&runv1.FollowRequest{From: 1 << 63, Tail: -1, Kinds: []string{"output"}, Stop: true},
	&runv1.ApplyRequest{File: "/dev/null", DryRun: true},
	&healthpb.HealthCheckRequest{Service: "none"},
	&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "."}},
}

// steps are those that a run may take.
var steps = []proto.Message{
	&registryv1.JoinRequest{},
	&registryv1.JoinRequest{Hello: &registryv1.Hello{Pipeline: "q", Run: "r"}},
	&registryv1.JoinRequest{Expect: &registryv1.Expect{Component: "c", Role: "none", HealthPort: -1, Attempt: -1}},
	&registryv1.JoinRequest{Expect: &registryv1.Expect{}},
	&registryv1.JoinRequest{Exited: &registryv1.Exited{Component: "nobody", Reason: "\n"}},
	&registryv1.JoinRequest{Goodbye: &registryv1.Goodbye{Status: "strange"}},
}

func encoded(f *testing.F, m proto.Message) []byte {
	f.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return raw
}

// Whatever bytes come through the door, encrypted or not, nothing breaks.
func FuzzDoor(f *testing.F) {
	doors := []*fuzzed{openFuzzed(f, TLSFiles{}), openFuzzed(f, newCA(f).server())}
	settings := clientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, says := range []string{
		"", "\x00", "P", "PRI ", "PRI * HTTP/2.0\r\n\r\n", clientPreface, settings,
		settings + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",            // ping
		settings + "\x00\xff\xff\x01\x05\x00\x00\x00\x01",                    // headers that do not come
		settings + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",    // a window of nothing
		settings + "\xff\xff\xff\xff\xff\xff\xff\xff\xff",                    // a frame of 16 MiB
		settings + strings.Repeat("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 9), // settings again and again
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /metrics HTTP/1.0\r\n\r\n", "POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "CONNECT evil:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"\x16\x03\x01\x00\x05hello", "\x16\x03\x01\xff\xff", "\x15\x03\x01\x00\x02\x02\x28", "\x80\x2e\x01\x03\x01", strings.Repeat("A", 100_000),
	} {
		f.Add([]byte(says))
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		for i, z := range doors {
			conn, err := z.lis.DialContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				_, _ = conn.Write(says)
			}()
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = conn.Read(make([]byte, 4096)) // it may get an answer, or none
			conn.Close()
			<-wrote
			if i == 0 { // the other one wants TLS
				z.healthy(t)
			}
		}
	})
}

// Tokens and headers of any kind open no door.
func FuzzTokens(f *testing.F) {
	a := Access{Token: rightToken, Required: true}
	for _, token := range []string{"", "Bearer ", "Bearer x", "Bearer .", "Bearer c3Jj.", "Bearer " + rightToken + " ", "Bearer " + ComponentToken("other", "src"), "bearer " + rightToken, "Basic eDp5"} {
		f.Add(token, "src")
	}
	f.Fuzz(func(t *testing.T, value, id string) {
		who, err := a.caller(metadata.NewIncomingContext(t.Context(), metadata.Pairs(accessHeader, value)))
		if who.named() && err == nil && value != accessScheme+rightToken && value != accessScheme+ComponentToken(rightToken, who.component) {
			t.Errorf("%q is taken for %+v", value, who)
		}
		token := accessScheme + ComponentToken(rightToken, id)
		who, err = a.caller(metadata.NewIncomingContext(t.Context(), metadata.Pairs(accessHeader, token)))
		if err != nil || who.operator || who.component != id {
			t.Errorf("the token of %q is taken for %+v: %v", id, who, err)
		}
	})
}

// No name but those of this machine is answered under, whatever its spelling.
func FuzzHosts(f *testing.F) {
	for _, host := range []string{"localhost", "127.0.0.1:80", "[::1]:1", "[::1%25eth0]", "evil.org", "localhost.evil.org", ":80", "[", "]", "a:b:c", "127.1", "LOCALHOST."} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !ownHost(host, []string{"localhost", ""}) {
			return
		}
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		name = strings.TrimSuffix(strings.Trim(strings.ToLower(name), "[]"), ".")
		if zone := strings.IndexByte(name, '%'); zone >= 0 {
			name = name[:zone]
		}
		if name != "localhost" && net.ParseIP(name) == nil {
			t.Errorf("%q is taken for this machine", host)
		}
	})
}

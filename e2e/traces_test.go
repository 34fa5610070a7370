//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
)

// collector takes in traces over OTLP, in both of its protocols.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	grpc, http string // addresses

	mu    sync.Mutex // guards all below
	spans []string   // names
	calls int        // that have brought some
}

// Export takes in spans over gRPC.
func (c *collector) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	for _, of := range in.GetResourceSpans() {
		for _, scope := range of.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, span.GetName())
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// ServeHTTP takes in spans over HTTP.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &in)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint("no traces: ", err), http.StatusBadRequest)
		return
	}
	_, _ = c.Export(r.Context(), &in)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// collect runs a collector until the end of the test.
func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	listen := func() net.Listener {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return lis
	}
	overGRPC, overHTTP := listen(), listen()
	c.grpc, c.http = overGRPC.Addr().String(), overHTTP.Addr().String()
	grpcServer, httpServer := grpc.NewServer(), &http.Server{Handler: c}
	collectorpb.RegisterTraceServiceServer(grpcServer, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = grpcServer.Serve(overGRPC) })
	serving.Go(func() { _ = httpServer.Serve(overHTTP) })
	t.Cleanup(func() {
		grpcServer.Stop()
		_ = httpServer.Close()
		serving.Wait()
	})
	return c
}

// A run whose environment asks for it sends traces of its start, and no other does.
func TestTraces(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  func(*collector) []string
		sent bool
	}{
		"gRPC": {func(c *collector) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}
		}, true},
		"HTTP": {func(c *collector) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.http, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}
		}, true},
		"not asked for": {func(c *collector) []string { return []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://" + c.http} }, false},
		"not wanted": {func(c *collector) []string {
			return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.http, "OTEL_TRACES_EXPORTER=none"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := newSite(t), collect(t)
			s.env = append(s.env, test.env(c)...)
			f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("first-source", freePort(t), "", "")+"  sinks:\n"+component("last-sink", freePort(t), "", "-role, sink, -after, 100ms")))
			f.wantExit(0)
			c.mu.Lock()
			defer c.mu.Unlock()
			if !test.sent {
				if c.calls > 0 {
					t.Errorf("it has sent %q", c.spans)
				}
				return
			}
			for _, span := range []string{"start test", "first-source", "last-sink", "starting", "waiting", "flowctl.ControlPlane/Register"} {
				if !slices.Contains(c.spans, span) {
					t.Errorf("there is no span %q among %q", span, c.spans)
				}
			}
		})
	}
}

package tracing

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/withobsrvr/flowctl/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector keeps the spans that it is sent.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer

	mu    sync.Mutex // guards all below
	spans []*tracepb.Span
	about string
}

func (c *collector) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range in.GetResourceSpans() {
		c.about = of.GetResource().String()
		for _, scope := range of.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// collect runs a collector and returns its address.
func collect(t *testing.T) (*collector, string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server, done := &collector{}, grpc.NewServer(), make(chan error, 1)
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { done <- server.Serve(lis) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return c, lis.Addr().String()
}

// tree is the spans, each with how long it took and its status, below their parents.
func (c *collector) tree() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(c.spans, func(a, b *tracepb.Span) int { return strings.Compare(a.GetName(), b.GetName()) })
	var text strings.Builder
	var below func(parent string, depth int)
	below = func(parent string, depth int) {
		for _, s := range c.spans {
			if string(s.GetParentSpanId()) == parent {
				took := time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano())
				fmt.Fprintf(&text, "%s%s %s %s\n", strings.Repeat("  ", depth), s.GetName(), took, s.GetStatus().GetMessage())
				below(string(s.GetSpanId()), depth+1)
			}
		}
	}
	below("", 0)
	return text.String()
}

func TestStartIsTraced(t *testing.T) {
	c, addr := collect(t)
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + addr, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_RESOURCE_ATTRIBUTES": "deployment=test"}
	for name, value := range env {
		t.Setenv(name, value)
	}
	tracing, err := New(t.Context(), "v9", func(name string) string { return env[name] }, func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1_000_000, 0)
	j := journal.New(journal.Options{})
	enter := func(after time.Duration, id, state, reason string) {
		j.Append(journal.Entry{Time: begin.Add(after), Component: id, Kind: journal.State, Text: reason, Data: map[string]string{"state": state}})
	}
	enter(1*time.Second, "sink", "waiting", "for source")
	enter(1*time.Second, "source", "starting", "pid 1")
	enter(3*time.Second, "source", "registering", "its registration has not come yet")
	enter(4*time.Second, "source", "ready", "after 3s")
	enter(4*time.Second, "sink", "starting", "pid 2")
	enter(5*time.Second, "source", "degraded", "no longer part of the start")
	enter(6*time.Second, "sink", "failed", "exited with code 1")
	tracing.Follow(t.Context(), j, Run{Pipeline: "p", ID: "p-1", StartedAt: begin, Components: []string{"source", "sink"}})
	if err := tracing.Close(); err != nil {
		t.Error(err)
	}
	want := `start p 6s sink exited with code 1
  sink 5s exited with code 1
    starting 2s 
    waiting 3s 
  source 3s 
    registering 1s 
    starting 2s 
`
	if diff := cmp.Diff(want, c.tree()); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	for _, part := range []string{`"flowctl"`, `"v9"`, `"deployment"`} {
		if !strings.Contains(c.about, part) {
			t.Errorf("the source is %s, without %s", c.about, part)
		}
	}
}

// A start that is interrupted ends all its spans.
func TestInterruptedStart(t *testing.T) {
	c, addr := collect(t)
	env := map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://" + addr, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}
	for name, value := range env {
		t.Setenv(name, value)
	}
	tracing, err := New(t.Context(), "", func(name string) string { return env[name] }, func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1_000_000, 0)
	j := journal.New(journal.Options{})
	j.Append(journal.Entry{Time: begin.Add(time.Second), Component: "a", Kind: journal.State, Data: map[string]string{"state": "starting"}})
	j.Close()
	tracing.Follow(t.Context(), j, Run{Pipeline: "p", StartedAt: begin, Components: []string{"a"}})
	if err := tracing.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff("start p 1s \n  a 0s \n    starting 0s \n", c.tree()); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

func TestNobodyAsked(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing is set": {}, "disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"},
		"another exporter": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
	} {
		tracing, err := New(t.Context(), "", func(name string) string { return env[name] }, nil)
		if tracing != nil || err != nil || tracing.Calls() != nil {
			t.Errorf("%s: %v, %v", name, tracing, err)
		}
		tracing.Follow(t.Context(), nil, Run{})
		if err := tracing.Close(); err != nil {
			t.Error(err)
		}
	}
}

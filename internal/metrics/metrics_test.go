package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// scrape returns the metrics as Prometheus reads them.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v\n%s", w.Code, err, text)
	}
	return string(text)
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line) {
			t.Errorf("there is no line %q in\n%s", line, text)
		}
	}
}

type pipelineRun []Component

func (r pipelineRun) Components() []Component { return r }

func TestMetrics(t *testing.T) {
	r := registry.New(registry.Options{})
	if _, err := r.Expect(registry.Expected{ID: "p/src", Pipeline: "p", Component: "src", Role: registry.Source}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(registry.Registration{ComponentID: "p/src"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Heartbeat("p/src", registry.Beat{Metrics: map[string]float64{"last_ledger": 53312000, "bad \xff\"\n": 1}}); err != nil {
		t.Fatal(err)
	}
	m := New("v9", r)
	m.Call("/flowctl.ControlPlane/Heartbeat", codes.OK, 300*time.Microsecond)
	m.Probe("src", 2*time.Millisecond, errors.New("connection refused"))
	m.Show("p", pipelineRun{{ID: "src", Role: "source", State: "ready", Restarts: 2, Attempt: 3, LogBytes: 4096}})
	wantLines(t, scrape(t, m),
		`flowctl_build_info{version="v9"} 1`,
		`flowctl_services{tier="passing"} 1`, `flowctl_services{tier="critical"} 0`,
		`flowctl_service_healthy{component="src",pipeline="p",role="source",service="p/src"} 1`,
		`flowctl_component_metric{component="src",metric="last_ledger",pipeline="p",service="p/src"} 5.3312e+07`,
		`flowctl_component_metric{component="src",metric="bad `+"\ufffd"+`\"\n",pipeline="p",service="p/src"} 1`,
		`flowctl_metrics_left_out 0`,
		`flowctl_rpc_duration_seconds_count{code="OK",method="/flowctl.ControlPlane/Heartbeat"} 1`,
		`flowctl_probe_duration_seconds_bucket{component="src",outcome="failed",le="0.001"} 0`,
		`flowctl_probe_duration_seconds_bucket{component="src",outcome="failed",le="0.0025"} 1`,
		`flowctl_component_state{component="src",pipeline="p",role="source",state="ready"} 1`,
		`flowctl_component_restarts_total{component="src",pipeline="p"} 2`,
		`flowctl_component_attempts_total{component="src",pipeline="p"} 3`,
		`flowctl_component_log_bytes_total{component="src",pipeline="p"} 4096`,
		`process_open_fds `, `go_goroutines `)
}

// However much there is, an answer is bounded, and says what it leaves out.
func TestAnswersAreBounded(t *testing.T) {
	r := registry.New(registry.Options{})
	many := map[string]float64{}
	for i := range maxMetrics + 5 {
		many[fmt.Sprintf("metric-%03d", i)] = 1
	}
	for i := range maxServices + 7 {
		id := fmt.Sprintf("service-%04d", i)
		if _, err := r.Register(registry.Registration{ServiceID: id}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := r.Heartbeat(id, registry.Beat{Metrics: many}); err != nil {
				t.Fatal(err)
			}
		}
	}
	text := scrape(t, New("", r))
	wantLines(t, text, "flowctl_metrics_left_out 12", fmt.Sprintf(`flowctl_services{tier="passing"} %d`, maxServices+7))
	if n := strings.Count(text, "\nflowctl_component_metric{"); n != maxMetrics {
		t.Errorf("%d metrics of a service", n)
	}
	if n := strings.Count(text, "\nflowctl_service_healthy{"); n != maxServices {
		t.Errorf("%d services", n)
	}
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

func TestMetricsAreAlwaysJSON(t *testing.T) {
	text, err := json.Marshal(metricValues{"a": 1.5, "b": math.NaN(), "c": math.Inf(1), "d": math.Inf(-1)})
	if err != nil || string(text) != `{"a":1.5,"b":"NaN","c":"Infinity","d":"-Infinity"}` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1234 * time.Microsecond: "1ms", 1234 * time.Millisecond: "1.2s", 12345 * time.Millisecond: "12s",
		90 * time.Second: "1m30s", 90*time.Minute + 9*time.Second: "1h30m", 50*time.Hour + 30*time.Minute: "2d02h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestHealthSaysWhichFactSpeaks(t *testing.T) {
	now := time.Now()
	probed, bare := plan.ComponentView{Probe: &plan.ProbeView{TCP: "localhost:1"}}, plan.ComponentView{}
	service := func(healthy bool, reason string) *registry.Service {
		return &registry.Service{Registered: true, Healthy: healthy, Reason: reason, LastSeen: now.Add(-3 * time.Second)}
	}
	for _, test := range []struct {
		name    string
		state   supervisor.State
		pid     int
		service *registry.Service
		planned plan.ComponentView
		want    string // fact, ok, text
	}{
		{"does not run", supervisor.Backoff, 0, service(false, "its process exited with code 1"), probed, " false -"},
		{"starts", supervisor.Starting, 1, nil, probed, "probe false probe has not passed"},
		{"does not register", supervisor.Registering, 1, nil, probed, "registration false not registered yet"},
		{"beats", supervisor.Ready, 1, service(true, ""), probed, "heartbeat true heartbeat 3s ago"},
		{"is probed", supervisor.Ready, 1, nil, probed, "probe true probe passes"},
		{"is bare", supervisor.Ready, 1, nil, bare, "process true process lives"},
		{"fell silent", supervisor.Degraded, 1, service(false, "no heartbeat for 1s"), probed, "heartbeat false no heartbeat for 3s"},
		{"is ill", supervisor.Degraded, 1, service(false, "reports itself unhealthy"), probed, "heartbeat false reports itself unhealthy"},
		{"fails its probe", supervisor.Degraded, 1, service(true, ""), probed, "probe false probe fails"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := controlplane.Component{Status: supervisor.Status{State: test.state, PID: test.pid}, Service: test.service}
			h := healthOf(c, test.planned, now)
			if got := fmt.Sprint(h.Fact, " ", h.OK, " ", h.Text); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// explained is one look, explained without anybody to ask.
func TestExplainFindsTheRoot(t *testing.T) {
	now := time.Now()
	component := func(id string, state supervisor.State, reason string) controlplane.Component {
		return controlplane.Component{Status: supervisor.Status{Component: id, State: state, Reason: reason, Since: now.Add(-41 * time.Second), Exit: &driver.Exit{Code: 1}}}
	}
	after := func(id, condition string) plan.AfterView {
		return plan.AfterView{ID: id, Condition: condition, Required: true}
	}
	planned := plan.View{Components: []plan.ComponentView{
		{ID: "source"}, {ID: "migrate"},
		{ID: "ttp", After: []plan.AfterView{after("source", "ready"), after("migrate", "completed")}},
		{ID: "sink", After: []plan.AfterView{after("ttp", "ready"), after("source", "started")}},
	}}
	for _, test := range []struct {
		name       string
		components []controlplane.Component
		want       string
	}{
		{"a chain", []controlplane.Component{
			component("source", supervisor.Stopped, "a stop was asked for"), component("migrate", supervisor.Completed, ""),
			component("ttp", supervisor.Waiting, "for source (stopped)"), component("sink", supervisor.Waiting, "for ttp"),
		}, `sink is waiting for ttp, for 41s already
→ ttp is waiting for source (stopped), for 41s already
  → source is stopped since 41s: a stop was asked for
root cause: source. Next:
  flowctl start source
`},
		{"only what is not met counts", []controlplane.Component{
			component("source", supervisor.Degraded, "probe: no"), component("migrate", supervisor.Stopping, "asked to"),
			component("ttp", supervisor.Waiting, "for migrate"), component("sink", supervisor.Waiting, "for ttp"),
		}, `sink is waiting for ttp, for 41s already
→ ttp is waiting for migrate, for 41s already
  → migrate has been stopping for 41s: asked to
root cause: migrate. Next:
  flowctl wait --for stopped migrate
`},
		{"who does not wait looks at all it depends on", []controlplane.Component{
			component("source", supervisor.Degraded, "probe: no"), component("migrate", supervisor.Completed, ""),
			component("ttp", supervisor.Backoff, "exited with code 1"), component("sink", supervisor.Waiting, "for ttp"),
		}, `sink is waiting for ttp, for 41s already
→ ttp is in backoff: it exited with code 1
    its last lines:
    | oh
  → source is degraded: probe: no
      its last lines:
      | oh
root cause: source. Next:
  flowctl logs source --tail 100
  flowctl restart source
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := &test.components[0]
			source.PID = os.Getpid()
			e := &explainer{lastLines: func(context.Context, string) []string { return []string{"oh"} }, look: look{Snapshot: controlplane.Snapshot{Components: test.components}, plan: planned, at: now}}
			sink, _ := e.look.Component("sink")
			var out bytes.Buffer
			if err := printCauses(&out, []cause{e.explain(t.Context(), sink, nil)}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// block is output of one component.
func block(first uint64, component, text string) journal.Block {
	return journal.Block{First: first, Count: strings.Count(text, "\n"), Component: component, Kind: journal.Output, Data: []byte(text)}
}

func TestLineFilter(t *testing.T) {
	event := journal.Entry{Seq: 6, Component: "a", Kind: journal.State, Text: "why"}.Block()
	blocks := []journal.Block{
		block(1, "a", "a1\na2\n"), block(3, "b", "b1\n"), block(4, "a", "a3\na4\n"), event, // until here it is tail
		block(7, "b", "b2\nb3\n"), block(9, "a", "a5\n"),
	}
	for _, test := range []struct {
		name string
		opts logsOptions
		want string
	}{
		{"all", logsOptions{tail: -1}, "a1 a2 b1 a3 a4 why b2 b3 a5"},
		{"the last of each", logsOptions{tail: 1}, "b1 a4 why b2 b3 a5"},
		{"no old ones", logsOptions{tail: 0}, "b2 b3 a5"},
		{"more than there are", logsOptions{tail: 100}, "a1 a2 b1 a3 a4 why b2 b3 a5"},
		{"those that match", logsOptions{tail: -1, grep: "[13]$"}, "a1 b1 a3 b3"},
		{"the last of those that match", logsOptions{tail: 1, grep: "[13]$"}, "b1 a3 b3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := newLineFilter(test.opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			f.until = 6
			f.write = func(b journal.Block) error {
				for e := range b.Entries() {
					got = append(got, e.Text)
				}
				return nil
			}
			for _, b := range blocks {
				if err := f.add(b); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.flush(); err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("%q, want %q", text, test.want)
			}
		})
	}
}

// A tail of a few lines keeps no more than a few lines in memory.
func TestLineFilterIsBounded(t *testing.T) {
	f, err := newLineFilter(logsOptions{tail: 3})
	if err != nil {
		t.Fatal(err)
	}
	f.until = 1 << 60
	for i := range 100_000 {
		if err := f.add(block(uint64(i), "abc"[i%3:i%3+1], fmt.Sprintf("%d\n", i))); err != nil {
			t.Fatal(err)
		}
		if len(f.kept) > 100 {
			t.Fatalf("%d lines are kept", len(f.kept))
		}
	}
}

func TestScreenDrawsOverTheLastDrawing(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	s.draw([]byte("one\n" + strings.Repeat("x", 100) + "\n"))
	s.draw([]byte("two\n" + strings.Repeat("line\n", 30)))
	want := "one\x1b[K\n" + strings.Repeat("x", 78) + "…\x1b[K\n\x1b[J" +
		"\x1b[2A\rtwo\x1b[K\n" + strings.Repeat("line\x1b[K\n", 21) + "… 9 more\x1b[K\n\x1b[J"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%q", diff)
	}
}

func TestLastWords(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"flowctl: port 1 is held\n":          "flowctl: port 1 is held\n",
		"a\nflowctl: b failed\n  | c\n":      "flowctl: b failed\n  | c\n",
		"f.yml:1:2: wrong\n":                 "f.yml:1:2: wrong\n",
		strings.Repeat("x\n", 60):            strings.Repeat("x\n", 39) + "x\n",
		"a\nflowctl: early\nflowctl: late\n": "flowctl: late\n",
	} {
		if got := lastWords(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/e2e/bench/report"
	"github.com/withobsrvr/flowctl/e2e/bench/shape"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		samples []float64
		q, want float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{4, 1, 3, 2}, 0, 1},
	} {
		if got := quantile(tc.samples, tc.q); got != tc.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tc.samples, tc.q, got, tc.want)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, tc := range []struct {
		target         target
		floor, flowctl float64
		want           bool
	}{
		{atMost(1.15), 100, 114.9, true},
		{atMost(1.15), 100, 115.1, false},
		{atLeast(0.5), 100, 50, true},
		{atLeast(0.5), 100, 49.9, false},
		{within(20), 3, 23, true},
		{within(20), 3, 23.1, false},
		{none, 0, 0, true},
		{none, 0, 1, false},
		{upTo(40), 0, 40, true},
		{upTo(40), 0, 40.1, false},
		{recorded, 1, 1000, true},
	} {
		if r := compare("m", "ms", []float64{tc.floor}, []float64{tc.flowctl}, tc.target); r.OK != tc.want {
			t.Errorf("%s of %v and %v: %v", tc.target.words, tc.floor, tc.flowctl, r.OK)
		}
	}
}

func TestChains(t *testing.T) {
	want := []shape.Component{
		{ID: "source-1", Role: shape.Source, Needs: -1}, {ID: "processor-1", Role: shape.Processor, Needs: 0},
		{ID: "sink-1", Role: shape.Sink, Needs: 1}, {ID: "source-2", Role: shape.Source, Needs: -1},
	}
	if diff := cmp.Diff(want, shape.Chains(4)); diff != "" {
		t.Error(diff)
	}
}

func TestHops(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	got := hops(shape.Chains(4), map[string]report.Report{
		"source-1":    {Started: at(0), Ready: at(50)},
		"processor-1": {Started: at(53), Ready: at(105)},
		"sink-1":      {Started: at(112), Ready: at(170)},
		"source-2":    {Started: at(1), Ready: at(51)},
	})
	if diff := cmp.Diff([]time.Duration{3 * time.Millisecond, 7 * time.Millisecond}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSurvivors(t *testing.T) {
	if survivors(map[string]report.Report{"me": {ID: "me", PID: os.Getpid()}}) == nil {
		t.Error("a living process was not found")
	}
}

// The files must be what flowctl takes for them: chains, and not one component
// that waits for more than the floor's does.
func TestPipelineFiles(t *testing.T) {
	h := &host{dir: t.TempDir(), component: "/bin/true"}
	ports := []int{21001, 21002, 21003, 21004, 21005}
	for name, components := range map[string][]component{"plain": chains(h, 5, nil), "probed": chains(h, 5, ports)} {
		file, err := h.writePipeline(name, components)
		if err != nil {
			t.Fatal(err)
		}
		p, warnings, err := pipeline.Load(file, pipeline.Options{})
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v %v", name, err, warnings)
		}
		var edges []string
		for _, id := range []string{"source-1", "processor-1", "sink-1", "source-2", "processor-2"} {
			c, ok := p.Component(id)
			if !ok {
				t.Fatalf("%s has no %s", name, id)
			}
			for _, e := range p.Edges(c) {
				edges = append(edges, e.ID+" → "+id)
			}
			if probed := c.HealthPort != 0; probed != (name == "probed") || (c.Registration == pipeline.RegistrationRequired) == probed {
				t.Errorf("%s: %s has health port %d and registration %s", name, id, c.HealthPort, c.Registration)
			}
		}
		want := []string{"source-1 → processor-1", "processor-1 → sink-1", "source-2 → processor-2"}
		if diff := cmp.Diff(want, edges); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"-run", "("}, {"extra"}, {"-nonsense"}, {"-flowctl", "/does/not/exist"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	if err := run(t.Context(), []string{"-h"}, &bytes.Buffer{}, &bytes.Buffer{}); err != nil {
		t.Errorf("-h: %v", err)
	}
}

// built is a host with all programs, flowctl included.
func built(t *testing.T) *host {
	t.Helper()
	flowctl := filepath.Join(t.TempDir(), "flowctl")
	if out, err := exec.Command("go", "build", "-o", flowctl, "github.com/withobsrvr/flowctl/cmd/flowctl").CombinedOutput(); err != nil {
		t.Fatalf("build flowctl: %v\n%s", err, out)
	}
	h, err := newHost(t.Context(), flowctl, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	return h
}

// Each group is run once, small, with the real flowctl: every measure must come
// out, and nothing may be left over.
func TestGroups(t *testing.T) {
	h := built(t)
	small := scale{sizes: []int{4}, rounds: 1, killRounds: 1, stubborn: 4, stubbornRounds: 1, idle: 50 * time.Millisecond, lines: 2000, logRounds: 1, planeRounds: 1, containers: []int{2}, containerRounds: 1, execs: 1}
	want := map[string]int{"start": 7, "restart": 2, "stubborn": 1, "idle": 4, "logs": 4, "follow": 1, "plane": 13, "containers": 2, "version": 5, "overhead": 1}
	if runtime.GOOS != "linux" {
		want["start"]-- // nobody tells CPU times
		want["idle"] = 0
	}
	if _, err := exec.LookPath("etcd"); err != nil {
		want["plane"] -= 4
	}
	if exec.Command("docker", "version").Run() != nil {
		want["containers"] = 0
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			rows, err := g.measure(t.Context(), h, small)
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) != want[g.name] {
				t.Errorf("%d rows, want %d", len(rows), want[g.name])
			}
			for _, r := range rows {
				// So short a start may cost less than one tick of the clock, and nothing should be lost.
				mayBeZero := strings.Contains(r.Measure, "CPU") || r.Target == none.words
				if r.Flowctl == 0 && !mayBeZero || r.Measure == "" || len(r.FlowctlSamples) == 0 {
					t.Errorf("nothing was measured: %+v", r)
				}
			}
		})
	}
	for _, pattern := range []string{"report.sock", "gate", "shown.txt", "logs/writer-*.log"} {
		if left, _ := filepath.Glob(filepath.Join(h.dir, pattern)); len(left) > 0 {
			t.Errorf("%v is left over", left)
		}
	}
}

// A contender that never gets ready must not hold up the benchmark.
func TestCycleOfAContenderThatEnds(t *testing.T) {
	h := &host{dir: t.TempDir()}
	_, err := h.cycle(t.Context(), h.command(t.Context(), "sh", "-c", "echo not today; exit 3"), 3, "ready", 1)
	if err == nil || !strings.Contains(err.Error(), "0 of 3 components have reported") || !strings.Contains(err.Error(), "not today") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

// Nor must one that never ends: it is asked to, and told why.
func TestCycleOfAContenderThatHangs(t *testing.T) {
	h := &host{dir: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := h.cycle(ctx, h.command(ctx, "sh", "-c", "echo ready; exec sleep 60"), 3, "ready", 1)
	if err == nil || !strings.Contains(err.Error(), "0 of 3 components have reported") {
		t.Errorf("got %v", err)
	}
}

func TestPrint(t *testing.T) {
	r := results{Date: "today", System: "linux/amd64", CPUs: 2, Rows: []row{
		compare("quick", "ms", []float64{100}, []float64{101}, atMost(1.15)),
		compare("slow", "ms", []float64{100}, []float64{200}, atMost(1.15)),
		compare("alone", "", nil, []float64{7}, recorded),
	}}
	var table, text bytes.Buffer
	if err := r.print(&table, false); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`quick +ms +100 +101 +1.01 +≤ 1.15 × +ok`, `slow +ms +100 +200 +2.00 +≤ 1.15 × +OVER`, `alone +- +7 +- +-`} {
		if !regexp.MustCompile(line).MatchString(table.String()) {
			t.Errorf("the table has no line like %q:\n%s", line, table.String())
		}
	}
	if err := r.print(&text, true); err != nil {
		t.Fatal(err)
	}
	var back results
	if err := json.Unmarshal(text.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Error(diff)
	}
}

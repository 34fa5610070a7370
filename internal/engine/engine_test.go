package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/supervisor"
	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// asComponent makes this test binary a component with the SDK instead.
const asComponent = "FLOWCTL_ENGINE_TEST_COMPONENT"

func TestMain(m *testing.M) {
	if role := os.Getenv(asComponent); role != "" {
		if err := component(flowctl.Role(role)); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "guardian" { // flowctl's own program is this one here: never run the tests again
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// component joins and leaves: a sink at once, everything else when it is told to.
// GIVES and TAKES are its event types.
func component(role flowctl.Role) error {
	m, err := flowctl.Join(context.Background(), flowctl.Component{
		Role: role, Outputs: strings.Fields(os.Getenv("GIVES")), Inputs: strings.Fields(os.Getenv("TAKES")),
	})
	if err != nil {
		return err
	}
	m.Count("ledgers", 7)
	if role != flowctl.Sink {
		<-m.Context().Done()
	} else if err := untilRegistered(m); err != nil {
		return err
	}
	return m.Leave()
}

// untilRegistered returns when the control plane takes a heartbeat.
func untilRegistered(m *flowctl.Member) error {
	deadline := time.After(20 * time.Second)
	for {
		if m.Beat(m.Context()) == nil {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			return errors.New("never registered")
		}
	}
}

// load reads a pipeline from the text of its spec; $SELF is this test binary.
func load(t *testing.T, spec string) *pipeline.Pipeline {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: tiny}\nspec:\n" + strings.ReplaceAll(spec, "$SELF", self)
	path := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _, err := pipeline.Load(path, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// options are what every test runs with: nothing outside its own folders, a free port.
func options(t *testing.T, p *pipeline.Pipeline) Options {
	t.Helper()
	return Options{
		Pipeline: p, LogDir: filepath.Join(t.TempDir(), "logs"), StateDir: t.TempDir(),
		// A program built with the race detector lingers for a second at its end, unless told not to.
		Environ: []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"},
	}
}

// start makes an engine; it must be run.
func start(t *testing.T, opts Options) *Engine {
	t.Helper()
	e, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// inTime bounds what waits for real processes.
func inTime(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRunToTheEnd(t *testing.T) {
	opts := options(t, load(t, `
  sources:
    - {id: numbers, command: [sh, -c, "echo one; echo two; sleep 0.3"], registration: none}
  sinks:
    - {id: count, command: [sh, -c, "echo counting; env | grep -c FLOWCTL_ENDPOINT >&2"], registration: none, depends_on: {numbers: {condition: completed}}}
`))
	e := start(t, opts)
	if err := e.Run(inTime(t)); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"numbers": "one\ntwo\n", "count": "1\ncounting\n"} {
		got, err := os.ReadFile(e.LogPath(id))
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.Sorted(strings.Lines(string(got))) // of two streams, in no order
		if diff := cmp.Diff(want, strings.Join(lines, "")); diff != "" {
			t.Errorf("log file of %s (-want +got):\n%s", id, diff)
		}
	}
	for _, c := range e.Snapshot().Components {
		if c.State != supervisor.Completed || c.Exit == nil || c.Exit.Code != 0 {
			t.Errorf("%s is %s (%s), exit %v", c.Status.Component, c.State, c.Reason, c.Exit)
		}
	}
	if got, want := states(e, "count"), []string{"waiting", "starting", "ready", "completed"}; !slices.Equal(got, want) {
		t.Errorf("states of count: %v, want %v", got, want)
	}
}

// Components that have nothing to say to each other are told of by name, once.
func TestEventTypesThatDoNotFit(t *testing.T) {
	e := start(t, options(t, load(t, `
  sources:
    - {id: ledgers, command: [$SELF], env: {`+asComponent+`: source, GIVES: raw.ledger}}
  processors:
    - {id: fits, command: [$SELF], env: {`+asComponent+`: processor, TAKES: raw.ledger}}
    - {id: misfit, command: [$SELF], env: {`+asComponent+`: processor, TAKES: raw.block}}
`)))
	ctx, cancel := context.WithCancel(inTime(t))
	defer cancel()
	told := make(chan []string)
	go func() {
		var notices []string
		for b := range e.Journal().Follow(context.Background(), journal.FollowOptions{}) {
			for entry := range b.Entries() {
				if entry.Kind == journal.Notice && strings.Contains(entry.Text, "takes") {
					notices = append(notices, entry.Text)
					cancel()
				}
			}
		}
		told <- notices
	}()
	if err := e.Run(ctx); err != nil && !errors.Is(err, supervisor.ErrInterrupted) {
		t.Error(err)
	}
	want := []string{"misfit takes raw.block, and ledgers, which it waits for, gives raw.ledger: have they been built for each other?"}
	if diff := cmp.Diff(want, <-told); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

// states are those a component has been in, according to the journal.
func states(e *Engine, id string) []string {
	var states []string
	for b := range e.Journal().Follow(context.Background(), journal.FollowOptions{Stop: true}) {
		for entry := range b.Entries() {
			if entry.Component == id && entry.Kind == journal.State {
				states = append(states, entry.Data["state"])
			}
		}
	}
	return states
}

func TestRunWithComponentsThatRegister(t *testing.T) {
	e := start(t, options(t, load(t, `
  sources:
    - {id: src, command: [$SELF], env: {`+asComponent+`: source}}
  sinks:
    - {id: dst, command: [$SELF], env: {`+asComponent+`: sink}}
`)))
	if err := e.Run(inTime(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range e.Snapshot().Components {
		if c.Service == nil {
			t.Errorf("%s has not registered", c.Status.Component)
			continue
		}
		if c.Service.ID != c.Status.Component || c.Service.Metrics["ledgers"] != 7 {
			t.Errorf("the service of %s is %s with metrics %v, want its id and its last metrics", c.Status.Component, c.Service.ID, c.Service.Metrics)
		}
		if !slices.Contains(states(e, c.Status.Component), "ready") {
			t.Errorf("%s was never ready: %v", c.Status.Component, states(e, c.Status.Component))
		}
	}
}

// TestMissedHeartbeatsDegrade has a component beat less often than its control
// plane wants: it goes back and forth between degraded and ready, and the run goes on.
func TestMissedHeartbeatsDegrade(t *testing.T) {
	opts := options(t, load(t, `
  sources:
    - {id: src, command: [$SELF], env: {`+asComponent+`: source, FLOWCTL_HEARTBEAT_INTERVAL: 400ms}}
`))
	opts.ControlPlane = ControlPlane{TTL: 100 * time.Millisecond, JanitorInterval: 10 * time.Millisecond}
	e := start(t, opts)
	ctx, stop := context.WithCancel(inTime(t))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	want := []string{"ready", "degraded", "ready", "degraded"}
	var got []string
	for b := range e.Journal().Follow(inTime(t), journal.FollowOptions{}) {
		for entry := range b.Entries() {
			state := entry.Data["state"]
			if entry.Kind == journal.State && (state == "ready" || state == "degraded") {
				got = append(got, state)
			}
		}
		if len(got) >= len(want) {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("states %v, want %v", got, want)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil: it was stopped after it had been ready", err)
	}
}

// TestGoodbyesAreHeard stops a run: its control plane must be there until the last component has left.
func TestGoodbyesAreHeard(t *testing.T) {
	e := start(t, options(t, load(t, `
  sources:
    - {id: src, command: [$SELF], env: {`+asComponent+`: source}}
`)))
	ctx, stop := context.WithCancel(inTime(t))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	if err := e.AwaitReady(inTime(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil: it was stopped after it had been ready", err)
	}
	c := e.Snapshot().Components[0]
	if c.Service == nil || !c.Service.Left || c.Exit == nil || c.Exit.Code != 0 {
		t.Errorf("service %+v, exit %v; want that it has deregistered and ended with code 0", c.Service, c.Exit)
	}
}

func TestRunThatFails(t *testing.T) {
	e := start(t, options(t, load(t, `
  sources:
    - {id: steady, command: [sleep, "1000"], registration: none}
  sinks:
    - {id: fragile, command: [sh, -c, "echo no such table; exit 3"], registration: none, restart: {policy: "no"}}
`)))
	var failed *supervisor.FailedError
	if err := e.Run(inTime(t)); !errors.As(err, &failed) {
		t.Fatalf("Run = %v, want a FailedError", err)
	}
	if failed.Component != "fragile" || !strings.HasPrefix(failed.Reason, "exited with code 3") {
		t.Errorf("%s failed: %s", failed.Component, failed.Reason)
	}
	if diff := cmp.Diff([]string{"no such table"}, failed.Tail); diff != "" {
		t.Errorf("last lines (-want +got):\n%s", diff)
	}
	if got := e.Snapshot().Components[0]; got.State != supervisor.Stopped {
		t.Errorf("steady is %s", got.State)
	}
}

func TestStopBeforeReady(t *testing.T) {
	e := start(t, options(t, load(t, `
  sources:
    - {id: slow, command: [sleep, "1000"]}
`)))
	ctx, stop := context.WithCancel(inTime(t))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	for b := range e.Journal().Follow(inTime(t), journal.FollowOptions{}) {
		if b.Component == "slow" && b.Kind == journal.State {
			break
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, supervisor.ErrInterrupted) {
		t.Errorf("Run = %v, want %v", err, supervisor.ErrInterrupted)
	}
}

func TestLogFilesOfTheRunBeforeAreKept(t *testing.T) {
	opts := options(t, nil)
	for _, text := range []string{"first", "second", "third"} {
		opts.Pipeline = load(t, "  sinks: [{id: say, command: [echo, "+text+"], registration: none}]\n")
		if err := start(t, opts).Run(inTime(t)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := LogFiles(opts.LogDir, "say")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		content, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(content))
	}
	if diff := cmp.Diff([]string{"first\n", "second\n", "third\n"}, got); diff != "" {
		t.Errorf("log files, the oldest first (-want +got):\n%s", diff)
	}
}

func TestCloseWithoutRunGivesThePortBack(t *testing.T) {
	e := start(t, options(t, load(t, "  sinks: [{id: say, command: [echo, hi], registration: none}]\n")))
	e.Close()
	lis, err := net.Listen("tcp", e.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	if e.Endpoint() == "" || strings.HasSuffix(e.Endpoint(), ":0") {
		t.Errorf("endpoint %q", e.Endpoint())
	}
}

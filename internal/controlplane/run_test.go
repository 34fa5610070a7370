package controlplane

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// fakeRun is a run whose components are what a test makes them.
type fakeRun struct {
	journal *journal.Journal
	answer  error // to every command

	mu         sync.Mutex // guards the fields below
	components []Component
	asked      []string // the commands that came
}

// enter changes a state as the supervisor does: first the status, then the journal.
func (r *fakeRun) enter(i int, state supervisor.State) {
	r.mu.Lock()
	r.components[i].State = state
	id := r.components[i].Status.Component
	r.mu.Unlock()
	r.journal.Append(journal.Entry{Component: id, Kind: journal.State, Data: map[string]string{"state": string(state)}})
}

func (r *fakeRun) Snapshot() Snapshot {
	snap := Snapshot{Seq: r.journal.Seq()}
	r.mu.Lock()
	defer r.mu.Unlock()
	snap.Components = append(snap.Components, r.components...)
	return snap
}

func (r *fakeRun) RunID() string { return "fake-run" }

func (r *fakeRun) Plan() *plan.Plan {
	return &plan.Plan{Pipeline: "tiny", Components: []plan.Component{{ID: "src", Env: []plan.EnvVar{{Name: "PASSWORD", Value: "hunter2", Origin: "env"}}}}}
}

func (r *fakeRun) Journal() *journal.Journal { return r.journal }

func (r *fakeRun) ask(what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, what)
	return r.answer
}

func (r *fakeRun) Restart(_ context.Context, id string) error { return r.ask("restart " + id) }
func (r *fakeRun) Stop(_ context.Context, id string) error    { return r.ask("stop " + id) }
func (r *fakeRun) Start(_ context.Context, id string) error   { return r.ask("start " + id) }
func (r *fakeRun) Shutdown()                                  { _ = r.ask("shutdown") }
func (r *fakeRun) Apply(_ context.Context, file string, dryRun bool) ([]plan.Change, error) {
	return []plan.Change{{Component: "src", Kind: plan.Changed}}, r.ask(fmt.Sprint("apply ", file, " ", dryRun))
}

const rightToken = "the right token"

// serveRun serves a run on a real port until the test ends; stop ends it earlier.
func serveRun(t *testing.T, opts journal.Options, components ...string) (run *fakeRun, endpoint string, stop func()) {
	t.Helper()
	run = &fakeRun{journal: journal.New(opts)}
	for _, id := range components {
		run.components = append(run.components, Component{Status: supervisor.Status{Component: id, State: supervisor.Pending}})
	}
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	server, err := New(Options{Registry: registry.New(registry.Options{}), Run: run, Access: Access{Token: rightToken}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { served <- server.Serve(ctx, lis) }()
	stop = sync.OnceFunc(func() {
		run.journal.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return run, lis.Addr().String(), stop
}

func dialRun(t *testing.T, endpoint, token string) *RunClient {
	t.Helper()
	c, err := DialRun(Target{Endpoint: endpoint, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A snapshot and what follows it are the whole truth, whenever one looks.
func TestSnapshotAndFollowHaveNoGap(t *testing.T) {
	run, endpoint, _ := serveRun(t, journal.Options{}, "a", "b", "c")
	client := dialRun(t, endpoint, rightToken)
	states := []supervisor.State{supervisor.Starting, supervisor.Ready, supervisor.Degraded, supervisor.Backoff}
	var followers, writers sync.WaitGroup
	for range 8 {
		followers.Go(func() {
			following, err := client.Follow(t.Context(), FollowOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			known := map[string]supervisor.State{}
			for _, c := range following.Snapshot.Components {
				known[c.Status.Component] = c.State
			}
			next := following.Snapshot.Seq + 1
			for b, err := range following.Blocks {
				if err != nil {
					t.Error(err)
					return
				}
				for e := range b.Entries() {
					if e.Seq != next {
						t.Errorf("entry %d follows where %d should", e.Seq, next)
						return
					}
					next++
					known[e.Component] = supervisor.State(e.Data["state"])
				}
			}
			for _, c := range run.Snapshot().Components {
				if known[c.Status.Component] != c.State {
					t.Errorf("%s is %s, the follower believes %s", c.Status.Component, c.State, known[c.Status.Component])
				}
			}
		})
	}
	for i := range 3 {
		writers.Go(func() {
			for n := range 2000 {
				run.enter(i, states[(n+i)%len(states)])
			}
		})
	}
	writers.Wait()
	run.journal.Close()
	followers.Wait()
}

func TestOnlyWhoHasTheTokenOperates(t *testing.T) {
	run, endpoint, _ := serveRun(t, journal.Options{}, "src")
	for _, token := range []string{"", "wrong", rightToken + "x", rightToken[1:]} {
		client := dialRun(t, endpoint, token)
		_, err := client.Snapshot(t.Context())
		wantDenied(t, token, err)
		wantDenied(t, token, client.Shutdown(t.Context()))
		_, err = client.Follow(t.Context(), FollowOptions{})
		wantDenied(t, token, err)
	}
	if len(run.asked) != 0 {
		t.Errorf("done all the same: %v", run.asked)
	}
	client := dialRun(t, endpoint, rightToken)
	if _, err := client.Snapshot(t.Context()); err != nil {
		t.Errorf("with the right token: %v", err)
	}
	// What components call needs none, and no header at all is denied.
	conn := dialRun(t, endpoint, "").client.conn
	if _, err := flowctlpb.NewControlPlaneClient(conn).ListServices(t.Context(), &emptypb.Empty{}); err != nil {
		t.Errorf("a component's call: %v", err)
	}
	plain, err := Dial(Target{Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, err = runv1.NewRunServiceClient(plain.conn).StopRun(t.Context(), &runv1.StopRunRequest{})
	wantCode(t, "without a header", err, codes.PermissionDenied)
}

func wantDenied(t *testing.T, token string, err error) {
	t.Helper()
	var refused *RunError
	if !errors.As(err, &refused) || !refused.Denied || token != "" && strings.Contains(err.Error(), token) {
		t.Errorf("with the token %q: %v", token, err)
	}
}

// A server that was given no token lets nobody operate.
func TestNoTokenIsNoKey(t *testing.T) {
	s := newServer(t, Options{Registry: registry.New(registry.Options{}), Run: &fakeRun{journal: journal.New(journal.Options{})}})
	_, err := s.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: runv1.RunService_StopRun_FullMethodName}, nil)
	wantCode(t, "stop", err, codes.PermissionDenied)
}

func TestFollowSendsWhatIsAskedFor(t *testing.T) {
	run, endpoint, _ := serveRun(t, journal.Options{}, "a", "b")
	client := dialRun(t, endpoint, rightToken)
	write := func(id, text string) { _, _ = run.journal.Writer(id, "stdout", nil).Write([]byte(text)) }
	run.enter(0, supervisor.Starting)                                         // 1
	write("a", "one\ntwo\nthree\n")                                           // 2, 3, 4
	write("b", "uno\n")                                                       // 5
	run.enter(1, supervisor.Starting)                                         // 6
	write("a", "four\n")                                                      // 7
	run.journal.Append(journal.Entry{Kind: journal.Notice, Text: "so be it"}) // 8
	for _, test := range []struct {
		name string
		opts FollowOptions
		want string
	}{
		{"all", FollowOptions{From: 1}, "1 2 3 4 5 6 7 8"},
		{"from the snapshot on", FollowOptions{}, ""},
		{"from a number on", FollowOptions{From: 6}, "6 7 8"},
		{"one component", FollowOptions{From: 1, Components: []string{"b"}}, "5 6"},
		{"one kind", FollowOptions{From: 1, Kinds: []journal.Kind{journal.State}}, "1 6"},
		{"output of one", FollowOptions{From: 1, Components: []string{"a"}, Kinds: []journal.Kind{journal.Output}}, "2 3 4 7"},
		{"the tails: from b's line on", FollowOptions{From: 1, Tail: 1}, "5 6 7 8"},
		{"the tail of one", FollowOptions{From: 1, Tail: 2, Components: []string{"a"}, Kinds: []journal.Kind{journal.Output}}, "2 3 4 7"},
		{"what is younger than now", FollowOptions{From: 1, Since: time.Now().Add(time.Hour)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opts.Stop = true
			following, err := client.Follow(t.Context(), test.opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for b, err := range following.Blocks {
				if err != nil {
					t.Fatal(err)
				}
				for e := range b.Entries() {
					got = append(got, fmt.Sprint(e.Seq))
				}
			}
			same(t, "entries", strings.Join(got, " "), test.want)
		})
	}
}

// Who reads slowly holds up nobody, and is told.
func TestSlowFollowerGetsAGap(t *testing.T) {
	run, endpoint, _ := serveRun(t, journal.Options{OutputBytes: 1 << 20}, "a")
	following, err := dialRun(t, endpoint, rightToken).Follow(t.Context(), FollowOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := run.journal.Writer("a", "stdout", nil)
	line := []byte(strings.Repeat("x", 1<<14-1) + "\n")
	for range 4000 { // 64 MiB, far more than the connection and the journal hold
		_, _ = w.Write(line)
	}
	run.journal.Close()
	gaps, last := 0, uint64(0)
	for b, err := range following.Blocks {
		if err != nil {
			t.Fatal(err)
		}
		if b.Kind == journal.Gap {
			gaps++
		}
		last = b.First + uint64(b.Count) - 1
	}
	if gaps == 0 || last != 4000 {
		t.Errorf("%d gaps, the last entry is %d; want a gap, and the end", gaps, last)
	}
}

// What the journal has dropped before a follower came is not its fault: it is
// told how much of it the log files have.
func TestFollowTellsWhatIsInTheLogFilesOnly(t *testing.T) {
	run, endpoint, _ := serveRun(t, journal.Options{OutputBytes: 100}, "a", "b")
	run.enter(0, supervisor.Ready)
	for range 30 {
		_, _ = run.journal.Writer("a", "stdout", nil).Write([]byte("123456789\n"))
	}
	_, _ = run.journal.Writer("b", "stdout", nil).Write([]byte("123456789\n"))
	following, err := dialRun(t, endpoint, rightToken).Follow(t.Context(), FollowOptions{From: 1, Stop: true})
	if err != nil {
		t.Fatal(err)
	}
	kept := int64(0)
	for b, err := range following.Blocks {
		if err != nil || b.Kind == journal.Gap {
			t.Errorf("block %+v, error %v", b, err)
		}
		if b.Component == "a" {
			kept += int64(len(b.Data))
		}
	}
	same(t, "dropped", following.Dropped, map[string]int64{"a": 300 - kept})
}

// The end of a run is told before the connection ends.
func TestFollowersHearTheEnd(t *testing.T) {
	run, endpoint, stop := serveRun(t, journal.Options{}, "a")
	following, err := dialRun(t, endpoint, rightToken).Follow(t.Context(), FollowOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		run.enter(0, supervisor.Ready)
	}
	run.enter(0, supervisor.Completed)
	stop()
	last := ""
	for b, err := range following.Blocks {
		if err != nil {
			t.Fatal(err)
		}
		for e := range b.Entries() {
			last = e.Data["state"]
		}
	}
	same(t, "the last state", last, "completed")
}

func TestCommands(t *testing.T) {
	run, endpoint, _ := serveRun(t, journal.Options{}, "src")
	client := dialRun(t, endpoint, rightToken)
	ctx := t.Context()
	apply := func() error {
		_, err := client.Apply(ctx, "/f.yml", true)
		return err
	}
	commands := map[string]func() error{
		"restart src": func() error { return client.Restart(ctx, "src") }, "stop src": func() error { return client.Stop(ctx, "src") },
		"start src": func() error { return client.Start(ctx, "src") }, "apply /f.yml true": apply,
	}
	for _, answer := range []struct {
		err  error
		want *RunError
	}{
		{nil, nil},
		{&supervisor.UnknownError{Component: "src"}, &RunError{Text: `there is no component "src"`, Invalid: true}},
		{fmt.Errorf("apply f: %w", pipeline.Problems{{Text: "wrong"}}), &RunError{Text: "apply f: " + pipeline.Problems{{Text: "wrong"}}.Error(), Invalid: true}},
		{errors.New("src is running already"), &RunError{Text: "src is running already"}},
	} {
		run.answer = answer.err
		for name, command := range commands {
			run.asked = nil
			var got *RunError
			if err := command(); err != nil && !errors.As(err, &got) {
				t.Errorf("%s: %T %v", name, err, err)
			}
			same(t, fmt.Sprintf("%s answered with %v", name, answer.err), got, answer.want)
			same(t, "asked", run.asked, []string{name})
		}
	}
	run.answer = nil
	changes, err := client.Apply(ctx, "/f.yml", false)
	if err != nil || len(changes) != 1 || changes[0].Component != "src" {
		t.Errorf("apply: %v, %v", changes, err)
	}
	planned, err := client.Plan(ctx)
	if err != nil || planned.Pipeline != "tiny" || planned.Components[0].Env[0].Value != "****" {
		t.Errorf("plan: %+v, %v", planned, err)
	}
}

func TestNobodyThere(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	_, err = dialRun(t, lis.Addr().String(), "").Snapshot(t.Context())
	var refused *RunError
	if !errors.As(err, &refused) || !refused.Gone {
		t.Errorf("%v, want a RunError that says gone", err)
	}
}

// Nothing is lost on the way of a snapshot.
func TestSnapshotRoundTrip(t *testing.T) {
	now := time.Now().Round(0)
	want := Snapshot{Seq: 7, Components: []Component{
		{
			Status: supervisor.Status{
				Component: "src", Role: pipeline.Source, State: supervisor.Backoff, Reason: "why", Since: now, Attempt: 3, PID: 4,
				StartedAt: now.Add(1), ReadyAt: now.Add(2), EndedAt: now.Add(3), Restarts: 2, RetryAt: now.Add(4),
				Exit: &driver.Exit{Code: -1, Signal: syscall.SIGKILL, OutOfMemory: true, Forced: true},
			},
			Service: &registry.Service{
				ID: "src", Component: "src", Registered: true, Adopted: true, Left: true, Healthy: true, Reported: registry.Degraded,
				Reason: "so", LastSeen: now.Add(5), Metrics: map[string]float64{"a": 1, "nan": math.NaN(), "inf": math.Inf(-1)},
			},
		},
		{Status: supervisor.Status{Component: "sink", Role: pipeline.Sink, State: supervisor.Pending}},
	}}
	if diff := cmp.Diff(want, snapshotFromWire(snapshotToWire(want)), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type script = func(context.Context, driver.Attempt) (driver.Exit, error)

// component is a planned component without SDK and probe that waits for others to be ready.
func component(id string, role pipeline.Role, after ...string) plan.Component {
	c := plan.Component{
		ID: id, Role: role, Command: []string{"/bin/true"}, Registration: pipeline.RegistrationNone,
		Stop: pipeline.Stop{Signal: "TERM", Grace: 10 * time.Second},
		Restart: pipeline.Restart{
			Policy: pipeline.RestartOnFailure, Initial: time.Second, Max: 30 * time.Second, Factor: 2,
			Attempts: 5, Window: 10 * time.Minute, ResetAfter: time.Minute, UnhealthyTimeout: 30 * time.Second,
		},
	}
	for _, dep := range after {
		c.After = append(c.After, plan.Edge{ID: dep, Condition: pipeline.Ready, Required: true})
	}
	return c
}

// chain is source → processor → sink.
func chain() []plan.Component {
	return []plan.Component{
		component("source", pipeline.Source),
		component("processor", pipeline.Processor, "source"),
		component("sink", pipeline.Sink, "processor"),
	}
}

// harness is a supervisor on a scripted driver, within a synctest bubble.
type harness struct {
	*Supervisor
	fake    *drivertest.Fake
	journal *journal.Journal
	cancel  context.CancelFunc
	result  chan error
}

func start(t *testing.T, components []plan.Component, scripts map[string]script, edit ...func(*Options)) *harness {
	h := &harness{
		fake: &drivertest.Fake{Scripts: scripts}, journal: journal.New(journal.Options{}),
		result: make(chan error, 1),
	}
	opts := Options{
		Plan: &plan.Plan{Components: components}, Driver: h.fake, Journal: h.journal,
		Hooks: Hooks{Output: func(id string) (io.WriteCloser, io.WriteCloser) {
			return h.journal.Writer(id, "stdout", nil), h.journal.Writer(id, "stderr", nil)
		}},
	}
	for _, e := range edit {
		e(&opts)
	}
	h.Supervisor = New(opts)
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	go func() { h.result <- h.Run(ctx) }()
	t.Cleanup(cancel)
	return h
}

// states returns each component's state, in order.
func (h *harness) states() string {
	var all []string
	for _, s := range h.Statuses() {
		all = append(all, fmt.Sprintf("%s %s", s.Component, s.State))
	}
	return strings.Join(all, ", ")
}

func (h *harness) reason(id string) string {
	for _, s := range h.Statuses() {
		if s.Component == id {
			return s.Reason
		}
	}
	return ""
}

func TestStartInOrderAndStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, chain(), nil)
		synctest.Wait()
		if got := h.states(); got != "source ready, processor ready, sink ready" {
			t.Fatal(got)
		}
		h.cancel()
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		want := []string{
			"start source", "start processor", "start sink",
			"end sink", "end processor", "end source",
		}
		if diff := cmp.Diff(want, h.fake.History()); diff != "" {
			t.Error(diff)
		}
		if got := h.states(); got != "source stopped, processor stopped, sink stopped" {
			t.Error(got)
		}
	})
}

func TestIndependentComponentsStartTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gate [3]chan struct{}
		components := []plan.Component{component("a", pipeline.Source), component("b", pipeline.Source), component("c", pipeline.Source)}
		for i := range gate {
			gate[i] = make(chan struct{})
			components[i].Registration = pipeline.RegistrationRequired
		}
		h := start(t, components, nil, func(o *Options) {
			o.Hooks.Registered = func(ctx context.Context, id string) error {
				<-gate[id[0]-'a']
				return nil
			}
		})
		synctest.Wait()
		if got := h.states(); got != "a registering, b registering, c registering" {
			t.Error(got)
		}
		for _, g := range gate {
			close(g)
		}
		synctest.Wait()
		h.cancel()
		<-h.result
	})
}

func TestRunEndsWhenAllSinksHaveCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, chain(), map[string]script{"sink": func(_ context.Context, att driver.Attempt) (driver.Exit, error) {
			time.Sleep(time.Minute)
			return driver.Exit{}, nil
		}})
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := h.states(); got != "source stopped, processor stopped, sink completed" {
			t.Error(got)
		}
	})
}

func TestDeathWithoutRestartFailsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chain()
		c[1].Restart.Policy = pipeline.RestartNo
		h := start(t, c, map[string]script{"processor": func(_ context.Context, att driver.Attempt) (driver.Exit, error) {
			for i := range 30 {
				fmt.Fprintln(att.Stdout, "line", i)
			}
			time.Sleep(3 * time.Second)
			return driver.Exit{Code: 2}, nil
		}})
		err := <-h.result
		var failed *FailedError
		if !errors.As(err, &failed) {
			t.Fatalf("Run: %v", err)
		}
		if got, want := failed.Error(), "processor exited with code 2 after 3s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(failed.Tail) != 20 || failed.Tail[19] != "line 29" {
			t.Errorf("tail %q", failed.Tail)
		}
		if got := h.states(); got != "source stopped, processor failed, sink stopped" {
			t.Error(got)
		}
	})
}

func TestDependentsOfAFailureAreNeverStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chain()
		c[0].Registration = pipeline.RegistrationRequired
		h := start(t, c, map[string]script{"source": drivertest.ExitWith(1)}, func(o *Options) {
			o.Hooks.Registered = func(ctx context.Context, _ string) error { <-ctx.Done(); return context.Cause(ctx) }
		})
		err := <-h.result
		if err == nil || !strings.HasPrefix(err.Error(), "source exited with code 1") {
			t.Errorf("Run: %v", err)
		}
		if diff := cmp.Diff([]string{"start source", "end source"}, h.fake.History()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStartTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := component("source", pipeline.Source)
		c.Registration = pipeline.RegistrationRequired
		begin := time.Now()
		h := start(t, []plan.Component{c}, nil, func(o *Options) {
			o.Hooks.Registered = func(ctx context.Context, _ string) error { <-ctx.Done(); return context.Cause(ctx) }
		})
		err := <-h.result
		if err == nil || !strings.Contains(err.Error(), "did not register within 30s") {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(begin); d != 30*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestInterruptedBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chain()
		c[0].Registration = pipeline.RegistrationRequired
		h := start(t, c, nil, func(o *Options) {
			o.Hooks.Registered = func(ctx context.Context, _ string) error { <-ctx.Done(); return context.Cause(ctx) }
		})
		synctest.Wait()
		if got := h.states(); got != "source registering, processor waiting, sink waiting" {
			t.Error(got)
		}
		h.cancel()
		if err := <-h.result; !errors.Is(err, ErrInterrupted) {
			t.Errorf("Run: %v", err)
		}
		if got := h.states(); got != "source stopped, processor stopped, sink stopped" {
			t.Error(got)
		}
	})
}

// However many levels of components ignore the stop signal, the whole stop
// takes the longest grace and less than a second.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, chain(), map[string]script{"source": drivertest.Deaf, "processor": drivertest.Deaf, "sink": drivertest.Deaf})
		synctest.Wait()
		begin := time.Now()
		h.cancel()
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(begin); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("the stop took %v", d)
		}
		if got := h.reason("sink"); got != "was killed by SIGKILL: it had not ended in time" {
			t.Error(got)
		}
	})
}

func TestKillEndsEverythingNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, chain(), map[string]script{"source": drivertest.Deaf, "sink": drivertest.Deaf})
		synctest.Wait()
		begin := time.Now()
		h.cancel()
		h.Kill()
		<-h.result
		if d := time.Since(begin); d != 0 {
			t.Errorf("the kill took %v", d)
		}
	})
}

func TestMissedHeartbeatsDegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verdicts := make(chan error)
		c := component("source", pipeline.Source)
		c.Registration = pipeline.RegistrationRequired
		h := start(t, []plan.Component{c}, nil, func(o *Options) {
			o.Hooks.Registered = func(context.Context, string) error { return nil }
			o.Hooks.Alive = func(ctx context.Context, _ string, report func(error)) {
				for {
					select {
					case v := <-verdicts:
						report(v)
					case <-ctx.Done():
						return
					}
				}
			}
		})
		verdicts <- errors.New("no heartbeat for 30s")
		synctest.Wait()
		if got := h.states() + ": " + h.reason("source"); got != "source degraded: no heartbeat for 30s" {
			t.Error(got)
		}
		verdicts <- nil
		synctest.Wait()
		if got := h.states(); got != "source ready" {
			t.Error(got)
		}
		h.cancel()
		<-h.result
	})
}

func TestConditions(t *testing.T) {
	now := time.Now()
	ready := Status{State: Ready, Attempt: 1, StartedAt: now, ReadyAt: now}
	degraded := Status{State: Degraded, Attempt: 1, StartedAt: now, ReadyAt: now}
	starting := Status{State: Starting, Attempt: 1, PID: 1, StartedAt: now}
	completed := Status{State: Completed, Attempt: 1, StartedAt: now, ReadyAt: now}
	early := Status{State: Completed, Attempt: 1, StartedAt: now}
	failed := Status{State: Failed, Attempt: 1, StartedAt: now}
	for _, tc := range []struct {
		condition  pipeline.Condition
		dep        Status
		met, never bool
	}{
		{pipeline.Started, Status{State: Waiting}, false, false},
		{pipeline.Started, starting, true, false},
		{pipeline.Ready, starting, false, false},
		{pipeline.Ready, ready, true, false},
		{pipeline.Ready, degraded, true, false},
		{pipeline.Ready, completed, true, false},
		{pipeline.Ready, early, false, true},
		{pipeline.Ready, failed, false, false}, // a user may start it again
		{pipeline.Healthy, ready, true, false},
		{pipeline.Healthy, degraded, false, false},
		{pipeline.Completed, ready, false, false},
		{pipeline.Completed, completed, true, false},
		{pipeline.Completed, failed, false, false},
	} {
		met, never := satisfied(plan.Edge{Condition: tc.condition}, tc.dep)
		if met != tc.met || never != tc.never {
			t.Errorf("%s of a component that is %s: met %v, never %v", tc.condition, tc.dep.State, met, never)
		}
	}
}

func TestEveryStateHasAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chain()
		c[0].Registration = pipeline.RegistrationRequired
		h := start(t, c, map[string]script{"sink": drivertest.ExitWith(0)}, func(o *Options) {
			o.Hooks.Registered = func(context.Context, string) error { time.Sleep(time.Second); return nil }
		})
		<-h.result
		h.journal.Close()
		var states []string
		for b := range h.journal.Follow(t.Context(), journal.FollowOptions{}) {
			for e := range b.Entries() {
				if e.Kind != journal.State {
					continue
				}
				if e.Text == "" {
					t.Errorf("%s is %s without a reason", e.Component, e.Data["state"])
				}
				if e.Component == "processor" {
					states = append(states, e.Data["state"])
				}
			}
		}
		want := []string{"waiting", "starting", "ready", "stopping", "stopped"}
		if !slices.Equal(states, want) {
			t.Errorf("states of the processor: %v, want %v", states, want)
		}
	})
}

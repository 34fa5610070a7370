package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// diesAfter is the script of a component that fails some time after each start.
func diesAfter(d time.Duration, starts *[]time.Duration) script {
	begin := time.Now()
	return func(ctx context.Context, att driver.Attempt) (driver.Exit, error) {
		*starts = append(*starts, time.Since(begin))
		select {
		case <-time.After(d):
			return driver.Exit{Code: 1}, nil
		case <-ctx.Done():
			return driver.Exit{}, nil
		}
	}
}

func TestRestartsBackOffUntilItHasFailedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		h := start(t, []plan.Component{component("source", pipeline.Source)},
			map[string]script{"source": diesAfter(2*time.Second, &starts)})
		err := <-h.result
		if want := "source has failed for good after 5 restarts within 10m: it exited with code 1 after 2s"; err == nil || err.Error() != want {
			t.Errorf("Run: %v, want %s", err, want)
		}
		s := time.Second
		// each life takes 2 s; the delays are 0, 1, 2, 4, 8 s
		if diff := cmp.Diff([]time.Duration{0, 2 * s, 5 * s, 9 * s, 15 * s, 25 * s}, starts); diff != "" {
			t.Error(diff)
		}
	})
}

func TestHealthyTimeForgetsThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		h := start(t, []plan.Component{component("source", pipeline.Source)},
			map[string]script{"source": diesAfter(61*time.Second, &starts)})
		time.Sleep(15 * time.Minute)
		h.cancel()
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		if len(starts) != 15 {
			t.Errorf("%d starts in 15 minutes, want 15: each restart at once", len(starts))
		}
	})
}

func TestBackoff(t *testing.T) {
	p := pipeline.Restart{Initial: time.Second, Factor: 2, Max: 30 * time.Second, Jitter: 0.1}
	for _, tc := range []struct {
		n      int
		chance float64
		want   time.Duration
	}{
		{0, 1, 0}, {1, 0.5, time.Second}, {2, 0.5, 2 * time.Second}, {4, 0.5, 8 * time.Second},
		{100, 0.5, 30 * time.Second}, {1, 0, 900 * time.Millisecond}, {1, 1, 1100 * time.Millisecond},
	} {
		if got := backoff(p, tc.n, tc.chance); got != tc.want {
			t.Errorf("backoff %d with chance %v: %v, want %v", tc.n, tc.chance, got, tc.want)
		}
	}
}

func TestWhatIsNotRestarted(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script script
		edit   func(*plan.Component)
		want   string
	}{
		{"a death at the first start", drivertest.ExitWith(1), nil, "source exited with code 1 after 0s"},
		{"a program that was not found", drivertest.ExitWith(127), func(c *plan.Component) { c.Restart.Explicit = true },
			"source exited with code 127 after 0s, which no restart can mend"},
		{"policy no", func(context.Context, driver.Attempt) (driver.Exit, error) {
			time.Sleep(time.Minute)
			return driver.Exit{Code: 1}, nil
		}, func(c *plan.Component) { c.Restart.Policy = pipeline.RestartNo }, "source exited with code 1 after 1m"},
		{"a driver that cannot start it", func(context.Context, driver.Attempt) (driver.Exit, error) {
			return driver.Exit{}, errors.New("out of memory")
		}, func(c *plan.Component) { c.Restart.Explicit = true }, "source could not be started: out of memory, which no restart can mend"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := component("source", pipeline.Source)
				if tc.edit != nil {
					tc.edit(&c)
				}
				h := start(t, []plan.Component{c}, map[string]script{"source": tc.script})
				if err := <-h.result; err == nil || err.Error() != tc.want {
					t.Errorf("Run: %v, want %s", err, tc.want)
				}
				if got := len(h.fake.History()); got != 2 {
					t.Errorf("history %v", h.fake.History())
				}
			})
		})
	}
}

func TestAnExplicitPolicyCoversTheFirstStartToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := component("source", pipeline.Source)
		c.Restart.Explicit, c.Restart.Attempts = true, 2
		h := start(t, []plan.Component{c}, map[string]script{"source": drivertest.ExitWith(1)})
		err := <-h.result
		if want := "source has failed for good after 2 restarts within 10m: it exited with code 1 after 0s"; err == nil || err.Error() != want {
			t.Errorf("Run: %v, want %s", err, want)
		}
	})
}

func TestPolicyAlwaysRestartsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := component("sink", pipeline.Sink)
		c.Restart.Policy, c.Restart.Explicit = pipeline.RestartAlways, true
		lives := 0
		h := start(t, []plan.Component{c}, map[string]script{"sink": func(ctx context.Context, att driver.Attempt) (driver.Exit, error) {
			lives++
			if att.Number != lives {
				t.Errorf("attempt %d of life %d", att.Number, lives)
			}
			select {
			case <-time.After(2 * time.Minute):
			case <-ctx.Done():
			}
			return driver.Exit{}, nil
		}})
		time.Sleep(9 * time.Minute)
		h.cancel()
		<-h.result
		if lives != 5 {
			t.Errorf("%d lives", lives)
		}
	})
}

func TestKeepLetsTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		components := []plan.Component{component("a", pipeline.Source), component("b", pipeline.Source), component("c", pipeline.Processor, "a")}
		components[0].Registration = pipeline.RegistrationRequired
		h := start(t, components, map[string]script{"a": drivertest.ExitWith(1)}, func(o *Options) {
			o.Plan.OnFailure = pipeline.OnFailureKeep
			o.Hooks.Registered = func(ctx context.Context, _ string) error { <-ctx.Done(); return context.Cause(ctx) }
		})
		time.Sleep(time.Hour)
		if got := h.states(); !strings.HasPrefix(got, "a failed, b ready, c waiting") {
			t.Error(got)
		}
		if got := h.reason("c"); got != "for a (failed)" {
			t.Error(got)
		}
		h.cancel()
		var failed *FailedError
		if err := <-h.result; !errors.As(err, &failed) {
			t.Errorf("Run: %v, want the failure of a", err)
		}
	})
}

func TestUsersCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, chain(), nil)
		synctest.Wait()
		step := func(what string, err error, want string) {
			t.Helper()
			synctest.Wait()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := h.states(); got != want {
				t.Errorf("after %s: %s, want %s", what, got, want)
			}
		}
		ctx := t.Context()
		step("stop", h.Stop(ctx, "processor"), "source ready, processor stopped, sink ready")
		step("stop twice", h.Stop(ctx, "processor"), "source ready, processor stopped, sink ready")
		step("start", h.Start(ctx, "processor"), "source ready, processor ready, sink ready")
		for range 20 { // far more than the policy allows: a user's restarts do not count
			step("restart", h.Restart(ctx, "processor"), "source ready, processor ready, sink ready")
		}
		if err := h.Start(ctx, "processor"); err == nil || err.Error() != "processor is running already" {
			t.Errorf("start of a running component: %v", err)
		}
		var unknown *UnknownError
		if err := h.Restart(ctx, "nobody"); !errors.As(err, &unknown) {
			t.Errorf("restart of nobody: %v", err)
		}
		h.cancel()
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := h.Restart(ctx, "source"); err == nil {
			t.Error("a restart after the end succeeded")
		}
	})
}

func TestCommandEndsABackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := component("source", pipeline.Source)
		c.Restart.Initial, c.Restart.Max = time.Hour, time.Hour
		var starts []time.Duration
		h := start(t, []plan.Component{c}, map[string]script{"source": diesAfter(2*time.Second, &starts)})
		time.Sleep(10 * time.Second)
		if got := h.states() + ": " + h.reason("source"); got != "source backoff: exited with code 1 after 2s; restart 2 of 5 in 1h" {
			t.Error(got)
		}
		if err := h.Start(t.Context(), "source"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := h.states(); got != "source ready" {
			t.Error(got)
		}
		h.cancel()
		<-h.result
	})
}

func TestDependentsThatWantItAreRestartedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chain()
		c[2].After[0].Restart = true
		h := start(t, c, nil)
		synctest.Wait()
		if err := h.Restart(t.Context(), "processor"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want := "start source, start processor, start sink, end processor, end sink, start processor, start sink"
		got := strings.Join(h.fake.History(), ", ")
		alternative := strings.Replace(want, "end sink, start processor", "start processor, end sink", 1)
		if got != want && got != alternative {
			t.Error(got)
		}
		h.cancel()
		<-h.result
	})
}

func TestUnhealthyForTooLongIsRestarted(t *testing.T) {
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
		missed := errors.New("no heartbeat for 30s")
		verdicts <- missed
		time.Sleep(29 * time.Second)
		verdicts <- nil // it came back in time
		time.Sleep(time.Hour)
		if got := len(h.fake.History()); got != 1 {
			t.Errorf("it was restarted: %v", h.fake.History())
		}
		verdicts <- missed
		time.Sleep(31 * time.Second)
		if got := h.states(); got != "source ready" {
			t.Error(got)
		}
		if diff := cmp.Diff([]string{"start source", "end source", "start source"}, h.fake.History()); diff != "" {
			t.Error(diff)
		}
		h.cancel()
		<-h.result
	})
}

func TestNoProgressIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := component("source", pipeline.Source)
		c.Progress = &pipeline.Progress{Metric: "ledgers", Stall: time.Minute}
		var calls atomic.Int32
		h := start(t, []plan.Component{c}, nil, func(o *Options) {
			o.Hooks.Progress = func(ctx context.Context, _ plan.Component, report func(error)) {
				if calls.Add(1) == 1 {
					time.Sleep(5 * time.Second)
					report(errors.New("made no progress for 1m"))
				}
			}
		})
		time.Sleep(time.Minute)
		if got := h.states(); got != "source ready" || calls.Load() != 2 {
			t.Errorf("%s, %d calls", got, calls.Load())
		}
		h.cancel()
		<-h.result
	})
}

func TestStopDuringBackoffIsClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		h := start(t, chain(), map[string]script{"processor": diesAfter(2*time.Second, &starts)})
		time.Sleep(4500 * time.Millisecond) // dead for the second time
		if got := h.states(); got != "source ready, processor backoff, sink ready" {
			t.Fatal(got)
		}
		h.cancel()
		if err := <-h.result; err != nil {
			t.Errorf("Run: %v: everything had been ready", err)
		}
		if got := fmt.Sprint(h.states()); got != "source stopped, processor stopped, sink stopped" {
			t.Error(got)
		}
	})
}

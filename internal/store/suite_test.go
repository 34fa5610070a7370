package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a way for a registry to keep what it knows.
type backend struct {
	name string
	// durable is true when it survives a restart.
	durable bool
	// open returns a function that starts the registry, anew if it has been started before.
	open func(t *testing.T) (start func(registry.Options) *registry.Registry)
}

var backends = []backend{
	{"in memory", false, func(*testing.T) func(registry.Options) *registry.Registry { return registry.New }},
	{"bbolt", true, func(t *testing.T) func(registry.Options) *registry.Registry {
		path := filepath.Join(t.TempDir(), "db", "flowctl.db")
		var last *Bolt
		t.Cleanup(func() { _ = last.Close() })
		return func(opts registry.Options) *registry.Registry {
			if last != nil {
				if err := last.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if last, opts.Saved, err = Open(path); err != nil {
				t.Fatal(err)
			}
			opts.Store = last
			return registry.New(opts)
		}
	}},
}

// conforms runs a test on every backend.
func conforms(t *testing.T, test func(t *testing.T, b backend, start func(registry.Options) *registry.Registry)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) { t.Parallel(); test(t, b, b.open(t)) })
	}
}

var whole = registry.Registration{
	ServiceID: "whole", ComponentID: "component", Role: registry.Processor, Inputs: []string{"ledger"}, Outputs: []string{"transfer", "fee"},
	HealthEndpoint: "http://localhost:8089/health", MaxInflight: 7, Metadata: map[string]string{"network": "public", "": "\u2028 \x00"},
	Name: "Name", Description: "A description.", Version: "v1.2.3",
}

func mustRegister(t *testing.T, r *registry.Registry, reg registry.Registration) registry.Service {
	t.Helper()
	s, err := r.Register(reg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustGet(t *testing.T, r *registry.Registry, id string) registry.Service {
	t.Helper()
	s, ok := r.Get(id)
	if !ok {
		t.Fatalf("%s is not known", id)
	}
	return s
}

// beats keeps a registry's janitor, which saves heartbeats, running until the returned function is called.
func running(t *testing.T, r *registry.Registry) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// sameTimes compares times as they are kept, which is without the monotonic clock.
var sameTimes = cmpopts.EquateApproxTime(time.Microsecond)

func TestWhatARegistrySays(t *testing.T) {
	conforms(t, func(t *testing.T, b backend, start func(registry.Options) *registry.Registry) {
		r := start(registry.Options{})
		before := mustRegister(t, r, whole)
		end := running(t, r)
		if _, err := r.Heartbeat("whole", registry.Beat{Metrics: map[string]float64{"events": 296, "rate": 0.1}}); err != nil {
			t.Fatal(err)
		}
		end()
		seen := mustGet(t, r, "whole")
		r = start(registry.Options{})
		if !b.durable {
			if all := r.List(registry.Filter{}); len(all) != 0 {
				t.Errorf("%+v", all)
			}
			return
		}
		after := mustGet(t, r, "whole")
		if after.Healthy || after.Tier != registry.Unheard || after.Reason != "not heard since the control plane was started anew" {
			t.Errorf("healthy by hearsay: %+v", after)
		}
		want := seen
		want.Healthy, want.Tier, want.Reason, want.Revision = false, registry.Unheard, after.Reason, 0
		if diff := cmp.Diff(want, after, sameTimes); diff != "" {
			t.Errorf("after a restart (-want +got):\n%s", diff)
		}
		if !after.FirstSeen.Equal(before.FirstSeen.Round(0)) || after.Metrics["events"] != 296 {
			t.Errorf("first seen %v, now %v; metrics %v", before.FirstSeen, after.FirstSeen, after.Metrics)
		}
		if known, err := r.Heartbeat("whole", registry.Beat{}); !known || err != nil {
			t.Errorf("a heartbeat: %v, %v", known, err)
		}
		if got := mustGet(t, r, "whole"); !got.Healthy || got.Tier != registry.Passing {
			t.Errorf("heard again: %+v", got)
		}
	})
}

func TestGoneAndBack(t *testing.T) {
	conforms(t, func(t *testing.T, b backend, start func(registry.Options) *registry.Registry) {
		r := start(registry.Options{})
		mustRegister(t, r, registry.Registration{ServiceID: "a", Role: registry.Sink})
		if there, err := r.Deregister("a"); !there || err != nil {
			t.Errorf("%v, %v", there, err)
		}
		if _, ok := r.Get("a"); ok {
			t.Error("it is still there")
		}
		history := func(want ...string) {
			t.Helper()
			_, events, _ := r.History("a")
			var got []string
			for _, e := range events {
				got = append(got, e.Text)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("history (-want +got):\n%s", diff)
			}
		}
		history("registered as sink", "left")
		r = start(registry.Options{})
		if _, ok := r.Get("a"); ok {
			t.Error("it is there again")
		}
		if !b.durable {
			history()
			return
		}
		history("registered as sink", "left")
		mustRegister(t, r, registry.Registration{ServiceID: "a", Role: registry.Source})
		r = start(registry.Options{})
		history("registered as sink", "left", "registered as source")
		mustGet(t, r, "a")
	})
}

// What an earlier attempt has registered never counts for a new one; the same
// attempt, of a run that goes on, is still registered.
func TestAttemptsAcrossARestart(t *testing.T) {
	conforms(t, func(t *testing.T, b backend, start func(registry.Options) *registry.Registry) {
		expect := func(r *registry.Registry, attempt string) {
			t.Helper()
			if _, err := r.Expect(registry.Expected{ID: "p/a", Pipeline: "p", Component: "a", Role: registry.Source, Attempt: attempt}); err != nil {
				t.Fatal(err)
			}
		}
		r := start(registry.Options{})
		expect(r, "run-1/1")
		mustRegister(t, r, registry.Registration{ComponentID: "p/a", ServiceID: "uuid"})
		r = start(registry.Options{})
		expect(r, "run-1/1")
		if got, ok := r.Get("uuid"); ok != b.durable || b.durable && (!got.Registered || got.Healthy || got.Tier != registry.Unheard) {
			t.Errorf("the same attempt: %v, %+v", ok, got)
		}
		if known, err := r.Heartbeat("p/a", registry.Beat{}); known != b.durable || err != nil {
			t.Errorf("its heartbeat: known %v, %v", known, err)
		}
		r = start(registry.Options{})
		expect(r, "run-2/1")
		if got, ok := r.Get("p/a"); ok && got.Registered {
			t.Errorf("another attempt: %+v", got)
		}
	})
}

func TestRuns(t *testing.T) {
	conforms(t, func(t *testing.T, b backend, start func(registry.Options) *registry.Registry) {
		r := start(registry.Options{})
		for _, id := range []string{"one", "two", "three"} {
			if _, err := r.CreateRun(registry.PipelineRun{ID: id, Pipeline: "p", Config: "kind: Pipeline", Components: []string{"a", "b"}}); err != nil {
				t.Fatal(err)
			}
		}
		want, err := r.UpdateRun("two", func(run *registry.PipelineRun) {
			run.Status, run.Error = registry.RunFailed, "a exited with code 1"
			run.Metrics = registry.RunMetrics{Events: 296, Components: map[string]registry.ComponentMetrics{"a": {EventsOut: 296}}}
		})
		if err != nil || want.End.IsZero() {
			t.Errorf("%+v, %v", want, err)
		}
		if _, err := r.UpdateRun("four", func(*registry.PipelineRun) {}); err == nil {
			t.Error("a run that is not was changed")
		}
		r = start(registry.Options{})
		if !b.durable {
			return
		}
		got, err := r.GetRun("two")
		if diff := cmp.Diff(want, got, sameTimes); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		var order []string
		for _, run := range r.ListRuns("p", "") {
			order = append(order, run.ID)
		}
		if diff := cmp.Diff([]string{"three", "two", "one"}, order); diff != "" {
			t.Error(diff)
		}
		if failed := r.ListRuns("", registry.RunFailed); len(failed) != 1 || failed[0].ID != "two" {
			t.Errorf("%+v", failed)
		}
	})
}

// What many do at the same time is all there.
func TestConcurrentChanges(t *testing.T) {
	conforms(t, func(t *testing.T, b backend, start func(registry.Options) *registry.Registry) {
		r := start(registry.Options{})
		end := running(t, r)
		const writers, each = 16, 40
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					id := fmt.Sprintf("s-%d-%d", w, i)
					if _, err := r.Register(registry.Registration{ServiceID: id}); err != nil {
						t.Error(err)
					}
					if i%4 == 0 {
						if _, err := r.Deregister(id); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		end()
		if n := len(r.List(registry.Filter{})); n != writers*each*3/4 {
			t.Errorf("%d services", n)
		}
		r = start(registry.Options{})
		if n := len(r.List(registry.Filter{})); b.durable && n != writers*each*3/4 {
			t.Errorf("%d services after a restart", n)
		}
	})
}

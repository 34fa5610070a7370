package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes collects journal entries as "component: text".
type notes struct {
	mu  sync.Mutex
	all []string
}

func (n *notes) record(e journal.Entry) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, e.Component+": "+e.Text)
}

// take returns the entries since the last take.
func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.all
	n.all = nil
	return all
}

// bubble runs a test in virtual time on a registry with a running janitor.
func bubble(t *testing.T, opts Options, test func(t *testing.T, r *Registry, n *notes)) {
	synctest.Test(t, func(t *testing.T) {
		n := &notes{}
		opts.Record = n.record
		r := New(opts)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		test(t, r, n)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func register(t *testing.T, r *Registry, reg Registration) Service {
	t.Helper()
	service, err := r.Register(reg)
	if err != nil {
		t.Fatalf("Register(%+v): %v", reg, err)
	}
	return service
}

func beat(t *testing.T, r *Registry, id string, b Beat) (known bool) {
	t.Helper()
	known, err := r.Heartbeat(id, b)
	if err != nil {
		t.Fatalf("Heartbeat(%s): %v", id, err)
	}
	return known
}

func get(t *testing.T, r *Registry, id string) Service {
	t.Helper()
	service, ok := r.Get(id)
	if !ok {
		t.Fatalf("Get(%s): not found", id)
	}
	return service
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func leave(t *testing.T, r *Registry, id string) (there bool) {
	t.Helper()
	there, err := r.Deregister(id)
	if err != nil {
		t.Fatalf("Deregister(%s): %v", id, err)
	}
	return there
}

func ids(services []Service) []string {
	var all []string
	for _, s := range services {
		all = append(all, s.ID)
	}
	return all
}

func TestExpiryAndReturn(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		register(t, r, Registration{ServiceID: "a", Role: Source})
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if !get(t, r, "a").Healthy {
			t.Fatal("unhealthy after 29s: registration is a sign of life")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got := get(t, r, "a")
		if got.Healthy || got.Reason != "no heartbeat for 30s" || !got.Registered {
			t.Errorf("after 30s: %+v", got)
		}
		time.Sleep(41 * time.Second)
		if !beat(t, r, "a", Beat{Metrics: map[string]float64{"n": 1}}) {
			t.Error("a registered service is not known")
		}
		got = get(t, r, "a")
		if !got.Healthy || got.Reason != "" || got.Metrics["n"] != 1 {
			t.Errorf("after the beat: %+v", got)
		}
		same(t, "notes", n.take(), []string{
			"a: registered as source",
			"a: warning: no heartbeat for 20s",
			"a: unhealthy: no heartbeat for 30s",
			"a: healthy again after 41s",
		})
	})
}

func TestBeatsKeepHealthyAndQuiet(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		register(t, r, Registration{ServiceID: "a"})
		before := get(t, r, "a").Revision
		for range 100 {
			time.Sleep(10 * time.Second)
			beat(t, r, "a", Beat{})
		}
		got := get(t, r, "a")
		if !got.Healthy || got.Revision != before || time.Since(got.LastSeen) != 0 {
			t.Errorf("after 100 beats: %+v, revision was %d", got, before)
		}
		same(t, "notes", n.take(), []string{"a: registered"})
	})
}

func TestTTLIsSettable(t *testing.T) {
	bubble(t, Options{TTL: time.Second, JanitorInterval: 200 * time.Millisecond}, func(t *testing.T, r *Registry, _ *notes) {
		register(t, r, Registration{ServiceID: "a"})
		time.Sleep(time.Second)
		synctest.Wait()
		if got := get(t, r, "a"); got.Healthy {
			t.Errorf("healthy after its TTL: %+v", got)
		}
	})
}

func TestLateJanitorBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notes{}
		r := New(Options{Record: n.record})
		r.clock.begin(time.Now()) // the test is the janitor
		register(t, r, Registration{ServiceID: "a"})
		register(t, r, Registration{ServiceID: "b"})
		n.take()
		time.Sleep(60 * time.Second) // the whole process stood still
		r.pass()
		if a, b := get(t, r, "a"), get(t, r, "b"); a.Tier != Passing || b.Tier != Passing {
			t.Errorf("blamed for silence nobody could hear: %+v, %+v", a, b)
		}
		same(t, "notes", n.take(), []string{": flowctl was held up for 50s; heartbeats may come as much later"})
		// The clock stood still for 50s, and no longer.
		for range 2 {
			time.Sleep(10 * time.Second)
			r.pass()
		}
		same(t, "notes", n.take(), []string{
			"a: warning: no heartbeat for 20s", "b: warning: no heartbeat for 20s",
			"a: unhealthy: no heartbeat for 1m20s", "b: unhealthy: no heartbeat for 1m20s",
		})
		// Who is heard first after it stood still is in order, too.
		register(t, r, Registration{ServiceID: "c"})
		time.Sleep(60 * time.Second)
		beat(t, r, "a", Beat{})
		time.Sleep(10 * time.Second)
		r.pass()
		if c := get(t, r, "c"); c.Tier != Warning {
			t.Errorf("c was heard 20s ago on the registry's clock: %+v", c)
		}
	})
}

func TestStrangersExpire(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		r.Expect(Expected{ID: "mine"})
		register(t, r, Registration{ComponentID: "mine"})
		register(t, r, Registration{ServiceID: "theirs"})
		time.Sleep(5*time.Minute - time.Second)
		synctest.Wait()
		same(t, "before", ids(r.List(Filter{})), []string{"mine", "theirs"})
		time.Sleep(11 * time.Second)
		synctest.Wait()
		same(t, "after", ids(r.List(Filter{})), []string{"mine"})
		all := n.take()
		if last := all[len(all)-1]; last != "theirs: expired after 5m0s of silence" {
			t.Errorf("last note: %s", last)
		}
	})
}

func TestReportedHealth(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		register(t, r, Registration{ServiceID: "a"})
		n.take()
		for _, step := range []struct {
			reported Health
			healthy  bool
			note     []string
		}{
			{Unknown, true, nil},
			{Healthy, true, nil},
			{Degraded, true, []string{"a: reports itself degraded"}},
			{"", true, nil}, // says nothing: degraded still
			{Unhealthy, false, []string{"a: unhealthy: reports itself unhealthy"}},
			{"", false, nil},
			{Unknown, true, []string{"a: healthy again after 2s"}},
			{Stopping, true, []string{"a: reports itself stopping"}},
		} {
			beat(t, r, "a", Beat{Reported: step.reported})
			got := get(t, r, "a")
			if got.Healthy != step.healthy {
				t.Errorf("after %q: %+v", step.reported, got)
			}
			if step.reported != "" && got.Reported != step.reported {
				t.Errorf("after %q: reported %q", step.reported, got.Reported)
			}
			same(t, "note after "+string(step.reported), n.take(), step.note)
			time.Sleep(time.Second)
		}
	})
}

func TestUnhealthyThenSilent(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, _ *notes) {
		register(t, r, Registration{ServiceID: "a"})
		beat(t, r, "a", Beat{Reported: Unhealthy})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := get(t, r, "a").Reason; got != "no heartbeat for 30s" {
			t.Errorf("reason after silence: %q", got)
		}
		beat(t, r, "a", Beat{})
		if got := get(t, r, "a").Reason; got != "reports itself unhealthy" {
			t.Errorf("reason after a beat: %q", got)
		}
	})
}

func TestAdoption(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		for range 3 {
			if beat(t, r, "lost", Beat{}) {
				t.Error("an id nobody registered is known")
			}
		}
		got := get(t, r, "lost")
		if !got.Adopted || !got.Healthy || got.Registered {
			t.Errorf("adopted: %+v", got)
		}
		register(t, r, Registration{ServiceID: "lost", Role: Sink})
		if got := get(t, r, "lost"); got.Adopted || !got.Registered || got.Role != Sink {
			t.Errorf("registered: %+v", got)
		}
		if !beat(t, r, "lost", Beat{}) {
			t.Error("still asked to register")
		}
		same(t, "notes", n.take(), []string{
			"lost: adopted: heartbeats of an id nobody registered",
			"lost: registered as sink",
		})
	})
}

func TestExitBeatsHeartbeats(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		r.Expect(Expected{ID: "p", Role: Processor})
		time.Sleep(120 * time.Millisecond)
		register(t, r, Registration{ComponentID: "p", Role: Processor})
		r.Exited("p", "was killed by SIGKILL")
		beat(t, r, "p", Beat{})
		time.Sleep(time.Minute)
		synctest.Wait()
		got := get(t, r, "p")
		if got.Healthy || got.Reason != "was killed by SIGKILL" {
			t.Errorf("after exit and a late beat: %+v", got)
		}
		r.Expect(Expected{ID: "p", Role: Processor})
		if got := get(t, r, "p"); got.Registered || got.Healthy || got.Reason != "not registered yet" {
			t.Errorf("a new attempt: %+v", got)
		}
		register(t, r, Registration{ComponentID: "p", Role: Processor})
		if got := get(t, r, "p"); !got.Registered || !got.Healthy {
			t.Errorf("the new attempt registered: %+v", got)
		}
		same(t, "notes", n.take(), []string{
			"p: registered as processor, 120ms after its start",
			"p: unhealthy: was killed by SIGKILL",
			"p: registered as processor, 0s after its start",
		})
	})
}

func TestExitBeforeRegistration(t *testing.T) {
	r := New(Options{})
	r.Expect(Expected{ID: "p"})
	r.Exited("p", "exited with code 1")
	beat(t, r, "p", Beat{})
	if got, ok := r.Get("p"); ok {
		t.Errorf("a late beat revived %+v", got)
	}
	r.Exited("nobody", "exited with code 1")
	same(t, "list", ids(r.List(Filter{})), []string(nil))
}

func TestNewAttemptIsNotBlamedForSilence(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		r.Expect(Expected{ID: "p"})
		register(t, r, Registration{ComponentID: "p"})
		r.Exited("p", "exited with code 1")
		r.Expect(Expected{ID: "p"})
		n.take()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		same(t, "notes", n.take(), []string(nil))
	})
}

func TestDeregister(t *testing.T) {
	r := New(Options{})
	r.Expect(Expected{ID: "mine"})
	if leave(t, r, "mine") || leave(t, r, "nobody") {
		t.Error("somebody left who was never there")
	}
	register(t, r, Registration{ComponentID: "mine", ServiceID: "uuid"})
	register(t, r, Registration{ServiceID: "theirs"})
	beat(t, r, "mine", Beat{Metrics: map[string]float64{"events": 296}})
	if !leave(t, r, "uuid") || !leave(t, r, "theirs") {
		t.Error("Deregister found nobody")
	}
	if leave(t, r, "mine") {
		t.Error("left twice")
	}
	same(t, "list", ids(r.List(Filter{})), []string(nil))
	beat(t, r, "mine", Beat{})
	got := get(t, r, "mine")
	if !got.Left || got.Healthy || got.Registered || got.Reason != "left" || got.Metrics["events"] != 296 {
		t.Errorf("after leaving and a late beat: %+v", got)
	}
	if _, ok := r.Get("theirs"); ok {
		t.Error("a stranger that left is still known")
	}
}

func TestAwait(t *testing.T) {
	registered := func(s Service) bool { return s.Registered }
	bubble(t, Options{}, func(t *testing.T, r *Registry, _ *notes) {
		type result struct {
			service Service
			err     error
		}
		await := func(ctx context.Context, cond func(Service) bool) <-chan result {
			ch := make(chan result, 1)
			go func() {
				s, err := r.Await(ctx, "p", cond)
				ch <- result{s, err}
			}()
			synctest.Wait()
			return ch
		}
		r.Expect(Expected{ID: "p"})
		one, two := await(t.Context(), registered), await(t.Context(), registered)
		asked := time.Now()
		time.Sleep(3 * time.Second)
		register(t, r, Registration{ComponentID: "p"})
		for _, ch := range []<-chan result{one, two} {
			if got := <-ch; got.err != nil || !got.service.Registered {
				t.Errorf("registration awaited: %+v", got)
			}
		}
		sick := await(t.Context(), func(s Service) bool { return !s.Healthy })
		if got := <-sick; got.err != nil || time.Since(asked) != 33*time.Second+7*time.Second {
			t.Errorf("expiry awaited: %+v after %s", got, time.Since(asked))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := <-await(ctx, func(s Service) bool { return s.Left })
		if !errors.Is(got.err, context.DeadlineExceeded) || !strings.Contains(got.err.Error(), "wait for service p") {
			t.Errorf("deadline: %v", got.err)
		}
		gone := await(t.Context(), func(s Service) bool { return s.Left })
		r.Deregister("p")
		if got := <-gone; got.err != nil {
			t.Errorf("leaving awaited: %v", got.err)
		}
	})
}

func TestInvalidIDs(t *testing.T) {
	r := New(Options{})
	for _, id := range []string{"a\x1b[31m", "a\nb", strings.Repeat("x", 257), "a\xff"} {
		if _, err := r.Heartbeat(id, Beat{}); !errors.Is(err, ErrInvalidID) {
			t.Errorf("Heartbeat(%q): %v", id, err)
		}
		if _, err := r.Register(Registration{ServiceID: id}); !errors.Is(err, ErrInvalidID) {
			t.Errorf("Register(%q): %v", id, err)
		}
	}
	if _, err := r.Heartbeat("", Beat{}); !errors.Is(err, ErrInvalidID) {
		t.Errorf("Heartbeat of nobody: %v", err)
	}
	same(t, "list", ids(r.List(Filter{})), []string(nil))
}

func TestConcurrentUse(t *testing.T) {
	r := New(Options{TTL: time.Nanosecond, JanitorInterval: time.Microsecond, ExpireAfter: time.Nanosecond})
	ctx, cancel := context.WithCancel(t.Context())
	janitor := make(chan error)
	go func() { janitor <- r.Run(ctx) }()
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 300 {
				id := fmt.Sprint("s", (w+i)%5)
				r.Expect(Expected{ID: id, Role: Source, HealthPort: 8000 + i%5})
				r.Register(Registration{ServiceID: fmt.Sprint("u", i%50), Role: Source, HealthEndpoint: "http://h:8001/health"})
				r.Heartbeat(id, Beat{Reported: Degraded})
				r.Heartbeat(fmt.Sprint("u", i), Beat{})
				for _, s := range r.List(Filter{}) {
					r.Get(s.ID)
				}
				r.Exited(id, "test")
				r.Deregister(id)
			}
		})
	}
	awaiting := make(chan error)
	go func() {
		_, err := r.Await(ctx, "s0", func(Service) bool { return false })
		awaiting <- err
	}()
	workers.Wait()
	cancel()
	if err := <-janitor; err != nil {
		t.Error(err)
	}
	if err := <-awaiting; !errors.Is(err, context.Canceled) {
		t.Errorf("Await: %v", err)
	}
	for alias, id := range r.aliases {
		if r.records[id] == nil {
			t.Errorf("alias %s leads to %s, who is gone", alias, id)
		}
	}
}

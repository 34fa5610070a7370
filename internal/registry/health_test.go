package registry

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// heard keeps services alive: each beats every 10 s, until silence is asked for.
type heard struct {
	r      *Registry
	silent map[string]bool
}

// sleep lets time pass in which everybody beats who is not silent.
func (h *heard) sleep(t *testing.T, d time.Duration) {
	t.Helper()
	for range int(d / (10 * time.Second)) {
		time.Sleep(10*time.Second - time.Millisecond)
		for _, s := range h.r.List(Filter{}) {
			if !h.silent[s.ID] {
				beat(t, h.r, s.ID, Beat{})
			}
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
}

func TestTiers(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		register(t, r, Registration{ServiceID: "a"})
		for _, step := range []struct {
			after   time.Duration // since it registered
			tier    Tier
			healthy bool
		}{{10, Passing, true}, {20, Warning, true}, {29, Warning, true}, {30, Critical, false}, {60, Critical, false}} {
			time.Sleep(step.after*time.Second - time.Since(get(t, r, "a").LastSeen))
			synctest.Wait()
			if got := get(t, r, "a"); got.Tier != step.tier || got.Healthy != step.healthy {
				t.Errorf("after %ds: %s, healthy %v", step.after, got.Tier, got.Healthy)
			}
		}
		beat(t, r, "a", Beat{})
		if got := get(t, r, "a"); got.Tier != Passing {
			t.Errorf("after a beat: %+v", got)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		beat(t, r, "a", Beat{})
		if got := get(t, r, "a"); got.Tier != Passing || !got.Healthy {
			t.Errorf("after a beat that was late: %+v", got)
		}
		same(t, "notes", n.take(), []string{
			"a: registered", "a: warning: no heartbeat for 20s", "a: unhealthy: no heartbeat for 30s", "a: healthy again after 30s",
			"a: warning: no heartbeat for 20s", "a: heard again",
		})
	})
}

// When most of many fall silent at once, that is more likely our fault: one more look.
func TestMostFallSilent(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, n *notes) {
		h := &heard{r, map[string]bool{}}
		for i := range 5 {
			register(t, r, Registration{ServiceID: fmt.Sprint("s", i)})
			h.silent[fmt.Sprint("s", i)] = i < 3
		}
		n.take()
		h.sleep(t, 30*time.Second)
		for i := range 5 {
			if got := get(t, r, fmt.Sprint("s", i)); !got.Healthy {
				t.Errorf("after 30s: %+v", got)
			}
		}
		if all := strings.Join(n.take(), "\n"); !strings.Contains(all, ": 3 of 5 services have not been heard for 15s or longer: looking again before any is called unhealthy") {
			t.Errorf("notes:\n%s", all)
		}
		h.sleep(t, 10*time.Second)
		for i := range 5 {
			if got := get(t, r, fmt.Sprint("s", i)); got.Healthy != (i >= 3) {
				t.Errorf("after 40s: %+v", got)
			}
		}
		same(t, "notes", n.take(), []string{"s0: unhealthy: no heartbeat for 40s", "s1: unhealthy: no heartbeat for 40s", "s2: unhealthy: no heartbeat for 40s"})
		// A few of many are blamed without hesitation.
		h.silent["s3"], h.silent["s0"], h.silent["s1"], h.silent["s2"] = true, false, false, false
		h.sleep(t, 30*time.Second)
		if got := get(t, r, "s3"); got.Healthy {
			t.Errorf("one of five is silent, and healthy: %+v", got)
		}
	})
}

func TestFlapping(t *testing.T) {
	bubble(t, Options{TTL: 10 * time.Second, JanitorInterval: time.Second}, func(t *testing.T, r *Registry, n *notes) {
		register(t, r, Registration{ServiceID: "a"})
		for i := range 3 {
			if get(t, r, "a").Flapping {
				t.Errorf("flapping in round %d", i)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			beat(t, r, "a", Beat{})
		}
		if got := get(t, r, "a"); !got.Flapping || !got.Healthy {
			t.Errorf("after six changes: %+v", got)
		}
		all := n.take()
		same(t, "last note", all[len(all)-1], "a: is flapping: its health has changed 6 times within 5m0s")
		for range 100 {
			time.Sleep(3 * time.Second)
			beat(t, r, "a", Beat{})
		}
		synctest.Wait()
		if got := get(t, r, "a"); got.Flapping {
			t.Errorf("after five quiet minutes: %+v", got)
		}
		all = n.take()
		same(t, "last note", all[len(all)-1], "a: flaps no more")
	})
}

func TestHistory(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, _ *notes) {
		begin := time.Now()
		register(t, r, Registration{ServiceID: "a", Role: Sink})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		beat(t, r, "a", Beat{Reported: Unhealthy})
		if !leave(t, r, "a") {
			t.Error("it was not there")
		}
		want := []Event{
			{begin, Passing, "registered as sink"},
			{begin.Add(20 * time.Second), Warning, "warning: no heartbeat for 20s"},
			{begin.Add(30 * time.Second), Critical, "unhealthy: no heartbeat for 30s"},
			{begin.Add(30 * time.Second), Critical, "unhealthy: reports itself unhealthy"},
			{begin.Add(30 * time.Second), Critical, "left"},
		}
		service, events, known := r.History("a")
		same(t, "history", events, want)
		if !known || !service.FirstSeen.Equal(begin) || !service.Left {
			t.Errorf("%v, %+v", known, service)
		}
		// Who comes back goes on with it.
		register(t, r, Registration{ServiceID: "a"})
		service, events, _ = r.History("a")
		if len(events) != len(want)+1 || !service.FirstSeen.Equal(begin) {
			t.Errorf("first seen %v, %d events", service.FirstSeen, len(events))
		}
		for i := range 100 {
			register(t, r, Registration{ServiceID: "a", Name: fmt.Sprint(i)})
		}
		register(t, r, Registration{ServiceID: "a", Name: "99"}) // no news
		if _, events, _ := r.History("a"); len(events) != maxHistory {
			t.Errorf("%d events are kept", len(events))
		}
		if _, _, known := r.History("nobody"); known {
			t.Error("somebody who never was is known")
		}
	})
}

func TestHistoryOfManyIsBounded(t *testing.T) {
	r := New(Options{})
	for i := range 3 * maxPast {
		register(t, r, Registration{ServiceID: fmt.Sprint("s", i)})
		leave(t, r, fmt.Sprint("s", i))
		register(t, r, Registration{ServiceID: "again and again"})
		leave(t, r, "again and again")
	}
	if len(r.past.byID) > maxPast || len(r.past.order) > maxPast {
		t.Errorf("%d of %d are kept", len(r.past.byID), len(r.past.order))
	}
	if _, _, known := r.History(fmt.Sprint("s", 3*maxPast-1)); !known {
		t.Error("the last one is forgotten")
	}
	if _, _, known := r.History("again and again"); !known {
		t.Error("one that keeps coming is forgotten")
	}
}

func TestLimits(t *testing.T) {
	many := make([]string, maxEntries+1)
	metadata := map[string]string{}
	for i := range many {
		metadata[fmt.Sprint(i)] = ""
	}
	r := New(Options{MaxServices: 3})
	for what, reg := range map[string]Registration{
		"event types": {Outputs: many}, "metadata": {Metadata: metadata},
		"one text": {Name: strings.Repeat("x", maxText+1)}, "key": {Metadata: map[string]string{strings.Repeat("x", maxText+1): ""}},
		"all texts": {Inputs: strings.Split(strings.Repeat(strings.Repeat("x", maxText)+",", 17), ",")},
	} {
		if _, err := r.Register(reg); err == nil || !strings.Contains(err.Error(), "registration too large") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range []string{"a", "b", "c"} {
		register(t, r, Registration{ServiceID: id})
	}
	if _, err := r.Register(Registration{ServiceID: "d"}); err == nil || !strings.Contains(err.Error(), "too many services: 3 are registered") {
		t.Errorf("the fourth: %v", err)
	}
	if _, err := r.Heartbeat("d", Beat{}); err == nil {
		t.Error("a fourth is adopted")
	}
	if _, err := r.Expect(Expected{ID: "mine"}); err != nil {
		t.Error(err)
	}
	register(t, r, Registration{ComponentID: "mine"}) // what is expected has its place
	metrics := map[string]float64{strings.Repeat("x", maxText+1): 1}
	for i := range 2 * maxMetrics {
		metrics[fmt.Sprintf("m%03d", i)] = 1
	}
	beat(t, r, "a", Beat{Metrics: metrics})
	if got := get(t, r, "a").Metrics; len(got) != maxMetrics || got["m000"] != 1 || got[fmt.Sprintf("m%03d", maxMetrics)] != 0 {
		t.Errorf("%d metrics: %v", len(got), got)
	}
}

// Where there is no room, who has been silent for longest makes it.
func TestRoomForNewOnes(t *testing.T) {
	bubble(t, Options{MaxServices: 2, ExpireAfter: time.Hour}, func(t *testing.T, r *Registry, _ *notes) {
		register(t, r, Registration{ServiceID: "old"})
		time.Sleep(time.Second)
		register(t, r, Registration{ServiceID: "older"})
		beat(t, r, "old", Beat{})
		time.Sleep(time.Minute)
		synctest.Wait()
		register(t, r, Registration{ServiceID: "new"})
		same(t, "list", ids(r.List(Filter{})), []string{"new", "old"})
	})
}

func TestForget(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, _ *notes) {
		for _, e := range []Expected{{ID: "p/a", Pipeline: "p", Component: "a"}, {ID: "p/never", Pipeline: "p"}, {ID: "p/dead", Pipeline: "p"}, {ID: "q/b", Pipeline: "q"}} {
			if _, err := r.Expect(e); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"p/a", "p/dead", "q/b"} {
			register(t, r, Registration{ComponentID: id})
		}
		if err := r.Exited("p/dead", "exited with code 1"); err != nil {
			t.Error(err)
		}
		if err := r.Forget("p"); err != nil {
			t.Error(err)
		}
		same(t, "list", ids(r.List(Filter{})), []string{"p/a", "p/dead", "q/b"})
		beat(t, r, "p/a", Beat{})
		if got := get(t, r, "p/a"); !got.Healthy || got.Pipeline != "p" || got.Component != "a" {
			t.Errorf("it lives on: %+v", got)
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		same(t, "list later", ids(r.List(Filter{})), []string{"q/b"})
	})
}

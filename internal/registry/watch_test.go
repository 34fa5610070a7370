package registry

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// seen is what a watcher has come to know.
type seen struct {
	services map[string]Service
	updates  int
	alls     int
}

// follow watches until the returned function is called, which returns what was seen.
func follow(t *testing.T, r *Registry, f Filter) (end func() seen) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan seen)
	go func() {
		s := seen{services: map[string]Service{}}
		for u := range r.Watch(ctx, f) {
			s.updates++
			if u.All {
				s.alls++
				clear(s.services)
			}
			for _, service := range u.Changed {
				s.services[service.ID] = service
			}
			for _, id := range u.Gone {
				if _, known := s.services[id]; !known {
					t.Errorf("%s is gone and was never there", id)
				}
				delete(s.services, id)
			}
		}
		done <- s
	}()
	return func() seen { cancel(); return <-done }
}

func TestWatch(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, r *Registry, _ *notes) {
		register(t, r, Registration{ServiceID: "early", Role: Source, Outputs: []string{"ledger"}})
		all := follow(t, r, Filter{})
		ledgers := follow(t, r, Filter{Produces: []string{"ledger"}})
		healthy := follow(t, r, Filter{Healthy: true})
		synctest.Wait()
		register(t, r, Registration{ServiceID: "late", Role: Sink})
		synctest.Wait()
		register(t, r, Registration{ServiceID: "early", Role: Source}) // no ledgers any more
		synctest.Wait()
		beat(t, r, "late", Beat{})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		leave(t, r, "early")
		synctest.Wait()
		got := all()
		if len(got.services) != 1 || got.services["late"].Tier != Critical || got.alls != 1 {
			t.Errorf("all: %+v", got)
		}
		if got := ledgers(); len(got.services) != 0 || got.updates != 2 {
			t.Errorf("ledgers: %+v", got)
		}
		if got := healthy(); len(got.services) != 0 {
			t.Errorf("healthy: %+v", got)
		}
	})
}

// Before anything has happened the first change is not missed.
func TestWatchOfAnEmptyRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{})
		end := follow(t, r, Filter{})
		synctest.Wait()
		register(t, r, Registration{ServiceID: "a"})
		synctest.Wait()
		if got := end(); len(got.services) != 1 || got.updates != 2 {
			t.Errorf("%+v", got)
		}
	})
}

// A watcher that is too slow is told of all there are, a few at a time.
func TestSlowWatcher(t *testing.T) {
	r := New(Options{})
	update, told := 0, 0
	for u := range r.Watch(t.Context(), Filter{}) {
		switch update++; update {
		case 1:
			for i := range fewChanges + 100 {
				register(t, r, Registration{ServiceID: fmt.Sprint("s", i%500)})
			}
		default:
			if u.All != (update == 2) || len(u.Changed) > atOnce {
				t.Errorf("update %d: all %v, %d changed", update, u.All, len(u.Changed))
			}
			if told += len(u.Changed); told == 500 {
				return
			}
		}
	}
}

func TestFilters(t *testing.T) {
	r := New(Options{})
	if _, err := r.Expect(Expected{ID: "p/src", Pipeline: "p", Component: "src"}); err != nil {
		t.Fatal(err)
	}
	register(t, r, Registration{ComponentID: "p/src", Role: Source, Outputs: []string{"ledger"}, Metadata: map[string]string{"network": "public", "zone": "a"}})
	register(t, r, Registration{ServiceID: "ttp", Role: Processor, Inputs: []string{"ledger"}, Outputs: []string{"transfer", "fee"}})
	register(t, r, Registration{ServiceID: "sink", Role: Sink, Inputs: []string{"transfer"}})
	beat(t, r, "sink", Beat{Reported: Unhealthy})
	for name, test := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":            {Filter{}, []string{"p/src", "sink", "ttp"}},
		"role":           {Filter{Role: Sink}, []string{"sink"}},
		"pipeline":       {Filter{Pipeline: "p"}, []string{"p/src"}},
		"produces":       {Filter{Produces: []string{"fee", "nothing"}}, []string{"ttp"}},
		"consumes":       {Filter{Consumes: []string{"ledger"}}, []string{"ttp"}},
		"either":         {Filter{Events: []string{"ledger"}}, []string{"p/src", "ttp"}},
		"metadata":       {Filter{Metadata: map[string]string{"network": "public"}}, []string{"p/src"}},
		"other metadata": {Filter{Metadata: map[string]string{"network": "public", "zone": "b"}}, nil},
		"healthy":        {Filter{Healthy: true}, []string{"p/src", "ttp"}},
		"the first":      {Filter{First: 2}, []string{"p/src", "sink"}},
		"the first sink": {Filter{First: 2, Role: Sink}, []string{"sink"}},
		"together":       {Filter{Healthy: true, Consumes: []string{"transfer"}}, nil},
	} {
		same(t, name, ids(r.List(test.filter)), test.want)
	}
}

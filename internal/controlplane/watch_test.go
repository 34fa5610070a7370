package controlplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// seen is what a watcher knows.
type seen struct {
	services map[string]*registryv1.Service
	all      int // how often it was told everything
}

// take takes over an answer.
func (s *seen) take(w *registryv1.WatchServicesResponse) {
	if w.GetAll() {
		s.all++
		s.services = make(map[string]*registryv1.Service)
	}
	for _, changed := range w.GetChanged() {
		s.services[changed.GetId()] = changed
	}
	for _, id := range w.GetGone() {
		delete(s.services, id)
	}
}

// wrong says in what it differs from what there is.
func (s *seen) wrong(there []registry.Service) string {
	if len(there) != len(s.services) {
		return fmt.Sprintf("it knows %d services of %d", len(s.services), len(there))
	}
	for _, want := range there {
		if got := s.services[want.ID]; got == nil || got.GetRevision() != want.Revision || got.GetHealthy() != want.Healthy || got.GetReported() != string(want.Reported) {
			return fmt.Sprintf("it knows %v, there is %+v", got, want)
		}
	}
	return ""
}

// churn changes services for a while: they come, say how they are, and go.
func churn(t *testing.T, r *registry.Registry, writer, rounds int) {
	for i := range rounds {
		id := fmt.Sprintf("s-%d-%d", writer, i%50)
		reg := registry.Registration{ServiceID: id, Role: registry.Source, Outputs: []string{"x"}, Description: fmt.Sprintf("%0500d", i)}
		if i%3 == 1 {
			reg.Role = registry.Sink
		}
		if _, err := r.Register(reg); err != nil {
			t.Error(err)
		}
		health := []registry.Health{registry.Healthy, registry.Unhealthy, registry.Degraded}[i%3]
		if _, err := r.Heartbeat(id, registry.Beat{Reported: health}); err != nil {
			t.Error(err)
		}
		if i%7 == 0 {
			if _, err := r.Deregister(id); err != nil {
				t.Error(err)
			}
		}
	}
}

// Whoever watches knows in the end what there is, without a gap, however slowly it
// reads; and nobody who writes waits for it.
func TestWatchOverTheWire(t *testing.T) {
	o := open(t, Options{})
	for name, test := range map[string]struct {
		filter registry.Filter
		reads  time.Duration // each
	}{
		"a quick one": {}, "one that is as slow as it can be": {reads: 20 * time.Millisecond}, "one with a filter": {filter: registry.Filter{Role: registry.Sink}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := registryv1.NewRegistryServiceClient(o.client(Target{}).conn).WatchServices(ctx,
				&registryv1.WatchServicesRequest{Filter: filterToWire(test.filter)}, grpc.MaxCallRecvMsgSize(maxAnswer))
			if err != nil {
				t.Fatal(err)
			}
			var known seen
			first, err := stream.Recv()
			if err != nil || !first.GetAll() {
				t.Fatalf("%v, %v", first, err)
			}
			known.take(first)
			began := time.Now()
			var writers sync.WaitGroup
			for w := range 4 {
				writers.Go(func() { churn(t, o.registry, w, 3000) })
			}
			writers.Wait()
			wrote := time.Since(began)
			// What comes last is told last.
			if _, err := o.registry.Register(registry.Registration{ServiceID: "last", Role: registry.Sink}); err != nil {
				t.Fatal(err)
			}
			for known.services["last"] == nil {
				if test.reads > 0 {
					<-time.After(test.reads)
				}
				next, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				known.take(next)
			}
			if text := known.wrong(o.registry.List(test.filter)); text != "" {
				t.Error(text)
			}
			t.Logf("12000 rounds written in %s; told everything %d times", wrote, known.all)
			if _, err := o.registry.Deregister("last"); err != nil {
				t.Fatal(err)
			}
			for known.services["last"] != nil {
				next, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				known.take(next)
			}
		})
	}
}

// Metrics are sent to those who want them, and make no mess of the changes.
func TestWatchWithMetrics(t *testing.T) {
	o := open(t, Options{})
	if _, err := o.registry.Register(registry.Registration{ServiceID: "src"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	changes := make(chan Change)
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = o.client(Target{}).Watch(ctx, registry.Filter{}, true, func(c Change) {
			select {
			case changes <- c:
			case <-ctx.Done():
			}
		})
	})
	next := 0.0
	for deadline := time.After(patience); ; {
		select {
		case c := <-changes:
			for _, s := range c.Changed {
				if s.Metrics["n"] == next && next == 3 {
					cancel()
					watching.Wait()
					return
				}
				if s.Metrics["n"] == next { // it has been told: the next one
					next++
					if _, err := o.registry.Heartbeat("src", registry.Beat{Metrics: map[string]float64{"n": next}}); err != nil {
						t.Fatal(err)
					}
				}
			}
		case <-deadline:
			t.Fatalf("the metrics of heartbeat %v are not told", next)
		}
	}
}

// Who does not read at all holds up neither the registry nor the end of the server.
func TestWatchersThatDoNotRead(t *testing.T) {
	o := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := registryv1.NewRegistryServiceClient(o.client(Target{}).conn)
	for i := range 40 {
		if _, err := client.WatchServices(ctx, &registryv1.WatchServicesRequest{Metrics: i%2 == 0}); err != nil {
			t.Fatal(err)
		}
	}
	churn(t, o.registry, 0, 5000)
	if list, err := o.client(Target{}).List(t.Context(), registry.Filter{}); err != nil || len(list) == 0 {
		t.Errorf("%d services: %v", len(list), err)
	}
	began := time.Now()
	o.stop()
	if took := time.Since(began); took > stopGrace+patience/3 {
		t.Errorf("stop took %s", took)
	}
}

// There may be many who watch, and not more: each costs memory.
func TestManyWatchers(t *testing.T) {
	o := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const more = 52 // than may watch
	open, refused := 0, 0
	for range (maxWatches + more) / 100 {
		client := registryv1.NewRegistryServiceClient(o.client(Target{}).conn)
		for range 100 {
			stream, err := client.WatchServices(ctx, &registryv1.WatchServicesRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			switch status.Code(err) {
			case codes.OK:
				open++
			case codes.ResourceExhausted:
				refused++
			default:
				t.Fatal(err)
			}
		}
	}
	if open != maxWatches || refused != more {
		t.Errorf("%d watch, %d were refused", open, refused)
	}
	o.stop()
}

// A watch ends with the server, and says so.
func TestWatchEndsWithTheServer(t *testing.T) {
	o := open(t, Options{})
	first := make(chan struct{})
	ended := make(chan error, 1)
	client := o.client(Target{})
	go func() {
		ended <- client.Watch(context.Background(), registry.Filter{}, false, func(Change) { close(first) })
	}()
	<-first
	o.stop()
	if err := <-ended; err == nil {
		t.Error("the watch has ended without a reason")
	}
}

// List and describe show what there is, and what there was.
func TestListAndDescribeOverTheWire(t *testing.T) {
	o := open(t, Options{})
	for _, reg := range []registry.Registration{
		{ServiceID: "src", Role: registry.Source, Outputs: []string{"ledger"}, Metadata: map[string]string{"network": "public"}},
		{ServiceID: "snk", Role: registry.Sink, Inputs: []string{"ledger"}},
	} {
		if _, err := o.registry.Register(reg); err != nil {
			t.Fatal(err)
		}
	}
	client := o.client(Target{})
	for want, filter := range map[string]registry.Filter{
		"[snk src]": {}, "[src]": {Produces: []string{"other", "ledger"}}, "[snk]": {Consumes: []string{"ledger"}},
		"[]": {Metadata: map[string]string{"network": "test"}},
	} {
		list, err := client.List(t.Context(), filter)
		ids := map[string]bool{}
		for _, s := range list {
			ids[s.ID] = true
		}
		if got := fmt.Sprint(slices.Sorted(maps.Keys(ids))); err != nil || got != want {
			t.Errorf("%+v: %s, %v, want %s", filter, got, err, want)
		}
	}
	d, err := client.Describe(t.Context(), "src")
	if err != nil || d.Gone || d.Metadata["network"] != "public" || len(d.History) != 1 || d.History[0].Text != "registered as source" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := o.registry.Deregister("src"); err != nil {
		t.Fatal(err)
	}
	if d, err = client.Describe(t.Context(), "src"); err != nil || !d.Gone || len(d.History) != 2 {
		t.Errorf("after it has left: %+v, %v", d, err)
	}
	if _, err := client.Describe(t.Context(), "nobody"); err == nil || err.Error() != "no such service: nobody" {
		t.Errorf("%v", err)
	}
	_, err = registryv1.NewRegistryServiceClient(client.conn).DescribeService(t.Context(), &registryv1.DescribeServiceRequest{})
	wantCode(t, "a description of nobody", err, codes.NotFound)
}

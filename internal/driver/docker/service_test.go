package docker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// serviceOf is a service that runs the test program, in a network of its own, with a
// label that nothing else carries. Nothing of it may be left.
func serviceOf(t *testing.T, e *Engine, args ...string) (s Service, label string) {
	t.Helper()
	name := "flowctl-" + newRun()
	s = Service{
		Name: name, Labels: map[string]string{"flowctl.servicetest": name}, Command: append([]string{"/component"}, args...),
		Container: driver.Container{Image: image(t), Names: []string{"service"}}, StopGrace: 10 * time.Second,
	}
	label = "flowctl.servicetest=" + name
	var err error
	if s.Network, err = e.ServiceNetwork(t.Context(), name, label, s.Labels); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		left, err := e.Services(ctx, label)
		if err != nil {
			t.Error(err)
		}
		for _, r := range left {
			if err := e.StopService(ctx, r.ID); err != nil {
				t.Error(err)
			}
		}
		if n, err := e.RemoveNetworks(ctx, label); err != nil || n != 1 {
			t.Errorf("%d networks were removed, want 1 (%v)", n, err)
		}
	})
	return s, label
}

// started makes and starts a service.
func started(t *testing.T, e *Engine, s Service) string {
	t.Helper()
	id, err := e.MakeService(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.StartService(t.Context(), id, "service", s.Container); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestServiceIsFoundAsItWasMade(t *testing.T) {
	e := engine(t)
	s, label := serviceOf(t, e, "serve", "80")
	s.Ports = []driver.Port{{Container: 80, Host: 0, Protocol: "tcp"}}
	for _, labels := range []map[string]string{s.Labels, {"another": "one"}} { // the second time it is there
		found, err := e.MakeVolume(t.Context(), s.Name, labels)
		if diff := cmp.Diff(s.Labels, found); diff != "" || err != nil {
			t.Fatalf("labels: %s (%v)", diff, err)
		}
	}
	s.Volumes = []driver.Volume{{Source: s.Name, Target: "/data"}}
	id := started(t, e, s)
	found, err := e.Services(t.Context(), label)
	if err != nil || len(found) != 1 {
		t.Fatalf("%+v, %v; want one", found, err)
	}
	r := found[0]
	if r.ID != id || r.Name != s.Name || r.State != "running" || r.Image != s.Image || !strings.HasPrefix(r.ImageID, "sha256:") ||
		r.Started.IsZero() || !r.Ended.IsZero() || !slices.Contains(r.Volumes, s.Name) {
		t.Errorf("found %+v", r)
	}
	inspected, err := e.client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// An engine keeps everything for ever unless it is told not to.
	logs := inspected.Container.HostConfig.LogConfig
	if diff := cmp.Diff(map[string]string{"max-size": logSize, "max-file": logFiles}, logs.Config); diff != "" || logs.Type != "json-file" {
		t.Errorf("what it prints is kept as %+v: %s", logs, diff)
	}
	if err := e.StopService(t.Context(), id); err != nil {
		t.Error(err)
	}
	if err := e.StopService(t.Context(), id); err != nil {
		t.Errorf("the second stop: %v", err)
	}
	for _, want := range [][]Volume{{{s.Name, s.Labels}}, nil} {
		volumes, err := e.Volumes(t.Context(), label)
		if diff := cmp.Diff(want, volumes); diff != "" || err != nil {
			t.Errorf("volumes: %s (%v)", diff, err)
		}
		if err := e.RemoveVolume(t.Context(), s.Name); err != nil {
			t.Error(err)
		}
	}
}

// Runs and services know nothing of each other.
func TestServicesAreNoLeftovers(t *testing.T) {
	e := engine(t)
	s, _ := serviceOf(t, e, "serve", "80")
	id := started(t, e, s)
	left, err := e.Leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if l.Run == "" || strings.Contains(s.Name, l.Run) {
			t.Errorf("the service is taken for a run's: %+v", l)
		}
	}
	if err := e.Sweep(t.Context(), s.Name); err != nil {
		t.Error(err)
	}
	if r, err := e.Service(t.Context(), id); err != nil || r.State != "running" {
		t.Errorf("after a sweep: %+v, %v", r, err)
	}
	s.Labels = map[string]string{labelRun: "x"}
	if _, err := e.MakeService(t.Context(), s); err == nil || !strings.Contains(err.Error(), "is for runs") {
		t.Errorf("a service with the label of a run: %v", err)
	}
}

// Of several who make a network or a container at once one does, and the others see it.
func TestServicesMadeAtOnce(t *testing.T) {
	e := engine(t)
	s, label := serviceOf(t, e, "serve", "80")
	if _, err := e.RemoveNetworks(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	const many = 5
	networks, ids := make([]string, many), make([]string, many)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			mine := s
			var err error
			if mine.Network, err = e.ServiceNetwork(t.Context(), s.Name, label, s.Labels); err != nil {
				t.Error(err)
				return
			}
			id, err := e.MakeService(t.Context(), mine)
			if errors.Is(err, ErrExists) {
				var r Resident
				r, err = e.NamedService(t.Context(), s.Name)
				id = r.ID
			}
			if err == nil {
				err = e.StartService(t.Context(), id, "service", s.Container)
			}
			if err != nil {
				t.Error(err)
			}
			networks[i], ids[i] = mine.Network, id
		})
	}
	all.Wait()
	if n, c := slices.Compact(networks), slices.Compact(ids); len(n) != 1 || len(c) != 1 {
		t.Errorf("networks %v, containers %v; want one of each", n, c)
	}
}

// What never comes is given up.
func TestNamedServiceThatDoesNotCome(t *testing.T) {
	e := engine(t)
	impatient := *e
	impatient.patience = 50 * time.Millisecond
	_, err := impatient.NamedService(t.Context(), "flowctl-"+newRun())
	if err == nil || !strings.Contains(err.Error(), "has not come") {
		t.Errorf("the error is %v", err)
	}
}

func TestServiceTakenPort(t *testing.T) {
	e := engine(t)
	s, _ := serviceOf(t, e, "serve", "80")
	s.Ports = []driver.Port{{Container: 80, Host: freePort(t), Protocol: "tcp"}}
	id := started(t, e, s)
	second, _ := serviceOf(t, e, "serve", "80")
	second.Ports = s.Ports
	other, err := e.MakeService(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	err = e.StartService(t.Context(), other, "second", second.Container)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "container "+s.Name+" publishes it") {
		t.Errorf("the error is %v", err)
	}
	if got := e.Publisher(t.Context(), s.Ports[0].Host); got != "container "+s.Name {
		t.Errorf("Publisher says %q, want %s", got, s.Name)
	}
	if err := e.StopService(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := e.Publisher(t.Context(), s.Ports[0].Host); got != "" {
		t.Errorf("Publisher says %q, want nobody", got)
	}
}

func TestServiceLogs(t *testing.T) {
	e := engine(t)
	s, _ := serviceOf(t, e, "both", "3")
	id := started(t, e, s)
	exit, err := e.AwaitService(t.Context(), id)
	if err != nil || !exit.Success() {
		t.Errorf("it %v, %v; want code 0", exit, err)
	}
	ended := time.Now()
	for _, test := range []struct {
		opts LogOptions
		want map[string]string
	}{
		{LogOptions{Tail: -1, Follow: true}, map[string]string{"stdout": "out 0\nout 1\nout 2\n", "stderr": "err 0\nerr 1\nerr 2\n"}},
		{LogOptions{Tail: -1, Since: ended.Add(time.Minute)}, map[string]string{}},
		{LogOptions{Tail: 0}, map[string]string{}},
	} {
		got := map[string]string{}
		err := e.ServiceLogs(t.Context(), id, test.opts, func(p Piece) error {
			if p.At.IsZero() || p.At.After(ended) {
				t.Errorf("%q was printed at %s", p.Text, p.At)
			}
			got[p.Stream] += string(p.Text)
			return nil
		})
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%+v: %s (%v)", test.opts, diff, err)
		}
	}
	refused := errors.New("enough")
	if err := e.ServiceLogs(t.Context(), id, LogOptions{Tail: -1}, func(Piece) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("the error is %v, want the one of who reads", err)
	}
}

func TestHost(t *testing.T) {
	for host, want := range map[string]string{"tcp://db.example:2375": "db.example", "unix:///x": "localhost", "tcp://[::1]:1": "::1"} {
		e, err := Connect(func(name string) string { return map[string]string{"DOCKER_HOST": host}[name] })
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Host(); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
		e.Close()
	}
}

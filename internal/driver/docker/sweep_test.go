package docker

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver/drivertest"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Sweep removes what a run has, whatever it does, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	dead, alive := open(t), open(t)
	running := drivertest.Start(t, dead, component(t, "untouched"))
	deaf := component(t)
	deaf.Env = []string{"DRIVERTEST_BEHAVIOUR=deaf"}
	ignorant := drivertest.Start(t, dead, deaf)
	other := drivertest.Start(t, alive, component(t, "untouched"))
	for _, a := range []*drivertest.Attempt{running, ignorant, other} {
		a.Stdout.Await(t, "up\n", soon)
	}
	// A container of somebody else that has joined the network, and whose image was
	// made of a container of the run.
	guest, err := dead.client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name:   "flowctl-test-guest-" + strings.ToLower(rand.Text()[:8]),
		Config: &container.Config{Image: image(t), Cmd: []string{"/component", "untouched"}, Labels: dead.labels()}, HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(dead.network.ID)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, err := dead.client.ContainerRemove(t.Context(), guest.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil {
			t.Error(err)
		}
	}()
	if _, err := dead.client.ContainerStart(t.Context(), guest.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}

	left, err := dead.Leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	host := dead.labels()[labelHost]
	want := map[string]Leftover{
		dead.opts.Run:  {Run: dead.opts.Run, Pipeline: "test", Host: host, Containers: 2, Networks: 1},
		alive.opts.Run: {Run: alive.opts.Run, Pipeline: "test", Host: host, Containers: 1, Networks: 1},
	}
	got := make(map[string]Leftover)
	for _, l := range left { // there may be more, of others
		if _, ours := want[l.Run]; ours {
			got[l.Run] = l
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	if err := dead.Sweep(t.Context(), dead.opts.Run); err != nil {
		t.Fatal(err)
	}
	if containers, networks, err := dead.find(t.Context(), labelRun+"="+dead.opts.Run); err != nil || len(containers)+len(networks) > 0 {
		t.Errorf("%v and %v are left (%v)", containers, networks, err)
	}
	<-running.Done
	<-ignorant.Done
	select {
	case <-other.Done:
		t.Errorf("a container of another run has ended: %+v, %v", other.Exit, other.Err)
	default:
	}
	if c, err := dead.client.ContainerInspect(t.Context(), guest.ID, client.ContainerInspectOptions{}); err != nil || !c.Container.State.Running {
		t.Errorf("the guest does not run any more (%v)", err)
	}
}

// A request may be under way when flowctl is killed.
func TestSweepFindsWhatIsBeingMade(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := component(t, "untouched")
	made := make(chan error, 1)
	swept := make(chan error, 1)
	go func() { swept <- d.Sweep(t.Context(), d.opts.Run) }()
	go func() {
		<-time.After(late / 2)
		a := &attempt{Driver: d, spec: spec}
		options, err := a.options()
		if err == nil {
			options.HostConfig.NetworkMode = "none" // the network is gone
			options.NetworkingConfig = nil
			_, err = d.client.ContainerCreate(t.Context(), options)
		}
		made <- err
	}()
	if err := errors.Join(<-made, <-swept); err != nil {
		t.Fatal(err)
	}
	if containers, _, err := d.find(t.Context(), labelRun+"="+d.opts.Run); err != nil || len(containers) > 0 {
		t.Errorf("%v are left (%v)", containers, err)
	}
}

func TestSweepOfNothing(t *testing.T) {
	t.Parallel()
	e := engine(t)
	begin := time.Now()
	if err := e.Sweep(t.Context(), "never-was"); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > late {
		t.Errorf("it looked twice: %v", d)
	}
	if err := e.Sweep(t.Context(), ""); err == nil {
		t.Error("a run without an id was swept")
	}
}

func TestSweepWithoutEngine(t *testing.T) {
	t.Parallel()
	e, p := through(t, nil)
	p.cut()
	if err := e.Sweep(t.Context(), "some-run"); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "some-run") {
		t.Errorf("got %v", err)
	}
	if _, err := e.Leftovers(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	p.resume(t)
}

func TestCarries(t *testing.T) {
	labels := map[string]string{"flowctl.run": "a-1", "other": "flowctl.run"}
	for label, want := range map[string]bool{
		"flowctl.run": true, "flowctl.run=a-1": true, "flowctl.run=a-12": false, "flowctl.run=": false, "flowctl": false,
	} {
		if got := carries(labels, label); got != want {
			t.Errorf("%s: %v", label, got)
		}
	}
}

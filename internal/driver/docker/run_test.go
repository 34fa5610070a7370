package docker

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

func TestRefAndLabels(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := component(t, "untouched")
	spec.Component = "my_comp.1-x"
	spec.Container.CPUs, spec.Container.Memory, spec.Container.User = 0.5, 64<<20, "1234"
	a := drivertest.Start(t, d, spec, func(att *driver.Attempt) { att.Number = 3 })
	ref := <-a.Ref
	c, err := d.client.ContainerInspect(t.Context(), ref.Container, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := c.Container
	if want := "/flowctl-" + d.opts.Run + "-my_comp.1-x-3"; found.Name != want {
		t.Errorf("its name is %s, want %s", found.Name, want)
	}
	for label, want := range map[string]string{
		labelPipeline: "test", labelRun: d.opts.Run, labelComponent: "my_comp.1-x", labelAttempt: "3",
	} {
		if got := found.Config.Labels[label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
	if ref.PID != found.State.Pid || ref.PID == 0 || ref.Image != spec.Container.Image || ref.Digest != found.Image || !strings.HasPrefix(ref.Digest, "sha256:") {
		t.Errorf("the reference is %+v, the container has pid %d and image %s", ref, found.State.Pid, found.Image)
	}
	h := found.HostConfig
	if h.NanoCPUs != 500_000_000 || h.Memory != 64<<20 || h.RestartPolicy.Name != "no" || found.Config.User != "1234" {
		t.Errorf("limits, policy and user are %d, %d, %s, %s", h.NanoCPUs, h.Memory, h.RestartPolicy.Name, found.Config.User)
	}
	a.Stdout.Await(t, "up\n", soon)
	a.Cancel()
	if exit := a.Wait(t, soon); exit != (driver.Exit{Code: -1, Signal: syscall.SIGTERM}) {
		t.Errorf("a program that does not handle SIGTERM: %+v", exit)
	}
	if _, err := d.client.ContainerInspect(t.Context(), ref.Container, client.ContainerInspectOptions{}); !cerrdefs.IsNotFound(err) {
		t.Errorf("after Run its container is still there (%v)", err)
	}
}

func TestOutputIsComplete(t *testing.T) {
	t.Parallel()
	d := open(t)
	t.Run("a burst of 100 MB", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, component(t, "burst", "100000000"))
		a.Wait(t, 2*time.Minute)
		if got, want := len(a.Stdout.String()), 833334*120; got != want || !strings.HasSuffix(a.Stdout.String(), "xx\n") {
			t.Errorf("%d bytes came, want %d", got, want)
		}
	})
	t.Run("both streams", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, component(t, "both", "5000"))
		a.Wait(t, soon)
		var out, errs strings.Builder
		for i := range 5000 {
			fmt.Fprintln(&out, "out", i)
			fmt.Fprintln(&errs, "err", i)
		}
		if a.Stdout.String() != out.String() || a.Stderr.String() != errs.String() {
			t.Errorf("%d and %d bytes came, want %d and %d", len(a.Stdout.String()), len(a.Stderr.String()), out.Len(), errs.Len())
		}
	})
	t.Run("a program that has ended before Started returns", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, component(t, "burst", "12000000"), func(att *driver.Attempt) {
			att.Started = func(ref driver.Ref) { awaitEnd(t, d, ref) }
		})
		if a.Wait(t, soon); len(a.Stdout.String()) != 12000000 {
			t.Errorf("%d bytes came", len(a.Stdout.String()))
		}
	})
	t.Run("programs that end at once", func(t *testing.T) {
		t.Parallel()
		for range 5 {
			a := drivertest.Start(t, d, component(t, "both", "1"))
			a.Wait(t, soon)
			if a.Stdout.String() != "out 0\n" || a.Stderr.String() != "err 0\n" {
				t.Errorf("printed %q and %q", a.Stdout, a.Stderr)
			}
		}
	})
	// The engine throws away what has not been taken two seconds after the end: all of
	// it must have been taken while the writer takes nothing.
	t.Run("a writer that stalls", func(t *testing.T) {
		t.Parallel()
		const size = 6_000_000 // more than the engine holds
		output := &gated{open: make(chan struct{})}
		a := drivertest.Start(t, d, component(t, "burst", strconv.Itoa(size)), func(att *driver.Attempt) { att.Stdout = output })
		awaitEnd(t, d, <-a.Ref)
		close(output.open)
		if a.Wait(t, soon); output.taken != size {
			t.Errorf("%d bytes came, want %d", output.taken, size)
		}
	})
}

// awaitEnd waits until the engine says that a container has ended.
func awaitEnd(t *testing.T, d *Driver, ref driver.Ref) {
	t.Helper()
	ended := d.client.ContainerWait(t.Context(), ref.Container, client.ContainerWaitOptions{})
	select {
	case <-ended.Result:
	case err := <-ended.Error:
		t.Error(err)
	case <-time.After(soon):
		t.Error("it has not ended: its output is not taken")
	}
}

// gated is a writer that takes nothing until it is open.
type gated struct {
	open  chan struct{}
	taken int
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.open
	g.taken += len(p)
	return len(p), nil
}

func TestExits(t *testing.T) {
	t.Parallel()
	d := open(t)
	behave := func(t *testing.T, behaviour string) driver.Spec {
		spec := component(t)
		spec.Env = []string{"DRIVERTEST_BEHAVIOUR=" + behaviour}
		return spec
	}
	t.Run("a code that looks like a stop signal", func(t *testing.T) {
		t.Parallel()
		if exit := drivertest.Start(t, d, behave(t, "exit 143")).Wait(t, soon); exit != (driver.Exit{Code: 143}) {
			t.Errorf("got %+v", exit)
		}
	})
	t.Run("a stop signal of somebody else", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, component(t, "untouched"))
		a.Stdout.Await(t, "up\n", soon)
		if _, err := d.client.ContainerKill(t.Context(), (<-a.Ref).Container, client.ContainerKillOptions{Signal: "TERM"}); err != nil {
			t.Fatal(err)
		}
		if exit := a.Wait(t, soon); exit != (driver.Exit{Code: -1, Signal: syscall.SIGTERM}) {
			t.Errorf("got %+v", exit)
		}
	})
	t.Run("removed by somebody else", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, component(t, "untouched"))
		if _, err := d.client.ContainerRemove(t.Context(), (<-a.Ref).Container, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Fatal(err)
		}
		if exit := a.Wait(t, soon); exit != (driver.Exit{Code: -1, Signal: syscall.SIGKILL}) {
			t.Errorf("got %+v", exit)
		}
	})
	t.Run("out of memory", func(t *testing.T) {
		t.Parallel()
		spec := component(t, "eat")
		spec.Container.Memory = 32 << 20
		if exit := drivertest.Start(t, d, spec).Wait(t, soon); exit != (driver.Exit{Code: -1, Signal: syscall.SIGKILL, OutOfMemory: true}) {
			t.Errorf("got %+v", exit)
		}
	})
	t.Run("paused by somebody else and stopped", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, behave(t, "polite"))
		a.Stdout.Await(t, "up\n", soon)
		if _, err := d.client.ContainerPause(t.Context(), (<-a.Ref).Container, client.ContainerPauseOptions{}); err != nil {
			t.Fatal(err)
		}
		a.Cancel()
		if exit := a.Wait(t, soon); exit.Code != 7 || exit.Forced {
			t.Errorf("got %+v", exit)
		}
	})
	t.Run("kill before the stop", func(t *testing.T) {
		t.Parallel()
		a := drivertest.Start(t, d, behave(t, "deaf"))
		a.Stdout.Await(t, "up\n", soon)
		close(a.Kill)
		a.Cancel()
		if exit := a.Wait(t, soon); !exit.Forced || exit.OutOfMemory {
			t.Errorf("got %+v", exit)
		}
	})
}

func TestProgramsThatCannotRun(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, test := range []struct {
		name string
		args []string
		want error
	}{
		{"no such path", []string{"/nowhere/component"}, os.ErrNotExist},
		{"no such name on the PATH", []string{"nowhere"}, os.ErrNotExist},
		{"no program", []string{"/plain"}, os.ErrPermission},
		{"a folder", []string{"/data"}, os.ErrPermission},
		{"a program that says so of another", nil, nil},
	} {
		for _, init := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, init %v", test.name, init), func(t *testing.T) {
				t.Parallel()
				spec := component(t)
				spec.Args = test.args
				if test.args == nil {
					spec = component(t)
					spec.Env = []string{"DRIVERTEST_BEHAVIOUR=exit 127"}
				}
				a := drivertest.Start(t, without(d, init), spec)
				<-a.Done
				switch {
				case test.want == nil && (a.Err != nil || a.Exit.Code != 127):
					t.Errorf("got %+v, %v; want code 127", a.Exit, a.Err)
				case test.want != nil && (!errors.Is(a.Err, test.want) || !strings.Contains(a.Err.Error(), test.args[0])):
					t.Errorf("got %+v, %v; want %v", a.Exit, a.Err, test.want)
				}
			})
		}
	}
}

// without returns the driver with or without the engine's init.
func without(d *Driver, init bool) *Driver {
	other := New(d.opts)
	other.network = d.network
	other.network.Init = other.network.Init && init
	return other
}

// Without the engine's init a program is process 1.
func TestNoInit(t *testing.T) {
	t.Parallel()
	d := open(t)
	if !d.network.Init {
		needs(t, "an engine with an init")
	}
	for _, init := range []bool{true, false} {
		identify := drivertest.Start(t, without(d, init), component(t, "identify"))
		identify.Wait(t, soon)
		if first := strings.HasSuffix(identify.Stdout.String(), "process 1\n"); first == init {
			t.Errorf("with init %v it is %q", init, identify.Stdout)
		}
	}
	spec := component(t)
	spec.Env = []string{"DRIVERTEST_BEHAVIOUR=polite"}
	a := drivertest.Start(t, without(d, false), spec)
	a.Stdout.Await(t, "up\n", soon)
	a.Cancel()
	if exit := a.Wait(t, soon); exit != (driver.Exit{Code: 7}) {
		t.Errorf("got %+v", exit)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	d := open(t)
	var attempts []*drivertest.Attempt
	for range 30 {
		attempts = append(attempts, drivertest.Start(t, d, component(t, "untouched")))
	}
	for i, a := range attempts {
		a.Stdout.Await(t, "up\n", 2*time.Minute)
		if i%3 == 0 {
			close(a.Kill)
		}
	}
	for _, a := range attempts {
		a.Cancel()
	}
	for _, a := range attempts {
		if exit := a.Wait(t, 2*time.Minute); exit.Signal == 0 {
			t.Errorf("got %+v", exit)
		}
	}
}

// A component's next attempt does not wait until the last one has been removed.
func TestNextAttemptDuringRemoval(t *testing.T) {
	t.Parallel()
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e, _ := through(t, func(request string) bool {
		if strings.HasPrefix(request, "DELETE /v") && strings.Contains(request, "/containers/") {
			once.Do(func() { close(held); <-release })
		}
		return true
	})
	d := openOn(t, e)
	spec := component(t, "untouched")
	first := drivertest.Start(t, d, spec)
	first.Stdout.Await(t, "up\n", soon)
	first.Cancel()
	<-held
	second := drivertest.Start(t, d, spec, func(att *driver.Attempt) { att.Number = 2 })
	second.Stdout.Await(t, "up\n", soon)
	close(release)
	first.Wait(t, soon)
}

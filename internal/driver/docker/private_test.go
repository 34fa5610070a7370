//go:build linux

package docker

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker/dockertest"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

// An engine that is stopped, or killed, in the middle of a run.
func TestEngineEnds(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			own := dockertest.Start(t)
			e, err := Connect(environment(map[string]string{"DOCKER_HOST": own.Socket()}))
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if err := build(t.Context(), e, "component", t.TempDir()); err != nil {
				t.Fatal(err)
			}
			d := New(Options{Engine: e, Pipeline: "test", Run: "test-own"})
			if _, err := d.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			spec := driver.Spec{
				Component: "victim", Args: []string{"/component", "untouched"}, StopGrace: 10 * time.Second,
				Container: &driver.Container{Image: "component"},
			}
			a := drivertest.Start(t, d, spec)
			a.Stdout.Await(t, "up\n", soon)
			own.End(signal)
			<-a.Done
			if !errors.Is(a.Err, driver.ErrUnavailable) || !strings.Contains(a.Err.Error(), "victim") {
				t.Errorf("got %+v, %v", a.Exit, a.Err)
			}
			own.Start(t)
			again := drivertest.Start(t, d, spec, func(att *driver.Attempt) { att.Number = 2 })
			again.Stdout.Await(t, "up\n", soon)
			containers, _, err := d.find(t.Context(), labelRun+"=test-own")
			if err != nil || len(containers) != 1 || containers[0].labels[labelAttempt] != "2" {
				t.Errorf("when it is back there are %v, %v; want the second attempt's", containers, err)
			}
			again.Cancel()
			again.Wait(t, soon)
			if err := d.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// An engine whose networks are not this machine's: a virtual machine, a rootless one.
func TestEngineElsewhere(t *testing.T) {
	own := dockertest.Start(t)
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": own.Socket()}))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := New(Options{Engine: e, Pipeline: "test", Run: "test-elsewhere"})
	n, err := d.Open(t.Context())
	if err != nil || n.Gateway.IsValid() || n.Host != "host.docker.internal" {
		t.Errorf("the network is %+v, %v", n, err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

//go:build linux

package docker

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker/dockertest"
)

// When an engine is started anew, what is always to run does, and the rest is found as
// it ended, with what it had printed.
func TestServicesAfterTheEngineWasStartedAnew(t *testing.T) {
	own := dockertest.Start(t)
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": own.Socket()}))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := build(t.Context(), e, "component", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	const label = "flowctl.servicetest=anew"
	labels := map[string]string{"flowctl.servicetest": "anew"}
	network, err := e.ServiceNetwork(t.Context(), "anew", label, labels)
	if err != nil {
		t.Fatal(err)
	}
	for _, restart := range []string{"always", "no"} {
		started(t, e, Service{
			Name: restart, Labels: labels, Network: network, Restart: restart, StopGrace: 10 * time.Second,
			Container: driver.Container{Image: "component"}, Command: []string{"/component", "serve", "80"},
		})
	}
	own.End(syscall.SIGTERM)
	if _, err := e.Services(t.Context(), label); err == nil || !strings.Contains(err.Error(), driver.ErrUnavailable.Error()) {
		t.Errorf("of an engine that is away the error is %v", err)
	}
	own.Start(t)
	if again, err := e.ServiceNetwork(t.Context(), "anew", label, labels); again != network || err != nil {
		t.Errorf("its network is %s (%v), want %s", again, err, network)
	}
	found, err := e.Services(t.Context(), label)
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v; want two", found, err)
	}
	for i, want := range []string{"running", "exited"} { // always, no
		if found[i].State != want {
			t.Errorf("%s is %s, want %s", found[i].Name, found[i].State, want)
		}
		if err := e.StopService(context.Background(), found[i].ID); err != nil {
			t.Error(err)
		}
	}
}

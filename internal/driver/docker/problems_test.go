package docker

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// What engines of several ages say of a port that is taken.
func TestTakenPort(t *testing.T) {
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": "unix:///no/such.sock"}))
	if err != nil {
		t.Fatal(err)
	}
	a := &attempt{
		Driver: New(Options{Engine: e}),
		spec:   driver.Spec{Component: "sink", Container: &driver.Container{Ports: []driver.Port{{Host: 80}, {Host: 8080, Address: "::1"}}}},
	}
	for said, want := range map[string]string{
		"driver failed programming external connectivity on endpoint x (4e8080): Error starting userland proxy: listen tcp6 [::1]:8080: bind: address already in use": "a program on the engine's machine",
		"driver failed programming external connectivity on endpoint x (4e80): Bind for :::8080 failed: port is already allocated":                                    "another container",
		"failed to set up container networking: driver failed programming: failed to bind host port [::1]:8080:172.18.0.2:80/tcp: address already in use":             "a program on the engine's machine",
		"no such network": "",
	} {
		err := a.startProblem(t.Context(), errors.New(said))
		if want == "" {
			if errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%q: %v", said, err)
			}
		} else if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "port [::1]:8080: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", said, err, want)
		}
	}
}

// What the engine warns of is told, once for a component.
func TestWarnings(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/create") {
			_, _ = w.Write([]byte(`{"Id": "made", "Warnings": ["no limit here"]}`))
		}
	}))
	defer server.Close()
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": "tcp://" + server.Listener.Addr().String()}))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	said := &told{}
	d := New(Options{Engine: e, Notice: said.tell})
	for number := range 3 {
		a := &attempt{Driver: d, Attempt: driver.Attempt{Number: number + 1}, spec: of("sink", "image", driver.PullMissing)}
		if err := a.create(t.Context()); err != nil || a.id != "made" {
			t.Errorf("got %q, %v", a.id, err)
		}
	}
	if said.String() != "sink: no limit here" {
		t.Errorf("told %q", said)
	}
}

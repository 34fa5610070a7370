//go:build linux

package secure_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/e2e/site"
)

// Two pipelines share a server. When that is killed and started anew they go on,
// nothing is restarted, and all is known again.
func TestSharedServer(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	server := []string{"server", "--port", strconv.Itoa(site.FreePort(t)), "--auth", "required", "--heartbeat-ttl", "3s", "--janitor-interval", "500ms"}
	p := s.Start(server...)
	endpoint := p.Await(listening)[1]
	join := []string{"--control-plane", endpoint, "--token-file", s.State("flowctl/control-plane.token")}
	ask := []string{"--endpoint", endpoint, "--token-file", s.State("flowctl/control-plane.token")}
	first, second := tiny(s, "first"), tiny(s, "second")
	a, _ := run(s, first, join...)
	b, _ := run(s, second, join...)
	want := "[first/snk first/src second/snk second/src]"
	known := func() bool { return fmt.Sprint(slices.Sorted(maps.Keys(healthy(s, ask...)))) == want }
	if !known() {
		t.Errorf("healthy are %v", healthy(s, ask...))
	}
	s.Want(3, "has a run on this control plane already", append([]string{"run", first, "--log-dir", "more"}, join...)...)
	before := pids(s)
	p.Kill()
	a.Await(`\* the control plane is gone, what was last heard counts`)
	b.Await(`\* the control plane is gone, what was last heard counts`)
	p = s.Start(server...)
	p.Await(listening)
	a.Await(`\* the control plane \S+ is there again`)
	s.Until("all known again", known)
	if after := pids(s); !maps.Equal(before, after) {
		t.Errorf("the components' processes were %v, and are %v", before, after)
	}
	a.Stop()
	again, _ := run(s, first, join...) // its place is free at once
	again.Stop()
	b.Stop()
	p.Stop()
	for _, out := range []string{a.Out.String(), b.Out.String()} {
		if strings.Contains(out, "unhealthy") || strings.Contains(out, "degraded") {
			t.Errorf("somebody was blamed:\n%s", out)
		}
	}
}

// pids are the processes of both pipelines' components.
func pids(s *site.Site) map[string]int {
	s.T.Helper()
	all := map[string]int{}
	for _, pipeline := range []string{"first", "second"} {
		for id, c := range components(s, pipeline) {
			all[pipeline+"/"+id] = c.PID
			if c.Restarts > 0 {
				s.T.Errorf("%s of %s was restarted", id, pipeline)
			}
		}
	}
	return all
}

// A socket needs no port, and only its user can use it.
func TestSocket(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	path := filepath.Join(s.Dir, "flowctl.sock")
	p, endpoint := run(s, tiny(s, "tiny"), "--control-plane-address", "unix://"+path)
	if endpoint != "unix://"+path {
		t.Errorf("the control plane is at %s", endpoint)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if all := healthy(s, "--endpoint", endpoint); len(all) != 2 {
		t.Errorf("healthy are %v", all)
	}
	s.Want(3, "flowctl.sock", "run", tiny(s, "another"), "--control-plane-address", "unix://"+path, "--log-dir", "more")
	p.Stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}

	server := s.Start("server", "--address", "unix://"+path, "--db-path", "")
	server.Await(listening)
	joined, _ := run(s, tiny(s, "joined"), "--control-plane", "unix://"+path)
	if all := healthy(s, "--endpoint", "unix://"+path); len(all) != 2 {
		t.Errorf("healthy are %v", all)
	}
	joined.Stop()
	server.Kill() // its socket stays, and is in nobody's way
	server = s.Start("server", "--address", "unix://"+path, "--db-path", "")
	server.Await(listening)
	server.Stop()
}

// Whatever address is asked for works, or it is said in a sentence why not.
func TestAddresses(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	file := tiny(s, "tiny")
	s.Want(3, "--control-plane-port", "run", file, "--control-plane-port", port)
	s.Want(3, "--port", "server", "--port", port, "--db-path", "")
	s.Want(3, "192.0.2.1", "run", file, "--control-plane-port", "0", "--control-plane-address", "192.0.2.1", "--auth", "required")
	s.Want(3, "192.0.2.1", "server", "--address", "192.0.2.1", "--auth", "required", "--db-path", "")
	s.Want(2, "--insecure", "server", "--address", "0.0.0.0", "--auth", "none", "--db-path", "")
	s.Want(2, "--insecure", "run", file, "--control-plane-address", "::", "--auth", "none")
	if lis, err := net.Listen("tcp", "[::1]:0"); err != nil {
		site.Missing(t, "this machine has no IPv6: %v", err)
	} else {
		lis.Close()
	}
	p, endpoint := run(s, file, "--control-plane-address", "::1")
	if all := healthy(s, "--endpoint", endpoint); !strings.HasPrefix(endpoint, "[::1]:") || len(all) != 2 {
		t.Errorf("healthy at %s are %v", endpoint, all)
	}
	p.Stop()
}

// While flowctl is suspended nobody can be heard: nobody is to blame for it.
func TestSuspend(t *testing.T) {
	t.Parallel()
	const ttl = 1500 * time.Millisecond
	s := site.New(t, bin)
	p, _ := run(s, tiny(s, "tiny"), "--heartbeat-ttl", ttl.String(), "--janitor-interval", "300ms")
	p.Signal(syscall.SIGSTOP)
	<-time.After(2 * ttl) // that is the test
	p.Signal(syscall.SIGCONT)
	woken := time.Now()
	s.Until("heartbeats of more than a TTL after that", func() bool {
		heard := healthy(s)
		return heard["src"].Sub(woken) > ttl && heard["snk"].Sub(woken) > ttl
	})
	p.Stop()
	if out := p.Out.String(); strings.Contains(out, "unhealthy") || strings.Contains(out, "degraded") || strings.Contains(out, "warning") {
		t.Errorf("somebody was blamed:\n%s", out)
	}
}

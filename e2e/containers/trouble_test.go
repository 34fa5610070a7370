//go:build linux

package containers_test

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/withobsrvr/flowctl/e2e/site"
	"github.com/withobsrvr/flowctl/internal/driver/docker/dockertest"
)

// A container that crashes is started again as its policy says, and then it is over.
func TestCrash(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sources:\n" + component("a", ", restart: {policy: on-failure, initial: 50ms, attempts: 2}", "-after", "200ms", "-exit", "3", "-text", "last words") +
		"  sinks:\n" + component("b", "", "-role", "sink", "-after", "1h")))
	f.Await(`\sa +\* starting: container [0-9a-f]{12}, attempt 3$`)
	f.Await(`\sa +\* failed: has failed for good after 2 restarts within 10m: it exited with code 3`)
	if code := f.Exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(f.Err.String(), "| last words") {
		t.Errorf("its last line is not told:\n%s", f.Err)
	}
}

// One that runs out of memory is said to have.
func TestOutOfMemory(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sinks:\n" + component("hungry", ", registration: none, restart: {policy: no}, resources: {limits: {memory: 32Mi}}",
		"-join", "none", "-blob", "500000000")))
	f.Await(`\shungry +\* failed: was killed: out of memory`)
	if code := f.Exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	p.Want(0, "out of memory", "runs", "show")
}

// Everything that is in the way is told at once, before anything is started.
func TestPreflight(t *testing.T) {
	p := newPlace(t)
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, port, _ := net.SplitHostPort(held.Addr().String())
	file := p.flow("  sources:\n" + component("a", ", ports: [{containerPort: 50051, hostPort: "+port+"}]") +
		"    - {id: b, image: \"127.0.0.1:1/nowhere:latest\"}\n    - {id: c, image: \"flowctl-e2e/no-such:local\", pull_policy: never}\n" +
		"  sinks:\n" + component("d", ", volumes: [{hostPath: ./not-there, mountPath: /x}]"))
	code, _, errout := p.Try("run", file, "--control-plane-port", "0")
	for _, want := range []string{
		"4 things stand in the way, nothing was started",
		"a: port " + port + " is held by pid ",
		"b: image 127.0.0.1:1/nowhere:latest cannot be pulled: ",
		"c: image flowctl-e2e/no-such:local is not on ",
		"d: its volume ",
	} {
		if !strings.Contains(errout, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if code != 3 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, errout)
	}
	p.wantNothing()
}

// A port that another container has.
func TestPortOfAnotherContainer(t *testing.T) {
	p := newPlace(t)
	port := fmt.Sprint(site.FreePort(t))
	file := p.flow("  sources:\n" + component("a", ", ports: [{containerPort: 50051, hostPort: "+port+"}]") + "  sinks:\n" + component("b", "", "-role", "sink", "-after", "1h"))
	f := p.run(file)
	f.Await(`\sb +\* ready: `)
	code, _, errout := p.Try("run", file, "--control-plane-port", "0")
	if code != 3 || !regexp.MustCompile(`a: port `+port+` is held by container flowctl-\S+-a-1`).MatchString(errout) {
		t.Errorf("exit code %d\n%s", code, errout)
	}
	f.Stop()
}

// No engine: one sentence, and nothing is started.
func TestNoEngine(t *testing.T) {
	s := site.New(t, bin)
	s.Env = append(s.Env, "DOCKER_HOST=unix://"+s.Dir+"/no.sock")
	file := s.Pipeline("nothing", "  sources:\n    - {id: a, image: x}\n  sinks:\n    - {id: b, image: x}\n")
	code, out, errout := s.Try("run", file, "--orchestrator", "container", "--control-plane-port", "0")
	if code != 3 || out != "" || strings.Count(errout, "\n") != 1 || !strings.Contains(errout, "no.sock cannot be reached: ") {
		t.Errorf("exit code %d\n%s%s", code, out, errout)
	}
	s.Want(0, "Nothing is left", "clean")
}

// An engine that is stopped in the middle: the run fails and says why, and what it has
// left is removed when the engine is there again.
func TestEngineStops(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			engine := dockertest.Start(t)
			p := newPlaceAt(t, engine.Socket())
			// It is as far away as a virtual machine: the control plane is out of reach.
			f := p.run(p.flow("  sources:\n" + component("a", ", registration: none, restart: {policy: no}", "-join", "none", "-after", "1h") +
				"  sinks:\n" + component("b", ", registration: none, restart: {policy: no}", "-join", "none", "-after", "1h")))
			f.Await(`\sb +\* ready: `)
			engine.End(signal)
			if code := f.Exit(); code != 3 {
				t.Errorf("exit code %d", code)
			}
			if text := f.Err.String(); !regexp.MustCompile(`[ab] was lost: .* cannot be reached: `).MatchString(text) {
				t.Errorf("it says %s", text)
			}
			if text := f.Out.String(); !strings.Contains(text, "that is done as soon as it answers") {
				t.Errorf("it does not say what becomes of the rest")
			}
			engine.Start(t)
			p.wantNothing()
			p.Until("the guardian is through", func() bool { _, out, _ := p.Try("clean", "--dry-run"); return strings.HasPrefix(out, "Nothing") })
		})
	}
}

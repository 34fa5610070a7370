//go:build linux

package containers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/e2e/site"
)

// A chain with every kind of reference: what the components are told is true in their
// containers.
func TestChain(t *testing.T) {
	p := newPlace(t)
	file := p.flow("  sources:\n" + component("lake", ", ports: [{name: grpc, containerPort: 50051, hostPort: 0}]", "-grpc") +
		"  processors:\n" + component("transfers", `, inputs: [lake], env: {FROM: "${lake.grpc}"}`, "-role", "processor", "-env") +
		"  sinks:\n" + component("print", `, inputs: [transfers]`, "-role", "sink", "-count", "3"))
	f := p.run(file)
	f.Await(`\stransfers +\| ENV FROM=lake:50051$`)
	f.Await(`\stransfers +\| ENV FLOWCTL_ENDPOINT=172\.\d+\.\d+\.1:\d+$|\stransfers +\| ENV FLOWCTL_ENDPOINT=\d+\.\d+\.\d+\.\d+:\d+$`)
	f.Await(`\sprint +\* completed: exited with code 0`)
	if code := f.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	f.Await(`^print +completed .* 0 +.*done=3|^print +completed .* 0 `)
}

// What other terminals show of containers.
func TestOperate(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sources:\n" + component("a", ", volumes: [{name: kept, mountPath: /data}]") + component("b", "") +
		"  sinks:\n" + component("c", "", "-role", "sink", "-after", "1h")))
	f.Await(`\sc +\* ready: `)
	a := p.status("a")
	if len(a.Container) != 64 || a.Image != image(p) || !strings.HasPrefix(a.Digest, "sha256:") {
		t.Errorf("status: %+v", a)
	}
	running := p.docker("inspect", "-f", "{{.State.Running}} {{index .Config.Labels \"flowctl.component\"}} {{index .Config.Labels \"flowctl.attempt\"}} {{.HostConfig.RestartPolicy.Name}}", a.Container)
	if running != "true a 1 no" && running != "true a 1 " {
		t.Errorf("docker says %q", running)
	}
	p.Want(0, a.Container[:12], "status")
	p.Want(0, "a is ready", "explain", "a")
	p.Want(0, "", "restart", "a")
	if again := p.status("a"); again.Attempt != 2 || again.Container == a.Container {
		t.Errorf("after a restart: %+v", again)
	}
	p.Want(0, "", "stop", "b")
	if b := p.status("b"); b.State != "stopped" || b.Container != "" {
		t.Errorf("after a stop: %+v", b)
	}
	p.Want(0, "", "start", "b")
	f.Stop()
	var past struct {
		Components []struct{ ID, Image, Digest string }
	}
	p.JSON(&past, "runs", "show")
	if c := past.Components[0]; c.Image != a.Image || c.Digest != a.Digest {
		t.Errorf("the history has %+v", c)
	}
	volume := p.pipeline + "_kept"
	if p.docker("volume", "ls", "-q", "--filter", "name="+volume) != volume {
		t.Error("the named volume is gone")
	}
	p.docker("volume", "rm", volume)
}

// Two runs of one pipeline, side by side.
func TestTwoRuns(t *testing.T) {
	p := newPlace(t)
	file := p.flow("  sources:\n" + component("a", ", ports: [{containerPort: 50051, hostPort: 0}]") +
		"  sinks:\n" + component("b", "", "-role", "sink", "-after", "1h"))
	one, other := p.run(file), p.run(file, "--log-dir", p.Dir+"/other")
	one.Await(`\sb +\* ready: `)
	other.Await(`\sb +\* ready: `)
	one.Stop()
	if n := len(p.things()); n != 3 {
		t.Errorf("%d things are left of the other run", n)
	}
	other.Stop()
}

// Ctrl-C at any moment of a start.
func TestInterrupt(t *testing.T) {
	p := newPlace(t)
	file := p.flow("  sources:\n" + component("a", "") + "  processors:\n" + component("b", "", "-role", "processor", "-delay", "200ms") +
		"  sinks:\n" + component("c", "", "-role", "sink", "-after", "1h"))
	for i := range 8 {
		f := p.run(file)
		select {
		case <-time.After(time.Duration(i) * 200 * time.Millisecond):
		case <-f.Ended():
			t.Fatal("it has ended")
		}
		f.Signal(syscall.SIGINT)
		if code := f.Exit(); code != 0 && code != 130 {
			t.Errorf("interrupted after %d ms: exit code %d", i*200, code)
		}
		if left := p.things(); len(left) > 0 {
			t.Errorf("interrupted after %d ms: %v is left", i*200, left)
		}
	}
}

// Killed at any moment of a start, flowctl leaves the rest to the guardian.
func TestKill(t *testing.T) {
	p := newPlace(t)
	file := p.flow("  sources:\n" + component("a", "") + "  sinks:\n" + component("c", "", "-role", "sink", "-after", "1h", "-ignore-term"))
	for i := range 6 {
		f := p.run(file)
		select {
		case <-time.After(time.Duration(i) * 300 * time.Millisecond):
		case <-f.Ended():
			t.Fatal("it has ended")
		}
		f.Kill()
		p.wantNothing()
	}
}

// Killed together with its guardian, flowctl leaves something, and clean removes it, and
// nothing else.
func TestClean(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sources:\n" + component("a", "") + "  sinks:\n" + component("c", "", "-role", "sink", "-after", "1h")))
	f.Await(`\sc +\* ready: `)
	stranger := p.docker("run", "-d", "--network", "none", "--label", "flowctl.pipeline="+p.pipeline, image(p), "-join", "none", "-after", "1h")
	defer p.docker("rm", "-f", stranger)
	p.killWithGuardian(f)
	p.Want(0, "still there: 2 containers, 1 network", "clean", "--dry-run")
	if n := len(p.things()); n != 4 {
		t.Errorf("after a dry run there are %d things", n)
	}
	p.Want(0, "removed: 2 containers, 1 network", "clean")
	if left := p.things(); len(left) != 1 || !strings.HasPrefix(stranger, left[0]) {
		t.Errorf("after clean there are %v, want the stranger %s alone", left, stranger)
	}
	p.Want(0, "Nothing is left", "clean")

	// Of a run without a file what stands on its containers tells.
	f = p.run(p.flow("  sources:\n" + component("a", "") + "  sinks:\n" + component("c", "", "-role", "sink", "-after", "1h")))
	f.Await(`\sc +\* ready: `)
	p.Want(0, "Nothing is left", "clean")
	p.killWithGuardian(f)
	if err := os.RemoveAll(p.State("")); err != nil {
		t.Fatal(err)
	}
	p.Want(0, "removed: 2 containers, 1 network", "clean")
}

// killWithGuardian kills a run of the pipeline, the only one, together with its guardian.
func (p *place) killWithGuardian(f *site.Process) {
	p.T.Helper()
	var guardians []int
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		command, _ := os.ReadFile(path)
		if strings.Contains(string(command), "\x00guardian\x00"+p.pipeline) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			guardians = append(guardians, pid)
		}
	}
	if len(guardians) != 1 {
		p.T.Fatalf("the guardians are %v", guardians)
	}
	site.Suspend(p.T, guardians[0]) // flowctl would start another one for one that has ended
	f.Kill()
	_ = syscall.Kill(guardians[0], syscall.SIGKILL)
}

// A certificate for each component, in containers too.
func TestTLSAuto(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sources:\n"+component("a", ", user: \"65532:65532\"", "-env")+"  sinks:\n"+component("b", "", "-role", "sink", "-count", "1")), "--tls", "auto")
	f.Await(`\sa +\| ENV FLOWCTL_TLS_CERT=/run/flowctl/cert.pem`)
	f.Await(`\sa +\* ready: `)
	if code := f.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A probe that is a command runs in the container.
func TestExecProbe(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sources:\n" + component("a", `, registration: none, probe: {exec: [/testcomponent, -join, none, -after, 1ms], start_timeout: 20s}`, "-join", "none", "-after", "1h") +
		"  sinks:\n" + component("b", "", "-role", "sink", "-count", "1")))
	f.Await(`\sa +\* ready: `)
	if code := f.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The plan of a running container pipeline can be changed. Ports that it holds itself are
// in nobody's way.
func TestApply(t *testing.T) {
	p := newPlace(t)
	ports := fmt.Sprintf(", health_port: 8088, ports: [{containerPort: 50051, hostPort: %d}, {containerPort: 8088, hostPort: %d}]", site.FreePort(t), site.FreePort(t))
	f := p.run(p.flow("  sources:\n" + component("a", "") + "  sinks:\n" + component("b", ports, "-role", "sink", "-after", "1h")))
	f.Await(`\sb +\* ready: `)
	a, b := p.status("a").Container, p.status("b").Container
	file := p.flow("  sources:\n" + component("a", "") + component("new", "") + "  sinks:\n" + component("b", ports, "-role", "sink", "-after", "2h"))
	p.Want(0, "new", "apply", "-f", file, "--dry-run")
	p.Want(0, "new", "apply", "-f", file)
	f.Await(`\snew +\* ready: `)
	p.Want(0, "", "wait", "--for", "ready")
	if p.status("a").Container != a || p.status("b").Container == b {
		t.Error("what changed was not restarted, or something else was")
	}
	f.Stop()
}

// Components of before there was an SDK do not say who they are: in containers too it is
// found out.
func TestUnnamed(t *testing.T) {
	p := newPlace(t)
	f := p.run(p.flow("  sources:\n" + component("one", ", registration: required", "-join", "unnamed") + component("two", ", registration: required", "-join", "made-up") +
		"  sinks:\n" + component("b", "", "-role", "sink", "-after", "1h")))
	f.Await(`\sone +\| registered as one$`)
	f.Await(`\stwo +\| registered as two$`)
	f.Await(`\sb +\* ready: `)
	f.Stop()
}

// A control plane that is shared must listen where containers reach it.
func TestSharedControlPlane(t *testing.T) {
	p := newPlace(t)
	file := p.flow("  sources:\n" + component("a", "") + "  sinks:\n" + component("b", "", "-role", "sink", "-after", "1h"))
	local := p.Start("server", "--port", "0", "--db-path", "")
	endpoint := local.Await(`(127\.0\.0\.1:\d+)`)[1]
	p.Want(3, "containers cannot reach the control plane at "+endpoint, "run", file, "--control-plane", endpoint)
	local.Stop()

	open := p.Start("server", "--address", "0.0.0.0", "--insecure", "--port", "0", "--db-path", "")
	port := open.Await(`address=\S+:(\d+) `)[1]
	f := p.run(file, "--control-plane", "localhost:"+port)
	f.Await(`\sb +\* ready: `)
	p.Want(0, p.pipeline+"/a", "list", "-e", "localhost:"+port)
	f.Stop()
	open.Stop()
}

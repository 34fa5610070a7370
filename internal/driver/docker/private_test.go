//go:build linux

package docker

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

// privateEngine is an engine of a test's own, which it may stop and kill.
type privateEngine struct {
	dir       string
	elsewhere bool
	process   *exec.Cmd
}

// newPrivateEngine starts an engine in a folder of its own, in a network of its own if
// it is to be elsewhere. It leaves the machine's network rules alone: containers
// reach nobody outside.
func newPrivateEngine(t *testing.T, elsewhere bool) *privateEngine {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Getuid() != 0 {
		needs(t, "dockerd, and to be root")
	}
	dir, err := os.MkdirTemp("", "flowctl-")
	if err != nil {
		t.Fatal(err)
	}
	p := &privateEngine{dir: dir, elsewhere: elsewhere}
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		mounts, _ := os.ReadFile("/proc/mounts")
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); strings.HasPrefix(fields[1], dir+"/") {
				_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p.start(t)
	return p
}

func (p *privateEngine) socket() string { return "unix://" + filepath.Join(p.dir, "docker.sock") }

// start returns when the engine listens.
func (p *privateEngine) start(t *testing.T) {
	t.Helper()
	p.process = exec.Command("dockerd", "--host", p.socket(), "--data-root", filepath.Join(p.dir, "data"),
		"--exec-root", filepath.Join(p.dir, "exec"), "--pidfile", filepath.Join(p.dir, "pid"),
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--host-gateway-ip", "127.0.0.1",
		"--default-address-pool", "base=10.213.0.0/16,size=24")
	if p.elsewhere {
		p.process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.process.Stderr = write
	err = p.process.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	said, listens := bufio.NewScanner(read), make(chan bool, 1)
	var text strings.Builder
	go func() { // its own children may hold the pipe longer than itself
		defer read.Close()
		for said.Scan() {
			if strings.Contains(said.Text(), "API listen on") {
				listens <- true
				return
			}
			text.WriteString(said.Text() + "\n")
		}
		listens <- false
	}()
	if !<-listens {
		t.Fatalf("no engine of the test's own:\n%s", text.String())
	}
}

// end ends the engine by a signal and returns when it is gone. The containerd that it
// has started ends with it; without its pid file nobody takes it for alive.
func (p *privateEngine) end(s syscall.Signal) {
	_ = p.process.Process.Signal(s)
	_ = p.process.Wait()
	_ = os.Remove(filepath.Join(p.dir, "exec/containerd/containerd.pid"))
}

// An engine that is stopped, or killed, in the middle of a run.
func TestEngineEnds(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			own := newPrivateEngine(t, false)
			e, err := Connect(environment(map[string]string{"DOCKER_HOST": own.socket()}))
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
			own.end(signal)
			<-a.Done
			if !errors.Is(a.Err, driver.ErrUnavailable) || !strings.Contains(a.Err.Error(), "victim") {
				t.Errorf("got %+v, %v", a.Exit, a.Err)
			}
			own.start(t)
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
	own := newPrivateEngine(t, true)
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": own.socket()}))
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

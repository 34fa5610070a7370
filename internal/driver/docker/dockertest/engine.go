//go:build linux

// Package dockertest gives tests a Docker Engine of their own, which they may stop and
// kill.
package dockertest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Engine is a Docker Engine of a test's own, which it may stop and kill.
type Engine struct {
	dir     string
	process *exec.Cmd
}

// Start starts an engine with folders and a network of its own: it is as far from this
// machine as one in a virtual machine, and its containers reach nobody outside. In the
// machine's network it would take away the bridge of the machine's own engine. At the end of the test nothing is left of it. A machine without dockerd skips
// the test, or fails it if FLOWCTL_REQUIRE_ALL is set.
func Start(t *testing.T) *Engine {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Getuid() != 0 {
		const need = "this test needs dockerd, and to be root"
		if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
			t.Fatal(need)
		}
		t.Skip(need)
	}
	dir, err := os.MkdirTemp("", "flowctl-")
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{dir: dir}
	t.Cleanup(func() {
		e.End(syscall.SIGTERM)
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
	e.Start(t)
	return e
}

// Socket is where it listens, as DOCKER_HOST has it.
func (e *Engine) Socket() string { return "unix://" + filepath.Join(e.dir, "docker.sock") }

// Start starts it again after End, and returns when it listens.
func (e *Engine) Start(t *testing.T) {
	t.Helper()
	e.process = exec.Command("dockerd", "--host", e.Socket(), "--data-root", filepath.Join(e.dir, "data"),
		"--exec-root", filepath.Join(e.dir, "exec"), "--pidfile", filepath.Join(e.dir, "pid"),
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--host-gateway-ip", "127.0.0.1",
		"--default-address-pool", "base=10.213.0.0/16,size=24")
	e.process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	e.process.Stderr = write
	err = e.process.Start()
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

// End ends the engine by a signal and returns when it is gone. The containerd that it
// has started ends with it; without its pid file nobody takes it for alive.
func (e *Engine) End(s syscall.Signal) {
	_ = e.process.Process.Signal(s)
	_ = e.process.Wait()
	_ = os.Remove(filepath.Join(e.dir, "exec/containerd/containerd.pid"))
}

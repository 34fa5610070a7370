package process

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/withobsrvr/flowctl/internal/driver"
)

func TestAwaitEndLeavesTheProcessToBeWaitedFor(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		awaitEnd(cmd.Process.Pid)
		close(ended)
	}()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WNOHANG, nil); pid != cmd.Process.Pid || err != nil || status.Signal() != syscall.SIGKILL {
		t.Errorf("wait4 = %d, %v, %v; want a process that was killed", pid, err, status)
	}
}

func TestAwaitEndOfAStranger(t *testing.T) {
	awaitEnd(1 << 30) // it must return
}

// A hundred components must not take a hundred threads that do nothing but wait.
func TestComponentsTakeNoThreads(t *testing.T) {
	const components = 40
	ctx, stop := context.WithCancel(t.Context())
	d := Driver{Orphans: NewOrphans()}
	before := threads(t)
	var running sync.WaitGroup
	for range components {
		started := make(chan struct{})
		running.Go(func() {
			_, err := d.Run(ctx, driver.Spec{Component: "sleeper", Args: []string{"/bin/sleep", "60"}, Dir: "/"},
				driver.Attempt{Stdout: os.Stdout, Stderr: os.Stderr, Started: func(driver.Ref) { close(started) }})
			if err != nil {
				t.Error(err)
			}
		})
		<-started
	}
	if more := threads(t) - before; more > components/2 {
		t.Errorf("%d components take %d more threads", components, more)
	}
	stop()
	running.Wait()
}

func threads(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

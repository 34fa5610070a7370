// Package drivertest is the suite that every driver must pass, and the program
// that it runs on the driver's host.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Host is a driver under test.
type Host struct {
	Driver driver.Driver
	// Spec returns a spec that runs the test program with env on the host.
	Spec func(t *testing.T, env []string) driver.Spec
	// Alive reports whether the process that the test program reported as pid lives.
	Alive func(pid int) bool
}

// Run runs the suite.
func Run(t *testing.T, h Host) {
	for name, test := range map[string]func(*testing.T, Host){
		"exit code":            exitCode,
		"signal":               signalled,
		"streams":              streams,
		"order of output":      order,
		"long line":            longLine,
		"environment and dir":  environment,
		"start error":          startError,
		"cancel before start":  cancelBeforeStart,
		"stop in grace":        stopInGrace,
		"stop signal":          stopSignal,
		"stop by force":        stopByForce,
		"kill ends the grace":  killEndsGrace,
		"grandchild stopped":   grandchildStopped,
		"orphan stopped":       orphanStopped,
		"pipe held by runaway": runaway,
		"deaf runaway stopped": deafRunaway,
		"stopped process":      frozen,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, h) })
	}
}

// run is one attempt under way.
type run struct {
	cancel         context.CancelFunc
	kill           chan struct{}
	pid            chan int
	stdout, stderr *buffer
	done           chan struct{}
	exit           driver.Exit
	err            error
}

// start runs the test program with a behaviour; edit may change its spec.
func (h Host) start(t *testing.T, behaviour string, edit ...func(*driver.Spec)) *run {
	spec := h.Spec(t, []string{variable + "=" + behaviour, "GREETING=hello"})
	spec.StopGrace = 10 * time.Second
	for _, e := range edit {
		e(&spec)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &run{
		cancel: cancel, kill: make(chan struct{}), pid: make(chan int, 1),
		stdout: newBuffer(), stderr: newBuffer(), done: make(chan struct{}),
	}
	go func() {
		defer close(r.done)
		r.exit, r.err = h.Driver.Run(ctx, spec, driver.Attempt{
			Number: 1, Stdout: r.stdout, Stderr: r.stderr, Kill: r.kill,
			Started: func(ref driver.Ref) { r.pid <- ref.PID },
		})
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// wait returns how the attempt ended, and fails the test if it does not within d.
func (r *run) wait(t *testing.T, d time.Duration) driver.Exit {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(d):
		t.Fatalf("the attempt has not ended after %v; it printed %q", d, r.stdout.String())
	}
	if r.err != nil {
		t.Fatalf("Run: %v", r.err)
	}
	return r.exit
}

const soon = 5 * time.Second

func exitCode(t *testing.T, h Host) {
	for _, code := range []int{0, 1, 42, 255} {
		exit := h.start(t, fmt.Sprint("exit ", code)).wait(t, soon)
		if exit != (driver.Exit{Code: code}) {
			t.Errorf("exit %d: got %+v", code, exit)
		}
	}
}

func signalled(t *testing.T, h Host) {
	if exit := h.start(t, "kill-self").wait(t, soon); exit != (driver.Exit{Code: -1, Signal: syscall.SIGKILL}) {
		t.Errorf("got %+v", exit)
	}
}

func streams(t *testing.T, h Host) {
	r := h.start(t, "print")
	r.wait(t, soon)
	if r.stdout.String() != "to stdout\n" || r.stderr.String() != "to stderr\n" {
		t.Errorf("stdout %q, stderr %q", r.stdout.String(), r.stderr.String())
	}
}

func order(t *testing.T, h Host) {
	r := h.start(t, "count 20000")
	r.wait(t, soon)
	var want strings.Builder
	for i := range 20000 {
		fmt.Fprintln(&want, i)
	}
	if r.stdout.String() != want.String() {
		t.Errorf("%d bytes came, want the %d printed", len(r.stdout.String()), want.Len())
	}
}

func longLine(t *testing.T, h Host) {
	r := h.start(t, fmt.Sprint("long ", 1<<20))
	r.wait(t, soon)
	if r.stdout.String() != strings.Repeat("x", 1<<20) {
		t.Errorf("%d bytes came", len(r.stdout.String()))
	}
}

func environment(t *testing.T, h Host) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := h.start(t, "environment", func(s *driver.Spec) { s.Dir = dir })
	r.wait(t, soon)
	if want := "hello " + dir + "\n"; r.stdout.String() != want {
		t.Errorf("got %q, want %q", r.stdout.String(), want)
	}
}

func startError(t *testing.T, h Host) {
	r := h.start(t, "print", func(s *driver.Spec) { s.Args = []string{"/no/such/program"} })
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "/no/such/program") {
		t.Errorf("error %v does not name the program", r.err)
	}
	if !errors.Is(r.err, os.ErrNotExist) {
		t.Errorf("error %v is not ErrNotExist", r.err)
	}
}

func cancelBeforeStart(t *testing.T, h Host) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := h.Spec(t, []string{variable + "=print"})
	_, err := h.Driver.Run(ctx, spec, driver.Attempt{
		Stdout: newBuffer(), Stderr: newBuffer(),
		Started: func(driver.Ref) { t.Error("it was started") },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func stopInGrace(t *testing.T, h Host) {
	r := h.start(t, "polite")
	r.stdout.await(t, "up\n")
	r.cancel()
	if exit := r.wait(t, soon); exit != (driver.Exit{Code: 7}) {
		t.Errorf("got %+v", exit)
	}
	if !strings.Contains(r.stdout.String(), "goodbye") {
		t.Errorf("its last words are missing: %q", r.stdout.String())
	}
}

func stopSignal(t *testing.T, h Host) {
	r := h.start(t, "usr1", func(s *driver.Spec) { s.StopSignal = syscall.SIGUSR1 })
	r.stdout.await(t, "up\n")
	r.cancel()
	if exit := r.wait(t, soon); exit.Code != 8 {
		t.Errorf("got %+v", exit)
	}
}

func stopByForce(t *testing.T, h Host) {
	r := h.start(t, "deaf", func(s *driver.Spec) { s.StopGrace = 300 * time.Millisecond })
	r.stdout.await(t, "up\n")
	begin := time.Now()
	r.cancel()
	exit := r.wait(t, soon)
	if !exit.Forced || exit.Signal != syscall.SIGKILL {
		t.Errorf("got %+v", exit)
	}
	if d := time.Since(begin); d < 300*time.Millisecond {
		t.Errorf("killed after %v, before the grace was over", d)
	}
}

func killEndsGrace(t *testing.T, h Host) {
	r := h.start(t, "deaf", func(s *driver.Spec) { s.StopGrace = time.Hour })
	r.stdout.await(t, "up\n")
	r.cancel()
	close(r.kill)
	if exit := r.wait(t, soon); !exit.Forced {
		t.Errorf("got %+v", exit)
	}
}

func grandchildStopped(t *testing.T, h Host) {
	r := h.start(t, "child sleep")
	r.stdout.await(t, "up\n")
	r.cancel()
	r.wait(t, soon)
	h.gone(t, r)
}

func orphanStopped(t *testing.T, h Host) {
	r := h.start(t, "orphan deaf", func(s *driver.Spec) { s.StopGrace = 200 * time.Millisecond })
	if exit := r.wait(t, soon); exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("got %+v, want the leader's exit", exit)
	}
	h.gone(t, r)
}

// A process that has left the group holds the pipe open: it is stopped all the
// same, and Run returns with all that was printed before.
func runaway(t *testing.T, h Host) {
	r := h.start(t, "runaway sleep")
	r.wait(t, soon)
	if !strings.HasSuffix(r.stdout.String(), "last words\n") {
		t.Errorf("got %q", r.stdout.String())
	}
	h.gone(t, r)
}

// One that ignores the stop signal has its grace and no more.
func deafRunaway(t *testing.T, h Host) {
	r := h.start(t, "runaway deaf", func(s *driver.Spec) { s.StopGrace = 200 * time.Millisecond })
	if exit := r.wait(t, soon); exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("got %+v, want the leader's exit", exit)
	}
	h.gone(t, r)
}

// A stopped process (SIGSTOP) can be stopped like any other.
func frozen(t *testing.T, h Host) {
	r := h.start(t, "polite")
	r.stdout.await(t, "up\n")
	if err := syscall.Kill(<-r.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.cancel()
	if exit := r.wait(t, soon); exit.Code != 7 || exit.Forced {
		t.Errorf("got %+v", exit)
	}
}

// child returns the process id that the test program reported.
func (r *run) child(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(r.stdout.String()) { // the child may print first
		var pid int
		if _, err := fmt.Sscanf(line, "child %d", &pid); err == nil {
			return pid
		}
	}
	t.Fatalf("no child reported in %q", r.stdout.String())
	return 0
}

// gone fails the test if the child that the test program reported lives.
func (h Host) gone(t *testing.T, r *run) {
	t.Helper()
	if pid := r.child(t); h.Alive(pid) {
		t.Errorf("its child %d is still alive", pid)
	}
}

// buffer is a writer whose content can be waited for.
type buffer struct {
	mu      sync.Mutex
	content bytes.Buffer
	changed chan struct{}
}

func newBuffer() *buffer { return &buffer{changed: make(chan struct{})} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content.Write(p)
	close(b.changed)
	b.changed = make(chan struct{})
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// await waits until text has been written.
func (b *buffer) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(soon)
	for {
		b.mu.Lock()
		found, changed := strings.Contains(b.content.String(), text), b.changed
		b.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q was not printed, only %q", text, b.String())
		}
	}
}

// Package drivertest is the suite that every driver must pass, and the program
// that it runs on the driver's host.
package drivertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	// Alive reports whether the process that the test program reported as pid lives;
	// on a host with numbers of its own, that of the attempt ref.
	Alive func(ref driver.Ref, pid int) bool
	// Soon is how long the host may take for what is quick; 0 is 5 seconds.
	Soon time.Duration
	// Freeze stops the attempt's processes as SIGSTOP does.
	Freeze func(t *testing.T, ref driver.Ref)
}

// Run runs the suite.
func Run(t *testing.T, h Host) {
	for name, test := range map[string]func(*testing.T, Host){
		"exit code":            exitCode,
		"signal":               signalled,
		"streams":              streams,
		"order of output":      order,
		"long line":            longLine,
		"slow writer":          slowWriter,
		"started first":        startedFirst,
		"environment and dir":  environment,
		"start error":          startError,
		"cancel before start":  cancelBeforeStart,
		"stop in grace":        stopInGrace,
		"stop signal":          stopSignal,
		"stop by force":        stopByForce,
		"kill ends the grace":  killEndsGrace,
		"grandchild stopped":   grandchildStopped,
		"child asked to stop":  childAsked,
		"orphan stopped":       orphanStopped,
		"pipe held by runaway": runaway,
		"deaf runaway stopped": deafRunaway,
		"stopped process":      frozen,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, h) })
	}
}

// start runs the test program with a behaviour; edit may change its spec.
func (h Host) start(t *testing.T, behaviour string, edit ...func(*driver.Spec)) *Attempt {
	spec := h.Spec(t, []string{variable + "=" + behaviour, "GREETING=hello"})
	spec.StopGrace = 10 * time.Second
	for _, e := range edit {
		e(&spec)
	}
	return Start(t, h.Driver, spec)
}

// soon is how long quick things may take.
func (h Host) soon() time.Duration { return cmp.Or(h.Soon, 5*time.Second) }

func exitCode(t *testing.T, h Host) {
	for _, code := range []int{0, 1, 42, 255} {
		exit := h.start(t, fmt.Sprint("exit ", code)).Wait(t, h.soon())
		if exit != (driver.Exit{Code: code}) {
			t.Errorf("exit %d: got %+v", code, exit)
		}
	}
}

func signalled(t *testing.T, h Host) {
	if exit := h.start(t, "kill-self").Wait(t, h.soon()); exit != (driver.Exit{Code: -1, Signal: syscall.SIGKILL}) {
		t.Errorf("got %+v", exit)
	}
}

func streams(t *testing.T, h Host) {
	r := h.start(t, "print")
	r.Wait(t, h.soon())
	if r.Stdout.String() != "to stdout\n" || r.Stderr.String() != "to stderr\n" {
		t.Errorf("stdout %q, stderr %q", r.Stdout.String(), r.Stderr.String())
	}
}

func order(t *testing.T, h Host) {
	r := h.start(t, "count 20000")
	r.Wait(t, h.soon())
	var want strings.Builder
	for i := range 20000 {
		fmt.Fprintln(&want, i)
	}
	if r.Stdout.String() != want.String() {
		t.Errorf("%d bytes came, want the %d printed", len(r.Stdout.String()), want.Len())
	}
}

func longLine(t *testing.T, h Host) {
	r := h.start(t, fmt.Sprint("long ", 1<<20))
	r.Wait(t, h.soon())
	if r.Stdout.String() != strings.Repeat("x", 1<<20) {
		t.Errorf("%d bytes came", len(r.Stdout.String()))
	}
}

// A writer that is slow, or fails, loses nothing for the others.
func slowWriter(t *testing.T, h Host) {
	spec := h.Spec(t, []string{variable + "=count 20000"})
	slow := &sluggish{to: NewOutput()}
	Start(t, h.Driver, spec, func(att *driver.Attempt) { att.Stdout = slow }).Wait(t, h.soon())
	if got := strings.Count(slow.to.String(), "\n"); got != 20000 {
		t.Errorf("%d lines came, want 20000", got)
	}
}

// sluggish is a writer that takes its time and fails.
type sluggish struct{ to *Output }

func (s *sluggish) Write(p []byte) (int, error) {
	<-time.After(time.Millisecond)
	_, _ = s.to.Write(p)
	return 0, errors.New("no")
}

func startedFirst(t *testing.T, h Host) {
	spec := h.Spec(t, []string{variable + "=print"})
	told, stdout := false, NewOutput()
	r := Start(t, h.Driver, spec, func(att *driver.Attempt) {
		att.Stdout = stdout
		att.Started = func(driver.Ref) {
			select {
			case <-stdout.Changed():
				t.Errorf("it printed %q before Started had returned", stdout)
			case <-time.After(200 * time.Millisecond): // by now it has printed
			}
			told = true
		}
	})
	r.Wait(t, h.soon())
	if !told || stdout.String() == "" {
		t.Errorf("started: %v, printed %q", told, stdout)
	}
}

func environment(t *testing.T, h Host) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := h.start(t, "environment", func(s *driver.Spec) { s.Dir = dir })
	r.Wait(t, h.soon())
	if want := "hello " + dir + "\n"; r.Stdout.String() != want {
		t.Errorf("got %q, want %q", r.Stdout.String(), want)
	}
}

func startError(t *testing.T, h Host) {
	r := h.start(t, "print", func(s *driver.Spec) { s.Args = []string{"/no/such/program"} })
	<-r.Done
	if r.Err == nil || !strings.Contains(r.Err.Error(), "/no/such/program") {
		t.Errorf("error %v does not name the program", r.Err)
	}
	if !errors.Is(r.Err, os.ErrNotExist) {
		t.Errorf("error %v is not ErrNotExist", r.Err)
	}
}

func cancelBeforeStart(t *testing.T, h Host) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := h.Spec(t, []string{variable + "=print"})
	_, err := h.Driver.Run(ctx, spec, driver.Attempt{
		Stdout: NewOutput(), Stderr: NewOutput(),
		Started: func(driver.Ref) { t.Error("it was started") },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func stopInGrace(t *testing.T, h Host) {
	r := h.start(t, "polite")
	r.Stdout.Await(t, "up\n", h.soon())
	r.Cancel()
	if exit := r.Wait(t, h.soon()); exit != (driver.Exit{Code: 7}) {
		t.Errorf("got %+v", exit)
	}
	if !strings.Contains(r.Stdout.String(), "goodbye") {
		t.Errorf("its last words are missing: %q", r.Stdout.String())
	}
}

func stopSignal(t *testing.T, h Host) {
	r := h.start(t, "usr1", func(s *driver.Spec) { s.StopSignal = syscall.SIGUSR1 })
	r.Stdout.Await(t, "up\n", h.soon())
	r.Cancel()
	if exit := r.Wait(t, h.soon()); exit.Code != 8 {
		t.Errorf("got %+v", exit)
	}
}

func stopByForce(t *testing.T, h Host) {
	r := h.start(t, "deaf", func(s *driver.Spec) { s.StopGrace = 300 * time.Millisecond })
	r.Stdout.Await(t, "up\n", h.soon())
	begin := time.Now()
	r.Cancel()
	exit := r.Wait(t, h.soon())
	if !exit.Forced || exit.Signal != syscall.SIGKILL {
		t.Errorf("got %+v", exit)
	}
	if d := time.Since(begin); d < 300*time.Millisecond {
		t.Errorf("killed after %v, before the grace was over", d)
	}
}

func killEndsGrace(t *testing.T, h Host) {
	r := h.start(t, "deaf", func(s *driver.Spec) { s.StopGrace = time.Hour })
	r.Stdout.Await(t, "up\n", h.soon())
	r.Cancel()
	close(r.Kill)
	if exit := r.Wait(t, h.soon()); !exit.Forced {
		t.Errorf("got %+v", exit)
	}
}

func grandchildStopped(t *testing.T, h Host) {
	r := h.start(t, "child sleep")
	r.Stdout.Await(t, "up\n", h.soon())
	r.Cancel()
	r.Wait(t, h.soon())
	h.gone(t, r)
}

// The stop signal is for all that a component has started, not for its first process.
func childAsked(t *testing.T, h Host) {
	r := h.start(t, "shepherd polite")
	r.Stdout.Await(t, "up\n", h.soon())
	r.Cancel()
	if exit := r.Wait(t, h.soon()); exit != (driver.Exit{Code: 7}) || !strings.Contains(r.Stdout.String(), "goodbye") {
		t.Errorf("got %+v, %q", exit, r.Stdout)
	}
}

func orphanStopped(t *testing.T, h Host) {
	r := h.start(t, "orphan deaf", func(s *driver.Spec) { s.StopGrace = 200 * time.Millisecond })
	if exit := r.Wait(t, h.soon()); exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("got %+v, want the leader's exit", exit)
	}
	h.gone(t, r)
}

// A process that has left the group holds the pipe open: it is stopped all the
// same, and Run returns with all that was printed before.
func runaway(t *testing.T, h Host) {
	r := h.start(t, "runaway sleep")
	r.Wait(t, h.soon())
	if !strings.HasSuffix(r.Stdout.String(), "last words\n") {
		t.Errorf("got %q", r.Stdout.String())
	}
	h.gone(t, r)
}

// One that ignores the stop signal has its grace and no more.
func deafRunaway(t *testing.T, h Host) {
	r := h.start(t, "runaway deaf", func(s *driver.Spec) { s.StopGrace = 200 * time.Millisecond })
	if exit := r.Wait(t, h.soon()); exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("got %+v, want the leader's exit", exit)
	}
	h.gone(t, r)
}

// A stopped process (SIGSTOP) can be stopped like any other.
func frozen(t *testing.T, h Host) {
	r := h.start(t, "polite")
	r.Stdout.Await(t, "up\n", h.soon())
	h.Freeze(t, <-r.Ref)
	r.Cancel()
	if exit := r.Wait(t, h.soon()); exit.Code != 7 || exit.Forced {
		t.Errorf("got %+v", exit)
	}
}

// child returns the process id that the test program reported.
func (r *Attempt) child(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(r.Stdout.String()) { // the child may print first
		var pid int
		if _, err := fmt.Sscanf(line, "child %d", &pid); err == nil {
			return pid
		}
	}
	t.Fatalf("no child reported in %q", r.Stdout.String())
	return 0
}

// gone fails the test if the child that the test program reported lives.
func (h Host) gone(t *testing.T, r *Attempt) {
	t.Helper()
	if pid := r.child(t); h.Alive(<-r.Ref, pid) {
		t.Errorf("its child %d is still alive", pid)
	}
}

//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startOnTerminal starts flowctl on a new terminal, as a shell would. What the
// terminal shows is f.out. What is written to keyboard is typed into the
// terminal; closing keyboard hangs it up.
func (s *site) startOnTerminal(t *testing.T, args ...string) (f *flowctl, keyboard io.WriteCloser) {
	t.Helper()
	master, slave := newTerminal(t)
	f = s.start(t, args, func(f *flowctl) {
		f.cmd.Stdin, f.cmd.Stdout, f.cmd.Stderr = slave, slave, slave
		f.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	})
	slave.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(f.out, master) // it fails when nobody has the other end open
		f.out.close()
	}()
	t.Cleanup(func() {
		master.Close()
		<-copied
	})
	return f, master
}

// newTerminal returns both ends of a new pseudo-terminal.
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		missing(t, "this machine has no terminals: %v", err)
	}
	number := 0
	conn, err := master.SyscallConn() // Fd would make Close wait for a Read that is under way
	if err == nil {
		controlled := conn.Control(func(fd uintptr) {
			if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
				err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
			}
		})
		err = errors.Join(err, controlled)
	}
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// A person at a terminal sees colours, and Ctrl-C is for flowctl alone.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, noColor := range []bool{false, true} {
		t.Run(fmt.Sprintf("NO_COLOR=%v", noColor), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.env = append(s.env, "TERM=xterm-256color")
			if noColor {
				s.env = append(s.env, "NO_COLOR=1")
			}
			port := freePort(t)
			f, keyboard := s.startOnTerminal(t, "run", s.pipelineFile(t, "  sinks:\n"+component("sink", port, "", "-role, sink, -fork")+
				bare("other", "", "")), "--control-plane-port", "0")
			f.await(`sink.* \* .*ready: after`)
			f.await(`other.* \* .*ready: after`)
			if colored := strings.Contains(f.out.String(), "\x1b["); colored == noColor {
				t.Errorf("colours: %v", colored)
			}
			if _, err := keyboard.Write([]byte{3}); err != nil {
				t.Fatal(err)
			}
			f.await(`Ctrl-C: stopping, dependents first; once more kills at once`)
			<-time.After(anotherKeystroke)
			if _, err := keyboard.Write([]byte{3}); err != nil {
				t.Fatal(err)
			}
			f.wantExit(130)
			wantFree(t, port)
		})
	}
}

// A terminal that is closed ends the run in good order.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	f, terminal := s.startOnTerminal(t, "run", s.pipelineFile(t, "  sinks:\n"+component("sink", port, "", "-role, sink")), "--control-plane-port", "0")
	f.await(`sink.* \* .*ready: after`)
	if err := terminal.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	if code := f.exit(); code != 0 {
		t.Errorf("flowctl's exit code is %d, want 0", code)
	}
	wantFree(t, port)
}

// A problem is shown at its place in the file.
func TestProblemOnTerminal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.env = append(s.env, "NO_COLOR=1", "TERM=xterm")
	file := s.pipelineFile(t, "  sinks:\n    - {id: a, binray: sh}\n")
	f, _ := s.startOnTerminal(t, "run", file)
	f.await(`:6:15: spec.sinks\[0\].binray: unknown field \(did you mean "binary"\?\)`)
	f.await(`^    6 \|     - \{id: a, binray: sh\}`)
	f.await(`^      \|               \^`)
	f.wantExit(2)
}

package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a flowctl that was started.
type Process struct {
	// Cmd is how it was started. Out and Err are what it writes.
	Cmd      *exec.Cmd
	Out, Err *Transcript
	site     *Site
	ended    chan struct{}
}

// Start starts flowctl. What it has written is shown when the test fails; when the
// test ends it is killed, if it still lives.
func (s *Site) Start(args ...string) *Process {
	s.T.Helper()
	return s.Launch(s.Command(args...))
}

// Launch starts a command line of flowctl's that has been prepared.
func (s *Site) Launch(cmd *exec.Cmd) *Process {
	s.T.Helper()
	p := &Process{Cmd: cmd, Out: newTranscript(), Err: newTranscript(), site: s, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p.Out, p.Err, 10*time.Second
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its ProcessState
		p.Out.close()
		p.Err.close()
		close(p.ended)
	}()
	s.T.Cleanup(func() {
		if s.T.Failed() {
			s.T.Logf("%s\n%s--- stderr\n%s", strings.Join(cmd.Args, " "), p.Out.excerpt(), p.Err.excerpt())
		}
		p.Kill()
	})
	return p
}

// Signal sends it a signal, unless it has ended.
func (p *Process) Signal(sig syscall.Signal) {
	p.site.T.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.site.T.Fatal(err)
	}
}

// Kill kills it with -9 and waits for its end.
func (p *Process) Kill() {
	select {
	case <-p.ended:
	default:
		_ = p.Cmd.Process.Kill()
		<-p.ended
	}
}

// Ended is closed when it has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Exit waits for its end and returns its exit code as a shell would: 128 and the
// signal's number if one ended it.
func (p *Process) Exit() int {
	p.site.T.Helper()
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.site.T.Fatalf("flowctl has not ended after %v", Patience)
	}
	if status, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.Cmd.ProcessState.ExitCode()
}

// Stop sends SIGTERM and checks that the exit code is 0.
func (p *Process) Stop() {
	p.site.T.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		p.site.T.Errorf("flowctl's exit code is %d", code)
	}
}

// Await waits for a whole line of standard output that matches the expression, and
// returns what it captured.
func (p *Process) Await(expr string) []string {
	p.site.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	match, err := p.Out.await(ctx, regexp.MustCompile(expr))
	if err != nil {
		p.site.T.Fatalf("no line %q: %v", expr, err)
	}
	return match
}

// Suspend stops a process as SIGSTOP does, and returns when it stands still: until one
// of its threads has taken the signal, the others go on.
func Suspend(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(Patience); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, _ := bytes.Cut(stat, []byte(") ")); err == nil && bytes.HasPrefix(rest, []byte("T")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not stand still: %s (%v)", pid, stat, err)
		}
		<-time.After(time.Millisecond) // nobody tells
	}
}

// Transcript is what a program has written so far.
type Transcript struct {
	mu      sync.Mutex // guards all below
	text    []byte
	closed  bool
	changed chan struct{} // closed and replaced at each write
}

func newTranscript() *Transcript { return &Transcript{changed: make(chan struct{})} }

// Write implements io.Writer.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.wake()
	return len(p), nil
}

func (t *Transcript) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.wake()
}

// wake tells those who wait; the caller holds t.mu.
func (t *Transcript) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// await waits for a whole line that matches.
func (t *Transcript) await(ctx context.Context, expr *regexp.Regexp) ([]string, error) {
	for from := 0; ; {
		t.mu.Lock()
		rest, closed, changed := t.text[from:], t.closed, t.changed
		t.mu.Unlock()
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			if match := expr.FindStringSubmatch(string(rest[:end])); match != nil {
				return match, nil
			}
			from, rest = from+end+1, rest[end+1:]
		}
		if closed {
			return nil, errors.New("the output has ended")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// String is all of it.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// excerpt is the most that is worth showing.
func (t *Transcript) excerpt() string {
	text := t.String()
	if most := 20_000; len(text) > most {
		text = text[:most/2] + "\n[…]\n" + text[len(text)-most/2:]
	}
	return text
}

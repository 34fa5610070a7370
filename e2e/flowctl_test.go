//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 60 * time.Second

// site is where one test runs flowctl: folders of its own, ports of its own,
// and a mark that every process of the test carries in its environment.
type site struct {
	dir, mark string
	env       []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), mark: "FLOWCTLTEST_MARK=" + rand.Text()}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "FLOWCTL_") && name != "NO_COLOR" {
			s.env = append(s.env, kv)
		}
	}
	s.env = append(s.env, s.mark,
		"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"HOME="+s.dir, "TMPDIR="+s.dir, "XDG_STATE_HOME="+filepath.Join(s.dir, "state"),
		"NPM_CONFIG_UPDATE_NOTIFIER=false") // npm asks its registry once for each new HOME
	t.Cleanup(func() {
		for _, pid := range s.processes() {
			t.Errorf("left over: process %d: %s", pid, commandLine(pid))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

// write writes a file of the site's folder and returns its path.
func (s *site) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// processes are the living processes that carry the mark.
func (s *site) processes() []int {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	var pids []int
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte(s.mark)) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		pids = append(pids, pid)
	}
	return pids
}

func commandLine(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(bytes.ReplaceAll(text, []byte{0}, []byte{' '}))
}

// pipelineFile writes flow.yml with these components, which are YAML lists.
func (s *site) pipelineFile(t *testing.T, spec string) string {
	t.Helper()
	return s.write(t, "flow.yml", "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: test}\nspec:\n"+spec)
}

// flowctl is a flowctl that was started.
type flowctl struct {
	t           *testing.T
	site        *site
	cmd         *exec.Cmd
	out, errout *transcript
	ended       chan struct{}
	err         error // what Wait returned; read it after ended
}

// option changes how flowctl is started.
type option func(*flowctl)

// start starts flowctl in the site's folder. Standard output and error are kept
// apart, and are shown when the test fails.
func (s *site) start(t *testing.T, args []string, options ...option) *flowctl {
	t.Helper()
	f := &flowctl{t: t, site: s, out: newTranscript(), errout: newTranscript(), ended: make(chan struct{})}
	f.cmd = exec.Command(filepath.Join(bin, "flowctl"), args...)
	f.cmd.Dir, f.cmd.Env = s.dir, s.env
	f.cmd.Stdout, f.cmd.Stderr = f.out, f.errout
	f.cmd.WaitDelay = 10 * time.Second
	for _, o := range options {
		o(f)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		f.err = f.cmd.Wait()
		if f.cmd.Stdout == f.out {
			f.out.close()
		}
		f.errout.close()
		close(f.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-f.ended:
		default:
			_ = f.cmd.Process.Kill()
			<-f.ended
		}
		if t.Failed() {
			t.Logf("flowctl %s\n%s--- stderr\n%s", strings.Join(args, " "), f.out.excerpt(), f.errout.excerpt())
		}
	})
	return f
}

// run starts flowctl run with a control plane on a free port.
func (s *site) run(t *testing.T, file string, args ...string) *flowctl {
	t.Helper()
	return s.start(t, append([]string{"run", file, "--control-plane-port", "0"}, args...))
}

// signal sends a signal to flowctl alone, as kill does.
func (f *flowctl) signal(sig syscall.Signal) {
	f.t.Helper()
	if err := f.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.t.Fatal(err)
	}
}

// exit waits for flowctl's end and returns its exit code as a shell would:
// 128 and the signal's number if one ended it. When it returns, the test has
// checked that no process of the run is left.
func (f *flowctl) exit() int {
	f.t.Helper()
	select {
	case <-f.ended:
	case <-time.After(patience):
		f.t.Fatalf("flowctl has not ended after %v", patience)
	}
	if left := f.site.processes(); len(left) > 0 {
		for _, pid := range left {
			f.t.Errorf("flowctl has ended, process %d is left: %s", pid, commandLine(pid))
		}
	}
	if status, ok := f.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return f.cmd.ProcessState.ExitCode()
}

// wantExit waits for the end and checks the exit code.
func (f *flowctl) wantExit(code int) {
	f.t.Helper()
	if got := f.exit(); got != code {
		f.t.Errorf("flowctl's exit code is %d, want %d", got, code)
	}
}

// await waits for a line of standard output that matches the expression, and
// returns what it captured and when the line came.
func (f *flowctl) await(expr string) ([]string, time.Time) {
	f.t.Helper()
	return f.awaitIn(f.out, expr)
}

func (f *flowctl) awaitIn(out *transcript, expr string) ([]string, time.Time) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	match, at, err := out.await(ctx, regexp.MustCompile(expr))
	if err != nil {
		f.t.Fatalf("no line %q: %v", expr, err)
	}
	return match, at
}

// pid waits until a component has been started and returns its process.
func (f *flowctl) pid(component string) int {
	f.t.Helper()
	match, _ := f.await(`\s` + regexp.QuoteMeta(component) + ` +\* starting: pid (\d+)`)
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return pid
}

// transcript is what a program has written so far, and when.
type transcript struct {
	mu      sync.Mutex // guards the fields below
	text    []byte
	writes  []write
	closed  bool
	changed chan struct{}
}

// write is one write: up to which byte, and when.
type write struct {
	end int
	at  time.Time
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

var _ io.Writer = (*transcript)(nil)

// Write implements io.Writer.
func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	o.writes = append(o.writes, write{len(o.text), time.Now()})
	o.wake()
	return len(p), nil
}

func (o *transcript) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake()
}

// wake tells those who wait; the caller holds o.mu.
func (o *transcript) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// await waits for a whole line that matches.
func (o *transcript) await(ctx context.Context, expr *regexp.Regexp) ([]string, time.Time, error) {
	for from := 0; ; {
		o.mu.Lock()
		for {
			end := bytes.IndexByte(o.text[from:], '\n')
			if end < 0 {
				break
			}
			line := o.text[from : from+end]
			from += end + 1
			if match := expr.FindStringSubmatch(string(line)); match != nil {
				defer o.mu.Unlock()
				return match, o.written(from), nil
			}
		}
		closed, changed := o.closed, o.changed
		o.mu.Unlock()
		if closed {
			return nil, time.Time{}, errors.New("the output has ended")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, time.Time{}, ctx.Err()
		}
	}
}

// written is when the byte before end was written; the caller holds o.mu.
func (o *transcript) written(end int) time.Time {
	for _, w := range o.writes {
		if w.end >= end {
			return w.at
		}
	}
	return time.Time{}
}

// String is all of it.
func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// excerpt is the most that is worth showing.
func (o *transcript) excerpt() string {
	text := o.String()
	if most := 20_000; len(text) > most {
		text = text[:most/2] + "\n[…]\n" + text[len(text)-most/2:]
	}
	return text
}

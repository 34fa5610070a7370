// Package torture_test has components print what no component should, through
// the real flowctl: every byte is in the log files, in order, and flowctl's memory
// is bounded. With FLOWCTL_TORTURE=1 the amounts are those of a bad day.
package torture_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The environment that makes this test binary a writer.
const (
	envStorm  = "TORTURE_STORM"
	envSize   = "TORTURE_SIZE"
	envReport = "TORTURE_REPORT"
	envStay   = "TORTURE_STAY"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 3 * time.Minute

// memory is the most that flowctl may ever have taken, in bytes.
const memory = 300 << 20

// flowctl is the path of the program under test.
var flowctl string

func TestMain(m *testing.M) {
	if name := os.Getenv(envStorm); name != "" {
		size, err := strconv.ParseInt(os.Getenv(envSize), 10, 64)
		if err == nil {
			err = write(name, size, os.Getenv(envReport), os.Getenv(envStay) != "")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "flowctl-torture-")
	if err == nil {
		flowctl = filepath.Join(dir, "flowctl")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", flowctl, "../../cmd/flowctl").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build what is to be tested: %v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// size is small, or large when there is time.
func size(small, large int64) int64 {
	if os.Getenv("FLOWCTL_TORTURE") != "" {
		return large
	}
	return small
}

// run is flowctl, running sinks that write storms.
type run struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
}

// start starts flowctl with writers of a storm, named writer0 and so on.
func start(t *testing.T, writers int, storm string, size int64, stay bool, stdout *os.File, flags ...string) *run {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, dir: t.TempDir()}
	text := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: torture}\nspec:\n  sinks:\n"
	for i := range writers {
		env := fmt.Sprintf("%s: %s, %s: %d, %s: %q", envStorm, storm, envSize, size+int64(i), envReport, filepath.Join(r.dir, "report"))
		if stay {
			env += fmt.Sprintf(", %s: 1", envStay)
		}
		text += fmt.Sprintf("    - {id: writer%d, command: [%q], registration: none, env: {%s}}\n", i, self, env)
	}
	file := filepath.Join(r.dir, "flow.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(flowctl, append([]string{"run", file, "--control-plane-port", "0", "--show-status=false", "--log-dir", r.logs()}, flags...)...)
	r.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(r.dir, "state"))
	r.cmd.Stderr = os.Stderr
	if stdout != nil {
		r.cmd.Stdout = stdout
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return r
}

func (r *run) logs() string { return filepath.Join(r.dir, "logs") }

// wait waits for flowctl's end in good order.
func (r *run) wait() {
	r.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	if err := r.cmd.Wait(); err != nil {
		r.t.Fatalf("flowctl: %v", err)
	}
}

// stop interrupts flowctl and waits for its end.
func (r *run) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	r.wait()
}

// await waits until the writer of a run that has only one is done.
func (r *run) await() time.Duration {
	r.t.Helper()
	for deadline := time.After(patience); ; {
		text, err := os.ReadFile(filepath.Join(r.dir, "report"))
		if spent, bad := time.ParseDuration(string(text)); err == nil && bad == nil {
			return spent
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			r.t.Fatal("the writer is not done")
		}
	}
}

// peak is the most memory flowctl has had so far.
func (r *run) peak() int64 {
	r.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.t.Skipf("nobody tells how much memory flowctl has had: %v", err)
	}
	match := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if match == nil {
		r.t.Fatalf("no VmHWM in\n%s", status)
	}
	kib, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return kib << 10
}

// wantOutput checks a writer's log files, the oldest first: together they are what it printed.
func (r *run) wantOutput(writer int, storm string, size int64) (files int) {
	r.t.Helper()
	current := filepath.Join(r.logs(), fmt.Sprintf("writer%d.log", writer))
	paths, err := filepath.Glob(current + ".*")
	if err != nil {
		r.t.Fatal(err)
	}
	var parts []io.Reader
	for _, path := range append(paths, current) { // their names sort as their times
		f, err := os.Open(path)
		if err != nil {
			r.t.Fatal(err)
		}
		defer f.Close()
		parts = append(parts, f)
	}
	got, want := bufio.NewReaderSize(io.MultiReader(parts...), 1<<20), newOutput(storm, size)
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := 0; ; {
		n, gotErr := io.ReadFull(got, a)
		m, wantErr := io.ReadFull(want, b)
		if !bytes.Equal(a[:n], b[:m]) {
			i := 0
			for i < min(n, m) && a[i] == b[i] {
				i++
			}
			r.t.Fatalf("writer%d: the log differs from byte %d on: %.50q, want %.50q", writer, at+i, a[i:n], b[i:m])
		}
		at += n
		if gotErr != nil || wantErr != nil {
			return len(parts)
		}
	}
}

// TestEveryByteIsInTheLog has flowctl's memory watched meanwhile.
func TestEveryByteIsInTheLog(t *testing.T) {
	for _, test := range []struct {
		storm string
		size  int64
		flags []string
		files int // at least
	}{
		{"bytes", size(512<<10, 16<<20), nil, 1},
		{"lines", size(1<<20, 64<<20), nil, 1},
		{"endless", size(64<<20, 1<<30), nil, 1},
		{"binary", size(32<<20, 512<<20), nil, 1},
		{"ansi", size(8<<20, 128<<20), nil, 1},
		{"text", size(32<<20, 512<<20), []string{"--log-max-size", "1MiB", "--log-max-files", "0"}, 30},
	} {
		t.Run(test.storm, func(t *testing.T) {
			r := start(t, 1, test.storm, test.size, true, nil, test.flags...)
			spent := r.await()
			peak := r.peak()
			r.stop()
			if files := r.wantOutput(0, test.storm, test.size); files < test.files {
				t.Errorf("%d log files, want %d or more", files, test.files)
			}
			t.Logf("%d MiB written in %v; flowctl had %d MiB at most", test.size>>20, spent.Round(time.Millisecond), peak>>20)
			if peak > memory {
				t.Errorf("flowctl has taken %d MiB, want at most %d", peak>>20, memory>>20)
			}
		})
	}
}

// TestBurstsAtExit has a hundred components print a burst and exit at once.
func TestBurstsAtExit(t *testing.T) {
	const writers, burst = 100, 700 << 10 // a pipe takes it and outlives its writer
	r := start(t, writers, "text", burst, false, nil)
	r.wait()
	for i := range writers {
		r.wantOutput(i, "text", burst+int64(i))
	}
}

// TestAReaderThatSleeps lets nobody read flowctl's output until the component
// is done: that has cost it no more than the patience a terminal is given, and
// the reader is told what it has missed.
func TestAReaderThatSleeps(t *testing.T) {
	const lines, length = 1_500_000, 120 // twice what flowctl keeps
	const delay = 2 * time.Second
	free := start(t, 1, "even", length*lines, false, nil)
	undisturbed := free.await()
	free.wait()

	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	r := start(t, 1, "even", length*lines, false, write)
	write.Close()
	disturbed := r.await()
	t.Logf("written in %v when nobody reads, else in %v", disturbed.Round(time.Millisecond), undisturbed.Round(time.Millisecond))
	// The patience grows again by one hundredth of the time; the rest is for a loaded machine.
	if limit := delay + 2*undisturbed + time.Second; disturbed > limit {
		t.Errorf("the writer was held up: %v, want at most %v", disturbed, limit)
	}
	seen, skipped := countLines(t, read)
	r.wait()
	if skipped == 0 || seen+skipped != lines {
		t.Errorf("%d lines seen and %d told to be skipped, want %d in all", seen, skipped, lines)
	}
	r.wantOutput(0, "even", length*lines)
}

// countLines reads what flowctl shows to its end.
func countLines(t *testing.T, shown io.Reader) (seen, skipped int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for in := bufio.NewScanner(shown); in.Scan() && ctx.Err() == nil; {
		line := in.Text()
		if strings.HasSuffix(line, " | "+string(evenLine)) {
			seen++
		} else if match := regexp.MustCompile(`\* (\d+) entries skipped`).FindStringSubmatch(line); match != nil {
			n, err := strconv.Atoi(match[1])
			if err != nil {
				t.Fatal(err)
			}
			skipped += n
		}
	}
	return seen, skipped
}

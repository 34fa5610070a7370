package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// shell is a spec that runs a shell script as component id.
func shell(t *testing.T, id, script string) driver.Spec {
	return driver.Spec{
		Component: id, Args: []string{"/bin/sh", "-c", script}, Dir: t.TempDir(), StopGrace: 5 * time.Second,
		Env: []string{"PATH=" + os.Getenv("PATH"), "FLOWCTL_RUN_ID=" + runID(t), "FLOWCTL_COMPONENT_ID=" + id},
	}
}

// runID is one that no other test has, and no other test process.
func runID(t *testing.T) string { return fmt.Sprint(t.Name(), os.Getpid()) }

// begin runs spec until stop is called. It returns when spec has printed something.
func begin(t *testing.T, d Driver, spec driver.Spec) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // until stop, in a cleanup perhaps
	read, write := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := d.Run(ctx, spec, driver.Attempt{Number: 1, Stdout: write, Stderr: io.Discard})
		if err != nil {
			t.Error(err)
		}
	}()
	if _, err := read.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	read.Close() // nobody reads on
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// zombies are our children that have ended and were not waited for.
func zombies(t *testing.T) int {
	t.Helper()
	n := 0
	for _, pid := range children() {
		if p, err := procid.Read(pid); err == nil && p.Zombie {
			n++
		}
	}
	return n
}

// A component that makes daemons all the time leaves no zombies behind, and
// nobody's exit status is taken away.
func TestZombiesAreReaped(t *testing.T) {
	o := NewOrphans()
	o.idle = 50 * time.Millisecond
	care(t, o)
	stop := begin(t, Driver{Orphans: o}, shell(t, "daemons", "echo up; while :; do (setsid true &); sleep 0.01; done"))
	most := 0
	for range 100 {
		cmd := exec.Command("sh", "-c", "sleep 0.01; exit 7")
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 7 {
			t.Fatalf("the exit status of another child was %d", code)
		}
		most = max(most, zombies(t))
	}
	if most == 0 || most > 50 {
		t.Errorf("%d zombies at a time, want a few", most)
	}
	stop()
	for deadline := time.Now().Add(5 * time.Second); zombies(t) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d zombies stay", zombies(t))
		}
		<-time.After(10 * time.Millisecond)
	}
}

// What has left the group is found by its environment or by the pipe it holds;
// what another component has left is not touched.
func TestOrphansAreStoppedWithTheirAttempt(t *testing.T) {
	o := care(t, NewOrphans())
	others := shell(t, "other", "setsid sleep 100 & echo up; sleep 100")
	stopOther := begin(t, Driver{Orphans: o}, others)
	for name, script := range map[string]string{
		"environment": "setsid sleep 100 >/dev/null 2>&1 & echo $!; exec true",
		"pipe":        "env -i PATH=$PATH setsid sleep 100 & echo $!; exec true",
		"own group":   "exec bash -mc 'sleep 100 >/dev/null 2>&1 & echo $!; disown'",
		"stubborn":    "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & sleep 0.1",
		"family":      "setsid sh -c 'sleep 100 & setsid sleep 100 & wait' & echo $!; exec true",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := shell(t, "component", script)
			spec.StopGrace = 200 * time.Millisecond
			var out bytes.Buffer
			exit, err := Driver{Orphans: o}.Run(t.Context(), spec, driver.Attempt{Number: 1, Stdout: &out, Stderr: io.Discard})
			if err != nil || exit.Code != 0 || exit.Signal != 0 {
				t.Errorf("%+v, %v; want the leader's exit", exit, err)
			}
			if left := carriers("FLOWCTL_RUN_ID=" + runID(t)); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
			if pid := strings.TrimSpace(out.String()); pid == "" || syscall.Kill(atoi(t, pid), 0) == nil {
				t.Errorf("pid %q is still there", pid)
			}
		})
	}
	t.Cleanup(func() { // after the subtests
		if left := carriers("FLOWCTL_RUN_ID=" + runID(t)); len(left) < 2 {
			t.Errorf("of the other component there is only %v", left)
		}
		stopOther()
		if left := carriers("FLOWCTL_RUN_ID=" + runID(t)); len(left) > 0 {
			t.Errorf("left over of the other component: %v", left)
		}
	})
}

func atoi(t *testing.T, text string) (n int) {
	t.Helper()
	for _, c := range text {
		if c < '0' || c > '9' {
			t.Fatalf("%q is no pid", text)
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// carriers returns the living processes with the variable in their environment.
func carriers(variable string) (names []string) {
	_, _ = procid.Each(func(p procid.Process) {
		if env, err := procid.Environ(p.PID); err == nil && !p.Zombie && slices.Contains(env, variable) {
			names = append(names, p.Name)
		}
	})
	return names
}

// tally is a guard that counts.
type tally struct {
	mu      sync.Mutex
	leaders []procid.Process
	removed []int
}

func (g *tally) Add(leader procid.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaders = append(g.leaders, leader)
}

func (g *tally) Remove(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removed = append(g.removed, pid)
}

func TestGuardIsTold(t *testing.T) {
	var guard tally
	d := Driver{Orphans: care(t, NewOrphans()), Guard: &guard}
	stop := begin(t, d, shell(t, "told", "echo up; exec sleep 100"))
	guard.mu.Lock()
	if len(guard.leaders) != 1 || guard.leaders[0].Group != guard.leaders[0].PID || !guard.leaders[0].Alive() || len(guard.removed) != 0 {
		t.Errorf("while it lives: %+v", &guard.leaders)
	}
	guard.mu.Unlock()
	stop()
	if len(guard.leaders) != 1 || len(guard.removed) != 1 || guard.removed[0] != guard.leaders[0].PID {
		t.Errorf("after its end: %+v, %v", guard.leaders, guard.removed)
	}
}

// What hides from its attempt's end is found at the run's.
func TestStopRun(t *testing.T) {
	o := care(t, NewOrphans())
	spec := shell(t, "hidden", "env FLOWCTL_COMPONENT_ID=other setsid sleep 100 >/dev/null 2>&1 & sleep 0.1; echo up")
	stop := begin(t, Driver{Orphans: o}, spec)
	stop()
	if left := carriers("FLOWCTL_RUN_ID=" + runID(t)); len(left) != 1 {
		t.Errorf("after the attempt: %v, want one that hides", left)
	}
	o.StopRun("another" + runID(t))
	if left := carriers("FLOWCTL_RUN_ID=" + runID(t)); len(left) != 1 {
		t.Errorf("after the end of another run: %v", left)
	}
	o.StopRun(runID(t))
	if left := carriers("FLOWCTL_RUN_ID=" + runID(t)); len(left) != 0 {
		t.Errorf("after the run: %v", left)
	}
}

// Many attempts that end at once share their looks at our children.
func TestLooksAreShared(t *testing.T) {
	o := NewOrphans()
	child := exec.Command("sleep", "100")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	leader := exec.Command("sleep", "100")
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leader.Process.Kill(); _ = leader.Wait() }()
	o.lead(leader.Process.Pid)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			var found []int
			for _, p := range o.list() {
				found = append(found, p.PID)
			}
			if !slices.Contains(found, child.Process.Pid) || slices.Contains(found, leader.Process.Pid) {
				t.Errorf("found %v, want %d and not %d", found, child.Process.Pid, leader.Process.Pid)
			}
		})
	}
	all.Wait()
}

func BenchmarkLook(b *testing.B) {
	o := NewOrphans()
	for b.Loop() {
		o.list()
	}
}

package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	shared "github.com/withobsrvr/flowctl/e2e/site"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// allUp waits until all components of the run are ready.
func (f *flowctl) allUp(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for strings.Count(f.output(), "* ready: ") < len(behaviours) {
		if time.Now().After(deadline) {
			t.Fatalf("not everything is ready:\n%s", f.output())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// guardian returns flowctl's guardian.
func (f *flowctl) guardian(t *testing.T) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		found := 0
		_, err := procid.Each(func(p procid.Process) {
			if p.Parent == f.cmd.Process.Pid && p.Name == "guardian" {
				found = p.PID
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if found != 0 {
			return found
		}
	}
	t.Fatal("flowctl has no guardian")
	return 0
}

// killBoth kills flowctl and its guardian at once.
func (f *flowctl) killBoth(t *testing.T) {
	t.Helper()
	guardian := f.guardian(t)
	shared.Suspend(t, guardian)
	for _, kill := range []struct {
		pid int
		sig syscall.Signal
	}{{f.cmd.Process.Pid, syscall.SIGKILL}, {guardian, syscall.SIGKILL}} {
		if err := syscall.Kill(kill.pid, kill.sig); err != nil {
			t.Fatal(err)
		}
	}
	f.wait()
}

// run runs a flowctl command to its end and returns what it printed.
func (s *site) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		t.Errorf("flowctl %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// Ports before those of the moments belong to the tests below.
const lastPorts = 4900

func TestCleanAfterBothWereKilled(t *testing.T) {
	decoys := startDecoys(t)
	s := newSite(t, lastPorts)
	if out := s.run(t, "clean"); out != "Nothing is left of any run.\n" {
		t.Errorf("clean without any run: %q", out)
	}
	f := s.start(t, false)
	f.allUp(t)
	if out := s.run(t, "clean"); out != "Nothing is left of any run.\n" {
		t.Errorf("clean beside a run: %q", out)
	}
	f.killBoth(t)
	before := len(s.living(t))
	if before < len(behaviours) {
		t.Fatalf("only %d processes outlived flowctl and its guardian", before)
	}
	out := s.run(t, "clean", "--dry-run")
	if !strings.HasPrefix(out, "Run chaos-") || !strings.Contains(out, " was killed; still alive: component (pid ") || len(s.living(t)) < before {
		t.Errorf("clean --dry-run: %q, and %d of %d live", out, len(s.living(t)), before)
	}
	out = s.run(t, "clean")
	if !strings.HasPrefix(out, "Run chaos-") || !strings.Contains(out, " was killed; stopped: component (pid ") {
		t.Errorf("clean: %q", out)
	}
	s.wantNothing(t, decoys)
	if out := s.run(t, "clean", "-o", "json"); out != "[]\n" {
		t.Errorf("clean -o json with nothing left: %q", out)
	}
}

// A run makes way for itself.
func TestRunCleansBeforeIt(t *testing.T) {
	decoys := startDecoys(t)
	s := newSite(t, lastPorts+len(behaviours))
	f := s.start(t, false)
	f.allUp(t)
	f.killBoth(t)
	next := s.start(t, false)
	next.allUp(t)
	if out := next.output(); !strings.Contains(out, " was killed; stopped: component (pid ") {
		t.Errorf("the next run says %q", out)
	}
	next.signal(syscall.SIGINT)
	next.wait()
	s.wantNothing(t, decoys)
}

// wantNothing checks that nothing is left, and that no stranger was touched.
func (s *site) wantNothing(t *testing.T, decoys []decoy) {
	t.Helper()
	s.awaitNothing(t, time.Now(), 0)
	s.wantPortsFree(t)
	if files, err := filepath.Glob(filepath.Join(s.dir, "state", "flowctl", "runs", "*")); err != nil || len(files) > 0 {
		t.Errorf("run files are left: %v, %v", files, err)
	}
	for _, d := range decoys {
		if !d.alive() {
			t.Errorf("a stranger was touched: %s", d.name)
		}
	}
}

// A stranger that has got the pid of a component, and leads a group of that
// number, survives the guardian.
func TestStrangerWithRecycledPIDSurvives(t *testing.T) {
	s := newSite(t, lastPorts+2*len(behaviours))
	f := s.start(t, false)
	f.allUp(t)
	victim := 0
	for id, args := range s.living(t) {
		if strings.Contains(args, "component plain "+fmt.Sprint(s.ports[0])) {
			victim = id.PID
		}
	}
	guardian := f.guardian(t)
	shared.Suspend(t, guardian)
	for _, kill := range []struct {
		pid int
		sig syscall.Signal
	}{{f.cmd.Process.Pid, syscall.SIGKILL}, {victim, syscall.SIGKILL}} {
		if err := syscall.Kill(kill.pid, kill.sig); err != nil {
			t.Fatalf("kill %d: %v", kill.pid, err)
		}
	}
	f.wait()
	stranger := recycle(t, victim)
	begin := time.Now()
	if err := syscall.Kill(guardian, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.awaitNothing(t, begin, bound)
	if !stranger.Alive() {
		t.Error("the stranger was killed")
	}
}

// recycle starts a stranger that gets the pid, when its first owner is gone.
func recycle(t *testing.T, pid int) procid.ID {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if _, err := procid.Read(pid); err == nil {
			<-time.After(5 * time.Millisecond) // init has not waited for it yet
			continue
		}
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, pid-1), 0); err != nil {
			t.Skipf("the next pid cannot be chosen: %v", err)
		}
		cmd := exec.Command(filepath.Join(bin, "component"), "sleep", "0", "stranger")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if cmd.Process.Pid == pid {
			p, err := procid.Read(pid)
			if err != nil {
				t.Fatal(err)
			}
			return p.ID
		}
	}
	t.Skipf("pid %d was not given out again", pid)
	return procid.ID{}
}

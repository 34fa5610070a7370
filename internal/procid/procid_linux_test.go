package procid

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const rest = " 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 8192 100 18446744073709551615"
	for _, test := range []struct {
		text string
		want Process
		ok   bool
	}{
		{"12 (sleep) S 3 4 5" + rest, Process{ID: ID{PID: 12, Start: 4711}, Name: "sleep", Parent: 3, Group: 4, Session: 5}, true},
		{"12 (a) b (c) Z 3 4 5" + rest, Process{ID: ID{PID: 12, Start: 4711}, Name: "a) b (c", Parent: 3, Group: 4, Session: 5, Zombie: true}, true},
		{"12 (\n) S 99 1 1) S 3 4 5" + rest, Process{ID: ID{PID: 12, Start: 4711}, Name: "\n) S 99 1 1", Parent: 3, Group: 4, Session: 5}, true},
		{"12 () X 3 4 5" + rest, Process{ID: ID{PID: 12, Start: 4711}, Parent: 3, Group: 4, Session: 5, Zombie: true}, true},
		{"12 (threads) Z 3 4 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 2 0 4711 0", Process{ID: ID{PID: 12, Start: 4711}, Name: "threads", Parent: 3, Group: 4, Session: 5}, true},
		{"12 (short) S 3 4 5", Process{}, false},
		{"x (sleep) S 3 4 5" + rest, Process{}, false},
		{") 12 (", Process{}, false},
		{"", Process{}, false},
	} {
		got, ok := parseStat([]byte(test.text))
		if ok != test.ok || ok && !cmp.Equal(got, test.want) {
			t.Errorf("%q: %+v, %v; want %+v, %v", test.text, got, ok, test.want, test.ok)
		}
	}
}

// child starts a process that lives until the test is over.
func child(t *testing.T) (*exec.Cmd, ID) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{"A=1", "B=two words"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p, err := Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, p.ID
}

// environ waits for the environment of a process that is just starting its program: for a moment it has none.
func environ(t *testing.T, pid int) []string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		env, err := Environ(pid)
		if err != nil {
			t.Fatal(err)
		}
		if len(env) > 0 {
			return env
		}
	}
	t.Fatalf("process %d has no environment", pid)
	return nil
}

func TestReadAndEach(t *testing.T) {
	cmd, id := child(t)
	self, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read(cmd.Process.Pid)
	// Its group and session are ours; both are 0 where their leaders are in a namespace that cannot be seen.
	want := Process{ID: ID{cmd.Process.Pid, id.Start, self.Boot}, Name: "sleep", Parent: os.Getpid(), Group: syscall.Getpgrp(), Session: self.Session}
	if err != nil || p != want || p.Boot == "" {
		t.Errorf("%#v, %v; want %#v", p, err, want)
	}
	if env := environ(t, p.PID); !cmp.Equal(env, []string{"A=1", "B=two words"}) {
		t.Errorf("environment %q", env)
	}
	var all []Process
	_, err = Each(func(p Process) { all = append(all, p) })
	if err != nil || !slices.Contains(all, p) {
		t.Errorf("it was not among the %d visited, %v", len(all), err)
	}
	if !id.Alive() {
		t.Error("it does not live")
	}
	for what, other := range map[string]ID{
		"started later": {id.PID, id.Start + 1, id.Boot}, "of another boot": {id.PID, id.Start, "another"}, "of no pid": {1 << 30, id.Start, id.Boot},
	} {
		if other.Alive() {
			t.Errorf("one %s lives", what)
		}
	}
	if _, err := Read(1 << 30); !errors.Is(err, ErrGone) {
		t.Errorf("Read of no process: %v", err)
	}
}

func TestZombieDoesNotLive(t *testing.T) {
	cmd, id := child(t)
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	AwaitEnd([]Handle{h}, 20*time.Millisecond)
	if !id.Alive() {
		t.Error("AwaitEnd or Open has ended it")
	}
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	AwaitEnd([]Handle{h}, time.Minute)
	if p, err := Read(id.PID); err != nil || !p.Zombie || id.Alive() {
		t.Errorf("after its end: %+v, %v, alive %v", p, err, id.Alive())
	}
	again, err := Open(id)
	if err != nil {
		t.Fatalf("a zombie can be held: %v", err)
	}
	defer again.Close()
	again.Reap()
	if err := h.Signal(syscall.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("a signal to nobody: %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it could be waited for twice")
	}
}

// A stale identity reaches nobody, with and without the system's handles.
func TestStaleIdentityReachesNobody(t *testing.T) {
	_, id := child(t)
	stale := id
	stale.Start--
	h, err := Open(stale)
	if !errors.Is(err, ErrGone) {
		t.Errorf("Open: %v", err)
	}
	for what, h := range map[string]Handle{"refused": h, "without handles": {ID: stale, fd: -1}} {
		if err := h.Signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
			t.Errorf("%s: signal: %v", what, err)
		}
		AwaitEnd([]Handle{h}, time.Minute)
	}
	if !id.Alive() {
		t.Error("it was killed")
	}
	blind := Handle{ID: id, fd: -1}
	if err := blind.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	AwaitEnd([]Handle{blind}, time.Minute)
	if id.Alive() {
		t.Error("it was not killed without handles")
	}
}

// A pid that is given out again is told from its first owner.
func TestRecycledPID(t *testing.T) {
	cmd, id := child(t)
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	<-time.After(20 * time.Millisecond) // the clock of starts ticks a hundred times a second
	for range 200 {                     // others fork too
		if os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, id.PID-1), 0) != nil {
			t.Skip("only root can choose the next pid")
		}
		next, nextID := child(t)
		if next.Process.Pid != id.PID {
			continue
		}
		if id.Alive() || nextID == id {
			t.Errorf("its first owner lives: %+v, %+v", id, nextID)
		}
		if err := h.Signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
			t.Errorf("a signal to its first owner: %v", err)
		}
		if !nextID.Alive() {
			t.Error("its second owner was killed")
		}
		return
	}
	t.Skip("the pid was not given out again")
}

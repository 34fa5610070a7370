package guardian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// TestMain is a guardian, when the tests start it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "guardian" {
		if err := Watch(os.Stdin, os.Args[2], append(os.Args, "")[3], removeContainers); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// removeContainers notes for which run it was called, and fails if it is told to.
func removeContainers(runID string) error {
	if text := os.Getenv("REMOVAL"); text != "" {
		return errors.New(text)
	}
	return os.WriteFile(os.Getenv("REMOVED"), []byte(runID), 0o600)
}

// quick keeps the race detector from dwelling on the end of a process.
var quick = []string{"GORACE=atexit_sleep_ms=0"}

// runID is one that no other test has, and no other test process.
func runID(t *testing.T) string {
	return fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), os.Getpid())
}

// start starts a shell that prints "up" when it is under way, in a group of its
// own, and waits for that.
func start(t *testing.T, script string, env ...string) procid.Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := procid.Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // at once: a zombie is no member of a group
		defer close(ended)
		_, _ = cmd.Process.Wait()
	}()
	t.Cleanup(func() { _ = syscall.Kill(-p.PID, syscall.SIGKILL); _ = cmd.Process.Kill(); <-ended; out.Close() })
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return p
}

// left returns the processes whose arguments contain the text.
func left(t *testing.T, text string) (found []procid.Process) {
	t.Helper()
	_, err := procid.Each(func(p procid.Process) {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if !p.Zombie && p.PID != os.Getpid() && strings.Contains(string(args), text) {
			found = append(found, p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// unique is an argument that finds a test's processes again, whatever they do.
func unique(t *testing.T) string { return "mark" + runID(t) }

// newGuardian starts a guardian; die ends the pipe as flowctl's death does and
// waits for the guardian's end.
func newGuardian(t *testing.T, runFile string) (g *Guardian, die func()) {
	t.Helper()
	g, err := New(Options{Command: []string{os.Args[0], "guardian"}, Env: quick, RunID: runID(t), RunFile: runFile, Notice: func(text string) { t.Error(text) }})
	if err != nil {
		t.Fatal(err)
	}
	died := false
	die = func() {
		died = true
		_ = g.pipe.Close()
		if err := g.process.Wait(); err != nil {
			t.Errorf("the guardian: %v", err)
		}
		g.removeRecord()
	}
	t.Cleanup(func() {
		if !died {
			die()
		}
	})
	return g, die
}

func TestNothingOutlivesFlowctl(t *testing.T) {
	for name, script := range map[string]string{
		"plain":           "echo up; exec sleep 100.$MARK || exec sleep 100",
		"child":           "sh -c 'echo up; sleep 100; : MARK'; :",
		"double fork":     "(sh -c 'sleep 100; : MARK' & echo up; : MARK) ; sleep 100; : MARK",
		"runaway":         "setsid sh -c 'echo up; sleep 100; : MARK' & sleep 100; : MARK",
		"daemon":          "setsid sh -c 'sh -c \"echo up; sleep 100; : MARK\" & : MARK' & sleep 100; : MARK",
		"leader is gone":  "sh -c 'env -i sh -c \"echo up; sleep 100; : MARK\" & : MARK'",
		"no environment":  "exec env -i sh -c 'echo up; sleep 100; : MARK'",
		"cleared runaway": "env -i setsid sh -c 'echo up; sleep 100; : MARK' & sleep 100; : MARK",
		"ignores SIGTERM": "trap '' TERM; echo up; while :; do sleep 100; : MARK; done",
		"stopped":         "sh -c 'echo up; kill -STOP $$; sleep 100; : MARK'; : MARK",
		"fork bomb":       "trap '' TERM; echo up; while :; do sh -c 'sleep 100; : MARK' & sleep 0.02; : MARK; done",
		"moving target":   "trap '' TERM; f() { sleep 0.02; (f) & : MARK; }; f & echo up; sleep 100; : MARK",
		"moving runaway":  "setsid sh -c 'trap \"\" TERM; f() { sleep 0.02; (f) & : MARK; }; f & echo up' & exec sleep 100",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mark := unique(t)
			g, die := newGuardian(t, "")
			p := start(t, strings.ReplaceAll(script, "MARK", mark), "FLOWCTL_RUN_ID="+runID(t), "MARK="+mark)
			g.Add(p)
			begin := time.Now()
			die()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if found := left(t, mark); len(found) > 0 {
				t.Errorf("left over: %+v", found)
			}
			if p.Alive() {
				t.Error("its first process lives")
			}
		})
	}
}

func TestStrangersAreLeftAlone(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run.json")
	g, die := newGuardian(t, run)
	id := "FLOWCTL_RUN_ID=" + runID(t)
	strangers := map[string]procid.Process{
		"another run":        start(t, "echo up; exec sleep 100", id+"x"),
		"another variable":   start(t, "echo up; exec sleep 100", "X"+id, "X="+id),
		"a recycled pid":     start(t, "echo up; exec sleep 100"),
		"a recycled group":   start(t, "echo up; sleep 100; :"),
		"a group that ended": start(t, "echo up; exec sleep 100"),
	}
	ours := start(t, "echo up; exec sleep 100", id)
	for _, name := range []string{"a recycled pid", "a recycled group"} {
		stale := strangers[name]
		stale.Start--
		g.Add(stale)
	}
	g.Add(strangers["a group that ended"])
	g.Remove(strangers["a group that ended"].PID)
	die()
	for name, p := range strangers {
		if !p.Alive() {
			t.Errorf("%s was killed", name)
		}
	}
	if ours.Alive() {
		t.Error("what was of the run lives")
	}
}

// A group without its leader is trusted only right after flowctl's death.
func TestGroupWithoutLeader(t *testing.T) {
	mark := unique(t)
	start(t, "sh -c 'echo up; sleep 100; : "+mark+"' & : "+mark)
	members := left(t, mark)
	for len(members) != 1 || !hasChild(t, members[0], "sleep") { // its leader is about to end
		members = left(t, mark)
	}
	member := members[0]
	group := Group{Leader: procid.ID{PID: member.Group, Start: member.Start, Boot: member.Boot}, Session: member.Session}
	younger := group
	younger.Leader.Start = member.Start + 1000
	elsewhere := group
	elsewhere.Session++
	for name, test := range map[string]struct {
		group Group
		fresh bool
		want  int
	}{
		"fresh": {group, true, 2}, "old": {group, false, 0}, "members are older": {younger, true, 0}, "another session": {elsewhere, true, 0},
	} {
		found, err := Find(Remains{RunID: "none", Groups: []Group{test.group}, Fresh: test.fresh})
		if err != nil || len(found) != test.want {
			t.Errorf("%s: %+v, %v; want %d", name, found, err, test.want)
		}
	}
}

// hasChild reports whether a process has started a program.
func hasChild(t *testing.T, parent procid.Process, name string) bool {
	t.Helper()
	found := false
	_, err := procid.Each(func(p procid.Process) { found = found || p.Parent == parent.PID && p.Name == name })
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestGoodbye(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run.json")
	g, err := New(Options{Command: []string{os.Args[0], "guardian"}, Env: quick, RunID: runID(t), RunFile: run})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "echo up; exec sleep 100", "FLOWCTL_RUN_ID="+runID(t))
	g.Add(p)
	if groups, err := ReadRecord(run, p.Boot); err != nil || len(groups) != 1 || groups[0].Leader != p.ID {
		t.Errorf("the record says %+v, %v", groups, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	if err := g.Run(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("the goodbye took %v", took)
	}
	if !p.Alive() {
		t.Error("it was killed after a goodbye")
	}
	if _, err := os.Stat(RecordPath(run)); err == nil {
		t.Error("the record is still there")
	}
}

func TestFilesAreRemoved(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run.json")
	if err := os.WriteFile(run, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, die := newGuardian(t, run)
	die()
	if found, err := os.ReadDir(filepath.Dir(run)); err != nil || len(found) > 0 {
		t.Errorf("left over: %v, %v", found, err)
	}
}

// A guardian that was killed is replaced by one that knows all.
func TestGuardianIsReplaced(t *testing.T) {
	mark := unique(t)
	g, err := New(Options{Command: []string{os.Args[0], "guardian"}, Env: quick, RunID: runID(t), Notice: func(text string) { t.Error(text) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	p := start(t, "exec env -i sh -c 'echo up; sleep 100; : "+mark+"'")
	g.Add(p)
	first := g.current()
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for g.current() == first {
		<-time.After(time.Millisecond)
	}
	g.mu.Lock() // flowctl dies
	_ = g.pipe.Close()
	g.mu.Unlock()
	for deadline := time.Now().Add(10 * time.Second); len(left(t, mark)) > 0; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second guardian does not stop what the first one knew of")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGuardianThatCannotLive(t *testing.T) {
	var notices []string
	g, err := New(Options{Command: []string{"/bin/false"}, RunID: "none", Notice: func(text string) { notices = append(notices, text) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := g.Run(ctx); err != nil {
		t.Error(err)
	}
	g.Add(procid.Process{ID: procid.ID{PID: 1 << 30}}) // does not hang, does not panic
	if len(notices) != 1 || !strings.Contains(notices[0], "exit status 1") {
		t.Errorf("notices: %q", notices)
	}
	if _, err := New(Options{Command: []string{"/no/such/program"}}); err == nil {
		t.Error("a guardian that is no program was started")
	}
}

func TestReadGroups(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "group 5 6 7\n": 1, "group 5 6 7\ngone 5\n": 0, "group 5 6 7\ngone 6\n": 1,
		"group 5 6 7\ngroup 8 9 10": 1, "group 5 6 7\ngroup 5 8 7\n": 1, "\x00\xff\n\ngroup 5\ngroup a b c\nby\ngroup 5 6 7\n": 1,
	} {
		if groups, err := readGroups(strings.NewReader(text), "boot"); len(groups) != want || err != nil {
			t.Errorf("%q: %v, %v; want %d groups", text, groups, err, want)
		}
	}
}

// The record does not grow for ever.
func TestRecordStaysSmall(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run.json")
	g, _ := newGuardian(t, run)
	g.Add(procid.Process{ID: procid.ID{PID: 1 << 30, Start: 1}})
	for i := range 10_000 {
		g.Add(procid.Process{ID: procid.ID{PID: 1<<30 + 1, Start: uint64(i)}})
		g.Remove(1<<30 + 1)
	}
	info, err := os.Stat(RecordPath(run))
	if err != nil || info.Size() > maxRecord+100 {
		t.Errorf("%v, %v", info.Size(), err)
	}
	if groups, err := ReadRecord(run, ""); err != nil || len(groups) != 1 || groups[0].Leader.PID != 1<<30 {
		t.Errorf("the record says %+v, %v", groups, err)
	}
}

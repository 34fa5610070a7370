package engine

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/procid"
)

func TestRunIsFoundWhileItRuns(t *testing.T) {
	p := load(t, "  sinks: [{id: say, command: [sleep, '1000'], registration: none}]\n")
	self, err := procid.Self()
	if err != nil {
		t.Fatal(err)
	}
	opts := options(t, p)
	e := start(t, opts)
	if runs, err := Runs(opts.StateDir); err != nil || len(runs) != 0 {
		t.Errorf("before the run: %v, %v", runs, err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(inTime(t))
	defer stop()
	go func() { ended <- e.Run(ctx) }()
	if err := e.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	runs, err := Runs(opts.StateDir)
	if err != nil || len(runs) != 1 {
		t.Fatalf("during the run: %v, %v", runs, err)
	}
	got := runs[0]
	if got.ID != e.RunID() || got.Pipeline != "tiny" || got.Process != self || got.Endpoint != e.Endpoint() || got.LogDir != opts.LogDir || got.StartedAt.IsZero() {
		t.Errorf("the run file says %+v", got)
	}
	path := filepath.Join(opts.StateDir, "runs", e.RunID()+".json")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("run file: %v, %v; want it for its owner only", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v; want it for its owner only", info.Mode(), err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(opts.StateDir, "runs", "*")); err != nil || len(left) != 0 {
		t.Errorf("after the run: %v, %v", left, err)
	}
}

func TestRunsLeavesOutWhatIsNoRun(t *testing.T) {
	dir := t.TempDir()
	self, err := procid.Self()
	if err != nil {
		t.Fatal(err)
	}
	recycled, dead, rebooted := self, self, self
	recycled.Start--
	dead.PID = 1 << 30
	rebooted.Boot = "another boot"
	write := func(name string, run any) {
		t.Helper()
		content, err := json.Marshal(run)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "runs"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "runs", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("lives.json", Run{ID: "lives", Process: self})
	write("recycled.json", Run{ID: "another process got its pid", Process: recycled})
	write("dead.json", Run{ID: "dead", Process: dead})
	write("rebooted.json", Run{ID: "of another boot", Process: rebooted})
	write("garbage.json", "garbage")
	write("half-written.json.new", Run{ID: "half-written", Process: self})
	runs, err := Runs(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, run := range runs {
		ids = append(ids, run.ID)
	}
	if diff := cmp.Diff([]string{"lives"}, ids); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRunsWithoutAStateFolder(t *testing.T) {
	if runs, err := Runs(filepath.Join(t.TempDir(), "never", "made")); err != nil || len(runs) != 0 {
		t.Errorf("%v, %v; want none", runs, err)
	}
}

func TestDefaultStateDir(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/flowctl"},
		{map[string]string{"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.local/state/flowctl"},
		{map[string]string{"HOME": "/home/me"}, "/home/me/.local/state/flowctl"},
		{nil, ""},
	} {
		if got := DefaultStateDir(func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%v: %q, want %q", test.env, got, test.want)
		}
	}
}

func TestARunFileThatCannotBeWrittenStopsNobody(t *testing.T) {
	opts := options(t, load(t, "  sinks: [{id: say, command: [echo, hi], registration: none}]\n"))
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts.StateDir = blocked
	e := start(t, opts)
	if err := e.Run(inTime(t)); err != nil {
		t.Fatal(err)
	}
	told := false
	for b := range e.Journal().Follow(t.Context(), journal.FollowOptions{Stop: true}) {
		told = told || b.Kind == journal.Notice
	}
	if !told {
		t.Error("nobody is told that other terminals cannot find the run")
	}
}

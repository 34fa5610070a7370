package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// idle starts a process with env that lives until the test is over.
func idle(t *testing.T, env ...string) procid.ID {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	cmd.Env = env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = cmd.Process.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	p, err := procid.Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	self, err := procid.Self()
	if err != nil {
		t.Fatal(err)
	}
	dead, recycled, rebooted := self, self, self
	dead.PID = 1 << 30
	recycled.Start--
	rebooted.Boot = "another"
	processes := map[string]procid.ID{}
	for id, process := range map[string]procid.ID{"alive": self, "dead": dead, "recycled": recycled, "rebooted": rebooted} {
		if err := writeJSON(runFile(dir, id), Run{ID: id, Pipeline: "tiny", Process: process}); err != nil {
			t.Fatal(err)
		}
		processes[id] = idle(t, "FLOWCTL_RUN_ID="+id)
	}
	half := runFile(dir, "half") + ".new"
	for _, path := range []string{runFile(dir, "garbage"), half} {
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(half, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		left, err := Clean(t.Context(), CleanOptions{StateDir: dir, DryRun: dryRun, Getenv: os.Getenv})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, l := range left {
			told = append(told, filepath.Base(l.File))
			cleaned := l.RunID == "dead" || l.RunID == "recycled"
			if cleaned != (len(l.Processes) == 1 && l.Processes[0].PID == processes[l.RunID].PID) || l.Rebooted != (l.RunID == "rebooted") || l.RunID == "" != (l.Error != "") {
				t.Errorf("dry run %v: %+v", dryRun, l)
			}
		}
		slices.Sort(told)
		if want := []string{"dead.json", "garbage.json", "rebooted.json", "recycled.json"}; !slices.Equal(told, want) {
			t.Errorf("dry run %v: it tells of %v, want %v", dryRun, told, want)
		}
		for id, p := range processes {
			if stays := dryRun || id == "alive" || id == "rebooted"; p.Alive() != stays {
				t.Errorf("dry run %v: the process of %s lives: %v", dryRun, id, p.Alive())
			}
			_, err := os.Stat(runFile(dir, id))
			if stays := dryRun || id == "alive"; (err == nil) != stays {
				t.Errorf("dry run %v: the run file of %s: %v", dryRun, id, err)
			}
		}
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("the half-written file is still there")
	}
	if left, err := Clean(t.Context(), CleanOptions{Getenv: os.Getenv}); err != nil || len(left) != 0 {
		t.Errorf("without a state folder: %v, %v", left, err)
	}
}

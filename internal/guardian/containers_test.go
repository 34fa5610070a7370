package guardian

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// killed is what a guardian leaves of a run with a run file when flowctl dies.
func killed(t *testing.T, containers bool, env ...string) (removed string, runFileStays bool) {
	t.Helper()
	dir := t.TempDir()
	runFile, note := filepath.Join(dir, "run.json"), filepath.Join(dir, "removed")
	if err := os.WriteFile(runFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := New(Options{
		Command: []string{os.Args[0], "guardian"}, Env: slices.Concat(env, quick, []string{"REMOVED=" + note}), RunID: runID(t), RunFile: runFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	if containers {
		g.Containers()
		g.Containers() // once more is no more
	}
	_ = g.pipe.Close()
	_ = g.process.Wait() // a failure is its exit status
	_ = g.record.Close()
	text, _ := os.ReadFile(note)
	_, err = os.Stat(runFile)
	return string(text), err == nil
}

func TestContainersAreRemoved(t *testing.T) {
	if removed, stays := killed(t, true); removed != runID(t) || stays {
		t.Errorf("those of %q were removed, the run file stays: %v", removed, stays)
	}
	if removed, stays := killed(t, false); removed != "" || stays {
		t.Errorf("a run without containers: those of %q were removed, the run file stays: %v", removed, stays)
	}
	if removed, stays := killed(t, true, "REMOVAL=no engine"); removed != "" || !stays {
		t.Errorf("when it fails, those of %q were removed, the run file stays: %v", removed, stays)
	}
}

func TestBequeathedContainersAreRemovedLater(t *testing.T) {
	dir := t.TempDir()
	runFile, note := filepath.Join(dir, "run.json"), filepath.Join(dir, "removed")
	if err := os.WriteFile(runFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := New(Options{Command: []string{os.Args[0], "guardian"}, Env: append([]string{"REMOVED=" + note}, quick...), RunID: runID(t), RunFile: runFile})
	if err != nil {
		t.Fatal(err)
	}
	g.Containers()
	g.Bequeath()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // it is nobody's child to wait for
		if _, err := os.Stat(runFile); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the run file is still there")
		}
	}
	if text, _ := os.ReadFile(note); string(text) != runID(t) {
		t.Errorf("those of %q were removed", text)
	}
}

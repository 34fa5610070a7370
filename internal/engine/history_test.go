package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/procid"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// outcomeOf runs a pipeline to its end and returns what is remembered.
func outcomeOf(t *testing.T, spec string, stop bool) Past {
	t.Helper()
	opts := options(t, load(t, spec))
	e := start(t, opts)
	ctx, cancel := context.WithCancel(inTime(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	if stop {
		if err := e.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		now, err := Remembered(opts.StateDir, e.RunID())
		if err != nil || now.Outcome != Running || !now.EndedAt.IsZero() {
			t.Errorf("while it runs: %+v, %v", now, err)
		}
		e.Shutdown()
	}
	<-ended
	past, err := Remembered(opts.StateDir, e.RunID())
	if err != nil {
		t.Fatal(err)
	}
	if past.EndedAt.Before(past.StartedAt) || past.Pipeline != "tiny" || past.LogDir != opts.LogDir {
		t.Errorf("remembered: %+v", past)
	}
	if info, err := os.Stat(historyFile(opts.StateDir, e.RunID())); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history file: %v, %v; want it for its owner only", info, err)
	}
	return past
}

func TestHistoryTellsHowARunEnded(t *testing.T) {
	for _, test := range []struct {
		name, spec string
		stop       bool
		want       Outcome
		reason     string
	}{
		{"completed", "  sinks: [{id: c, command: ['true'], registration: none}]\n", false, Completed, ""},
		{"stopped", "  sinks: [{id: c, command: [sleep, '1000'], registration: none}]\n", true, Stopped, ""},
		{"failed", "  sinks: [{id: c, command: [sh, -c, exit 7], registration: none, restart: {policy: no}}]\n", false, Failed, "c exited with code 7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			past := outcomeOf(t, test.spec, test.stop)
			if past.Outcome != test.want || !strings.HasPrefix(past.Reason, test.reason) || len(past.Components) != 1 || len(past.Components[0].Exits) != 1 {
				t.Errorf("remembered: %+v", past)
			}
		})
	}
}

func TestHistoryTellsEveryAttempt(t *testing.T) {
	past := outcomeOf(t, "  sinks: [{id: c, command: [sh, -c, 'exit $FLOWCTL_ATTEMPT'], registration: none, restart: {attempts: 2, initial: 1ms}}]\n", false)
	c := past.Components[0]
	if c.State != supervisor.Failed || c.Restarts != 2 || past.Restarts() != 2 || c.Attempts != 3 || len(c.Exits) != 3 {
		t.Fatalf("remembered: %+v", c)
	}
	for i, e := range c.Exits {
		if e.Attempt != i+1 || e.Code != i+1 || e.Text != fmt.Sprintf("exited with code %d", i+1) || e.At.IsZero() {
			t.Errorf("exit %d: %+v", i, e)
		}
	}
}

// A run whose flowctl was killed is known as that, and its run file is a leftover.
func TestKilledRunIsRemembered(t *testing.T) {
	dir := t.TempDir()
	self, err := procid.Self()
	if err != nil {
		t.Fatal(err)
	}
	gone := self
	gone.Start++ // another process with this pid
	for _, run := range []Run{{ID: "tiny-dead", Process: gone}, {ID: "tiny-alive", Process: self}} {
		if err := writeJSON(runFile(dir, run.ID), run); err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(historyFile(dir, run.ID), Past{ID: run.ID, Outcome: Running}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]Outcome{"tiny-dead": Killed, "tiny-alive": Running} {
		if past, err := Remembered(dir, id); err != nil || past.Outcome != want {
			t.Errorf("%s: %+v, %v; want %s", id, past, err, want)
		}
	}
	left, err := Leftovers(dir)
	if err != nil || len(left) != 1 || left[0].ID != "tiny-dead" {
		t.Errorf("leftovers: %+v, %v", left, err)
	}
	if _, err := Remembered(dir, "tiny-never"); err == nil {
		t.Error("a run that never was is remembered")
	}
}

// The youngest 200 are kept, and whatever still runs.
func TestHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	begin := time.Now().Add(-time.Hour)
	for i := range maxPast + 10 {
		id := fmt.Sprintf("tiny-%03d", i)
		if err := writeJSON(historyFile(dir, id), Past{ID: id, StartedAt: begin.Add(time.Duration(i) * time.Second), Outcome: Stopped}); err != nil {
			t.Fatal(err)
		}
		when := begin.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(historyFile(dir, id), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeJSON(runFile(dir, "tiny-000"), Run{ID: "tiny-000"}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(OutputFile(dir, "x")), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(OutputFile(dir, "tiny-001"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	prune(dir)
	past, err := History(dir)
	if err != nil || len(past) != maxPast+1 || past[0].ID != "tiny-209" || past[maxPast-1].ID != "tiny-010" || past[maxPast].ID != "tiny-000" {
		t.Errorf("%d runs are remembered, %v", len(past), err)
	}
	if _, err := os.Stat(OutputFile(dir, "tiny-001")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the output of a forgotten run: %v", err)
	}
}

// A disk that takes no history is told, and stops nobody.
func TestHistoryThatCannotBeKept(t *testing.T) {
	opts := options(t, load(t, "  sinks: [{id: c, command: ['true'], registration: none}]\n"))
	if err := os.WriteFile(filepath.Join(opts.StateDir, "history"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, opts)
	if err := e.Run(inTime(t)); err != nil {
		t.Errorf("Run = %v", err)
	}
	found := 0
	for b := range e.Journal().Follow(t.Context(), journal.FollowOptions{}) {
		for entry := range b.Entries() {
			if strings.HasPrefix(entry.Text, "the history of this run is not kept: ") {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("nobody is told")
	}
}

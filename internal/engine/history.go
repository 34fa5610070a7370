package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Running     Outcome = "running"     // it has not ended
	Completed   Outcome = "completed"   // all that had to be done was done
	Stopped     Outcome = "stopped"     // it was asked to end
	Interrupted Outcome = "interrupted" // it was asked to end before everything was ready
	Failed      Outcome = "failed"      // a component failed for good
	Killed      Outcome = "killed"      // flowctl itself was killed
)

// Past is one run in the history.
type Past struct {
	ID        string    `json:"id"`
	Pipeline  string    `json:"pipeline"`
	File      string    `json:"file"`
	LogDir    string    `json:"log_dir"`
	StartedAt time.Time `json:"started_at"`
	// EndedAt is zero while it runs, and when flowctl was killed.
	EndedAt time.Time `json:"ended_at,omitzero"`
	Outcome Outcome   `json:"outcome"`
	// Reason is one sentence, "" when there is nothing to say.
	Reason     string          `json:"reason,omitempty"`
	Components []PastComponent `json:"components"`
}

// PastComponent is a component as it was when its run ended.
type PastComponent struct {
	ID       string           `json:"id"`
	Role     string           `json:"role"`
	State    supervisor.State `json:"state"`
	Reason   string           `json:"reason,omitempty"`
	Attempts int              `json:"attempts"`
	Restarts int              `json:"restarts"`
	// Image and Digest are what its last container was made of.
	Image  string `json:"image,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Exits are how its attempts ended, the last maxExits of them.
	Exits []PastExit `json:"exits"`
}

// PastExit is the end of one attempt.
type PastExit struct {
	Attempt int       `json:"attempt"`
	At      time.Time `json:"at"`
	Text    string    `json:"text"` // "exited with code 1"
	Code    int       `json:"code"` // -1 when a signal ended it
}

const (
	// maxPast is how many runs the history keeps, maxExits how many exits of a component.
	maxPast  = 200
	maxExits = 20
)

// Restarts counts those of all components.
func (p Past) Restarts() int {
	n := 0
	for _, c := range p.Components {
		n += c.Restarts
	}
	return n
}

// chronicle writes the history of one run.
type chronicle struct {
	mu    sync.Mutex // guards exits
	exits map[string][]PastExit
}

// exited notes the end of an attempt.
func (c *chronicle) exited(component string, attempt int, exit driver.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	exits := append(c.exits[component], PastExit{Attempt: attempt, At: time.Now(), Text: exit.String(), Code: exit.Code})
	c.exits[component] = exits[max(len(exits)-maxExits, 0):]
}

// beginHistory makes the run part of the history: should flowctl be killed, it is known.
func (e *Engine) beginHistory() {
	e.writeHistory(Running, "", time.Time{})
	var ids []string
	for _, c := range e.Plan().Components {
		ids = append(ids, c.ID)
	}
	e.plane.begin(ids)
	if e.opts.StateDir != "" {
		prune(e.opts.StateDir)
	}
}

// endHistory records how the run ended; err is what the supervisor returned.
func (e *Engine) endHistory(err error) {
	outcome, reason := Stopped, ""
	var failed *supervisor.FailedError
	switch {
	case errors.As(err, &failed):
		outcome, reason = Failed, failed.Error()
	case err != nil:
		outcome, reason = Interrupted, err.Error()
	case e.completed():
		outcome = Completed
	}
	e.writeHistory(outcome, reason, time.Now())
	e.plane.end(map[Outcome]registry.RunStatus{Completed: registry.RunCompleted, Failed: registry.RunFailed}[outcome], reason)
}

// completed reports whether the run ended because its work was done: every
// sink, or every component where there is no sink.
func (e *Engine) completed() bool {
	sinks, done, all := 0, 0, 0
	statuses := e.supervisor.Statuses()
	for _, s := range statuses {
		sink := s.Role == "sink"
		if sink {
			sinks++
		}
		if s.State == supervisor.Completed {
			all++
			if sink {
				done++
			}
		}
	}
	return sinks > 0 && done == sinks || all == len(statuses)
}

// writeHistory writes the run's file. A disk that is full or broken is told,
// and stops nobody.
func (e *Engine) writeHistory(outcome Outcome, reason string, ended time.Time) {
	if e.opts.StateDir == "" {
		return
	}
	logs, err := filepath.Abs(e.opts.LogDir)
	if err != nil {
		logs = e.opts.LogDir
	}
	past := Past{
		ID: e.runID, Pipeline: e.Plan().Pipeline, File: e.file(), LogDir: logs, StartedAt: e.startedAt,
		EndedAt: ended, Outcome: outcome, Reason: reason, Components: []PastComponent{},
	}
	e.chronicle.mu.Lock()
	defer e.chronicle.mu.Unlock()
	for _, s := range e.supervisor.Statuses() {
		past.Components = append(past.Components, PastComponent{
			ID: s.Component, Role: string(s.Role), State: s.State, Reason: s.Reason, Attempts: s.Attempt,
			Restarts: s.Restarts, Image: s.Image, Digest: s.Digest, Exits: append([]PastExit{}, e.chronicle.exits[s.Component]...),
		})
	}
	if err := writeJSON(historyFile(e.opts.StateDir, e.runID), past); err != nil {
		e.Notice("the history of this run is not kept: " + err.Error())
	}
}

func historyFile(stateDir, id string) string { return filepath.Join(stateDir, "history", id+".json") }

// writeJSON writes a file that only its user can read, all of it or nothing.
func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(content, '\n'), 0o600); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return nil
}

// prune forgets the oldest runs beyond maxPast, but none that still has a run file.
func prune(stateDir string) {
	entries, err := os.ReadDir(filepath.Join(stateDir, "history"))
	if err != nil || len(entries) <= maxPast {
		return
	}
	type file struct {
		id   string
		when time.Time
	}
	var files []file
	for _, entry := range entries {
		id, ok := strings.CutSuffix(entry.Name(), ".json")
		info, err := entry.Info()
		if !ok || err != nil {
			continue
		}
		if _, err := os.Stat(runFile(stateDir, id)); err == nil {
			continue
		}
		files = append(files, file{id, info.ModTime()})
	}
	slices.SortFunc(files, func(a, b file) int { return a.when.Compare(b.when) })
	for _, f := range files[:max(len(files)-maxPast, 0)] {
		_ = os.Remove(historyFile(stateDir, f.id))
		_ = os.Remove(OutputFile(stateDir, f.id))
	}
}

// OutputFile is where a detached run's own output goes.
func OutputFile(stateDir, id string) string { return filepath.Join(stateDir, "detached", id+".out") }

// History returns the runs that are remembered in stateDir, the youngest first.
// A file that cannot be read is left out.
func History(stateDir string) ([]Past, error) {
	paths, err := filepath.Glob(filepath.Join(stateDir, "history", "*.json"))
	if err != nil {
		return nil, err
	}
	alive, err := Runs(stateDir)
	if err != nil {
		return nil, err
	}
	var all []Past
	for _, path := range paths {
		var past Past
		if readJSON(path, &past) != nil {
			continue
		}
		if past.Outcome == Running && !slices.ContainsFunc(alive, func(r Run) bool { return r.ID == past.ID }) {
			// It may have ended since its file was read.
			if readJSON(path, &past) == nil && past.Outcome == Running {
				past.Outcome, past.Reason = Killed, "flowctl itself was killed, or the machine went down"
			}
		}
		all = append(all, past)
	}
	slices.SortFunc(all, func(a, b Past) int { return b.StartedAt.Compare(a.StartedAt) })
	return all, nil
}

func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}

// Leftovers returns the runs in stateDir whose flowctl was killed: their run
// files are still there. The youngest comes first.
func Leftovers(stateDir string) ([]Run, error) {
	all, _, err := readRuns(stateDir)
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(all, func(r Run) bool {
		if r.Process.Alive() {
			return true
		}
		_, err := os.Stat(runFile(stateDir, r.ID))
		return err != nil // it has just ended
	})
	slices.SortFunc(left, func(a, b Run) int { return b.StartedAt.Compare(a.StartedAt) })
	return left, nil
}

// Remembered returns one run of the history.
func Remembered(stateDir, id string) (Past, error) {
	all, err := History(stateDir)
	if err != nil {
		return Past{}, err
	}
	for _, p := range all {
		if p.ID == id {
			return p, nil
		}
	}
	return Past{}, fmt.Errorf("no run %s is remembered", id)
}

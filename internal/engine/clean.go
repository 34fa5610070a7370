package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/guardian"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// cleanGrace is how long leftovers get between SIGTERM and SIGKILL.
const cleanGrace = 300 * time.Millisecond

// Leftover is what a run has left behind whose flowctl was killed.
type Leftover struct {
	RunID    string `json:"run"`
	Pipeline string `json:"pipeline"`
	// File is the run file; "" if there is none any more.
	File string `json:"file,omitempty"`
	// Processes are those of the run that still lived.
	Processes []LeftProcess `json:"processes"`
	// Containers and Networks are how many it still had on the container engine.
	Containers int `json:"containers,omitempty"`
	Networks   int `json:"networks,omitempty"`
	// Rebooted is true when the run was of another boot of this machine: none of
	// its processes can live.
	Rebooted bool `json:"rebooted,omitempty"`
	// Error says what of it could not be removed.
	Error string `json:"error,omitempty"`
}

// LeftProcess is a process that a run has left behind.
type LeftProcess struct {
	PID     int    `json:"pid"`
	Program string `json:"program"`
}

// CleanOptions say where to look for leftovers.
type CleanOptions struct {
	// StateDir has the run files.
	StateDir string
	// DryRun leaves everything as it is.
	DryRun bool
	// Getenv finds the container engine. It is asked about runs whose file says that
	// they had containers, and if Labelled is true also about those of which there is
	// no file any more; if it does not answer, there are none of these.
	Getenv   func(string) string
	Labelled bool
}

// Clean stops the processes and removes the containers and files of runs whose
// flowctl is dead, according to the run files and to what stands on containers;
// a dry run only says which there are. It never touches a run whose flowctl lives. The
// Leftovers tell what could not be removed; the error is about the folder itself.
func Clean(ctx context.Context, opts CleanOptions) ([]Leftover, error) {
	stateDir, dryRun := opts.StateDir, opts.DryRun
	runs, unreadable, err := readRuns(stateDir)
	if err != nil {
		return nil, fmt.Errorf("clean %s: %w", stateDir, err)
	}
	left := []Leftover{}
	for _, path := range unreadable {
		left = append(left, Leftover{File: path, Error: "it is no run file; if it is not yours to keep, remove it"})
	}
	self, err := procid.Self()
	if err != nil {
		return nil, fmt.Errorf("clean %s: %w", stateDir, err)
	}
	onEngine := contained{getenv: opts.Getenv}
	defer onEngine.close()
	known := make(map[string]bool)
	for _, run := range runs {
		known[run.ID] = true
		if run.Process.Alive() {
			continue
		}
		l := Leftover{
			RunID: run.ID, Pipeline: run.Pipeline, File: runFile(stateDir, run.ID),
			Processes: []LeftProcess{}, Rebooted: run.Process.Boot != self.Boot,
		}
		var err error
		if run.Containers {
			err = onEngine.clean(ctx, &l, dryRun)
		}
		if err = errors.Join(err, l.stop(self.Boot, dryRun)); err == nil && !dryRun {
			err = guardian.RemoveFiles(l.File)
		}
		if err != nil {
			l.Error = err.Error()
		}
		left = append(left, l)
	}
	if opts.Labelled {
		left = append(left, onEngine.stray(ctx, known, dryRun)...)
	}
	if !dryRun && stateDir != "" {
		removeStray(stateDir)
	}
	return left, nil
}

// stop stops the processes that are left of one run.
func (l *Leftover) stop(boot string, dryRun bool) error {
	if l.Rebooted {
		return nil
	}
	groups, err := guardian.ReadRecord(l.File, boot)
	if err != nil {
		return err
	}
	remains := guardian.Remains{RunID: l.RunID, Groups: groups}
	found, err := guardian.Find(remains)
	if err == nil && !dryRun {
		found, err = guardian.Sweep(remains, cleanGrace)
	}
	for _, p := range found {
		l.Processes = append(l.Processes, LeftProcess{PID: p.PID, Program: p.Name})
	}
	return err
}

// contained is what dead runs have on the container engine, which is asked when
// there is something to ask it.
type contained struct {
	getenv func(string) string
	engine *docker.Engine
	runs   []docker.Leftover
	err    error
}

// ask finds out what there is.
func (c *contained) ask(ctx context.Context) error {
	if c.engine != nil || c.err != nil {
		return c.err
	}
	if c.engine, c.err = docker.Connect(c.getenv); c.err == nil {
		c.runs, c.err = c.engine.Leftovers(ctx)
	}
	return c.err
}

func (c *contained) close() {
	if c.engine != nil {
		c.engine.Close()
	}
}

// clean removes what is left of one run.
func (c *contained) clean(ctx context.Context, l *Leftover, dryRun bool) error {
	if err := c.ask(ctx); err != nil {
		return err
	}
	for _, run := range c.runs {
		if run.Run == l.RunID {
			l.Containers, l.Networks = run.Containers, run.Networks
		}
	}
	if dryRun {
		return nil
	}
	return c.engine.Sweep(ctx, l.RunID) // also what is being made just now
}

// stray removes what is left of runs that have no run file, if it is known that
// their flowctl is dead.
func (c *contained) stray(ctx context.Context, known map[string]bool, dryRun bool) (left []Leftover) {
	if c.ask(ctx) != nil {
		return nil
	}
	for _, run := range c.runs {
		if known[run.Run] || !isDead(run.Owner, run.Host) {
			continue
		}
		l := Leftover{RunID: run.Run, Pipeline: run.Pipeline, Processes: []LeftProcess{}}
		if err := c.clean(ctx, &l, dryRun); err != nil {
			l.Error = err.Error()
		}
		left = append(left, l)
	}
	return left
}

// removeStray removes files beside which there is no run file: flowctl and its
// guardian were killed while it was being written.
func removeStray(stateDir string) {
	halves, _ := filepath.Glob(runFile(stateDir, "*") + ".new")
	records, _ := filepath.Glob(guardian.RecordPath(runFile(stateDir, "*")))
	folders, _ := filepath.Glob(guardian.FolderPath(runFile(stateDir, "*")))
	for _, path := range slices.Concat(halves, records, folders) {
		file := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(path, ".new"), ".groups"), ".d")
		if _, err := os.Stat(strings.TrimSuffix(file, ".json") + ".json"); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Minute { // else it is new
			_ = os.RemoveAll(path)
		}
	}
}

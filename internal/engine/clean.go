package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/guardian"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// cleanGrace is how long leftovers get between SIGTERM and SIGKILL.
const cleanGrace = 300 * time.Millisecond

// Leftover is what a run has left behind whose flowctl was killed.
type Leftover struct {
	RunID    string `json:"run"`
	Pipeline string `json:"pipeline"`
	// File is the run file.
	File string `json:"file"`
	// Processes are those of the run that still lived.
	Processes []LeftProcess `json:"processes"`
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

// Clean stops the processes and removes the files of runs whose flowctl is
// dead, according to the run files in stateDir; with dryRun it only says which
// there are. It never touches a run whose flowctl lives. The Leftovers tell what
// could not be removed; the error is about stateDir itself.
func Clean(stateDir string, dryRun bool) ([]Leftover, error) {
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
	for _, run := range runs {
		if run.Process.Alive() {
			continue
		}
		l := Leftover{
			RunID: run.ID, Pipeline: run.Pipeline, File: runFile(stateDir, run.ID),
			Processes: []LeftProcess{}, Rebooted: run.Process.Boot != self.Boot,
		}
		if err := l.clean(self.Boot, dryRun); err != nil {
			l.Error = err.Error()
		}
		left = append(left, l)
	}
	if !dryRun && stateDir != "" {
		removeStray(stateDir)
	}
	return left, nil
}

// clean stops what is left of one run.
func (l *Leftover) clean(boot string, dryRun bool) error {
	if !l.Rebooted {
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
		if err != nil {
			return err
		}
	}
	if dryRun {
		return nil
	}
	return guardian.RemoveFiles(l.File)
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

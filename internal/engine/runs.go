package engine

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/guardian"
	"github.com/withobsrvr/flowctl/internal/procid"
)

// Run is what a running pipeline tells other terminals about itself, in its run file.
type Run struct {
	ID       string `json:"id"`
	Pipeline string `json:"pipeline"`
	File     string `json:"file"`
	// Process is flowctl itself: another process may get the same pid later.
	Process procid.ID `json:"process"`
	// Endpoint is where the run is operated; its own control plane's.
	Endpoint string `json:"endpoint"`
	// ControlPlane is the endpoint of the one that the run shares with others; "" when it has its own.
	ControlPlane string `json:"control_plane,omitempty"`
	// TLS are the files with which an encrypted one is reached.
	TLS    RunTLS `json:"tls,omitzero"`
	LogDir string `json:"log_dir"`
	// Containers is true when the run may have some.
	Containers bool `json:"containers,omitempty"`
	// Token is what callers of flowctl.run.v1 must show. It is never printed.
	Token     string    `json:"token"`
	StartedAt time.Time `json:"started_at"`
}

// RunTLS are files of a run; see controlplane.Target.
type RunTLS struct {
	CA     string `json:"ca,omitempty"`
	Cert   string `json:"cert,omitempty"`
	Key    string `json:"key,omitempty"`
	Pinned string `json:"pinned,omitempty"`
}

// Target is how the run is reached.
func (r Run) Target() controlplane.Target {
	return controlplane.Target{
		Endpoint: r.Endpoint, Token: r.Token, Pinned: r.TLS.Pinned,
		TLS: controlplane.TLSFiles{Cert: r.TLS.Cert, Key: r.TLS.Key, CA: r.TLS.CA},
	}
}

// newRunID makes the name of a run: the pipeline's and eight random letters.
func newRunID(pipeline string) string {
	return pipeline + "-" + strings.ToLower(rand.Text()[:8])
}

// DefaultStateDir is flowctl's folder under the XDG state folder of a user whose
// environment is looked up with getenv.
func DefaultStateDir(getenv func(string) string) string {
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "flowctl")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "flowctl")
	}
	return ""
}

// runFile is where the run with this id makes itself known.
func runFile(stateDir, id string) string { return filepath.Join(stateDir, "runs", id+".json") }

// runFolder is where a run keeps its certificates while it runs.
func runFolder(stateDir, id string) string {
	return guardian.FolderPath(runFile(stateDir, id))
}

// writeRunFile makes the run known to other terminals of this user. remove ends that.
func (e *Engine) writeRunFile() (remove func(), err error) {
	remove = func() {}
	if e.opts.StateDir == "" {
		return remove, nil
	}
	logs, err := filepath.Abs(e.opts.LogDir)
	if err != nil {
		return remove, err
	}
	target := e.plane.target()
	run := Run{
		ID: e.runID, Pipeline: e.plan.Pipeline, File: e.file(), Endpoint: target.Endpoint, LogDir: logs, Token: target.Token, StartedAt: e.startedAt,
		TLS:          RunTLS{CA: target.TLS.CA, Cert: target.TLS.Cert, Key: target.TLS.Key, Pinned: target.Pinned},
		ControlPlane: e.opts.ControlPlane.Join.Endpoint, Containers: e.containers != nil,
	}
	if run.Process, err = procid.Self(); err != nil {
		return remove, fmt.Errorf("write the run file: %w", err)
	}
	path := runFile(e.opts.StateDir, run.ID)
	if err := writeJSON(path, run); err != nil {
		return remove, fmt.Errorf("write the run file: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// Runs returns the pipelines that run now, according to the run files in
// stateDir, the youngest first. Files of runs that are no more are left out.
func Runs(stateDir string) ([]Run, error) {
	all, _, err := readRuns(stateDir)
	if err != nil {
		return nil, err
	}
	runs := slices.DeleteFunc(all, func(r Run) bool { return !r.Process.Alive() })
	slices.SortFunc(runs, func(a, b Run) int { return b.StartedAt.Compare(a.StartedAt) })
	return runs, nil
}

// readRuns reads all run files in stateDir, and returns the paths of those that
// cannot be read besides.
func readRuns(stateDir string) (runs []Run, unreadable []string, err error) {
	if stateDir == "" {
		return nil, nil, nil
	}
	paths, err := filepath.Glob(runFile(stateDir, "*"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		}
		var run Run
		if err != nil || json.Unmarshal(content, &run) != nil || runFile(stateDir, run.ID) != path || run.Process.PID <= 0 {
			unreadable = append(unreadable, path)
			continue
		}
		runs = append(runs, run)
	}
	return runs, unreadable, nil
}

// file is the pipeline file's absolute path: other terminals have other working directories.
func (e *Engine) file() string {
	return filepath.Join(e.opts.Pipeline.Dir, filepath.Base(e.opts.Pipeline.File))
}

package engine

import (
	"context"
	"sync"

	"github.com/withobsrvr/flowctl/internal/guardian"
)

// guard sees to it, until ctx is done, that nothing of the run outlives it:
// neither what components leave behind nor, should flowctl itself be killed,
// the components.
func (e *Engine) guard(ctx context.Context, parts *sync.WaitGroup) {
	parts.Go(func() { _ = e.processes.Orphans.Run(ctx) })
	e.startGuardian()
	if g := e.guardian; g != nil {
		e.processes.Guard = g
		e.guardian = nil // it is run here, not by Close
		parts.Go(func() { _ = g.Run(ctx) })
	}
}

// startGuardian starts the guardian, if there is to be one and it has not been started.
func (e *Engine) startGuardian() {
	if len(e.opts.Guardian) == 0 || e.guardian != nil {
		return
	}
	path := ""
	if e.opts.StateDir != "" {
		path = runFile(e.opts.StateDir, e.runID)
	}
	g, err := guardian.New(guardian.Options{
		Command: e.opts.Guardian, Env: e.engineEnv(), RunID: e.runID, RunFile: path, Notice: e.Notice,
	})
	if err != nil {
		e.Notice("nothing watches over this run, a kill -9 of flowctl would leave its components behind: " + err.Error())
		return
	}
	e.guardian = g
}

// dismissGuardian ends a guardian of a run that has not begun.
func (e *Engine) dismissGuardian() {
	if e.guardian == nil {
		return
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	_ = e.guardian.Run(done)
	e.guardian = nil
}

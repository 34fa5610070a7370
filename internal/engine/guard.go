package engine

import (
	"context"
	"sync"

	"github.com/withobsrvr/flowctl/internal/guardian"
)

// guard sees to it, until ctx is done, that no process of the run outlives it:
// neither what components leave behind nor, should flowctl itself be killed,
// the components.
func (e *Engine) guard(ctx context.Context, parts *sync.WaitGroup) {
	parts.Go(func() { _ = e.processes.Orphans.Run(ctx) })
	if len(e.opts.Guardian) == 0 {
		return
	}
	path := ""
	if e.opts.StateDir != "" {
		path = runFile(e.opts.StateDir, e.runID)
	}
	g, err := guardian.New(guardian.Options{Command: e.opts.Guardian, RunID: e.runID, RunFile: path, Notice: e.Notice})
	if err != nil {
		e.Notice("nothing watches over this run, a kill -9 of flowctl would leave its components behind: " + err.Error())
		return
	}
	e.processes.Guard = g
	parts.Go(func() { _ = g.Run(ctx) })
}

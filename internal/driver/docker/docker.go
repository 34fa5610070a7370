// Package docker runs components as containers of a Docker Engine, on its API:
// no docker program is needed. Engine is the connection, Driver runs the
// components of one run on it.
//
// Each run has a bridge network of its own, and each attempt a container with a
// name and labels that tell pipeline, run, component and attempt. A container is
// never started again, and it is removed, with its anonymous volumes, when Run
// returns; named volumes are somebody's data and stay.
//
// Process 1 of a container has no default signal actions: a program that does
// not handle SIGTERM would ignore it. So containers run under the engine's own
// init, where it has one: the program is init's child, its process group gets
// the stop signal, orphans are reaped. (The group is asked for by a variable in
// the environment, TINI_KILL_PROCESS_GROUP, which the program sees.) Engines
// without one, and podman, which does not tell, run the program as process 1;
// Network.Init says so. Then one that does not handle the stop signal ends only
// when its grace is over. In both cases a container ends with its program: what
// the program has started and left behind is killed at that instant, without a
// grace of its own.
//
// Output is read from one attachment, made before the start, and is not kept by
// the engine: `docker logs` shows nothing, and no file of the engine grows. It is
// complete when Run returns, with one exception that is the engine's: it throws
// away what has not been taken from it two seconds after the end of a program.
// So a writer that stalls for longer must not be behind by more than backlogSize
// bytes at the end; a component that lives is held up, and loses nothing.
//
// An exit code of 128+n says that signal n ended the program, or that the program
// chose this number: engines do not tell which. See attempt.endedBy for what is
// taken as proof. That memory ran out, podman does not tell either.
package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
)

const (
	// patience is how long an engine may take to answer a request that somebody
	// waits for to give up, and to end a container that it was told to kill.
	patience = 10 * time.Second
	// removal is how long it may take to remove something.
	removal = 30 * time.Second
)

// Options make a Driver.
type Options struct {
	// Engine is where the containers run; required. The caller closes it.
	Engine *Engine
	// Pipeline and Run are what the containers belong to; Run is unique for ever.
	Pipeline, Run string
	// Beside are networks, by name or id, that the containers are in besides the run's
	// own.
	Beside []string
	// Owner, if not empty, says on everything that is made who made it, for Leftovers.
	Owner string
	// Notice is told how the pulls of images are going, and of what the engine warns,
	// a sentence at a time and from any goroutine; nil means that nobody is told.
	Notice func(text string)
}

// Driver runs the components of one run as containers. Open comes first, Close
// last; Run may be called by any number of goroutines in between.
type Driver struct {
	*Engine
	opts    Options
	network Network

	mu     sync.Mutex // guards all below
	pulled map[string]bool
	// owed are containers that could not be removed.
	owed map[string]bool
	// opened is true when the engine has been asked for a network.
	opened bool
	// doubt is true when a container may have been made of which nobody knows.
	doubt bool
}

// New returns a driver for one run. It asks the engine nothing.
func New(opts Options) *Driver {
	return &Driver{Engine: opts.Engine, opts: opts, pulled: make(map[string]bool), owed: make(map[string]bool)}
}

// notice tells who wants to know.
func (d *Driver) notice(format string, args ...any) {
	if d.opts.Notice != nil {
		d.opts.Notice(fmt.Sprintf(format, args...))
	}
}

// Close removes the run's network, and the containers that could not be removed
// before. It is called when all calls of Run have returned, with a ctx that has not
// ended. If it fails something is left: Sweep of the run removes it when the engine
// is there again.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	opened, doubt := d.opened, d.doubt
	d.mu.Unlock()
	if !opened {
		return nil
	}
	sweep := d.sweepOnce
	if doubt {
		sweep = d.Sweep
	}
	if err := sweep(ctx, d.opts.Run); err != nil {
		if away := d.closing(ctx); away != nil { // whatever it said
			err = d.failed("remove it", away)
		}
		return fmt.Errorf("remove what is left of run %s: %w", d.opts.Run, err)
	}
	return nil
}

// suspect notes that a container may have been made.
func (d *Driver) suspect() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doubt = true
}

// remove removes a container with its anonymous volumes, even a running one, and
// notes it down if it cannot. It does so whatever became of ctx.
func (d *Driver) remove(ctx context.Context, container string) error {
	err := d.ask(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, removal)
		defer cancel()
		return d.removeContainer(ctx, container)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.owed[container] = true
	} else {
		delete(d.owed, container)
	}
	return err
}

// settle removes what could not be removed before: the engine may have been away,
// and the container of an attempt that is over may live.
func (d *Driver) settle(ctx context.Context, spec driver.Spec) error {
	d.mu.Lock()
	owed := slices.Collect(maps.Keys(d.owed))
	d.mu.Unlock()
	for _, container := range owed {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := d.remove(ctx, container); err != nil {
			return fmt.Errorf("start %s: a container of before is still there: %w", spec.Component, err)
		}
	}
	return nil
}

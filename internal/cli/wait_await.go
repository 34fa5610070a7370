package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/journal"
)

// verdict is what a judge says of a run as it stands.
type verdict struct {
	done bool
	// never is why it will not be done, missing what is still to come.
	never, missing string
}

// judge looks whether what is waited for has come.
type judge func(look) verdict

// all is done when each of the judges is.
func all(judges []judge) judge {
	return func(l look) verdict {
		var missing []string
		for _, j := range judges {
			v := j(l)
			if v.never != "" {
				return v
			}
			if !v.done {
				missing = append(missing, v.missing)
			}
		}
		return verdict{done: missing == nil, missing: strings.Join(missing, "; ")}
	}
}

// timeoutError is a wait that took too long.
type timeoutError struct{ error }

func (e timeoutError) Unwrap() error { return e.error }

// runEndedError says that the run ended while something else was waited for.
type runEndedError struct {
	run   engine.Run
	past  engine.Past
	known bool
}

func (e *runEndedError) Error() string {
	if !e.known {
		return fmt.Sprintf("run %s has ended", e.run.ID)
	}
	return fmt.Sprintf("run %s %s", e.run.ID, outcomeText(e.past))
}

// hesitation is how long a component must be seen to have failed or stopped
// before that counts as the end: a start may just have been asked for.
const hesitation = 200 * time.Millisecond

// await judges the run now and after each change until the judge says that it
// is done, or will never be. The error is a timeoutError when the time is over,
// and a *runEndedError when the run has ended.
func (a *app) await(ctx context.Context, run *operated, timeout time.Duration, j judge) (look, error) {
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()
	following, err := run.Follow(ctx, controlplane.FollowOptions{Kinds: []journal.Kind{journal.State, journal.Health, journal.Register}})
	if err != nil {
		return look{}, a.waitError(ctx, run, err, "", timeout)
	}
	changes := make(chan struct{}, 1)
	var broken error // why the stream has ended, if not with the run; read it after changes is closed
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer close(changes)
		for _, err := range following.Blocks {
			broken = err
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	})
	never := time.NewTimer(time.Hour)
	defer never.Stop()
	missing := "" // as of the last look
	for suspected := false; ; {
		now, err := run.look(ctx)
		if err != nil {
			return now, a.waitError(ctx, run, err, missing, timeout)
		}
		v := j(now)
		missing = v.missing
		if v.done {
			return now, nil
		}
		never.Stop()
		if v.never != "" {
			if suspected {
				return now, errors.New(v.never)
			}
			never.Reset(hesitation)
		}
		suspected = false
		select {
		case <-never.C:
			suspected = true
		case _, more := <-changes:
			if !more {
				return now, a.waitError(ctx, run, broken, v.missing, timeout)
			}
		case <-ctx.Done():
			return now, a.waitError(ctx, run, context.Cause(ctx), v.missing, timeout)
		}
	}
}

// withTimeout bounds ctx; 0 does not.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// waitError says why a wait has ended early: the time, or the run.
func (a *app) waitError(ctx context.Context, run *operated, err error, missing string, timeout time.Duration) error {
	var refused *controlplane.RunError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		text := fmt.Sprintf("not within %s", timeout)
		if missing != "" {
			text += ": " + missing
		}
		return timeoutError{errors.New(text)}
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &refused) && !refused.Gone:
		return err
	}
	if gone := a.awaitGone(ctx, run.run); !gone {
		return environmentError{fmt.Errorf("run %s does not answer any more, although its flowctl (pid %d) lives", run.run.ID, run.run.Process.PID)}
	}
	past, known := a.pastOf(run.run)
	return &runEndedError{run: run.run, past: past, known: known}
}

// awaitGone waits, for as long as flowctl's own end may take, until the run's
// process is gone, and reports whether it is. No system tells a stranger when a
// process ends, so it looks every few milliseconds.
func (a *app) awaitGone(ctx context.Context, run engine.Run) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !a.gone(run) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// gone reports whether a run has ended, and its process with it, if that is not this one.
func (a *app) gone(run engine.Run) bool {
	if run.Process.PID == 0 { // on another machine, or known by its endpoint only
		return true
	}
	if run.Process.PID != os.Getpid() {
		return !run.Process.Alive()
	}
	runs, err := engine.Runs(a.stateDir())
	return err == nil && !slices.ContainsFunc(runs, func(r engine.Run) bool { return r.ID == run.ID })
}

// pastOf returns what the history knows of a run that has ended.
func (a *app) pastOf(run engine.Run) (engine.Past, bool) {
	past, err := engine.Remembered(a.stateDir(), run.ID)
	return past, err == nil && past.Outcome != engine.Running
}

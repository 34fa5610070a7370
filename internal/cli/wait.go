package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// waitOptions are the flags of wait.
type waitOptions struct {
	run, until string
	timeout    time.Duration
	quiet      bool
	ids        []string
}

func newWaitCmd(a *app) *cobra.Command {
	var opts waitOptions
	cmd := &cobra.Command{
		Use:   "wait [ID…]",
		Short: "Wait until a running pipeline, or some of its components, have come so far",
		Long: `Wait waits until all components, or those named, are ready, have completed, or
have ended. Without ids, completed and stopped are about the run: it has
completed when all its sinks have.

Exit codes: 0 it has come so far, 1 that can not come any more, 2 there is no
such component, 3 no pipeline is running, 4 the time was over first.`,
		Example: `  flowctl wait --for ready

  # In a script: until the load is done, for at most an hour
  flowctl wait --for completed consumer-app --timeout 1h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.wait(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.until, "for", "ready", "what to wait for: ready, completed or stopped")
	f.DurationVar(&opts.timeout, "timeout", time.Minute, "how long to wait; 0: for ever")
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "print nothing when it has come so far")
	runFlag(cmd, &opts.run)
	return cmd
}

// wait waits for what the options say.
func (a *app) wait(ctx context.Context, opts waitOptions) error {
	if !slices.Contains([]string{"ready", "completed", "stopped"}, opts.until) {
		return usageError{fmt.Errorf("there is no --for %q; use ready, completed or stopped", opts.until)}
	}
	run, err := a.operate(opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	snap, err := run.RunClient.Snapshot(ctx)
	if err != nil {
		return err
	}
	if err := checkIDs(snap, opts.ids); err != nil {
		return err
	}
	began := time.Now()
	_, err = a.await(ctx, run, opts.timeout, opts.judge())
	var over *runEndedError
	if errors.As(err, &over) {
		err = opts.judgeEnd(over)
	}
	if err == nil && !opts.quiet {
		fmt.Fprintf(a.Out, "%s %s after %s\n", opts.subject(run.run.Pipeline), opts.until, age(time.Since(began)))
	}
	return err
}

// subject is who is waited for.
func (o waitOptions) subject(pipeline string) string {
	if len(o.ids) == 0 {
		return pipeline
	}
	return strings.Join(o.ids, ", ")
}

// judge judges a run that has not ended.
func (o waitOptions) judge() judge {
	return func(l look) verdict {
		if len(o.ids) == 0 && o.until != "ready" {
			return verdict{missing: fmt.Sprintf("%d of %d components are running", running(l.Snapshot), len(l.Components))}
		}
		var missing []string
		for _, c := range l.Components {
			id := c.Status.Component
			if len(o.ids) > 0 && !slices.Contains(o.ids, id) || o.met(c) {
				continue
			}
			if never := o.never(l, c); never != "" {
				return verdict{never: never}
			}
			missing = append(missing, stateText(c, l.at))
		}
		return verdict{done: missing == nil, missing: strings.Join(missing, "; ")}
	}
}

// running counts the components that have not ended.
func running(s controlplane.Snapshot) int {
	n := 0
	for _, c := range s.Components {
		if !c.State.Ended() {
			n++
		}
	}
	return n
}

// met reports whether a component has come as far as is waited for.
func (o waitOptions) met(c controlplane.Component) bool {
	switch o.until {
	case "ready":
		return isReady(c)
	case "completed":
		return c.State == supervisor.Completed
	default:
		return c.State.Ended()
	}
}

// never says why a component will not come so far by itself, or "".
func (o waitOptions) never(l look, c controlplane.Component) string {
	switch {
	case o.until == "stopped":
		return ""
	case c.State == supervisor.Failed || c.State == supervisor.Stopped:
		return stateText(c, l.at)
	}
	for _, id := range blockers(l, c.Status.Component) {
		dep, _ := l.Component(id)
		if root := o.never(l, dep); root != "" {
			return fmt.Sprintf("%s, and %s", stateText(c, l.at), root)
		}
	}
	return ""
}

// judgeEnd judges a run that has ended.
func (o waitOptions) judgeEnd(over *runEndedError) error {
	if o.until == "stopped" {
		return nil
	}
	if !over.known {
		return over
	}
	if len(o.ids) == 0 && o.until == "completed" && over.past.Outcome == engine.Completed {
		return nil
	}
	if len(o.ids) == 0 {
		return over
	}
	for _, c := range over.past.Components {
		done := c.State == supervisor.Completed || o.until == "ready" && len(c.Exits) > 0 && over.past.Outcome == engine.Completed
		if slices.Contains(o.ids, c.ID) && !done {
			return over
		}
	}
	return nil
}

// isReady reports whether a component serves or has done its work.
func isReady(c controlplane.Component) bool {
	return c.State.Up() || c.State == supervisor.Completed
}

// stateText is a component's state as a sentence.
func stateText(c controlplane.Component, now time.Time) string {
	text := fmt.Sprintf("%s is %s", c.Status.Component, c.State)
	switch {
	case c.State == supervisor.Backoff:
		return fmt.Sprintf("%s is in backoff: it %s", c.Status.Component, c.Status.Reason)
	case c.State == supervisor.Starting: // its reason is its pid
		return fmt.Sprintf("%s for %s", text, age(now.Sub(c.Since)))
	case c.Status.Reason == "":
		return text
	case c.State == supervisor.Waiting:
		return text + " " + c.Status.Reason
	}
	return text + ": " + c.Status.Reason
}

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
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer close(changes)
		for range following.Blocks {
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	})
	never := time.NewTimer(time.Hour)
	defer never.Stop()
	for suspected := false; ; {
		now, err := run.look(ctx)
		if err != nil {
			return now, a.waitError(ctx, run, err, "", timeout)
		}
		v := j(now)
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
				return now, a.waitError(ctx, run, context.Cause(ctx), v.missing, timeout)
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
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
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
	for {
		runs, err := engine.Runs(a.stateDir())
		if err == nil && !slices.ContainsFunc(runs, func(r engine.Run) bool { return r.ID == run.ID }) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// pastOf returns what the history knows of a run that has ended.
func (a *app) pastOf(run engine.Run) (engine.Past, bool) {
	past, err := engine.Remembered(a.stateDir(), run.ID)
	return past, err == nil && past.Outcome != engine.Running
}

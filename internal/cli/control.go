package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// controlOptions are the flags of restart, stop and start.
type controlOptions struct {
	run     runRef
	timeout time.Duration
	noWait  bool
	quiet   bool
}

// flags adds them to a command.
func (o *controlOptions) flags(cmd *cobra.Command, timeout time.Duration, until string) {
	o.run.flags(cmd)
	cmd.Flags().DurationVar(&o.timeout, "timeout", timeout, "how long to wait until "+until+"; 0: for ever")
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait at all")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print nothing")
}

// minArgs refuses fewer than n arguments.
func minArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s needs %s\nSee '%s --help'", cmd.CommandPath(), what, cmd.CommandPath())}
		}
		return nil
	}
}

func newRestartCmd(a *app) *cobra.Command {
	var opts controlOptions
	cmd := &cobra.Command{
		Use:   "restart ID…",
		Short: "Restart components of a running pipeline",
		Long: `Restart stops components with their grace, starts them anew, and waits until
they are ready again. It counts nothing in their restart policy. Components that
depend on them keep running, unless the file says restart: true.

Exit codes: 1 a component failed, 2 there is no such component, 3 no pipeline is
running, 4 the time was over before everything was ready.`,
		Example: `  flowctl restart ttp-processor

  # Do not wait
  flowctl restart ttp-processor consumer-app --no-wait`,
		Args: minArgs(1, "the id of a component"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.control(cmd.Context(), opts, args, verb{"restarted", (*operated).restart, readyAgain})
		},
	}
	opts.flags(cmd, time.Minute, "they are ready")
	return cmd
}

func newStartCmd(a *app) *cobra.Command {
	var opts controlOptions
	cmd := &cobra.Command{
		Use:   "start ID…",
		Short: "Start stopped, completed or failed components of a running pipeline",
		Long: `Start starts components that were stopped, have completed or have failed for
good, and waits until they are ready.

Exit codes: 1 a component failed or is running already, 2 there is no such
component, 3 no pipeline is running, 4 the time was over before everything was
ready.`,
		Example: `  flowctl start ttp-processor`,
		Args:    minArgs(1, "the id of a component"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.control(cmd.Context(), opts, args, verb{"started", (*operated).start, readyAgain})
		},
	}
	opts.flags(cmd, time.Minute, "they are ready")
	return cmd
}

func newStopCmd(a *app) *cobra.Command {
	var opts controlOptions
	cmd := &cobra.Command{
		Use:   "stop [ID…]",
		Short: "Stop a running pipeline, or some of its components",
		Long: `Stop ends the whole run, dependents first, and waits until it has ended. With
ids it stops these components and leaves the rest running; 'flowctl start'
starts them again.

Exit codes: 0 it has ended, 1 it ended because a component failed or flowctl was
killed, 2 there is no such component, 3 no pipeline is running, 4 the time was
over first.`,
		Example: `  # The whole run
  flowctl stop

  # One component
  flowctl stop consumer-app

  # One of several pipelines
  flowctl stop --run token-transfer`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.stopRun(cmd.Context(), opts)
			}
			return a.control(cmd.Context(), opts, args, verb{"stopped", (*operated).stop, hasEnded})
		},
	}
	opts.flags(cmd, 0, "they have ended")
	return cmd
}

// verb is what is done to components.
type verb struct {
	done  string // "restarted"
	do    func(*operated, context.Context, string) error
	judge func(before controlplane.Component, began time.Time) judge
}

func (o *operated) restart(ctx context.Context, id string) error { return o.Restart(ctx, id) }
func (o *operated) stop(ctx context.Context, id string) error    { return o.Stop(ctx, id) }
func (o *operated) start(ctx context.Context, id string) error   { return o.Start(ctx, id) }

// control does one thing to components and waits until it is done.
func (a *app) control(ctx context.Context, opts controlOptions, ids []string, v verb) error {
	run, err := a.operate(ctx, opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	before, err := run.RunClient.Snapshot(ctx)
	if err != nil {
		return err
	}
	if err := checkIDs(before, ids); err != nil {
		return err
	}
	began := time.Now()
	var judges []judge
	for _, id := range ids {
		c, _ := before.Component(id)
		judges = append(judges, v.judge(c, began))
		if err := v.do(run, ctx, id); err != nil {
			return err
		}
	}
	if opts.noWait {
		return nil
	}
	after, err := a.await(ctx, run, opts.timeout, all(judges))
	if err != nil {
		return err
	}
	if opts.quiet {
		return nil
	}
	for _, id := range ids {
		c, _ := after.Component(id)
		fmt.Fprintln(a.Out, id+" "+v.done+outcomeOf(v, c))
	}
	return nil
}

// outcomeOf is what became of a component: ": ready after 12ms". Its state is not
// said where the verb says it.
func outcomeOf(v verb, c controlplane.Component) string {
	if string(c.State) == v.done {
		return ": " + c.Status.Reason
	}
	return fmt.Sprintf(": %s %s", c.State, c.Status.Reason)
}

// readyAgain judges whether a component is ready in an attempt after the one before.
func readyAgain(before controlplane.Component, began time.Time) judge {
	id := before.Status.Component
	return func(l look) verdict {
		c, ok := l.Component(id)
		switch {
		case !ok:
			return verdict{never: id + " has been removed from the pipeline"}
		case c.Attempt > before.Attempt && isReady(c):
			return verdict{done: true}
		case c.State == supervisor.Failed && c.Since.After(began), c.State == supervisor.Stopped && c.Since.After(began):
			return verdict{never: id + " " + c.Status.Reason}
		}
		return verdict{missing: stateText(c, l.at)}
	}
}

// hasEnded judges whether a component has ended.
func hasEnded(before controlplane.Component, _ time.Time) judge {
	id := before.Status.Component
	return func(l look) verdict {
		c, ok := l.Component(id)
		if !ok || c.State.Ended() && c.PID == 0 {
			return verdict{done: true}
		}
		return verdict{missing: stateText(c, l.at)}
	}
}

// stopRun stops the whole run and waits until its flowctl has ended.
func (a *app) stopRun(ctx context.Context, opts controlOptions) error {
	run, err := a.operate(ctx, opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	began := time.Now()
	bounded, cancel := withTimeout(ctx, opts.timeout)
	defer cancel()
	following, err := run.Follow(bounded, controlplane.FollowOptions{Kinds: eventKinds})
	if err != nil {
		return err
	}
	if err := run.Shutdown(ctx); err != nil {
		return err
	}
	if opts.noWait {
		return nil
	}
	if !opts.quiet {
		fmt.Fprintf(a.Out, "stopping %s (run %s), dependents first\n", run.run.Pipeline, run.run.ID)
	}
	for _, err = range following.Blocks {
		continue // until its control plane has ended
	}
	switch {
	case bounded.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return timeoutError{fmt.Errorf("%s has not ended within %s; it is still being stopped", run.run.Pipeline, opts.timeout)}
	case !a.awaitGone(bounded, run.run):
		return timeoutError{fmt.Errorf("the components of %s have ended, its flowctl (pid %d) has not", run.run.Pipeline, run.run.Process.PID)}
	}
	past, known := a.pastOf(run.run)
	if !known { // no history could be kept
		past = engine.Past{Outcome: engine.Stopped, EndedAt: time.Now()}
	}
	if past.Outcome == engine.Failed || past.Outcome == engine.Killed {
		return fmt.Errorf("run %s %s", run.run.ID, outcomeText(past))
	}
	if !opts.quiet {
		fmt.Fprintf(a.Out, "%s has stopped after %s\n", run.run.Pipeline, age(time.Since(began)))
	}
	return nil
}

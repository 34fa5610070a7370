package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// waitOptions are the flags of wait.
type waitOptions struct {
	run     runRef
	until   string
	timeout time.Duration
	quiet   bool
	ids     []string
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
	opts.run.flags(cmd)
	return cmd
}

// wait waits for what the options say.
func (a *app) wait(ctx context.Context, opts waitOptions) error {
	if !slices.Contains([]string{"ready", "completed", "stopped"}, opts.until) {
		return usageError{fmt.Errorf("there is no --for %q; use ready, completed or stopped", opts.until)}
	}
	run, err := a.operate(ctx, opts.run)
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
			return verdict{never: o.incomplete(l), missing: fmt.Sprintf("%d of %d components are running", running(l.Snapshot), len(l.Components))}
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

// incomplete says why the run will not complete by itself, which it does when
// all its sinks have, or "".
func (o waitOptions) incomplete(l look) string {
	for _, c := range l.Components {
		if c.Role != pipeline.Sink || o.met(c) {
			continue
		}
		if never := o.never(l, c); never != "" {
			return never
		}
	}
	return ""
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

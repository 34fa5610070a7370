package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// cause is why a component is as it is: a sentence, and what is behind it.
type cause struct {
	Component string `json:"component"`
	State     string `json:"state"`
	Text      string `json:"text"`
	// LastLines are what it printed last, told where that helps.
	LastLines []string `json:"last_lines,omitempty"`
	// Root is true where nothing else is behind it; Next is then what to do.
	Root   bool     `json:"root"`
	Next   []string `json:"next,omitempty"`
	Causes []cause  `json:"causes,omitempty"`
}

// explainedLines is how much of a component's output is told.
const explainedLines = 10

func newExplainCmd(a *app) *cobra.Command {
	var run runRef
	var output string
	cmd := &cobra.Command{
		Use:   "explain [ID…]",
		Short: "Say why a component is not ready",
		Long: `Explain follows what a component waits for and what is wrong with it to the root:
one sentence for each step, the last lines of whoever is at fault, and what to
do next. Without ids it explains every component that is not well.`,
		Example: `  flowctl explain consumer-app

  # The roots of all trouble
  flowctl explain -o json | jq '[.. | objects | select(.root == true)] | unique_by(.component)'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			causes, err := a.explain(cmd.Context(), run, args)
			if err != nil {
				return err
			}
			return a.print(output, causes, func(w io.Writer) error { return printCauses(w, causes) })
		},
	}
	run.flags(cmd)
	outputFlag(cmd, &output)
	return cmd
}

// explain explains components, or all that are not well.
func (a *app) explain(ctx context.Context, ref runRef, ids []string) ([]cause, error) {
	run, err := a.operate(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer run.Close()
	now, err := run.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkIDs(now.Snapshot, ids); err != nil {
		return nil, err
	}
	e := &explainer{look: now, lastLines: run.lastLines}
	causes := []cause{}
	for _, c := range now.Components {
		id := c.Status.Component
		if len(ids) > 0 && slices.Contains(ids, id) || len(ids) == 0 && !well(c) {
			causes = append(causes, e.explain(ctx, c, nil))
		}
	}
	return causes, nil
}

// well reports whether nothing has to be said of a component.
func well(c controlplane.Component) bool {
	return c.State == supervisor.Ready || c.State == supervisor.Completed
}

// explainer follows causes through one look at a run.
type explainer struct {
	look look
	// lastLines are the last that a component printed.
	lastLines func(ctx context.Context, id string) []string
}

// explain says why c is as it is; path are the components that led to it.
func (e *explainer) explain(ctx context.Context, c controlplane.Component, path []string) cause {
	id := c.Status.Component
	found := cause{Component: id, State: string(c.State), Text: e.sentence(ctx, c)}
	if well(c) {
		return found
	}
	if e.tellsLines(c) {
		found.LastLines = e.lastLines(ctx, id)
	}
	for _, dep := range e.behind(c) {
		if !slices.Contains(path, dep.Status.Component) {
			found.Causes = append(found.Causes, e.explain(ctx, dep, append(slices.Clip(path), id)))
		}
	}
	if found.Causes == nil {
		found.Root = true
		found.Next = e.advice(c)
	}
	return found
}

// behind are the components that c is as it is because of: those it waits for,
// or else those it depends on that are not well themselves.
func (e *explainer) behind(c controlplane.Component) []controlplane.Component {
	id := c.Status.Component
	var ids []string
	switch c.State {
	case supervisor.Pending, supervisor.Waiting, supervisor.Failed:
		ids = blockers(e.look, id)
	case supervisor.Stopped, supervisor.Stopping: // because somebody wanted it
	default:
		for _, after := range e.look.planned(id).After {
			ids = append(ids, after.ID)
		}
	}
	var found []controlplane.Component
	for _, id := range ids {
		if dep, ok := e.look.Component(id); ok && !well(dep) {
			found = append(found, dep)
		}
	}
	return found
}

// blockers are the components that id waits for and that have not come as far
// as it wants, by what the plan says.
func blockers(l look, id string) []string {
	var ids []string
	for _, after := range l.planned(id).After {
		dep, ok := l.Component(after.ID)
		if ok && !dep.Meets(pipeline.Condition(after.Condition)) && (after.Required || dep.State != supervisor.Failed) {
			ids = append(ids, after.ID)
		}
	}
	return ids
}

// sentence says in which state a component is, and why.
func (e *explainer) sentence(ctx context.Context, c controlplane.Component) string {
	id, reason := c.Status.Component, c.Status.Reason
	planned := e.look.planned(id)
	since := age(e.look.at.Sub(c.Since))
	switch c.State {
	case supervisor.Ready:
		return fmt.Sprintf("%s is ready since %s: %s", id, since, healthOf(c, planned, e.look.at).Text)
	case supervisor.Waiting:
		return fmt.Sprintf("%s is waiting %s, for %s already", id, reason, since)
	case supervisor.Starting:
		text := fmt.Sprintf("%s has been starting for %s", id, since)
		if planned.Probe != nil {
			text += fmt.Sprintf(": its probe (%s) has not passed%s; it may take %s",
				probeText(planned.Probe), askProbe(ctx, planned.Probe), planned.Probe.StartTimeout)
		}
		return text
	case supervisor.Registering:
		return fmt.Sprintf("%s has not registered with the control plane, for %s already: its %s lives and nothing else is missing", id, since, whatLives(c.Status))
	case supervisor.Degraded:
		text := fmt.Sprintf("%s is degraded: %s", id, cmpText(healthOf(c, planned, e.look.at), reason))
		if word := stateOf(c.Status); word != "" {
			text += fmt.Sprintf("; its %s is %s", whatLives(c.Status), word)
		}
		return text
	case supervisor.Backoff:
		text := fmt.Sprintf("%s is in backoff: it %s", id, strings.TrimSuffix(reason, " at once"))
		if left := c.RetryAt.Sub(e.look.at); left > 0 {
			text += fmt.Sprintf(" (%s left)", age(left))
		}
		return text
	case supervisor.Failed:
		return fmt.Sprintf("%s has failed for good: %s", id, strings.TrimPrefix(reason, "has failed for good "))
	case supervisor.Completed:
		return fmt.Sprintf("%s has completed: it %s", id, reason)
	case supervisor.Stopped:
		return fmt.Sprintf("%s is stopped since %s: %s", id, since, reason)
	case supervisor.Stopping:
		return fmt.Sprintf("%s has been stopping for %s: %s", id, since, reason)
	default:
		return fmt.Sprintf("%s is %s", id, c.State)
	}
}

// cmpText is what speaks against a component: its heartbeats with their present
// age, or the reason of its state.
func cmpText(h health, reason string) string {
	if h.Fact == "heartbeat" && !h.OK {
		return h.Text
	}
	return reason
}

// tellsLines reports whether what a component printed last may say why.
func (e *explainer) tellsLines(c controlplane.Component) bool {
	switch c.State {
	case supervisor.Starting, supervisor.Registering, supervisor.Degraded, supervisor.Backoff, supervisor.Failed:
		return true
	}
	return false
}

// lastLines are the last a component printed; none if they cannot be had.
func (o *operated) lastLines(ctx context.Context, id string) []string {
	following, err := o.Follow(ctx, controlplane.FollowOptions{
		From: 1, Components: []string{id}, Kinds: []journal.Kind{journal.Output}, Tail: explainedLines, Stop: true,
	})
	if err != nil {
		return nil
	}
	var lines []string
	for b, err := range following.Blocks {
		if err != nil {
			break
		}
		for line := range bytes.Lines(b.Data) {
			lines = append(lines, strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�"))
		}
	}
	return lines[max(len(lines)-explainedLines, 0):]
}

// advice is what to do about a component at the root.
func (e *explainer) advice(c controlplane.Component) []string {
	id := c.Status.Component
	logs, restart := "flowctl logs "+id+" --tail 100", "flowctl restart "+id
	switch c.State {
	case supervisor.Stopped:
		return []string{"flowctl start " + id}
	case supervisor.Stopping:
		return []string{"flowctl wait --for stopped " + id}
	case supervisor.Registering:
		return []string{logs, "a program without an SDK never registers: give it registration: none, or optional"}
	case supervisor.Degraded:
		if stateOf(c.Status) == suspended {
			return []string{fmt.Sprintf("kill -CONT %d", c.PID), restart}
		}
	case supervisor.Pending, supervisor.Waiting:
		return []string{"flowctl status -w"}
	}
	return []string{logs, restart}
}

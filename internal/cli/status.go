package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// runStatus is a run as status shows it.
type runStatus struct {
	Run      string `json:"run"`
	Pipeline string `json:"pipeline"`
	// Ready of Total components are ready, whichever are shown.
	Ready      int               `json:"ready"`
	Total      int               `json:"total"`
	Components []componentStatus `json:"components"`
}

// componentStatus is one component; times that have not come are left out.
type componentStatus struct {
	ID        string       `json:"id"`
	Role      string       `json:"role"`
	State     string       `json:"state"`
	Reason    string       `json:"reason"`
	Since     time.Time    `json:"since"`
	Attempt   int          `json:"attempt"`
	Restarts  int          `json:"restarts"`
	PID       int          `json:"pid,omitempty"`
	Container string       `json:"container,omitempty"`
	Image     string       `json:"image,omitempty"`
	Digest    string       `json:"digest,omitempty"`
	StartedAt time.Time    `json:"started_at,omitzero"`
	ReadyAt   time.Time    `json:"ready_at,omitzero"`
	RetryAt   time.Time    `json:"retry_at,omitzero"`
	LastExit  *exitStatus  `json:"last_exit,omitempty"`
	Health    health       `json:"health"`
	Metrics   metricValues `json:"metrics,omitempty"`
}

// exitStatus is how an attempt ended.
type exitStatus struct {
	Code        int    `json:"code"`
	Signal      string `json:"signal,omitempty"`
	OutOfMemory bool   `json:"out_of_memory,omitempty"`
	Forced      bool   `json:"forced,omitempty"`
	Text        string `json:"text"`
}

// health is whether a component is well and which fact says so: its process, its
// probe, or its heartbeats; Fact is "" when it does not run.
type health struct {
	Fact          string    `json:"fact,omitempty"`
	OK            bool      `json:"ok"`
	Text          string    `json:"text"`
	LastHeartbeat time.Time `json:"last_heartbeat,omitzero"`
}

// metrics are numbers by name. JSON has no words for NaN and infinity: they are
// written as strings, as protobuf does.
type metricValues map[string]float64

// MarshalJSON implements json.Marshaler.
func (m metricValues) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("null"), nil
	}
	fields := make(map[string]any, len(m))
	for name, v := range m {
		switch {
		case math.IsNaN(v):
			fields[name] = "NaN"
		case math.IsInf(v, 1):
			fields[name] = "Infinity"
		case math.IsInf(v, -1):
			fields[name] = "-Infinity"
		default:
			fields[name] = v
		}
	}
	return json.Marshal(fields)
}

// statusOptions are the flags of status.
type statusOptions struct {
	run    runRef
	output string
	watch  bool
	ids    []string
}

func newStatusCmd(a *app) *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:   "status [ID…]",
		Short: "Show how the components of a running pipeline are",
		Long: `Status shows the components of a running pipeline: in which state each is and
since when, how often it was started, how it last ended, and what says that it
is well: its heartbeats, its probe, or only that its process lives.`,
		Example: `  flowctl status

  # Follow it, in a terminal or in a file
  flowctl status -w

  # One component of one of several pipelines
  flowctl status ttp-processor --run token-transfer

  # What is not ready?
  flowctl status -o json | jq -r '.components[] | select(.state != "ready") | "\(.id): \(.reason)"'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.status(cmd.Context(), opts)
		},
	}
	cmd.Flags().BoolVarP(&opts.watch, "watch", "w", false, "go on until the run ends: a terminal is redrawn, other outputs get a line for each change")
	opts.run.flags(cmd)
	outputFlag(cmd, &opts.output)
	return cmd
}

// status shows a run, once or until it ends.
func (a *app) status(ctx context.Context, opts statusOptions) error {
	if err := checkFormat(opts.output); err != nil {
		return err
	}
	run, err := a.operate(ctx, opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	now, err := run.look(ctx)
	if err != nil {
		return err
	}
	if err := checkIDs(now.Snapshot, opts.ids); err != nil {
		return err
	}
	if opts.watch {
		return a.watchStatus(ctx, run, opts)
	}
	status := statusOf(run, now, opts.ids)
	return a.print(opts.output, status, func(w io.Writer) error { return printStatus(w, status, now.at) })
}

// statusOf words a look; ids, if any, choose the components.
func statusOf(run *operated, l look, ids []string) runStatus {
	s := runStatus{Run: run.run.ID, Pipeline: run.run.Pipeline, Ready: ready(l.Snapshot), Total: len(l.Snapshot.Components), Components: []componentStatus{}}
	for _, c := range l.Components {
		id := c.Status.Component
		if len(ids) > 0 && !slices.Contains(ids, id) {
			continue
		}
		row := componentStatus{
			ID: id, Role: string(c.Status.Role), State: string(c.State), Reason: c.Status.Reason, Since: c.Since,
			Attempt: c.Attempt, Restarts: c.Restarts, PID: c.PID, Container: c.Container, Image: c.Image, Digest: c.Digest, StartedAt: c.StartedAt, ReadyAt: c.ReadyAt, RetryAt: c.RetryAt,
			LastExit: exitOf(c.Exit), Health: healthOf(c, l.planned(id), l.at),
		}
		if c.Service != nil {
			row.Metrics = c.Service.Metrics
		}
		s.Components = append(s.Components, row)
	}
	return s
}

func exitOf(e *driver.Exit) *exitStatus {
	if e == nil {
		return nil
	}
	s := &exitStatus{Code: e.Code, OutOfMemory: e.OutOfMemory, Forced: e.Forced, Text: e.String()}
	if e.Signal != 0 {
		s.Signal = driver.SignalName(e.Signal)
	}
	return s
}

// healthOf says which fact speaks for or against a component.
func healthOf(c controlplane.Component, planned plan.ComponentView, now time.Time) health {
	var h health
	beats := c.Service != nil && (c.Service.Registered || c.Service.Adopted)
	if c.Service != nil {
		h.LastHeartbeat = c.Service.LastSeen
	}
	switch {
	case !c.Lives():
		h.Text = "-"
	case c.State == supervisor.Starting && planned.Probe != nil:
		h.Fact, h.Text = "probe", "probe has not passed"
	case c.State == supervisor.Registering:
		h.Fact, h.Text = "registration", "not registered yet"
	case beats && !c.Service.Healthy:
		h.Fact, h.Text = "heartbeat", c.Service.Reason
		if strings.HasPrefix(h.Text, "no heartbeat") {
			h.Text = "no heartbeat for " + age(now.Sub(c.Service.LastSeen))
		}
	case c.State == supervisor.Degraded:
		h.Fact, h.Text = "probe", "probe fails"
	case beats:
		h.Fact, h.OK, h.Text = "heartbeat", true, "heartbeat "+age(now.Sub(c.Service.LastSeen))+" ago"
	case planned.Probe != nil:
		h.Fact, h.OK, h.Text = "probe", true, "probe passes"
	case c.Container != "":
		h.Fact, h.OK, h.Text = "container", true, "container lives"
	default:
		h.Fact, h.OK, h.Text = "process", true, "process lives"
	}
	return h
}

// printStatus prints the table.
func printStatus(out io.Writer, s runStatus, now time.Time) error {
	fmt.Fprintf(out, "%s  run %s  %d of %d ready\n\n", s.Pipeline, s.Run, s.Ready, s.Total)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tROLE\tSTATE\tAGE\tATTEMPT\tRESTARTS\tPID\tLAST EXIT\tHEALTH\tREASON")
	for _, c := range s.Components {
		pid, exit := "-", "-"
		switch {
		case c.Container != "":
			pid = driver.Ref{Container: c.Container}.Short()
		case c.PID > 0:
			pid = fmt.Sprint(c.PID)
		}
		if c.LastExit != nil {
			exit = shortExit(c.LastExit.Text)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.Role, c.State, age(now.Sub(c.Since)),
			c.Attempt, c.Restarts, pid, exit, c.Health.Text, cmp.Or(c.Reason, "-"))
	}
	return w.Flush()
}

// shortExit leaves out what a column's title says already.
func shortExit(text string) string {
	return strings.TrimPrefix(strings.TrimPrefix(text, "exited with code "), "was killed by ")
}

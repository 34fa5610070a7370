package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// pastRun is one row of runs. Seconds is how long it lasted, 0 when that is not known.
type pastRun struct {
	Run       string    `json:"run"`
	Pipeline  string    `json:"pipeline"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Seconds   float64   `json:"seconds,omitempty"`
	Outcome   string    `json:"outcome"`
	Reason    string    `json:"reason,omitempty"`
	Restarts  int       `json:"restarts"`
}

func newRunsCmd(a *app) *cobra.Command {
	var output, pipeline string
	var last int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of the past, and of now",
		Long: `Runs lists the last 200 runs that you have started on this machine, the youngest
first: when, how long, how they ended, and how often components were restarted.`,
		Example: `  flowctl runs

  # The last five of one pipeline
  flowctl runs --pipeline token-transfer --last 5

  # Which have failed, and why?
  flowctl runs --last 0 -o json | jq -r '.[] | select(.outcome == "failed") | "\(.run): \(.reason)"'`,
		Args: maxArgs(0),
		RunE: func(*cobra.Command, []string) error {
			runs, err := a.runs(pipeline, last)
			if err != nil {
				return err
			}
			return a.print(output, runs, func(w io.Writer) error { return printHistory(w, runs) })
		},
	}
	cmd.Flags().StringVar(&pipeline, "pipeline", "", "only the runs of this pipeline")
	cmd.Flags().IntVarP(&last, "last", "n", 20, "how many; 0: all")
	outputFlag(cmd, &output)
	cmd.AddCommand(newRunsShowCmd(a))
	return cmd
}

// runs reads the history.
func (a *app) runs(pipeline string, last int) ([]pastRun, error) {
	past, err := engine.History(a.stateDir())
	if err != nil {
		return nil, environmentError{err}
	}
	rows := []pastRun{}
	for _, p := range past {
		if pipeline != "" && p.Pipeline != pipeline {
			continue
		}
		if last > 0 && len(rows) == last {
			break
		}
		row := pastRun{
			Run: p.ID, Pipeline: p.Pipeline, StartedAt: p.StartedAt, EndedAt: p.EndedAt,
			Outcome: string(p.Outcome), Reason: p.Reason, Restarts: p.Restarts(),
		}
		if !p.EndedAt.IsZero() {
			row.Seconds = p.EndedAt.Sub(p.StartedAt).Seconds()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func printHistory(out io.Writer, runs []pastRun) error {
	if len(runs) == 0 {
		_, err := fmt.Fprintln(out, "No runs are remembered.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tPIPELINE\tSTARTED\tLASTED\tOUTCOME\tRESTARTS")
	for _, r := range runs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", r.Run, r.Pipeline, shortTime(r.StartedAt), lasted(r.StartedAt, r.EndedAt, r.Outcome), r.Outcome, r.Restarts)
	}
	return w.Flush()
}

// lasted is how long a run was, or is so far.
func lasted(started, ended time.Time, outcome string) string {
	switch {
	case !ended.IsZero():
		return age(ended.Sub(started))
	case outcome == string(engine.Running):
		return age(time.Since(started)) + " so far"
	default:
		return "?"
	}
}

// outcomeText says how a run ended, as the end of a sentence.
func outcomeText(p engine.Past) string {
	text := map[engine.Outcome]string{
		engine.Completed: "has completed", engine.Stopped: "was stopped", engine.Killed: "was killed",
		engine.Interrupted: "was stopped before everything was ready", engine.Running: "is running",
	}[p.Outcome]
	if p.Outcome == engine.Failed {
		text = "has failed"
	}
	if !p.EndedAt.IsZero() {
		text += " after " + age(p.EndedAt.Sub(p.StartedAt))
	}
	if p.Reason != "" && p.Outcome == engine.Failed {
		text += ": " + p.Reason
	}
	return text
}

func newRunsShowCmd(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show [RUN]",
		Short: "Show one run: how each component ended, and where its output is",
		Example: `  # The last one
  flowctl runs show

  flowctl runs show token-transfer -o json`,
		Args: maxArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			past, err := a.findPast(args)
			if err != nil {
				return err
			}
			return a.print(output, past, func(w io.Writer) error { return a.printPast(w, past) })
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// findPast finds a run by its id, or the last one of a pipeline, or of all.
func (a *app) findPast(args []string) (engine.Past, error) {
	all, err := engine.History(a.stateDir())
	if err != nil {
		return engine.Past{}, environmentError{err}
	}
	if len(args) == 0 {
		if len(all) == 0 {
			return engine.Past{}, environmentError{errors.New("no runs are remembered")}
		}
		return all[0], nil
	}
	i := slices.IndexFunc(all, func(p engine.Past) bool { return p.ID == args[0] || p.Pipeline == args[0] })
	if i < 0 {
		return engine.Past{}, usageError{fmt.Errorf("no run or pipeline %q is remembered; 'flowctl runs' lists them", args[0])}
	}
	return all[i], nil
}

func (a *app) printPast(out io.Writer, p engine.Past) error {
	fmt.Fprintf(out, "run        %s\npipeline   %s (%s)\nstarted    %s\n", p.ID, p.Pipeline, p.File, p.StartedAt.Local().Format(time.DateTime))
	fmt.Fprintf(out, "lasted     %s\noutcome    %s\n", lasted(p.StartedAt, p.EndedAt, string(p.Outcome)), p.Outcome)
	if p.Reason != "" {
		fmt.Fprintf(out, "reason     %s\n", p.Reason)
	}
	fmt.Fprintf(out, "logs       %s\n\n", p.LogDir)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tSTATE\tATTEMPTS\tRESTARTS\tLAST EXIT\tREASON\tLOG")
	for _, c := range p.Components {
		exit, state, log := "-", string(c.State), filepath.Join(p.LogDir, c.ID+".log")
		if len(c.Exits) > 0 {
			exit = shortExit(c.Exits[len(c.Exits)-1].Text)
		}
		if p.Outcome == engine.Running || p.Outcome == engine.Killed && c.State == supervisor.Pending {
			state = "?" // what it was when the run began says nothing
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", c.ID, state, c.Attempts, c.Restarts, exit, c.Reason, log)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range p.Components {
		if len(c.Exits) < 2 {
			continue
		}
		fmt.Fprintf(out, "\n%s, attempt by attempt:\n", c.ID)
		for _, e := range c.Exits {
			fmt.Fprintf(out, "  %s  %d  %s\n", e.At.Local().Format(time.DateTime), e.Attempt, e.Text)
		}
	}
	return nil
}

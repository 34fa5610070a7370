package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
)

// psTimeout is how long ps waits for a run's answer.
const psTimeout = time.Second

// listedRun is one row of ps. State is running, not answering or killed.
type listedRun struct {
	Run        string    `json:"run"`
	Pipeline   string    `json:"pipeline"`
	State      string    `json:"state"`
	Ready      int       `json:"ready"`
	Components int       `json:"components"`
	PID        int       `json:"pid"`
	StartedAt  time.Time `json:"started_at"`
	Endpoint   string    `json:"endpoint"`
	File       string    `json:"file"`
	LogDir     string    `json:"log_dir"`
}

func newPsCmd(a *app) *cobra.Command {
	var output string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the running pipelines",
		Long: `Ps lists the pipelines that you run on this machine, in any terminal, and how
many of their components are ready. Runs whose flowctl was killed are listed
too, until 'flowctl clean' has removed what they left behind.`,
		Example: `  flowctl ps

  # Only the ids
  flowctl ps -q

  # How many components of each run are ready?
  flowctl ps -o json | jq -r '.[] | "\(.run) \(.ready)/\(.components)"'`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			runs, err := a.ps(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(output, runs, func(w io.Writer) error { return printRuns(w, runs, quiet) })
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only the ids")
	outputFlag(cmd, &output)
	return cmd
}

// ps asks all runs at once.
func (a *app) ps(ctx context.Context) ([]listedRun, error) {
	runs, err := engine.Runs(a.stateDir())
	if err != nil {
		return nil, environmentError{err}
	}
	left, err := engine.Leftovers(a.stateDir())
	if err != nil {
		return nil, environmentError{err}
	}
	rows := make([]listedRun, len(runs))
	var asking sync.WaitGroup
	for i, run := range runs {
		rows[i] = rowOf(run, "not answering")
		asking.Go(func() {
			if snap, err := ask(ctx, run); err == nil {
				rows[i].State, rows[i].Ready, rows[i].Components = "running", ready(snap), len(snap.Components)
			}
		})
	}
	asking.Wait()
	for _, run := range left {
		rows = append(rows, rowOf(run, "killed"))
	}
	return rows, nil
}

func rowOf(run engine.Run, state string) listedRun {
	return listedRun{
		Run: run.ID, Pipeline: run.Pipeline, State: state, PID: run.Process.PID, StartedAt: run.StartedAt,
		Endpoint: run.Endpoint, File: run.File, LogDir: run.LogDir,
	}
}

// ask returns how a run stands.
func ask(ctx context.Context, run engine.Run) (controlplane.Snapshot, error) {
	client, err := controlplane.DialRun(run.Target())
	if err != nil {
		return controlplane.Snapshot{}, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, psTimeout)
	defer cancel()
	return client.Snapshot(ctx)
}

func printRuns(out io.Writer, runs []listedRun, quiet bool) error {
	if quiet {
		for _, r := range runs {
			fmt.Fprintln(out, r.Run)
		}
		return nil
	}
	if len(runs) == 0 {
		_, err := fmt.Fprintln(out, "No pipeline of yours is running on this machine.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tPIPELINE\tSTATE\tPID\tSINCE\tENDPOINT")
	for _, r := range runs {
		state := r.State
		switch state {
		case "running":
			state = fmt.Sprintf("%d/%d ready", r.Ready, r.Components)
		case "killed":
			state = "killed: flowctl clean"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", r.Run, r.Pipeline, state, r.PID, shortTime(r.StartedAt), r.Endpoint)
	}
	return w.Flush()
}

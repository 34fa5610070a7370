package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/engine"
)

func newCleanCmd(a *app) *cobra.Command {
	var dryRun bool
	var output string
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Stop what runs have left behind whose flowctl was killed",
		Long: `Clean looks for runs of yours whose flowctl is dead, stops the processes that
are left of them and removes their files. It touches nothing else: not the runs
that are running, and no process that has only got the number of one that was.

It is rarely needed. When flowctl is killed, its guardian does the same within a
second; 'flowctl run' does it before it starts anything.`,
		Example: `  # See what is left, and touch nothing
  flowctl clean --dry-run

  # Stop and remove it
  flowctl clean`,
		Args: maxArgs(0),
		RunE: func(*cobra.Command, []string) error {
			left, err := engine.Clean(engine.DefaultStateDir(a.getenv), dryRun)
			if err != nil {
				return err
			}
			err = a.print(output, left, func(w io.Writer) error {
				if len(left) == 0 {
					_, err := fmt.Fprintln(w, "Nothing is left of any run.")
					return err
				}
				return printLeftovers(w, left, dryRun)
			})
			if err != nil {
				return err
			}
			for _, l := range left {
				if l.Error != "" {
					return environmentError{errors.New("not everything could be cleaned")}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what is left")
	outputFlag(cmd, &output)
	return cmd
}

// printLeftovers says for each run what was left, and what became of it.
func printLeftovers(w io.Writer, left []engine.Leftover, dryRun bool) error {
	for _, l := range left {
		what := fmt.Sprintf("Run %s was killed", l.RunID)
		switch {
		case l.RunID == "":
			what = l.File
		case l.Rebooted:
			what += " before this machine was started anew; only its file was left"
		case len(l.Processes) == 0:
			what += "; only its file was left"
		default:
			var names []string
			for _, p := range l.Processes {
				names = append(names, fmt.Sprintf("%s (pid %d)", p.Program, p.PID))
			}
			verb := "stopped"
			if dryRun {
				verb = "still alive"
			}
			what += fmt.Sprintf("; %s: %s", verb, strings.Join(names, ", "))
		}
		if l.Error != "" {
			what += ": " + l.Error
		}
		if _, err := fmt.Fprintln(w, what); err != nil {
			return err
		}
	}
	return nil
}

// reap cleans before a run: what an older one left may hold the ports it needs.
func (a *app) reap(stateDir string) {
	left, err := engine.Clean(stateDir, false)
	if err != nil {
		a.report(err)
		return
	}
	// Unreadable files are for flowctl clean to tell.
	left = slices.DeleteFunc(left, func(l engine.Leftover) bool { return l.RunID == "" })
	_ = printLeftovers(a.Err, left, false)
}

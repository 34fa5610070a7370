package cli

import (
	"context"
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
are left of them and removes their containers, networks and files. It touches
nothing else: not the runs that are running, no process that has only got the number
of one that was, and of the container engine only what carries the label of such a
run. Volumes that have a name are data, and stay.

It is rarely needed. When flowctl is killed, its guardian does the same within a
second; 'flowctl run' does it before it starts anything.`,
		Example: `  # See what is left, and touch nothing
  flowctl clean --dry-run

  # Stop and remove it
  flowctl clean`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			left, err := engine.Clean(cmd.Context(), engine.CleanOptions{
				StateDir: engine.DefaultStateDir(a.getenv), DryRun: dryRun, Getenv: a.getenv, Labelled: true,
			})
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
		what := l.File
		if l.RunID != "" {
			what = whatWasLeft(l, dryRun)
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

// whatWasLeft says it of one run.
func whatWasLeft(l engine.Leftover, dryRun bool) string {
	what := fmt.Sprintf("Run %s was killed", l.RunID)
	if l.Rebooted {
		what += " before this machine was started anew"
	}
	verbs := [2]string{"stopped", "removed"}
	if dryRun {
		verbs = [2]string{"still alive", "still there"}
	}
	var names []string
	for _, p := range l.Processes {
		names = append(names, fmt.Sprintf("%s (pid %d)", p.Program, p.PID))
	}
	if len(names) > 0 {
		what += fmt.Sprintf("; %s: %s", verbs[0], strings.Join(names, ", "))
	}
	if l.Containers+l.Networks > 0 {
		what += fmt.Sprintf("; %s: %s, %s", verbs[1], plural(l.Containers, "container"), plural(l.Networks, "network"))
	}
	if len(names)+l.Containers+l.Networks == 0 {
		what += "; only its file was left"
	}
	return what
}

// reap cleans before a run: what an older one left may hold the ports it needs. The
// container engine is asked about runs without a file only if this one needs it.
func (a *app) reap(ctx context.Context, stateDir string, containers bool) {
	left, err := engine.Clean(ctx, engine.CleanOptions{StateDir: stateDir, Getenv: a.getenv, Labelled: containers})
	if err != nil {
		a.report(err)
		return
	}
	// Unreadable files are for flowctl clean to tell.
	left = slices.DeleteFunc(left, func(l engine.Leftover) bool { return l.RunID == "" })
	_ = printLeftovers(a.Err, left, false)
}

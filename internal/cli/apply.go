package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// applyOptions are the flags of apply.
type applyOptions struct {
	file, output string
	run          runRef
	dryRun       bool
}

func newApplyCmd(a *app) *cobra.Command {
	var opts applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Apply a changed pipeline file to the pipeline that runs",
		Long: `Apply compares a pipeline file with what runs and makes the difference true:
new components are started, removed ones are stopped, changed ones are restarted,
and all others are left alone. A file that is wrong, or that this machine cannot
run, changes nothing.

Exit codes: 0 applied, or nothing to do, 1 the run refused, 2 the file is wrong,
3 the pipeline is not running or something on this machine is in the way.`,
		Example: `  # What would change?
  flowctl apply -f pipeline.yaml --dry-run

  flowctl apply -f pipeline.yaml`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), opts) },
	}
	cmd.Flags().StringVarP(&opts.file, "file", "f", defaultFile, "pipeline file")
	cmd.Flags().BoolVar(&opts.dryRun, "dry-run", false, "only say what would change")
	opts.run.flags(cmd)
	outputFlag(cmd, &opts.output)
	return cmd
}

// apply hands a file that is right to the run of its pipeline.
func (a *app) apply(ctx context.Context, opts applyOptions) error {
	p, warnings, err := pipeline.Load(opts.file, pipeline.Options{Environ: a.Env})
	if err != nil {
		return err
	}
	a.printProblems(warnings)
	if opts.run.name == "" {
		opts.run.name = p.Name
	}
	run, err := a.operate(ctx, opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	path, err := filepath.Abs(opts.file)
	if err != nil {
		return err
	}
	changes, err := run.Apply(ctx, path, opts.dryRun)
	if err != nil {
		return err
	}
	if changes == nil {
		changes = []plan.Change{}
	}
	return a.print(opts.output, changes, func(w io.Writer) error { return printChanges(w, changes, opts.dryRun) })
}

// printChanges shows changes for a person.
func printChanges(w io.Writer, changes []plan.Change, dryRun bool) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "Nothing changes: the pipeline runs as the file says.")
		return err
	}
	for _, c := range changes {
		if _, err := fmt.Fprintln(w, c); err != nil {
			return err
		}
	}
	if dryRun {
		_, err := fmt.Fprintln(w, "Nothing was done: this was a dry run.")
		return err
	}
	return nil
}

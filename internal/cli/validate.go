package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

func newValidateCmd(a *app) *cobra.Command {
	var orchestrator, output string
	cmd := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Check pipeline files",
		Long: `Validate reports everything that is wrong with pipeline files at once, each
problem with its line, and starts nothing. Variables are taken from the
environment, as run does. What only a start can tell, such as a missing program
or a taken port, is left to run.

Exit codes: 0 all files are fine, 2 at least one is not.`,
		Example: `  # Check flow.yml of this folder
  flowctl validate

  # Check several files
  flowctl validate examples/*.yaml

  # Problems as JSON, for an editor or CI
  flowctl validate pipeline.yaml -o json`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{defaultFile}
			}
			return a.validate(args, orchestrator, output)
		},
	}
	cmd.Flags().StringVar(&orchestrator, "orchestrator", "", "where components are to run: process (default: what the file says, else process)")
	outputFlag(cmd, &output)
	return cmd
}

// checked is what validate found out about one file.
type checked struct {
	file       string
	components int
	problems   pipeline.Problems
}

// validate checks files and prints what it finds; the error is the problems of all of them.
func (a *app) validate(files []string, orchestrator, output string) error {
	var results []checked
	all, wrong := pipeline.Problems{}, pipeline.Problems{}
	for _, file := range files {
		r, err := a.check(file, orchestrator)
		if err != nil {
			return err
		}
		results = append(results, r)
		all = append(all, r.problems...)
		for _, p := range r.problems {
			if !p.Warning {
				wrong = append(wrong, p)
			}
		}
	}
	err := a.print(output, all, func(w io.Writer) error { return a.printChecked(w, results) })
	if err != nil || len(wrong) == 0 {
		return err
	}
	return wrong
}

// check loads and plans one file.
func (a *app) check(file, orchestrator string) (checked, error) {
	r := checked{file: file}
	p, warnings, err := pipeline.Load(file, pipeline.Options{Environ: a.Env})
	r.problems = warnings
	if err == nil {
		r.components = len(p.Components)
		_, err = makePlan(p, plan.Options{Orchestrator: orchestrator, Environ: a.Env})
	}
	var problems pipeline.Problems
	switch {
	case errors.As(err, &problems):
		r.problems = append(r.problems, problems...)
	case err != nil:
		return r, err
	}
	return r, nil
}

// printChecked says which files are fine, and prints the warnings; the problems are the command's error.
func (a *app) printChecked(w io.Writer, results []checked) error {
	for _, r := range results {
		var warnings pipeline.Problems
		for _, p := range r.problems {
			if p.Warning {
				warnings = append(warnings, p)
			}
		}
		a.printProblems(warnings)
		if len(warnings) < len(r.problems) {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: ok (%s)\n", r.file, components(r.components)); err != nil {
			return err
		}
	}
	return nil
}

// printProblems writes problems for a person: with the source line and a caret on
// a terminal, else one line each.
func (a *app) printProblems(problems pipeline.Problems) {
	switch {
	case len(problems) == 0:
	case a.OutTTY:
		problems.Render(a.Err, a.Color)
	default:
		fmt.Fprintln(a.Err, problems.Error())
	}
}

// components is a number of components in words.
func components(n int) string {
	if n == 1 {
		return "1 component"
	}
	return fmt.Sprintf("%d components", n)
}

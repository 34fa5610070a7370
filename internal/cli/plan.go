package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// planOptions are the flags of plan.
type planOptions struct {
	file, orchestrator, address, output string
	port                                int
	all                                 bool
}

func newPlanCmd(a *app) *cobra.Command {
	var opts planOptions
	cmd := &cobra.Command{
		Use:   "plan [FILE]",
		Short: "Show what run would do",
		Long: `Plan shows the components of a pipeline in start order: why each stands where
it stands, its full command, its environment and where each value comes from,
its ports and when it counts as ready. It starts nothing. Secrets are shown as
****; a port that is found when the pipeline runs is shown as <free>.`,
		Example: `  # What would run do with flow.yml of this folder?
  flowctl plan

  # The same with the variables that components inherit, as YAML
  flowctl plan pipeline.yaml --all -o yaml

  # The command of one component
  flowctl plan pipeline.yaml -o json | jq '.components[] | select(.id == "ttp-processor").command'`,
		Args: maxArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.file = defaultFile
			if len(args) > 0 {
				opts.file = args[0]
			}
			return a.plan(opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.orchestrator, "orchestrator", "", "where components are to run: process (default: what the file says, else process)")
	f.StringVar(&opts.address, "control-plane-address", "127.0.0.1", "address the control plane would listen on")
	f.IntVar(&opts.port, "control-plane-port", 8080, "port the control plane would listen on, 0 for a free one")
	f.BoolVar(&opts.all, "all", false, "show the variables that components inherit, too")
	outputFlag(cmd, &opts.output)
	return cmd
}

// plan prints the plan of one file.
func (a *app) plan(opts planOptions) error {
	p, warnings, err := pipeline.Load(opts.file, pipeline.Options{Environ: a.Env})
	a.printProblems(warnings)
	if err != nil {
		return err
	}
	planned, err := makePlan(p, plan.Options{
		Orchestrator: opts.orchestrator,
		Endpoint:     plan.Endpoint(opts.address, opts.port),
		Environ:      a.Env,
	})
	if err != nil {
		return err
	}
	return a.print(opts.output, planned.View(opts.all), func(w io.Writer) error {
		return planned.Print(w, plan.PrintOptions{All: opts.all, Color: a.Color})
	})
}

// makePlan is plan.New. What is no problem of the file is one of the flags.
func makePlan(p *pipeline.Pipeline, opts plan.Options) (*plan.Plan, error) {
	planned, err := plan.New(p, opts)
	return planned, planError(err)
}

func planError(err error) error {
	var problems pipeline.Problems
	if err != nil && !errors.As(err, &problems) {
		return usageError{err}
	}
	return err
}

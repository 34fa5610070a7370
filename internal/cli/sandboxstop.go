package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

func newSandboxStopCmd(a *app) *cobra.Command {
	var opts sandboxOptions
	var volumes bool
	cmd := &cobra.Command{
		Use:   "stop [SERVICE...]",
		Short: "Stop services and keep their data",
		Long: `Stop ends services, those first that depend on others, and removes their
containers; all of them, and their network, when none is named. Their volumes stay,
and the next start finds the data again. It touches nothing that flowctl sandbox has
not made.`,
		Example: `  flowctl sandbox stop

  # One of them
  flowctl sandbox stop grafana

  # Everything, the data too
  flowctl sandbox stop --volumes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.sandboxStop(cmd.Context(), opts, volumes)
		},
	}
	opts.flags(cmd)
	cmd.Flags().BoolVar(&volumes, "volumes", false, "remove the data, too")
	return cmd
}

// sandboxStop stops services and says what is left.
func (a *app) sandboxStop(ctx context.Context, opts sandboxOptions, volumes bool) error {
	box, done, err := a.lookSandbox(ctx, opts, a.sandboxPrinter(opts.ids))
	if err != nil {
		return err
	}
	defer done()
	stopped, err := box.Stop(ctx, opts.ids, volumes)
	if err != nil {
		return sandboxError(err)
	}
	if len(stopped.Services) == 0 {
		fmt.Fprintf(a.Out, "sandbox %s: nothing of it runs.\n", box.Name())
	}
	if len(stopped.Removed) > 0 {
		fmt.Fprintf(a.Out, "Removed with all data: %s\n", strings.Join(stopped.Removed, ", "))
	}
	if len(stopped.Kept) > 0 && len(opts.ids) == 0 {
		fmt.Fprintf(a.Out, "Kept: %s ('flowctl sandbox stop --name %s --volumes' removes the data)\n", strings.Join(stopped.Kept, ", "), box.Name())
	}
	return nil
}

func newSandboxUpgradeCmd(a *app) *cobra.Command {
	var opts sandboxOptions
	cmd := &cobra.Command{
		Use:   "upgrade [SERVICE...]",
		Short: "Pull images anew and replace the services that have changed",
		Long: `Upgrade pulls the images of the services that are there, and replaces those whose
image or definition is another one now, each when what it depends on is healthy.
Their data stays. The definition is that of the file; without one, that of the
catalogue for a service that was started by name alone, or else the one that the
service was started with.`,
		Example: `  flowctl sandbox upgrade

  # One of them
  flowctl sandbox upgrade postgres`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.sandboxUpgrade(cmd.Context(), opts)
		},
	}
	opts.flags(cmd)
	return cmd
}

// sandboxUpgrade replaces what has changed.
func (a *app) sandboxUpgrade(ctx context.Context, opts sandboxOptions) error {
	file, err := a.loadSandbox(opts)
	if err != nil {
		return err
	}
	var given []pipeline.Service
	if file != nil {
		given = file.Services
	}
	box, done, err := a.openSandbox(ctx, opts, file, a.sandboxPrinter(opts.ids))
	if err != nil {
		return err
	}
	defer done()
	return a.bringUp(ctx, func(ctx context.Context) error { return box.Upgrade(ctx, opts.ids, given) })
}

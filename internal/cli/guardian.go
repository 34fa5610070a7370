package cli

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/guardian"
)

// guardianCommand is the hidden command that flowctl starts itself with.
const guardianCommand = "guardian"

func newGuardianCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    guardianCommand + " RUN_ID [RUN_FILE]",
		Short:  "Watch over a run, for flowctl itself",
		Hidden: true,
		Long: `Guardian reads from its standard input what flowctl tells it of a run. When the
input ends without a goodbye, it stops every process and removes every container of that run. flowctl run
starts one; there is no use in starting it by hand.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			// It ends when flowctl does, and not with what is meant for flowctl.
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
			return guardian.Watch(a.In, args[0], append(args, "")[1], func(runID string) error {
				return engine.RemoveContainers(a.getenv, runID)
			})
		},
	}
}

// guardian is the command that starts one: this very program.
func (a *app) guardian() []string {
	if a.Program == "" {
		return nil
	}
	return []string{a.Program, guardianCommand}
}

package cli

import (
	"bytes"
	"context"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/sandbox"
)

// sandboxLogsOptions are the flags of sandbox logs.
type sandboxLogsOptions struct {
	sandboxOptions
	output, since string
	follow        bool
	tail          int
	noPrefix      bool
}

func newSandboxLogsCmd(a *app) *cobra.Command {
	var opts sandboxLogsOptions
	cmd := &cobra.Command{
		Use:   "logs [SERVICE...]",
		Short: "Show what the services of a sandbox have printed",
		Long: `Logs shows what services have printed since their containers were made, in the
order in which it came. The engine keeps the last forty megabytes of each. One
service alone is shown as it printed, without a prefix.`,
		Example: `  flowctl sandbox logs

  # Go on with the last twenty lines of one
  flowctl sandbox logs postgres -f --tail 20

  # What was said in the last five minutes?
  flowctl sandbox logs --since 5m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.sandboxLogs(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.follow, "follow", "f", false, "go on until the services end")
	f.IntVar(&opts.tail, "tail", -1, "show only the last lines of each service (default: all)")
	f.StringVar(&opts.since, "since", "", "leave out what is older than this: 5m, or a time such as 2006-01-02T15:04:05Z")
	f.BoolVar(&opts.noPrefix, "no-prefix", false, "show lines as they were printed")
	f.StringVar(&opts.name, "name", "", "the sandbox's name (default: what sandbox.yaml of this folder says, else the only one there is, else default)")
	outputFlag(cmd, &opts.output)
	return cmd
}

// sandboxLogs prints what services have printed.
func (a *app) sandboxLogs(ctx context.Context, opts sandboxLogsOptions) error {
	if err := checkFormat(opts.output); err != nil {
		return err
	}
	since, err := sinceTime(opts.since)
	if err != nil {
		return err
	}
	box, done, err := a.lookSandbox(ctx, opts.sandboxOptions, a.sandboxPrinter(nil))
	if err != nil {
		return err
	}
	defer done()
	wiring, err := box.Wiring(ctx, opts.ids) // for the ids
	if err != nil {
		return sandboxError(err)
	}
	var ids []string
	for id := range wiring.Services {
		ids = append(ids, id)
	}
	write, err := a.entryWriter(opts.output, ids, opts.noPrefix || len(opts.ids) == 1)
	if err != nil {
		return err
	}
	var seq uint64
	return sandboxError(box.Logs(ctx, opts.ids, sandbox.LogOptions{Tail: opts.tail, Since: since, Follow: opts.follow}, func(l sandbox.Line) error {
		seq++
		return write(journal.Block{
			First: seq, Count: 1, Time: l.At.Local(), Component: l.Service, Kind: journal.Output, Stream: l.Stream,
			Data: l.Text, Partial: !bytes.HasSuffix(l.Text, []byte("\n")),
		})
	}))
}

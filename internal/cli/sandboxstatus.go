package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/sandbox"
)

func newSandboxStatusCmd(a *app) *cobra.Command {
	var opts sandboxOptions
	var output string
	cmd := &cobra.Command{
		Use:   "status [SERVICE...]",
		Short: "Show how the services of a sandbox are",
		Long: `Status asks each service how it is now, and shows where it is reached. It needs no
file: all is read from the containers. The exit code is 1 when one is not well, or
when there is none.`,
		Example: `  flowctl sandbox status

  # How do I connect to postgres?
  flowctl sandbox status postgres -o json | jq -r '.[].connection'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.sandboxStatus(cmd.Context(), opts, output)
		},
	}
	opts.flags(cmd)
	outputFlag(cmd, &output)
	return cmd
}

// sandboxStatus shows how services are.
func (a *app) sandboxStatus(ctx context.Context, opts sandboxOptions, output string) error {
	if err := checkFormat(output); err != nil {
		return err
	}
	box, done, err := a.lookSandbox(ctx, opts, a.sandboxPrinter(nil))
	if err != nil {
		return err
	}
	defer done()
	all, err := box.Status(ctx, opts.ids)
	if errors.Is(err, sandbox.ErrNone) {
		if err := a.print(output, []sandbox.Status{}, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, err)
			return err
		}); err != nil {
			return err
		}
		return statusError{1}
	}
	if err != nil {
		return sandboxError(err)
	}
	if err := a.print(output, all, func(w io.Writer) error { return printSandbox(w, box.Name(), all) }); err != nil {
		return err
	}
	for _, s := range all {
		if !s.OK {
			return statusError{1}
		}
	}
	return nil
}

// printSandbox prints the table.
func printSandbox(out io.Writer, name string, all []sandbox.Status) error {
	well := 0
	for _, s := range all {
		if s.OK {
			well++
		}
	}
	fmt.Fprintf(out, "sandbox %s  %d of %d well\n\n", name, well, len(all))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tSTATE\tSINCE\tIMAGE\tPORTS\tCONNECTION\tHEALTH")
	for _, s := range all {
		since := "-"
		if !s.Since.IsZero() {
			since = shortTime(s.Since)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.State, since, s.Image, portList(s.Ports), orDash(s.Connection), oneLine(s.Health))
	}
	return w.Flush()
}

// portList are ports as docker writes them.
func portList(ports []sandbox.EndpointPort) string {
	var all []string
	for _, p := range ports {
		text := fmt.Sprintf("%d->%d", p.Host, p.Container)
		if p.Protocol != "tcp" {
			text += "/" + p.Protocol
		}
		all = append(all, text)
	}
	return orDash(strings.Join(all, " "))
}

// oneLine is the first line of a text that a service may have printed.
func oneLine(text string) string {
	first, _, more := strings.Cut(text, "\n")
	if more {
		first += " ..."
	}
	return visible(strings.ReplaceAll(first, "\t", " "))
}

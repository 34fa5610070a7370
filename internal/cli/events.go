package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/journal"
)

// loggedEntry is one entry of the journal as events and logs print it.
type loggedEntry struct {
	Seq       uint64            `json:"seq,omitempty"`
	Time      time.Time         `json:"time,omitzero"`
	Component string            `json:"component,omitempty"`
	Kind      string            `json:"kind"`
	Stream    string            `json:"stream,omitempty"`
	Text      string            `json:"text"`
	Partial   bool              `json:"partial,omitempty"`
	Data      map[string]string `json:"data,omitempty"`
}

// eventsOptions are the flags of events.
type eventsOptions struct {
	run           runRef
	output, since string
	follow        bool
	ids           []string
}

func newEventsCmd(a *app) *cobra.Command {
	var opts eventsOptions
	cmd := &cobra.Command{
		Use:   "events [ID…]",
		Short: "Show what has happened in a running pipeline",
		Long: `Events shows the changes of state and health, the registrations and flowctl's
own notices, oldest first. With -o json each is one line.`,
		Example: `  flowctl events

  # Only what happens from now on to one component
  flowctl events ttp-processor -f --since 0s

  # Every failure, as it happens
  flowctl events -f -o json | jq 'select(.data.state == "failed")'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.events(cmd.Context(), opts)
		},
	}
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "go on until the run ends")
	cmd.Flags().StringVar(&opts.since, "since", "", "leave out what is older than this: 5m, or a time such as 2006-01-02T15:04:05Z")
	opts.run.flags(cmd)
	outputFlag(cmd, &opts.output)
	return cmd
}

// events prints the events of a run.
func (a *app) events(ctx context.Context, opts eventsOptions) error {
	since, err := sinceTime(opts.since)
	if err != nil {
		return err
	}
	run, err := a.operate(ctx, opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	following, err := run.Follow(ctx, controlplane.FollowOptions{
		From: 1, Kinds: eventKinds, Components: opts.ids, Since: since, Stop: !opts.follow,
	})
	if err != nil {
		return err
	}
	if err := checkIDs(following.Snapshot, opts.ids); err != nil {
		return err
	}
	write, err := a.entryWriter(opts.output, componentIDs(following.Snapshot), false)
	if err != nil {
		return err
	}
	for b, err := range following.Blocks {
		if err != nil {
			return a.ended(run, err)
		}
		if err := write(b); err != nil {
			return err
		}
	}
	return nil
}

// sinceTime reads a time, or how long ago it was; "" is the zero time.
func sinceTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, usageError{fmt.Errorf("--since %q is neither a duration such as 5m nor a time such as 2006-01-02T15:04:05Z", text)}
}

// entryWriter returns what prints blocks in a format: lines for people, one
// JSON object a line, or a YAML document for each. Raw lines have no prefix.
func (a *app) entryWriter(format string, components []string, raw bool) (func(journal.Block) error, error) {
	switch format {
	case "table":
		lines := a.linePrinter(components, "auto")
		return func(b journal.Block) error {
			switch {
			case raw && b.Kind == journal.Output:
				_, err := a.Out.Write(b.Data)
				return err
			case raw && b.Kind == journal.Gap: // no part of what was printed
				for e := range b.Entries() {
					fmt.Fprintln(a.Err, "flowctl: "+e.Text)
				}
				return nil
			}
			return lines.print(b)
		}, nil
	case "json":
		enc := json.NewEncoder(a.Out)
		enc.SetEscapeHTML(false)
		return eachEntry(enc.Encode), nil
	case "yaml":
		return eachEntry(func(v any) error { return writeDocument(a.Out, v) }), nil
	default:
		return nil, noFormat(format)
	}
}

// eachEntry prints a block's entries one by one.
func eachEntry(print func(any) error) func(journal.Block) error {
	return func(b journal.Block) error {
		for e := range b.Entries() {
			err := print(loggedEntry{
				Seq: e.Seq, Time: e.Time, Component: e.Component, Kind: string(e.Kind), Stream: e.Stream,
				Text: e.Text, Partial: e.Partial, Data: e.Data,
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// writeDocument writes one YAML document of a stream, with the names of its JSON.
func writeDocument(out io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "---\n%s", text)
	return err
}

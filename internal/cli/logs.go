package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/journal"
)

// logsOptions are the flags of logs.
type logsOptions struct {
	run                          runRef
	output, since, grep          string
	follow, withEvents, noPrefix bool
	tail                         int
	ids                          []string
}

func newLogsCmd(a *app) *cobra.Command {
	opts := logsOptions{}
	cmd := &cobra.Command{
		Use:   "logs [ID…]",
		Short: "Show what the components of a run have printed",
		Long: `Logs shows what components have printed, in the order in which it came, of a
running pipeline or, with --run, of one that has ended. One component alone is
shown as it printed, without a prefix.

What flowctl no longer has in its memory comes from the log files, without
times and one component after the other.`,
		Example: `  flowctl logs

  # Attach to a run: see what is printed and what happens
  flowctl logs -f --events --tail 20

  # What did it say about errors in the last five minutes?
  flowctl logs ttp-processor --since 5m --grep '(?i)error'

  # As JSON, one line each
  flowctl logs -o json | jq -r 'select(.stream == "stderr").text'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			return a.logs(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.follow, "follow", "f", false, "go on until the run ends")
	f.StringVar(&opts.since, "since", "", "leave out what is older than this: 5m, or a time such as 2006-01-02T15:04:05Z")
	f.IntVar(&opts.tail, "tail", -1, "show only the last lines of each component (default: all)")
	f.StringVar(&opts.grep, "grep", "", "show only lines that match this regular expression")
	f.BoolVar(&opts.withEvents, "events", false, "show what happens to components, too")
	f.BoolVar(&opts.noPrefix, "no-prefix", false, "show lines as they were printed")
	opts.run.flags(cmd)
	outputFlag(cmd, &opts.output)
	return cmd
}

// logs prints the output of a run.
func (a *app) logs(ctx context.Context, opts logsOptions) error {
	filter, err := newLineFilter(opts)
	if err != nil {
		return err
	}
	if err := checkFormat(opts.output); err != nil {
		return err
	}
	if past, ok := a.pastRun(opts.run.name); ok {
		return a.pastLogs(past, opts, filter)
	}
	run, err := a.operate(ctx, opts.run)
	if err != nil {
		return err
	}
	defer run.Close()
	kinds := []journal.Kind{journal.Output}
	if opts.withEvents {
		kinds = append(kinds, eventKinds...)
	}
	follow := controlplane.FollowOptions{From: 1, Kinds: kinds, Components: opts.ids, Since: filter.since, Stop: !opts.follow}
	if opts.grep == "" && opts.tail >= 0 {
		follow.Tail = max(opts.tail, 1)
	}
	following, err := run.Follow(ctx, follow)
	if err != nil {
		return err
	}
	if err := checkIDs(following.Snapshot, opts.ids); err != nil {
		return err
	}
	write, err := a.entryWriter(opts.output, componentIDs(following.Snapshot), opts.raw())
	if err != nil {
		return err
	}
	filter.write, filter.until = write, following.Snapshot.Seq
	if err := a.olderLogs(run.run, following, opts, filter); err != nil {
		return err
	}
	for b, err := range following.Blocks {
		if err != nil {
			_ = filter.flush()
			return a.ended(run, err)
		}
		if err := filter.add(b); err != nil {
			return err
		}
	}
	return filter.flush()
}

// raw reports whether lines are shown as they were printed.
func (o logsOptions) raw() bool { return o.noPrefix || len(o.ids) == 1 && !o.withEvents }

// olderLogs adds what the journal has no more and the log files have.
func (a *app) olderLogs(run engine.Run, following *controlplane.Following, opts logsOptions, filter *lineFilter) error {
	for _, id := range chosen(componentIDs(following.Snapshot), opts.ids) {
		bytes := following.Dropped[id]
		if bytes == 0 {
			continue
		}
		if !filter.since.IsZero() {
			fmt.Fprintf(a.Err, "flowctl: older output of %s may be missing, its lines have no times any more: %s\n", id, filepath.Join(run.LogDir, id+".log"))
			continue
		}
		if err := filter.logFiles(run.LogDir, id, run.StartedAt, time.Now().Add(endSlack), bytes); err != nil {
			fmt.Fprintf(a.Err, "flowctl: older output of %s is missing: %v\n", id, err)
		}
	}
	return nil
}

// chosen is ids, or all there are.
func chosen(all, ids []string) []string {
	if len(ids) == 0 {
		return all
	}
	return ids
}

// pastRun finds a run that has ended, when that is what name means: its id, or
// that of a pipeline, whose latest run it is when none is running.
func (a *app) pastRun(name string) (engine.Past, bool) {
	if name == "" {
		return engine.Past{}, false
	}
	if past, err := engine.Remembered(a.stateDir(), name); err == nil {
		return past, past.Outcome != engine.Running
	}
	all, err := engine.History(a.stateDir()) // the latest first
	if err != nil {
		return engine.Past{}, false
	}
	all = slices.DeleteFunc(all, func(p engine.Past) bool { return p.Pipeline != name })
	if len(all) == 0 || slices.ContainsFunc(all, func(p engine.Past) bool { return p.Outcome == engine.Running }) {
		return engine.Past{}, false
	}
	return all[0], true
}

// pastLogs prints the log files of a run that has ended.
func (a *app) pastLogs(past engine.Past, opts logsOptions, filter *lineFilter) error {
	var ids []string
	for _, c := range past.Components {
		ids = append(ids, c.ID)
	}
	for _, id := range opts.ids {
		if !slices.Contains(ids, id) {
			return usageError{fmt.Errorf("run %s had no component %q; it had %s", past.ID, id, strings.Join(ids, ", "))}
		}
	}
	if !filter.since.IsZero() {
		return usageError{fmt.Errorf("run %s has ended: its log files have no times for --since", past.ID)}
	}
	write, err := a.entryWriter(opts.output, ids, opts.raw())
	if err != nil {
		return err
	}
	filter.write = write
	until := past.EndedAt
	if until.IsZero() { // killed: what is left until the next run is its own
		until = a.nextRun(past)
	}
	for _, id := range chosen(ids, opts.ids) {
		if err := filter.logFiles(past.LogDir, id, past.StartedAt, until.Add(endSlack), wholeFile); err != nil {
			return err
		}
	}
	return filter.flush()
}

// endSlack is how long after the end of a run the last line may seem to have been written.
const endSlack = 10 * time.Millisecond

// nextRun is when the next run began that used the same log folder, or now.
func (a *app) nextRun(past engine.Past) time.Time {
	next := time.Now()
	all, err := engine.History(a.stateDir())
	if err != nil {
		return next
	}
	for _, p := range all {
		if p.LogDir == past.LogDir && p.StartedAt.After(past.StartedAt) && p.StartedAt.Before(next) {
			next = p.StartedAt
		}
	}
	return next
}

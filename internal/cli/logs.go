package cli

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
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
	run, output, since, grep     string
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
	runFlag(cmd, &opts.run)
	outputFlag(cmd, &opts.output)
	return cmd
}

// logs prints the output of a run.
func (a *app) logs(ctx context.Context, opts logsOptions) error {
	filter, err := newLineFilter(opts)
	if err != nil {
		return err
	}
	if opts.output != "table" && opts.output != "json" && opts.output != "yaml" {
		return noFormat(opts.output)
	}
	if past, ok := a.pastRun(opts.run); ok {
		return a.pastLogs(past, opts, filter)
	}
	run, err := a.operate(opts.run)
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

// pastRun finds a run that has ended, when that is what name means.
func (a *app) pastRun(name string) (engine.Past, bool) {
	if name == "" {
		return engine.Past{}, false
	}
	past, err := engine.Remembered(a.stateDir(), name)
	return past, err == nil && past.Outcome != engine.Running
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

// lineFilter chooses lines and keeps back all but the last ones before it
// passes them on.
type lineFilter struct {
	since time.Time
	grep  *regexp.Regexp // nil: all
	tail  int            // of each component; < 0: all
	// until is the number of the newest entry of which only the last count.
	until uint64
	write func(journal.Block) error
	kept  []journal.Block // the last ones so far, one line each, when tail >= 0
	count map[string]int  // component → its lines in kept
	open  bool            // what was kept has been passed on
}

func newLineFilter(opts logsOptions) (*lineFilter, error) {
	f := &lineFilter{tail: opts.tail, count: make(map[string]int)}
	var err error
	if f.since, err = sinceTime(opts.since); err != nil {
		return nil, err
	}
	if opts.grep != "" {
		if f.grep, err = regexp.Compile(opts.grep); err != nil {
			return nil, usageError{fmt.Errorf("--grep: %w", err)}
		}
	}
	return f, nil
}

// add takes a block.
func (f *lineFilter) add(b journal.Block) error {
	if f.grep != nil && b.Kind != journal.Gap {
		if b = f.matching(b); b.Count == 0 {
			return nil
		}
	}
	if f.tail >= 0 && !f.open {
		if b.First <= f.until {
			f.keep(b)
			return nil
		}
		if err := f.flush(); err != nil {
			return err
		}
	}
	return f.write(b)
}

// matching is the block without the lines that do not match.
func (f *lineFilter) matching(b journal.Block) journal.Block {
	if b.Kind != journal.Output {
		for e := range b.Entries() {
			if !f.grep.MatchString(e.Text) {
				return journal.Block{}
			}
		}
		return b
	}
	matched := b
	matched.Data, matched.Count, matched.Partial = nil, 0, false
	for line := range bytes.Lines(b.Data) {
		if text, whole := bytes.CutSuffix(line, []byte("\n")); f.grep.Match(text) {
			matched.Data = append(matched.Data, line...)
			matched.Count++
			matched.Partial = !whole && b.Partial
		}
	}
	return matched
}

// keep keeps a block's lines and forgets older ones of its component.
func (f *lineFilter) keep(b journal.Block) {
	if b.Kind != journal.Output {
		f.kept = append(f.kept, b)
		return
	}
	seq := b.First
	for line := range bytes.Lines(b.Data) {
		one := b
		one.First, one.Count, one.Data = seq, 1, line
		one.Partial = b.Partial && line[len(line)-1] != '\n'
		f.kept = append(f.kept, one)
		f.count[b.Component]++
		seq++
	}
	if total := f.count[b.Component]; len(f.kept) > 2*(f.tail+1)*(len(f.count)+1) && total > f.tail {
		f.trim()
	}
}

// trim forgets all but each component's last lines, and events before the first of them.
func (f *lineFilter) trim() {
	excess := make(map[string]int)
	for id, n := range f.count {
		excess[id] = n - f.tail
	}
	kept := f.kept[:0]
	for _, b := range f.kept {
		if b.Kind == journal.Output && excess[b.Component] > 0 {
			excess[b.Component]--
			f.count[b.Component]--
			continue
		}
		if b.Kind == journal.Output || len(kept) > 0 {
			kept = append(kept, b)
		}
	}
	clear(f.kept[len(kept):])
	f.kept = kept
}

// flush passes on what was kept.
func (f *lineFilter) flush() error {
	if f.open || f.tail < 0 {
		return nil
	}
	f.trim()
	f.open = true
	for _, b := range f.kept {
		if err := f.write(b); err != nil {
			return err
		}
	}
	f.kept = nil
	return nil
}

package cli

import (
	"bytes"
	"fmt"
	"regexp"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

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

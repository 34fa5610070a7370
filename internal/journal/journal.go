// Package journal is the one record of what was printed and what happened:
// bounded, numbered, followable. Each reader has a cursor of its own and is
// told how much it missed; no reader holds up a writer but for the short,
// budgeted patience of FollowOptions.Patience. It keeps nothing on disk:
// complete copies of output are what a Writer's copy is for.
package journal

import (
	"strconv"
	"sync"
	"time"
)

// Kind says what an Entry is about.
type Kind string

// The kinds of entries.
const (
	Output   Kind = "output"   // a line a component printed
	State    Kind = "state"    // a component changed its state
	Health   Kind = "health"   // a service became healthy or unhealthy
	Register Kind = "register" // a service registered, left or was adopted
	Notice   Kind = "notice"   // flowctl itself has something to say
	Gap      Kind = "gap"      // this reader missed entries: Data["entries"]
)

// Entry is one fact.
type Entry struct {
	// Seq numbers entries from 1, without gaps, over all components.
	Seq  uint64
	Time time.Time
	// Component is a component's id, or "" for flowctl itself.
	Component string
	Kind      Kind
	// Stream is stdout or stderr for Output, else "".
	Stream string
	// Text is the line without its newline, or the sentence.
	Text string
	// Partial is true for Output whose line goes on in the next entry of the same
	// component and stream.
	Partial bool
	// Data holds details by name, such as attempt or exit_code; often nil.
	Data map[string]string
}

// Options bound a journal.
type Options struct {
	// OutputBytes is how much memory the output that is kept takes; 0 means 64 MiB.
	OutputBytes int
	// Events is how many entries of other kinds are kept; 0 means 10,000.
	Events int
}

// Journal is the recent entries of all components in one total order. Output
// and events are bounded apart from each other: chatter cannot evict history.
type Journal struct {
	limits Options

	mu sync.Mutex // guards all below
	// next is the number the next entry gets.
	next    uint64
	output  ring
	events  ring
	closed  bool
	waiting bool             // somebody waits for changed
	changed chan struct{}    // closed and replaced when an entry is appended
	patient []*reader        // readers for whom writers may wait
	dropped map[string]int64 // component → bytes of its output that are no longer kept
}

// New returns an empty journal.
func New(opts Options) *Journal {
	if opts.OutputBytes == 0 {
		opts.OutputBytes = 64 << 20
	}
	if opts.Events == 0 {
		opts.Events = 10_000
	}
	return &Journal{limits: opts, next: 1, changed: make(chan struct{}), dropped: make(map[string]int64)}
}

// Append records one entry that is not output, numbering and dating it, and
// returns its number. After Close it does nothing and returns 0.
func (j *Journal) Append(e Entry) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return 0
	}
	e.Seq = j.next
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	j.events.push(e.Block())
	if j.events.len() > j.limits.Events {
		j.events.pop()
	}
	j.next++
	j.announce()
	return e.Seq
}

// appendOutput records the lines of b, which the journal owns from now on.
func (j *Journal) appendOutput(b Block) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	for j.output.bytes+b.size() > j.limits.OutputBytes && j.output.len() > 0 {
		if !j.waitForReaders() {
			j.drop()
		}
		if j.closed {
			return
		}
	}
	b.First = j.next
	j.next += uint64(b.Count)
	j.output.push(b)
	j.announce()
}

// announce wakes followers; the caller holds mu.
func (j *Journal) announce() {
	if j.waiting {
		close(j.changed)
		j.changed = make(chan struct{})
		j.waiting = false
	}
}

// Seq is the number of the newest entry, 0 when there is none.
func (j *Journal) Seq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next - 1
}

// Tail returns the last n entries of component's output, oldest first. Lines
// that came in parts are returned in these parts.
func (j *Journal) Tail(component string, n int) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Entry
	for i := j.output.len() - 1; i >= 0 && len(found) < n; i-- {
		b := j.output.at(i)
		if b.Component != component {
			continue
		}
		lines := b.tail(n - len(found))
		found = append(lines, found...)
	}
	return found
}

// Close ends the journal: followers get what is there and then end.
func (j *Journal) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed {
		j.closed = true
		close(j.changed)
	}
}

// gap is the entry a reader gets in place of n entries it missed.
func gap(seq, n uint64) Block {
	e := Entry{
		Seq: seq, Time: time.Now(), Kind: Gap,
		Text: strconv.FormatUint(n, 10) + " entries skipped: this reader was too slow",
		Data: map[string]string{"entries": strconv.FormatUint(n, 10)},
	}
	return Block{First: seq, Count: 1, Time: e.Time, Kind: Gap, entry: &e}
}

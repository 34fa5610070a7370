package journal

import (
	"context"
	"iter"
	"slices"
	"time"
)

// FollowOptions say how a reader reads.
type FollowOptions struct {
	// From is the number of the first entry wanted; 0 and 1 mean the oldest kept.
	// Use Seq()+1 for new ones only.
	From uint64
	// Patience is how long writers may be held up, in all, so that this reader
	// misses nothing: a budget that fills up again by one hundredth of the time
	// that passes. 0: never; whoever cannot keep up gets a Gap.
	Patience time.Duration
	// Stop ends the reading after the newest entry; otherwise it goes on until
	// ctx is done or the journal is closed.
	Stop bool
}

// reader is one follower's cursor.
type reader struct {
	cursor   uint64        // number of the next entry it wants
	budget   time.Duration // what is left of its patience
	patience time.Duration
	refilled time.Time
	// writers is how many writers wait for it, since when the first of them has
	// waited: their common waiting time is charged once.
	writers int
	since   time.Time
	moved   chan struct{} // closed and replaced when cursor advances
}

// Follow yields the journal's blocks in order from opts.From on. Where entries
// have been dropped before this reader came to them it gets one Gap in their
// place. Every call is a reader of its own.
func (j *Journal) Follow(ctx context.Context, opts FollowOptions) iter.Seq[Block] {
	return func(yield func(Block) bool) {
		r := j.attach(opts)
		defer j.detach(r)
		for {
			b, missed, wait := j.take(r, opts.Stop)
			switch {
			case missed > 0:
				if !yield(gap(b.First-1, missed)) {
					return
				}
				fallthrough
			case b.Count > 0:
				if !yield(b) {
					return
				}
			case wait == nil:
				return
			default:
				select {
				case <-wait:
				case <-ctx.Done():
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// attach starts a reader.
func (j *Journal) attach(opts FollowOptions) *reader {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := &reader{
		cursor: opts.From, patience: opts.Patience, budget: opts.Patience,
		refilled: time.Now(), moved: make(chan struct{}),
	}
	if r.cursor <= 1 { // the oldest kept is no gap
		r.cursor = 1
		if b := j.oldest(1); b != nil {
			r.cursor = b.First
		}
	}
	if r.patience > 0 {
		j.patient = append(j.patient, r)
	}
	return r
}

// detach ends a reader.
func (j *Journal) detach(r *reader) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.patient = slices.DeleteFunc(j.patient, func(p *reader) bool { return p == r })
	r.move()
}

// take returns the reader's next block and how many entries it missed before
// it, or, when there is none, what to wait for; nil when nothing will come.
func (j *Journal) take(r *reader, stop bool) (b Block, missed uint64, wait <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := j.oldest(r.cursor)
	if found == nil {
		if j.closed || stop {
			return Block{}, 0, nil
		}
		j.waiting = true
		return Block{}, 0, j.changed
	}
	b = *found
	if b.First > r.cursor {
		missed = b.First - r.cursor
	}
	r.cursor = b.First + uint64(b.Count)
	r.move()
	return b, missed, nil
}

// oldest returns the oldest block with an entry numbered seq or later; the caller holds mu.
func (j *Journal) oldest(seq uint64) *Block {
	out, ev := j.output.from(seq), j.events.from(seq)
	if out == nil || ev != nil && ev.First < out.First {
		return ev
	}
	return out
}

// waitForReaders gives a patient reader that has not come to the oldest output
// yet a moment, from its budget. It reports whether it waited; the caller holds
// mu, which is released meanwhile.
func (j *Journal) waitForReaders() bool {
	victim := j.output.at(0)
	for _, r := range j.patient {
		if r.cursor >= victim.First+uint64(victim.Count) {
			continue
		}
		now := time.Now()
		if r.writers == 0 {
			r.budget = min(r.patience, r.budget+now.Sub(r.refilled)/100)
			r.refilled, r.since = now, now
		}
		left := r.budget - now.Sub(r.since)
		if left <= 0 {
			continue
		}
		r.writers++
		moved, timer := r.moved, time.NewTimer(left)
		j.mu.Unlock()
		select {
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
		j.mu.Lock()
		if r.writers--; r.writers == 0 {
			r.budget -= time.Since(r.since)
			r.refilled = time.Now()
		}
		return true
	}
	return false
}

// move wakes the writers that wait for the reader to advance; the caller holds mu.
func (r *reader) move() {
	if r.writers > 0 {
		close(r.moved)
		r.moved = make(chan struct{})
	}
}

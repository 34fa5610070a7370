package journal

import (
	"bytes"
	"iter"
	"time"
)

// Block is one or more entries that came together: one event, or the lines of
// one write of one component. Blocks are what the journal keeps and hands out,
// so that a million lines a second cost thousands of allocations, not millions.
// A Block must not be changed.
type Block struct {
	// First is the number of the first entry, Count how many there are.
	First     uint64
	Count     int
	Time      time.Time
	Component string
	Kind      Kind
	Stream    string
	// Data holds the lines of Output, each with its newline; the last one has none when Partial.
	Data    []byte
	Partial bool

	entry *Entry // for every kind but Output
}

// Entries yields the block's entries one by one.
func (b Block) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if b.entry != nil {
			yield(*b.entry)
			return
		}
		seq := b.First
		for line := range bytes.Lines(b.Data) {
			text, whole := bytes.CutSuffix(line, []byte("\n"))
			if !yield(Entry{
				Seq: seq, Time: b.Time, Component: b.Component, Kind: b.Kind,
				Stream: b.Stream, Text: string(text), Partial: !whole && b.Partial,
			}) {
				return
			}
			seq++
		}
	}
}

// tail returns the block's last n entries.
func (b Block) tail(n int) []Entry {
	skip := max(b.Count-n, 0)
	kept := make([]Entry, 0, b.Count-skip)
	for e := range b.Entries() {
		if e.Seq >= b.First+uint64(skip) {
			kept = append(kept, e)
		}
	}
	return kept
}

// ring is a queue of blocks in the order of their numbers.
type ring struct {
	blocks []Block
	head   int // index of the oldest
	bytes  int // sum of the blocks' sizes
}

// size is how much memory a block of output takes: a component that writes line
// by line makes many small ones.
func (b *Block) size() int { return blockBytes + len(b.Data) }

// blockBytes is what a block takes besides its data, counting that the queue has
// room for up to twice the blocks it holds.
const blockBytes = 256

func (r *ring) len() int        { return len(r.blocks) - r.head }
func (r *ring) at(i int) *Block { return &r.blocks[r.head+i] }

func (r *ring) push(b Block) {
	r.blocks = append(r.blocks, b)
	r.bytes += b.size()
}

// pop drops the oldest block; the slice is compacted when half of it is dead.
func (r *ring) pop() {
	r.bytes -= r.blocks[r.head].size()
	r.blocks[r.head] = Block{}
	r.head++
	if r.head > len(r.blocks)/2 {
		n := copy(r.blocks, r.blocks[r.head:])
		clear(r.blocks[n:])
		r.blocks = r.blocks[:n]
		r.head = 0
	}
}

// from returns the oldest block that holds an entry numbered seq or later, or nil.
func (r *ring) from(seq uint64) *Block {
	lo, hi := 0, r.len()
	for lo < hi {
		mid := (lo + hi) / 2
		if b := r.at(mid); b.First+uint64(b.Count) > seq {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == r.len() {
		return nil
	}
	return r.at(lo)
}

package journal

import "maps"

// Kept tells where the kept output begins: the number of its first entry (the
// next entry's, when there is none), and how many bytes of each component's
// output were before it.
func (j *Journal) Kept() (first uint64, dropped map[string]int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	first = j.next
	if j.output.len() > 0 {
		first = j.output.at(0).First
	}
	return first, maps.Clone(j.dropped)
}

// drop forgets the oldest output; the caller holds mu.
func (j *Journal) drop() {
	b := j.output.at(0)
	j.dropped[b.Component] += int64(len(b.Data))
	j.output.pop()
}

// Block is e as a block of its own, numbered as e is; e is not output.
func (e Entry) Block() Block {
	return Block{First: e.Seq, Count: 1, Time: e.Time, Component: e.Component, Kind: e.Kind, entry: &e}
}

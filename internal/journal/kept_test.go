package journal

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKept(t *testing.T) {
	j := New(Options{OutputBytes: 2*blockBytes + 25})
	kept := func(wantFirst uint64, want map[string]int64) {
		t.Helper()
		first, dropped := j.Kept()
		if diff := cmp.Diff(want, dropped); first != wantFirst || diff != "" {
			t.Errorf("first %d, want %d; dropped (-want +got):\n%s", first, wantFirst, diff)
		}
	}
	kept(1, map[string]int64{})
	a, b := j.Writer("a", "stdout", nil), j.Writer("b", "stdout", nil)
	_, _ = a.Write([]byte("12345\n123\n")) // entries 1 and 2
	_, _ = b.Write([]byte("123456789\n"))  // 3
	j.Append(Entry{Kind: Notice})          // 4
	kept(1, map[string]int64{})
	_, _ = b.Write([]byte("123456\n")) // 5: a's block goes
	kept(3, map[string]int64{"a": 10})
	_, _ = a.Write([]byte("1234567890123456789012\n")) // 6: all others go
	kept(6, map[string]int64{"a": 10, "b": 17})
}

func TestEntryBlock(t *testing.T) {
	want := Entry{Seq: 7, Component: "a", Kind: State, Text: "why", Data: map[string]string{"state": "ready"}}
	b := want.Block()
	var got []Entry
	for e := range b.Entries() {
		got = append(got, e)
	}
	if diff := cmp.Diff([]Entry{want}, got); diff != "" || b.First != 7 || b.Count != 1 || b.Component != "a" || b.Kind != State {
		t.Errorf("block %+v (-want +got):\n%s", b, diff)
	}
}

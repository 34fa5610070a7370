package journal

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func texts(j *Journal, opts FollowOptions) []string {
	opts.Stop = true
	var got []string
	for b := range j.Follow(context.Background(), opts) {
		for e := range b.Entries() {
			text := e.Text
			if e.Partial {
				text += "…"
			}
			got = append(got, text)
		}
	}
	return got
}

func TestWriterSplitsLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, tc := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"a line in parts", []string{"a", "b", "c\nd\n"}, []string{"abc", "d"}},
		{"no newline at the end", []string{"a\nb"}, []string{"a", "b"}},
		{"empty lines", []string{"\n\n"}, []string{"", ""}},
		{"bytes of any kind", []string{"\x00\xff\n"}, []string{"\x00\xff"}},
		{"a long line comes in pieces", []string{long, "y\nz\n"}, []string{long + "…", "y", "z"}},
		{"nothing", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := New(Options{})
			var file bytes.Buffer
			w := j.Writer("c", "stdout", &file)
			for _, s := range tc.writes {
				fmt.Fprint(w, s)
			}
			w.Close()
			if diff := cmp.Diff(tc.want, texts(j, FollowOptions{})); diff != "" {
				t.Error(diff)
			}
			if want := strings.Join(tc.writes, ""); file.String() != want {
				t.Errorf("the copy differs: %d bytes, want %d", file.Len(), len(want))
			}
		})
	}
}

func TestEventsAndOutputShareOneOrder(t *testing.T) {
	j := New(Options{})
	w := j.Writer("c", "stdout", nil)
	fmt.Fprint(w, "one\ntwo\n")
	j.Append(Entry{Kind: State, Text: "three"})
	fmt.Fprint(w, "four\n")
	if diff := cmp.Diff([]string{"one", "two", "three", "four"}, texts(j, FollowOptions{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"three", "four"}, texts(j, FollowOptions{From: 3})); diff != "" {
		t.Error(diff)
	}
	if got := j.Seq(); got != 4 {
		t.Errorf("Seq = %d, want 4", got)
	}
}

func TestChatterDoesNotEvictEvents(t *testing.T) {
	j := New(Options{OutputBytes: 1000})
	j.Append(Entry{Kind: State, Text: "started"})
	w := j.Writer("c", "stdout", nil)
	for i := range 1000 {
		fmt.Fprintf(w, "line %d\n", i)
	}
	got := texts(j, FollowOptions{})
	if got[0] != "started" {
		t.Fatalf("first entry is %q", got[0])
	}
	if !strings.HasSuffix(got[1], "entries skipped: this reader was too slow") {
		t.Errorf("no gap is told: %q", got[1])
	}
	if last := got[len(got)-1]; last != "line 999" {
		t.Errorf("last entry is %q", last)
	}
	if j.output.bytes > 1000 {
		t.Errorf("%d bytes are kept, the limit is 1000", j.output.bytes)
	}
}

// A reader that stands still costs a writer its patience once, then gets a gap;
// the count of entries it saw and missed is the count written.
func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(Options{OutputBytes: 1000})
		release := make(chan struct{})
		var seen, missed uint64
		var reader sync.WaitGroup
		reader.Go(func() {
			for b := range j.Follow(t.Context(), FollowOptions{Patience: time.Second}) {
				<-release
				for e := range b.Entries() {
					if e.Kind == Gap {
						var n uint64
						fmt.Sscan(e.Data["entries"], &n)
						missed += n
					} else {
						seen++
					}
				}
			}
		})
		synctest.Wait()
		start := time.Now()
		w := j.Writer("c", "stdout", nil)
		const lines = 10_000
		for i := range lines {
			fmt.Fprintf(w, "line %d\n", i)
		}
		if d := time.Since(start); d < time.Second || d > 1100*time.Millisecond {
			t.Errorf("the writer was held up for %v, want the patience of 1s", d)
		}
		close(release)
		j.Close()
		reader.Wait()
		if seen+missed != lines || missed == 0 {
			t.Errorf("seen %d + missed %d, want %d", seen, missed, lines)
		}
	})
}

// A reader that keeps reading misses nothing, however small the journal is.
func TestPatientReaderMissesNothing(t *testing.T) {
	j := New(Options{OutputBytes: 4096})
	var got int
	var reader sync.WaitGroup
	reads := make(chan struct{})
	reader.Go(func() {
		for b := range j.Follow(t.Context(), FollowOptions{Patience: time.Minute}) {
			for e := range b.Entries() {
				if e.Text != fmt.Sprint(got) {
					t.Errorf("got %q, want %d", e.Text, got)
					return
				}
				if got++; got == 1 {
					close(reads)
				}
			}
		}
	})
	w := j.Writer("c", "stdout", nil)
	fmt.Fprintln(w, 0)
	<-reads
	for i := 1; i < 100_000; i++ {
		fmt.Fprintln(w, i)
	}
	j.Close()
	reader.Wait()
	if got != 100_000 {
		t.Errorf("got %d lines", got)
	}
}

// Writers that wait for a reader at the same time use its patience up once, not each.
func TestWritersShareAReadersPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(Options{OutputBytes: 1000})
		release := make(chan struct{})
		var reader, writers sync.WaitGroup
		reader.Go(func() {
			for range j.Follow(t.Context(), FollowOptions{Patience: time.Second}) {
				<-release
			}
		})
		synctest.Wait()
		start := time.Now()
		for i := range 20 {
			writers.Go(func() {
				w := j.Writer(fmt.Sprint(i), "stdout", nil)
				for range 100 {
					fmt.Fprintln(w, "a line of some length")
				}
			})
		}
		writers.Wait()
		if d := time.Since(start); d < time.Second || d > 1100*time.Millisecond {
			t.Errorf("the writers were held up for %v, want the patience of 1s", d)
		}
		close(release)
		j.Close()
		reader.Wait()
	})
}

func TestFollowEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	j := New(Options{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for range j.Follow(ctx, FollowOptions{}) {
		}
	})
	cancel()
	reader.Wait()
}

func TestTail(t *testing.T) {
	j := New(Options{})
	a, b := j.Writer("a", "stdout", nil), j.Writer("b", "stderr", nil)
	fmt.Fprint(a, "a1\na2\n")
	fmt.Fprint(b, "b1\n")
	fmt.Fprint(a, "a3\n")
	var got []string
	for _, e := range j.Tail("a", 2) {
		got = append(got, e.Text)
	}
	if diff := cmp.Diff([]string{"a2", "a3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRingCompacts(t *testing.T) {
	var r ring
	for i := range 10_000 {
		r.push(Block{First: uint64(i), Count: 1})
		if r.len() > 10 {
			r.pop()
		}
	}
	if r.len() != 10 || len(r.blocks) > 32 {
		t.Errorf("len %d, slots %d", r.len(), len(r.blocks))
	}
	if b := r.from(9995); b.First != 9995 {
		t.Errorf("from(9995) = %d", b.First)
	}
	if b := r.from(10_000); b != nil {
		t.Errorf("from(10000) = %d", b.First)
	}
}

// A component that writes line by line takes no more memory than one that
// writes in blocks.
func TestSmallWritesAreBoundedInMemory(t *testing.T) {
	const limit = 4 << 20
	j := New(Options{OutputBytes: limit})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := j.Writer("c", "stdout", nil)
	for range 200_000 {
		fmt.Fprint(w, "\n")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int(after.HeapAlloc) - int(before.HeapAlloc); got > limit*3/2 {
		t.Errorf("%d bytes for %d", got, limit)
	}
	runtime.KeepAlive(j)
}

package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/journal"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 7_000_000, time.UTC)

// printed is one output block of a component.
func printed(component, stream, data string, partial bool) journal.Block {
	return journal.Block{
		First: 1, Count: max(1, strings.Count(data, "\n")), Time: noon, Component: component,
		Kind: journal.Output, Stream: stream, Data: []byte(data), Partial: partial,
	}
}

// happened is the block of one event.
func happened(t *testing.T, e journal.Entry) journal.Block {
	t.Helper()
	e.Time = noon
	j := journal.New(journal.Options{})
	j.Append(e)
	for b := range j.Follow(t.Context(), journal.FollowOptions{Stop: true}) {
		return b
	}
	t.Fatal("the journal has lost its only entry")
	return journal.Block{}
}

func state(component, state, text string) journal.Entry {
	return journal.Entry{Component: component, Kind: journal.State, Text: text, Data: map[string]string{"state": state}}
}

func TestLinePrinter(t *testing.T) {
	for _, test := range []struct {
		name   string
		blocks []journal.Block
		want   []string
	}{
		{"names are aligned, flowctl's own too", []journal.Block{
			printed("src", "stdout", "data\n", false),
			printed("processor", "stdout", "events\n", false),
			happened(t, journal.Entry{Kind: journal.Notice, Text: "a word from us"}),
		}, []string{
			"12:00:00.007  src       | data",
			"12:00:00.007  processor | events",
			"12:00:00.007  flowctl   * a word from us",
		}},
		{"every line of a block gets a prefix", []journal.Block{
			printed("src", "stdout", "one\n\nthree\n", false),
		}, []string{
			"12:00:00.007  src       | one",
			"12:00:00.007  src       | ",
			"12:00:00.007  src       | three",
		}},
		{"a state is told with its reason, other events as they are", []journal.Block{
			happened(t, state("src", "ready", "after 14ms")),
			happened(t, journal.Entry{Component: "src", Kind: journal.Register, Text: "registered as source"}),
		}, []string{
			"12:00:00.007  src       * ready: after 14ms",
			"12:00:00.007  src       * registered as source",
		}},
		{"an end without a newline gets one", []journal.Block{
			printed("src", "stdout", "no newline", false),
			printed("src", "stdout", "next\n", false),
		}, []string{
			"12:00:00.007  src       | no newline",
			"12:00:00.007  src       | next",
		}},
		{"a line that goes on is one line", []journal.Block{
			printed("src", "stdout", "first ", true),
			printed("src", "stdout", "second ", true),
			printed("src", "stdout", "third\nnext\n", false),
		}, []string{
			"12:00:00.007  src       | first second third",
			"12:00:00.007  src       | next",
		}},
		{"another component's line ends it", []journal.Block{
			printed("src", "stdout", "begun ", true),
			printed("processor", "stdout", "meanwhile\n", false),
			printed("src", "stdout", "ended\n", false),
		}, []string{
			"12:00:00.007  src       | begun ",
			"12:00:00.007  processor | meanwhile",
			"12:00:00.007  src       | ended",
		}},
		{"so does its own other stream", []journal.Block{
			printed("src", "stdout", "begun ", true),
			printed("src", "stderr", "warning\n", false),
		}, []string{
			"12:00:00.007  src       | begun ",
			"12:00:00.007  src       | warning",
		}},
		{"so does an event", []journal.Block{
			printed("src", "stdout", "begun ", true),
			happened(t, state("src", "failed", "exited with code 1")),
			printed("processor", "stdout", "next\n", false),
		}, []string{
			"12:00:00.007  src       | begun ",
			"12:00:00.007  src       * failed: exited with code 1",
			"12:00:00.007  processor | next",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			p := newLinePrinter(&out, false, []string{"src", "processor"})
			for _, b := range test.blocks {
				if err := p.print(b); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(strings.Join(test.want, "\n")+"\n", out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLinePrinterNamesAreAlignedWithShortIDs(t *testing.T) {
	var out bytes.Buffer
	p := newLinePrinter(&out, false, []string{"a"})
	if err := p.print(printed("a", "stdout", "x\n", false)); err != nil {
		t.Fatal(err)
	}
	if want := "12:00:00.007  a       | x\n"; out.String() != want {
		t.Errorf("%q, want %q: as wide as flowctl", out.String(), want)
	}
}

func TestLinePrinterColours(t *testing.T) {
	line := func(component string) string {
		var out bytes.Buffer
		p := newLinePrinter(&out, true, []string{"left", "right", component})
		if err := p.print(printed(component, "stdout", "x\n", false)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if first, second := line("left"), line("left"); first != second {
		t.Error("a component changes its colour from run to run")
	}
	colour := func(component string) string {
		_, after, found := strings.Cut(line(component), "\x1b[")
		code, _, _ := strings.Cut(after, "m")
		if !found || code == "" {
			t.Errorf("%s has no colour: %q", component, line(component))
		}
		return code
	}
	if colour("left") == colour("right") {
		t.Error("left and right have the same colour")
	}
	if got := line("left"); !strings.HasSuffix(got, "\x1b[0m | x\n") {
		t.Errorf("%q: the colour does not end with the name", got)
	}
	var out bytes.Buffer
	p := newLinePrinter(&out, true, nil)
	if err := p.print(happened(t, state("left", "ready", "after 1ms"))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[1mready: after 1ms\x1b[0m\n") {
		t.Errorf("%q: an event is not bold", out.String())
	}
}

// countingWriter counts writes and fails after some.
type countingWriter struct{ writes, failAfter int }

var errGone = errors.New("nobody reads")

func (w *countingWriter) Write(p []byte) (int, error) {
	w.writes++
	if w.failAfter > 0 && w.writes > w.failAfter {
		return 0, errGone
	}
	return len(p), nil
}

func TestLinePrinterWritesABlockAtOnce(t *testing.T) {
	w := &countingWriter{}
	p := newLinePrinter(w, true, []string{"src"})
	if err := p.print(printed("src", "stdout", strings.Repeat("line\n", 10_000), false)); err != nil {
		t.Fatal(err)
	}
	if w.writes != 1 {
		t.Errorf("%d writes for one block, want 1", w.writes)
	}
}

func TestLinePrinterTellsThatNobodyReads(t *testing.T) {
	p := newLinePrinter(&countingWriter{failAfter: 1}, false, []string{"src"})
	if err := p.print(printed("src", "stdout", "read\n", false)); err != nil {
		t.Fatal(err)
	}
	if err := p.print(printed("src", "stdout", "not read\n", false)); !errors.Is(err, errGone) {
		t.Errorf("%v, want %v", err, errGone)
	}
}

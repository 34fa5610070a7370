package supervisor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// numbered are n lines that a program prints in good health.
func numbered(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("ledger %d (ok): Error rate 0", i))
	}
	return lines
}

// goTrace is a panic with frames function calls.
func goTrace(frames int) []string {
	lines := []string{"panic: no such table", "", "goroutine 1 [running]:"}
	for i := range frames {
		lines = append(lines, fmt.Sprintf("main.f%d(0x1)", i), "\t/src/main.go:12 +0x1d")
	}
	return append(lines, "exit status 2")
}

func TestLastLines(t *testing.T) {
	pythonTrace := []string{"Traceback (most recent call last):"}
	for i := range 14 {
		pythonTrace = append(pythonTrace, fmt.Sprintf(`  File "app.py", line %d, in <module>`, i), "    main()")
	}
	pythonTrace = append(pythonTrace, "ValueError: no such table")
	nodeTrace := []string{"/app/main.js:3", "  throw new Error('no such table')", "  ^", "", "Error: no such table"}
	for i := range 25 {
		nodeTrace = append(nodeTrace, fmt.Sprintf("    at f%d (/app/main.js:3:9)", i))
	}
	nodeTrace = append(nodeTrace, "", "Node.js v22.1.0")
	last := func(lines []string, n int) []string { return lines[len(lines)-n:] }

	for _, test := range []struct {
		name        string
		before, end []string
		want        []string
	}{
		{"nothing", nil, nil, []string{}},
		{"few lines", numbered(3), nil, numbered(3)},
		{"many lines", numbered(100), nil, last(numbered(100), 20)},
		{"a short trace is within the last lines", numbered(100), goTrace(4), append(last(numbered(100), 8), goTrace(4)...)},
		{"a panic begins further up", numbered(100), goTrace(12), goTrace(12)},
		{"only its end is near", numbered(10), append(goTrace(10), numbered(15)...), append(goTrace(10), numbered(15)...)},
		{"a traceback", numbered(100), pythonTrace, pythonTrace},
		{"an uncaught error of Node", numbered(100), nodeTrace, nodeTrace[4:]},
		{"the last of two", append(numbered(50), goTrace(9)...), goTrace(12), goTrace(12)},
		{"a long trace loses its middle", numbered(10), goTrace(60),
			append(append(append([]string{}, goTrace(60)[:20]...), "… 85 lines left out …"), last(goTrace(60), 19)...)},
		{"a trace that began too far up", goTrace(150), nil, last(goTrace(150), 20)},
		{"a trace long ago is no reason", append(goTrace(12), numbered(30)...), nil, last(numbered(30), 20)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var entries []journal.Entry
			for _, line := range append(append([]string{}, test.before...), test.end...) {
				entries = append(entries, journal.Entry{Text: line})
			}
			got := lastLines(entries[max(len(entries)-lookBack, 0):])
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLastLinesAreShortened(t *testing.T) {
	got := lastLines([]journal.Entry{{Text: strings.Repeat("ä", 40_000)}})
	if want := strings.Repeat("ä", 250) + "… (80000 bytes)"; got[0] != want {
		t.Errorf("%d bytes: %.80q…", len(got[0]), got[0])
	}
}

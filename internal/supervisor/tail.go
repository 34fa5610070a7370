package supervisor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// How much of a failed component's output is told with its failure: the last
// tailLines lines, or, if they are the end of a stack trace that begins within
// the last lookBack lines, that trace from its beginning, in at most traceLines.
const (
	tailLines  = 20
	lookBack   = 200
	traceLines = 40
	// lineBytes is how much is told of one line.
	lineBytes = 500
)

// traces are the stack traces of the runtimes components are written in: how
// they begin, and what is in them and in little else.
var traces = []struct{ head, body *regexp.Regexp }{
	{regexp.MustCompile(`^(panic: |fatal error: |runtime: |SIG[A-Z]+: )`), regexp.MustCompile(`^(goroutine \d+ .*\[.*\]:$|\t\S+\.go:\d+)`)},
	{regexp.MustCompile(`^Traceback \(most recent call last\):`), regexp.MustCompile(`^  File ".*", line \d+`)},
	{regexp.MustCompile(`^(Uncaught )?[A-Za-z_.]*(Error|Exception)\b`), regexp.MustCompile(`^ +at .*[:(<]`)},
	{regexp.MustCompile(`^(Exception in thread |Caused by: |[a-z][\w.$]*(Error|Exception)\b)`), regexp.MustCompile(`^\tat \S+\(`)},
	{regexp.MustCompile(`^thread '.*' .*panicked at `), regexp.MustCompile(`^ +(\d+: |at \S+\.rs:\d+)`)},
}

// lastLines is what is told of a component's last output.
func lastLines(entries []journal.Entry) []string {
	lines := make([]string, len(entries))
	for i, e := range entries {
		lines[i] = shortened(e.Text)
	}
	from := max(len(lines)-tailLines, 0)
	if head := traceHead(lines, from); head < from {
		return bounded(lines[head:])
	}
	return lines[from:]
}

// traceHead is where the trace begins that has some of its body at from or
// later, or from if there is none that begins earlier.
func traceHead(lines []string, from int) int {
	for _, t := range traces {
		body := slices.IndexFunc(lines[from:], t.body.MatchString)
		if body < 0 {
			continue
		}
		for i := from + body - 1; i >= 0; i-- {
			if t.head.MatchString(lines[i]) {
				return min(i, from)
			}
		}
	}
	return from
}

// bounded leaves out the middle of a trace that is too long: what happened is
// at its beginning or at its end.
func bounded(lines []string) []string {
	if len(lines) <= traceLines {
		return lines
	}
	const end = tailLines - 1
	left := len(lines) - traceLines + 1
	begin := lines[:traceLines-end-1]
	return slices.Concat(begin, []string{fmt.Sprintf("… %d lines left out …", left)}, lines[len(lines)-end:])
}

// shortened is the beginning of a line.
func shortened(line string) string {
	if len(line) <= lineBytes {
		return line
	}
	return strings.ToValidUTF8(line[:lineBytes], "") + fmt.Sprintf("… (%d bytes)", len(line))
}

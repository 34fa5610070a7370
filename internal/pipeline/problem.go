package pipeline

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Problem is one thing wrong with a file, said so that it can be put right.
type Problem struct {
	// File is the file as the user named it; Line and Column count from 1, in
	// characters, and are 0 when the problem is the file as a whole.
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Field is the way to the value: spec.sinks[0].depends_on. It is empty when the file is no YAML.
	Field string `json:"field,omitempty"`
	// Text is the sentence; Fix what to do instead, such as: did you mean "binary"?
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
	// Warning is true when the file can be used all the same.
	Warning bool `json:"warning,omitempty"`
	// Source is the line of the file, for Render; empty where it may hold a secret.
	Source string `json:"-"`
}

// Error is the problem in one line: file:line:column: field: sentence (fix).
func (p Problem) Error() string { return p.position() + p.sentence() }

// position is "file:line:column: ", or "file: ".
func (p Problem) position() string {
	if p.Line == 0 {
		return p.File + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
}

// sentence is everything but the position.
func (p Problem) sentence() string {
	var b strings.Builder
	if p.Warning {
		b.WriteString("warning: ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Text)
	if p.Fix != "" {
		b.WriteString(" (" + p.Fix + ")")
	}
	return b.String()
}

// Problems are all problems of a pipeline, as one error.
type Problems []Problem

// Error is one line a problem, in the order of the file, without a newline at the end.
func (ps Problems) Error() string {
	var lines []string
	for _, p := range ps.sorted() {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}

// Render writes the problems for a person at a terminal: each line of Error,
// followed by the line of the file with a caret below the place. With color the
// position is bold and the caret red, in the terminal's own codes.
func (ps Problems) Render(w io.Writer, color bool) {
	bold, red, plain := "\x1b[1m", "\x1b[31m", "\x1b[0m"
	if !color {
		bold, red, plain = "", "", ""
	}
	for _, p := range ps.sorted() {
		fmt.Fprintf(w, "%s%s%s%s\n", bold, p.position(), plain, p.sentence())
		if p.Source == "" {
			continue
		}
		fmt.Fprintf(w, "%5d | %s\n", p.Line, printable(p.Source))
		fmt.Fprintf(w, "      | %s%s^%s\n", blank(p.Source, p.Column-1), red, plain)
	}
}

// sorted is a copy in the order of the file, each problem once. Problems of one place keep their order.
func (ps Problems) sorted() Problems {
	sorted := slices.Clone(ps)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(sorted)
}

// printable keeps control characters of a file away from the terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, line)
}

// blank is as wide as the first n characters of line: tabs stay tabs.
func blank(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n--; n < 0 {
			break
		}
		if r == '\t' {
			b.WriteRune('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

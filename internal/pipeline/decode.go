package pipeline

import (
	"fmt"
	"strings"
)

// decoder reads a tree into a Pipeline and collects what is wrong with it.
type decoder struct {
	file, dir string
	lines     []string
	environ   map[string]string
	problems  Problems
	// where remembers the position of each field for checks across components.
	where map[string]position
	// references are the ${id.port} met so far.
	references []reference
}

// reference is one ${id.port} and where it stands.
type reference struct {
	id, port, field string
	at              position
}

// wrong reports a problem at a place of the file.
func (d *decoder) wrong(at position, field, fix, format string, args ...any) {
	d.problems = append(d.problems, Problem{
		File: d.file, Line: at.line, Column: at.column, Field: field,
		Text: fmt.Sprintf(format, args...), Fix: fix, Source: lineOf(d.lines, at.line),
	})
}

// warn reports something that works but should be looked at.
func (d *decoder) warn(at position, field, fix, format string, args ...any) {
	d.wrong(at, field, fix, format, args...)
	d.problems[len(d.problems)-1].Warning = true
}

// mismatch reports a value of the wrong kind.
func (d *decoder) mismatch(n *node, field, want string) {
	if n.kind == null {
		d.wrong(n.position, field, "", "has no value: write %s, or remove the key", want)
		return
	}
	d.wrong(n.position, field, "", "must be %s, not %s", want, n.shown())
}

// shown is the value as a message names it: a scalar as written, else its kind.
func (n *node) shown() string {
	switch {
	case !n.scalar():
		return string(n.kind)
	case n.kind == text:
		return "the text " + quote(n.text)
	default:
		return n.text
	}
}

// quote puts s in quotes, cut to a length a message can bear.
func quote(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:57]) + "..."
	}
	return fmt.Sprintf("%q", s)
}

// expand is the scalar's text with ${VAR} replaced. Only where refs is true may
// it hold references to ports of components, which stay: see Expand.
func (d *decoder) expand(n *node, field string, refs bool) (string, bool) {
	if strings.ContainsRune(n.text, 0) {
		d.wrong(n.position, field, "", "holds a NUL character, which no argument or variable can hold")
		return "", false
	}
	x := expander{lookup: d.lookup}
	out := x.expand(n.text)
	ok := true
	for _, c := range x.complaints {
		d.wrong(d.find(n.position, c.where), field, c.fix, "%s", c.text)
		ok = false
	}
	for _, r := range x.references {
		at := d.find(n.position, "${"+r.id+"."+r.port)
		if !refs {
			d.wrong(at, field, "", "the port of a component can be used in command, args, env, config and exec only")
			ok = false
			continue
		}
		d.references = append(d.references, reference{r.id, r.port, field, at})
	}
	return out, ok
}

// lookup finds a variable in the environment the file is read with.
func (d *decoder) lookup(name string) (string, bool) {
	value, ok := d.environ[name]
	return value, ok
}

// find is where part of a scalar stands, from its beginning on; the beginning itself when in doubt.
func (d *decoder) find(from position, part string) position {
	if from.line < 1 || part == "" {
		return from
	}
	for number := from.line; number <= min(len(d.lines), from.line+50); number++ {
		line, skipped := []rune(d.lines[number-1]), 0
		if number == from.line {
			skipped = min(max(from.column-1, 0), len(line))
		}
		if before, _, ok := strings.Cut(string(line[skipped:]), part); ok {
			return position{number, skipped + len([]rune(before)) + 1}
		}
	}
	return from
}

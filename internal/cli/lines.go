package cli

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"github.com/withobsrvr/flowctl/internal/journal"
)

// palette are the colours of component names: readable on dark and light ground.
var palette = []string{"36", "32", "33", "35", "34", "96", "92", "93", "95", "94"}

const timeFormat = "15:04:05.000"

// linePrinter writes journal blocks as lines: time, component, text. It buffers
// one block: a write for each block, however many lines it has.
type linePrinter struct {
	out   io.Writer
	color bool
	// terminal keeps components from controlling the terminal: see appendVisible.
	// Without it what they print is shown byte by byte.
	terminal bool
	// pretty shows log records as level, message and details; it needs terminal.
	pretty bool
	names  map[string]string // component → its aligned, coloured name
	width  int
	buf    []byte
	// open names the stream whose line has not ended yet, "" when at the start of a line.
	open string
}

// newLinePrinter returns a printer that aligns the names of components.
func newLinePrinter(out io.Writer, color bool, components []string) *linePrinter {
	p := &linePrinter{out: out, color: color, names: make(map[string]string), width: len("flowctl")}
	for _, id := range components {
		p.width = max(p.width, len(id))
	}
	return p
}

// linePrinter returns a printer to standard output that shows, on a terminal, no
// more than a terminal may be shown, and log records for people unless format is raw.
func (a *app) linePrinter(components []string, format string) *linePrinter {
	p := newLinePrinter(a.Out, a.Color, components)
	p.terminal, p.pretty = a.OutTTY, a.OutTTY && format != "raw"
	return p
}

// print writes one block.
func (p *linePrinter) print(b journal.Block) error {
	if b.Kind != journal.Output {
		for e := range b.Entries() {
			p.event(e.Time, e.Component, eventText(e))
		}
		return p.flush()
	}
	prefix := p.prefix(b.Time, b.Component, "| ")
	stream := b.Component + "/" + b.Stream
	rest := b.Data
	if p.open == stream { // the line goes on
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		p.text(rest[:end])
		rest = rest[end:]
	} else {
		p.endLine()
	}
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		if !p.terminal { // the way of a flood
			p.buf = append(append(p.buf, prefix...), rest[:end]...)
		} else {
			p.line(prefix, rest[:end], end < len(rest) || !b.Partial)
		}
		rest = rest[end:]
	}
	p.open = ""
	if b.Data[len(b.Data)-1] != '\n' {
		if b.Partial {
			p.open = stream
		} else {
			p.buf = append(p.buf, '\n')
		}
	}
	return p.flush()
}

// line adds a line, or its beginning if it is not whole, as a terminal shows it.
func (p *linePrinter) line(prefix, line []byte, whole bool) {
	if p.pretty && whole {
		p.record(prefix, line)
		return
	}
	p.buf = append(p.buf, prefix...)
	p.text(line)
}

// text adds a piece of a line.
func (p *linePrinter) text(piece []byte) {
	if !p.terminal {
		p.buf = append(p.buf, piece...)
		return
	}
	text, ended := bytes.CutSuffix(piece, []byte("\n"))
	if ended {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	p.buf = appendVisible(p.buf, text, p.color)
	if ended {
		p.buf = append(p.buf, '\n')
	}
}

// event adds one line about a component, or about flowctl itself when it is "".
func (p *linePrinter) event(t time.Time, component, text string) {
	if component == "" {
		component = "flowctl"
	}
	p.endLine()
	p.buf = append(p.buf, p.prefix(t, component, "* ")...)
	if p.terminal { // it may tell what a component said
		text = visible(text)
	}
	if p.color {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	p.buf = append(append(p.buf, text...), '\n')
}

// endLine ends a line that another stream has left open.
func (p *linePrinter) endLine() {
	if p.open != "" {
		p.buf = append(p.buf, '\n')
		p.open = ""
	}
}

// flush writes what has been added.
func (p *linePrinter) flush() error {
	_, err := p.out.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

// prefix is what a line begins with.
func (p *linePrinter) prefix(t time.Time, component, mark string) []byte {
	name, ok := p.names[component]
	if !ok {
		name = fmt.Sprintf("%-*s", p.width, component)
		if p.color {
			hash := fnv.New32a()
			_, _ = hash.Write([]byte(component))
			name = "\x1b[" + palette[hash.Sum32()%uint32(len(palette))] + "m" + name + "\x1b[0m"
		}
		p.names[component] = name
	}
	prefix := bytes.Repeat([]byte(" "), len(timeFormat))
	if !t.IsZero() {
		prefix = t.AppendFormat(prefix[:0], timeFormat)
	}
	prefix = append(append(prefix, "  "...), name...)
	return append(append(prefix, ' '), mark...)
}

// eventText is the sentence shown for an entry.
func eventText(e journal.Entry) string {
	if state := e.Data["state"]; e.Kind == journal.State && state != "" {
		return state + ": " + e.Text
	}
	return e.Text
}

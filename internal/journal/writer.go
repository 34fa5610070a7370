package journal

import (
	"bytes"
	"io"
	"time"
)

// maxLine is the longest piece of a line that is kept back until its end comes.
const maxLine = 64 << 10

// Writer turns the output stream of one component into entries. It is not safe
// for use by several goroutines at once.
type Writer struct {
	journal           *Journal
	component, stream string
	copy              io.Writer
	pending           []byte // the beginning of a line whose end has not come
}

// Writer returns a writer for one stream of one component. Every byte also goes
// to copy, in whole lines as long as they are no longer than 64 KiB, so that
// streams that share a copy do not break each other's lines. copy must not fail
// for reasons a component could help: its errors are the caller's business.
func (j *Journal) Writer(component, stream string, copy io.Writer) *Writer {
	return &Writer{journal: j, component: component, stream: stream, copy: copy}
}

// Write records whole lines at once and keeps the beginning of an unfinished
// one until its end comes, it has become longer than 64 KiB, or Close. It never fails.
func (w *Writer) Write(p []byte) (int, error) {
	end := bytes.LastIndexByte(p, '\n') + 1
	if end > 0 {
		block := make([]byte, 0, len(w.pending)+end)
		block = append(append(block, w.pending...), p[:end]...)
		w.pending = w.pending[:0]
		w.emit(block, false)
	}
	w.pending = append(w.pending, p[end:]...)
	if len(w.pending) >= maxLine {
		w.emit(bytes.Clone(w.pending), true)
		w.pending = w.pending[:0]
	}
	return len(p), nil
}

// Close records what is left of an unfinished line.
func (w *Writer) Close() error {
	if len(w.pending) > 0 {
		w.emit(bytes.Clone(w.pending), false)
		w.pending = nil
	}
	return nil
}

// emit hands block, which is not used again, to the copy and to the journal.
func (w *Writer) emit(block []byte, partial bool) {
	if w.copy != nil {
		_, _ = w.copy.Write(block)
	}
	count := bytes.Count(block, []byte("\n"))
	if block[len(block)-1] != '\n' {
		count++
	}
	w.journal.appendOutput(Block{
		Count: count, Time: time.Now(), Component: w.component, Kind: Output,
		Stream: w.stream, Data: block, Partial: partial,
	})
}

package process

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// output carries an attempt's two streams from its pipes to its writers.
type output struct {
	stdout, stderr *stream
	copies         sync.WaitGroup
}

// newOutput makes the pipes. handedOver and finish must be called.
func newOutput(att driver.Attempt) (*output, error) {
	o := &output{}
	for _, s := range []struct {
		to *(*stream)
		w  io.Writer
	}{{&o.stdout, att.Stdout}, {&o.stderr, att.Stderr}} {
		read, write, err := os.Pipe()
		if err != nil {
			if o.stdout != nil {
				o.stdout.read.Close()
				o.stdout.write.Close()
			}
			return nil, err
		}
		enlarge(write)
		*s.to = &stream{read: read, write: write, to: s.w}
	}
	return o, nil
}

// handedOver closes the child's ends, which the child has now.
func (o *output) handedOver() {
	o.stdout.write.Close()
	o.stderr.write.Close()
}

// copy begins to copy.
func (o *output) copy() {
	o.copies.Go(o.stdout.copy)
	o.copies.Go(o.stderr.copy)
}

// finish returns when everything that was in the pipes has been written. A
// process outside the group may still hold a pipe open: it is not waited for.
func (o *output) finish() {
	for _, s := range []*stream{o.stdout, o.stderr} {
		s.interrupt()
	}
	o.copies.Wait()
	o.stdout.read.Close()
	o.stderr.read.Close()
}

// stream is one pipe and where its content goes.
type stream struct {
	read, write *os.File
	to          io.Writer
}

// Sizes of the copy buffer: small until a read fills it.
const (
	minBuffer = 4 << 10
	maxBuffer = 256 << 10
)

// copy copies until the end of the pipe, or until interrupt and the pipe is empty.
func (s *stream) copy() {
	buf := make([]byte, minBuffer)
	for {
		n, err := s.read.Read(buf)
		if n > 0 {
			_, _ = s.to.Write(buf[:n])
		}
		if n == len(buf) && n < maxBuffer {
			buf = make([]byte, 4*n)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain()
			return
		}
		if err != nil {
			return
		}
	}
}

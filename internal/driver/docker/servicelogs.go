package docker

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// LogOptions say what of a service's output is wanted.
type LogOptions struct {
	// Tail is how many lines, the last ones; less than 0: all.
	Tail int
	// Since leaves out what is older; the zero time leaves out nothing.
	Since time.Time
	// Follow goes on until the container ends.
	Follow bool
}

// Piece is part of a service's output: a whole line with its newline, or the beginning
// of a longer one.
type Piece struct {
	At time.Time
	// Stream is stdout or stderr.
	Stream string
	// Text is valid until the call returns that got it.
	Text []byte
}

// ServiceLogs hands what a container has printed to take, piece by piece. It is what the engine still has. The end of
// ctx ends it without an error.
func (e *Engine) ServiceLogs(ctx context.Context, id string, opts LogOptions, take func(Piece) error) error {
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: opts.Follow, Tail: "all"}
	if opts.Tail >= 0 {
		options.Tail = strconv.Itoa(opts.Tail)
	}
	if !opts.Since.IsZero() {
		options.Since = opts.Since.Format(time.RFC3339Nano)
	}
	logs, err := e.client.ContainerLogs(ctx, id, options)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return e.failed("read the output of container "+id, err)
	}
	defer logs.Close()
	var refused error
	refuse := func(p Piece) error {
		refused = take(p)
		return refused
	}
	_, err = stdcopy.StdCopy(stamped{"stdout", refuse}, stamped{"stderr", refuse}, logs)
	switch {
	case refused != nil:
		return refused
	case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
		return nil
	}
	return e.failed("read the output of container "+id, err)
}

// stamped takes the engine's time off each piece; the engine writes one a call.
type stamped struct {
	stream string
	take   func(Piece) error
}

func (s stamped) Write(p []byte) (int, error) {
	stamp, text, _ := bytes.Cut(p, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil { // an engine that writes something else: it is shown as it is
		text = p
	}
	if err := s.take(Piece{At: at, Stream: s.stream, Text: text}); err != nil {
		return 0, err
	}
	return len(p), nil
}

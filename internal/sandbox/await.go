package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/probe"
)

// FailedError is a service that has ended while it was started.
type FailedError struct {
	Service, Text string
	// Lines are the last that it has printed.
	Lines []string
}

func (e *FailedError) Error() string { return e.Service + " " + e.Text }

// LateError is a service that was not healthy in time; its container goes on.
type LateError struct {
	Service string
	Timeout time.Duration
	// Last is the last answer of its health check.
	Last error
}

func (e *LateError) Error() string {
	return fmt.Sprintf("%s is not healthy after %s: %v", e.Service, pipeline.FormatDuration(e.Timeout), e.Last)
}

func (e *LateError) Unwrap() error { return e.Last }

// errEnded is why a wait was given up; the container says the rest.
var errEnded = errors.New("it has ended")

// await waits until the container is healthy, has ended or is too late.
func (b *bringing) await(ctx context.Context) error {
	found, err := b.engine.Service(ctx, b.id)
	if err != nil {
		return err
	}
	r := &resident{Resident: found, service: b.service}
	r.service.Ports = r.hostPorts()
	c := check(r.service)
	if c == nil {
		if found.State != "running" {
			return b.failed(ctx, found)
		}
		b.say(b.service.ID, "running: since %s, it has no health check", since(found.Started))
		return nil
	}
	watched, giveUp := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		_, err := b.engine.AwaitService(watched, b.id)
		if err == nil {
			err = errEnded
		}
		giveUp(err)
	})
	bounded, cancel := context.WithTimeout(watched, c.StartTimeout)
	err = probe.Await(bounded, b.question(r), probe.Timing{Timeout: c.Timeout, SuccessThreshold: c.SuccessThreshold})
	ran := context.Cause(watched)
	late := bounded.Err() != nil
	cancel()
	giveUp(nil)
	watcher.Wait()
	switch {
	case errors.Is(ran, errEnded):
		if found, err = b.engine.Service(ctx, b.id); err != nil {
			return err
		}
		return b.failed(ctx, found)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ran != nil: // the engine has gone
		return ran
	case late:
		return &LateError{Service: b.service.ID, Timeout: c.StartTimeout, Last: err}
	}
	b.tell(r, err)
	return nil
}

// tell says that the service is healthy.
func (b *bringing) tell(r *resident, verdict error) {
	word := "healthy"
	if probe.IsDegraded(verdict) {
		word = verdict.Error()
	}
	if r.Started.Before(b.begun) {
		b.say(b.service.ID, "%s: runs since %s", word, since(r.Started))
		return
	}
	b.say(b.service.ID, "%s: after %s", word, time.Since(b.begun).Round(time.Millisecond))
}

// lastLines is how much of a failed service's output is shown.
const lastLines = 10

// failed is the error of a container that has ended, with its last lines.
func (b *bringing) failed(ctx context.Context, found docker.Resident) error {
	e := &FailedError{Service: b.service.ID, Text: found.Exit.String()}
	if found.State == "restarting" {
		e.Text += ", and the engine starts it again"
	}
	var text strings.Builder
	err := b.engine.ServiceLogs(ctx, b.id, docker.LogOptions{Tail: lastLines}, func(p docker.Piece) error {
		text.Write(p.Text)
		return nil
	})
	if lines := strings.TrimSpace(text.String()); err == nil && lines != "" {
		e.Lines = strings.Split(lines, "\n")
	}
	return e
}

// ended says how a container that does not run ended, or that it never ran.
func ended(r docker.Resident) string {
	switch {
	case r.State == "paused":
		return "it was paused"
	case r.Started.IsZero():
		return "it was made, and not started"
	default:
		return fmt.Sprintf("it %s at %s", r.Exit, since(r.Ended))
	}
}

// since is a time as a person reads it, without the day if it is today's.
func since(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// Package probe asks one question of a component: are you healthy? It owns how
// the question is put (http, grpc, tcp, exec) and how often; what follows from
// the answers is the supervisor's business.
package probe

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Probe is one health question: nil means healthy. It must return soon after
// ctx is done.
type Probe func(ctx context.Context) error

// Degraded is the answer of a component that works, but not as it should.
// It is neither a failure nor full health.
type Degraded struct{ Reason string }

func (d Degraded) Error() string { return "degraded: " + d.Reason }

// IsDegraded reports whether err says that a component works, but not as it should.
func IsDegraded(err error) bool {
	var d Degraded
	return errors.As(err, &d)
}

// Timing says how often a probe is put and how its answers are counted.
// The zero value of a field means the default given here.
type Timing struct {
	// Interval between probes once ready: 10s.
	Interval time.Duration
	// Timeout of one probe: 2s.
	Timeout time.Duration
	// SuccessThreshold successes in a row make healthy: 1.
	SuccessThreshold int
	// FailureThreshold failures in a row make unhealthy: 3.
	FailureThreshold int
}

// Bounds of the pause between two probes while a component starts. The pause
// grows with the time already waited: the answer is never older than one
// sixteenth of it, and a slow starter is not pestered.
const (
	minPause   = 4 * time.Millisecond
	maxPause   = 250 * time.Millisecond
	pauseShare = 16
)

// Await puts the question until it has been answered well SuccessThreshold times
// in a row: at once, then after growing pauses. A degraded answer counts as a
// good one, and is returned if it was the last. When ctx is done it returns the last answer, or ctx's cause if there was none.
func Await(ctx context.Context, p Probe, t Timing) error {
	start := time.Now()
	var last error
	for good := 0; ; {
		err := once(ctx, p, t)
		if over(ctx) {
			if last == nil {
				last = context.Cause(ctx)
			}
			return last
		}
		if err == nil || IsDegraded(err) {
			good++
			if good >= max(t.SuccessThreshold, 1) {
				return err
			}
		} else {
			good, last = 0, err
		}
		pause := time.NewTimer(min(max(time.Since(start)/pauseShare, minPause), maxPause))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// over waits for the end of a context whose deadline has come, and reports whether
// it has: a connection learns of a deadline by itself, perhaps a moment before.
func over(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// Watch puts the question of a component, of which Await has returned verdict,
// every Interval until ctx is done and calls report whenever the verdict changes: with nil for healthy, a
// Degraded, or the last failure when there were FailureThreshold in a row.
func Watch(ctx context.Context, p Probe, t Timing, verdict error, report func(error)) {
	interval := t.Interval
	if interval <= 0 {
		interval = 10 * time.Second
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	good, bad := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := once(ctx, p, t)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil || IsDegraded(err):
			good, bad = good+1, 0
			if good < max(t.SuccessThreshold, 1) && verdict != nil && !IsDegraded(verdict) {
				continue
			}
		default:
			good, bad = 0, bad+1
			if bad < threshold(t.FailureThreshold, 3) {
				continue
			}
		}
		if changed(verdict, err) {
			verdict = err
			report(err)
		}
	}
}

func threshold(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// changed reports whether b is another verdict than a, not just another wording.
func changed(a, b error) bool {
	return (a == nil) != (b == nil) || IsDegraded(a) != IsDegraded(b)
}

// once puts the question once, within Timeout.
func once(ctx context.Context, p Probe, t Timing) error {
	timeout := t.Timeout
	if timeout <= 0 {
		timeout = 2 * time.Second
	}
	late := fmt.Errorf("no answer within %v", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	err := p(ctx)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		return late
	}
	return err
}

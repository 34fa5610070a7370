// Package supervisor keeps the components of one plan in the state they should
// be in. One goroutine per component is its state machine: wait for what it
// needs, start, become ready, watch, stop. It knows neither gRPC nor the
// registry nor processes: drivers run attempts, and Hooks tell what others know.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// courtesy is how long those whose turn to stop has not come when the longest
// grace is over still get between the stop signal and the kill.
const courtesy = 500 * time.Millisecond

// ErrInterrupted is what Run returns when it was stopped before everything was ready.
var ErrInterrupted = errors.New("stopped before everything was ready")

// Hooks are what the supervisor is told by those who know more. Every field may be nil.
type Hooks struct {
	// Begin is called before an attempt of a component starts, End after it has ended.
	Begin func(c plan.Component, attempt int)
	End   func(c plan.Component, attempt int, exit driver.Exit)
	// Registered returns nil once the component has registered, and otherwise
	// when ctx is done why it has not.
	Registered func(ctx context.Context, component string) error
	// Alive calls report whenever the component's heartbeats fail to come (with
	// the reason) or come again (nil), until ctx is done.
	Alive func(ctx context.Context, component string, report func(error))
	// Output returns the writers of an attempt's two streams. They are closed
	// after the attempt.
	Output func(component string) (stdout, stderr io.WriteCloser)
}

// Options make a Supervisor.
type Options struct {
	Plan    *plan.Plan
	Driver  driver.Driver
	Journal *journal.Journal
	Hooks   Hooks
}

// Supervisor runs the components of one plan.
type Supervisor struct {
	opts   Options
	actors []*actor // in start order
	byID   map[string]*actor

	// stopping is closed when everything is to stop, hurry when order no longer
	// counts, kill when no grace is left.
	stopping, hurry, kill chan struct{}
	once                  struct{ stop, hurry, kill sync.Once }

	mu      sync.Mutex // guards the two below
	cause   error      // why it stops
	changed chan struct{}
}

// New returns a supervisor that has started nothing yet.
func New(opts Options) *Supervisor {
	s := &Supervisor{
		opts: opts, byID: make(map[string]*actor), changed: make(chan struct{}),
		stopping: make(chan struct{}), hurry: make(chan struct{}), kill: make(chan struct{}),
	}
	for _, c := range opts.Plan.Components {
		a := newActor(s, c)
		s.actors = append(s.actors, a)
		s.byID[c.ID] = a
	}
	for _, a := range s.actors {
		for _, edge := range a.plan.After {
			dep := s.byID[edge.ID]
			dep.dependents = append(dep.dependents, a)
		}
	}
	return s
}

// Run starts the components in dependency order and returns when all have
// ended. It returns nil when all sinks have completed, or when ctx was
// cancelled after everything had been ready; a *FailedError when a component
// has failed for good; ErrInterrupted when ctx was cancelled before everything
// was ready. Cancelling ctx stops the components, dependents first, within the
// longest grace and one second.
func (s *Supervisor) Run(ctx context.Context) error {
	var actors, others sync.WaitGroup
	ended := make(chan struct{})
	for _, a := range s.actors {
		actors.Go(a.run)
		others.Go(a.awaitTurn)
	}
	others.Go(func() { s.watch(ctx, ended) })
	actors.Wait()
	close(ended)
	s.stop(nil)
	others.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Kill ends all graces: what is left is killed now.
func (s *Supervisor) Kill() {
	s.once.hurry.Do(func() { close(s.hurry) })
	s.once.kill.Do(func() { close(s.kill) })
}

// watch turns ctx's end into a stop, ends the run when its sinks have
// completed, and bounds the time a stop takes.
func (s *Supervisor) watch(ctx context.Context, ended <-chan struct{}) {
	for {
		changed := s.change()
		if s.complete() {
			s.stop(nil)
		}
		select {
		case <-ended:
			return
		case <-changed:
			continue
		case <-ctx.Done():
			var cause error
			if !s.allReady() {
				cause = ErrInterrupted
			}
			s.stop(cause)
		case <-s.stopping:
		}
		break
	}
	for _, step := range []struct {
		after time.Duration
		do    func()
	}{
		{s.longestGrace(), func() { s.once.hurry.Do(func() { close(s.hurry) }) }},
		{courtesy, s.Kill},
	} {
		timer := time.NewTimer(step.after)
		select {
		case <-timer.C:
			step.do()
		case <-ended:
			timer.Stop()
			return
		}
	}
}

// stop begins the stop of everything; the first cause counts.
func (s *Supervisor) stop(cause error) {
	s.once.stop.Do(func() {
		s.mu.Lock()
		s.cause = cause
		s.mu.Unlock()
		close(s.stopping)
	})
}

func (s *Supervisor) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

func (s *Supervisor) longestGrace() time.Duration {
	var longest time.Duration
	for _, a := range s.actors {
		longest = max(longest, a.plan.Stop.Grace)
	}
	return longest
}

// complete reports whether the run has done its work: all sinks have
// completed, or, where there are none, all components.
func (s *Supervisor) complete() bool {
	sinks, all := 0, true
	for _, st := range s.Statuses() {
		done := st.State == Completed
		all = all && done
		if st.Role == pipeline.Sink {
			sinks++
			if !done {
				return false
			}
		}
	}
	return sinks > 0 || all
}

// allReady reports whether every component is ready or has completed.
func (s *Supervisor) allReady() bool {
	for _, st := range s.Statuses() {
		if !st.State.Up() && st.State != Completed {
			return false
		}
	}
	return true
}

// Statuses returns the status of every component, in start order.
func (s *Supervisor) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, len(s.actors))
	for i, a := range s.actors {
		all[i] = a.status
	}
	return all
}

// change returns a channel that is closed when a component's status changes.
func (s *Supervisor) change() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// AwaitReady returns nil once every component is ready or has completed, and
// ctx's cause when ctx is done.
func (s *Supervisor) AwaitReady(ctx context.Context) error {
	for {
		changed := s.change()
		if s.allReady() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// FailedError says which component failed a run, and why.
type FailedError struct {
	Component string
	// Reason is the predicate of a sentence about the component: "exited with code 1".
	Reason string
	// Tail is the last it printed, oldest first.
	Tail []string
}

func (e *FailedError) Error() string { return fmt.Sprintf("%s %s", e.Component, e.Reason) }

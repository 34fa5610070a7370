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
	// IsRegistered says whether it has, without waiting.
	IsRegistered func(component string) bool
	// Alive calls report whenever the component's heartbeats fail to come (with
	// the reason) or come again (nil), until ctx is done.
	Alive func(ctx context.Context, component string, report func(error))
	// Progress calls report when the component makes no progress although it
	// could, until ctx is done.
	Progress func(ctx context.Context, c plan.Component, report func(error))
	// Probed is told of each probe of a component that has ended.
	Probed func(component string, took time.Duration, err error)
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
	// ShutdownTimeout bounds the whole stop, if it is shorter than the longest
	// grace; 0 means no other bound.
	ShutdownTimeout time.Duration
}

// Supervisor runs the components of one plan.
type Supervisor struct {
	opts Options

	// stopping is closed when everything is to stop, hurry when order no longer
	// counts, kill when no grace is left.
	stopping, hurry, kill chan struct{}
	once                  struct{ stop, hurry, kill sync.Once }

	// goroutines are those of the actors and their helpers.
	goroutines struct{ actors, others sync.WaitGroup }

	mu     sync.Mutex // guards all below
	plan   *plan.Plan
	actors []*actor // in start order
	byID   map[string]*actor
	// waiters are the actors whose components wait for the component of the key.
	waiters map[string][]*actor
	reason  string        // why it stops, for people
	cause   error         // what Run returns
	changed chan struct{} // closed and replaced when a status changes
}

// New returns a supervisor that has started nothing yet.
func New(opts Options) *Supervisor {
	s := &Supervisor{
		opts: opts, plan: opts.Plan, byID: make(map[string]*actor), changed: make(chan struct{}),
		stopping: make(chan struct{}), hurry: make(chan struct{}), kill: make(chan struct{}),
	}
	for _, c := range opts.Plan.Components {
		a := newActor(s, c)
		s.actors = append(s.actors, a)
		s.byID[c.ID] = a
	}
	s.link()
	return s
}

// link notes who waits for whom; the caller holds mu, or is the only one yet.
func (s *Supervisor) link() {
	s.waiters = make(map[string][]*actor)
	for _, a := range s.actors {
		for _, edge := range a.plan.After {
			s.waiters[edge.ID] = append(s.waiters[edge.ID], a)
		}
	}
}

// Run starts the components in dependency order and returns when all have
// ended. It returns nil when all sinks have completed, or when ctx was
// cancelled after everything had been ready; a *FailedError when a component
// has failed for good; ErrInterrupted when ctx was cancelled before everything
// was ready. Cancelling ctx stops the components, dependents first, within the
// longest grace and one second.
func (s *Supervisor) Run(ctx context.Context) error {
	ended := make(chan struct{})
	s.mu.Lock()
	first := s.actors
	s.mu.Unlock()
	for _, a := range first {
		s.launch(a)
	}
	s.goroutines.others.Go(func() { s.watch(ctx, ended) })
	s.goroutines.actors.Wait()
	close(ended)
	s.stop("everything has ended", nil)
	s.goroutines.others.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// launch starts an actor's goroutines, once.
func (s *Supervisor) launch(a *actor) {
	s.mu.Lock()
	before := a.launched
	a.launched = true
	s.mu.Unlock()
	if before {
		return
	}
	s.goroutines.actors.Go(a.run)
	s.goroutines.others.Go(a.awaitTurn)
}

// dependents are the actors whose components wait for the component id.
func (s *Supervisor) dependents(id string) []*actor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiters[id]
}

// failed notes that a component has failed for good, unless the run stops
// already: the first failure is the run's result.
func (s *Supervisor) failed(err *FailedError) {
	if s.isStopping() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = err
	}
}

// Kill ends all graces: what is left is killed now.
func (s *Supervisor) Kill() {
	s.once.hurry.Do(func() { close(s.hurry) })
	s.once.kill.Do(func() { close(s.kill) })
}

// watch turns ctx's end into a stop, ends the run when its sinks have
// completed, and bounds the time a stop takes.
func (s *Supervisor) watch(ctx context.Context, ended <-chan struct{}) {
	wasReady := false
	for {
		changed := s.change()
		wasReady = wasReady || s.allReady()
		if reason := s.over(); reason != "" {
			s.stop(reason, nil)
		}
		select {
		case <-ended:
			return
		case <-changed:
			continue
		case <-ctx.Done():
			var cause error
			if !wasReady {
				cause = ErrInterrupted
			}
			s.stop("asked to", cause)
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

// stop begins the stop of everything; the first call counts. reason is for
// people, cause is what Run returns.
func (s *Supervisor) stop(reason string, cause error) {
	s.once.stop.Do(func() {
		s.mu.Lock()
		s.reason = reason
		if s.cause == nil {
			s.cause = cause
		}
		s.mu.Unlock()
		close(s.stopping)
	})
}

func (s *Supervisor) stopReason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
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
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, a := range s.actors {
		longest = max(longest, a.plan.Stop.Grace)
	}
	if limit := s.opts.ShutdownTimeout; limit > 0 {
		return min(longest, limit)
	}
	return longest
}

// over says why the run has nothing more to do, or "": all sinks have
// completed, or everything has ended and nobody stopped it by hand.
func (s *Supervisor) over() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sinks, completed, ended := 0, 0, 0
	for _, a := range s.actors {
		st := &a.status
		if st.Role == pipeline.Sink {
			sinks++
			if st.State == Completed {
				completed++
			}
		}
		if st.State == Completed || st.State == Failed {
			ended++
		}
	}
	switch {
	case sinks > 0 && completed == sinks:
		return "all sinks have completed"
	case ended == len(s.actors):
		return "everything has ended"
	}
	return ""
}

// allReady reports whether every component is ready or has completed.
func (s *Supervisor) allReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.actors {
		if st := a.status.State; !st.Up() && st != Completed {
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

// broadcast wakes those who wait for a change; the caller holds mu.
func (s *Supervisor) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
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
	// Trouble is why it could not be started or observed; nil if it could.
	Trouble error
}

func (e *FailedError) Error() string { return fmt.Sprintf("%s %s", e.Component, e.Reason) }

// Environment reports that not the component is to blame but what should run it.
func (e *FailedError) Environment() bool { return errors.Is(e.Trouble, driver.ErrUnavailable) }

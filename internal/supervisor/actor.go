package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// tailLines is how much of a failed component's output is told with its failure.
const tailLines = 20

// actor is one component's state machine: where its goroutine stands is the state.
type actor struct {
	supervisor *Supervisor
	plan       plan.Component
	dependents []*actor
	// turn is closed when it is this component's turn to stop, done when it has ended.
	turn, done chan struct{}

	status Status // guarded by supervisor.mu
}

func newActor(s *Supervisor, c plan.Component) *actor {
	return &actor{
		supervisor: s, plan: c, turn: make(chan struct{}), done: make(chan struct{}),
		status: Status{Component: c.ID, Role: c.Role, State: Pending, Since: time.Now()},
	}
}

// run lives from the start of the run until the component has ended.
func (a *actor) run() {
	defer close(a.done)
	switch err := a.awaitDependencies(); {
	case errors.Is(err, errStopping):
		a.enter(Stopped, "it was never started: the run stopped before")
		return
	case err != nil:
		a.fail(err.Error())
		return
	}
	end := a.attempt()
	switch {
	case end.requested:
		a.enter(Stopped, stopReason(end.exit), ended(end.exit))
	case end.failure != "":
		a.fail(end.failure, ended(end.exit))
	default:
		a.enter(Completed, "it completed after "+briefly(end.lived), ended(end.exit))
	}
}

// awaitTurn closes turn once everything stops and all dependents have ended, or order no longer counts.
func (a *actor) awaitTurn() {
	<-a.supervisor.stopping
	for _, d := range a.dependents {
		select {
		case <-d.done:
		case <-a.supervisor.hurry:
		}
	}
	close(a.turn)
}

// errStopping is why a wait ended when the run stops.
var errStopping = errors.New("the run stops")

// awaitDependencies returns nil the instant every dependency has come as far as this component wants.
func (a *actor) awaitDependencies() error {
	s := a.supervisor
	said := ""
	for {
		changed := s.change()
		waiting, err := a.unmet()
		switch {
		case s.isStopping():
			return errStopping
		case err != nil:
			return err
		case len(waiting) == 0:
			return nil
		}
		if now := "waiting for " + strings.Join(waiting, ", "); now != said {
			said = now
			a.enter(Waiting, now)
			continue // the change that was just announced was this one
		}
		select {
		case <-changed:
		case <-s.stopping:
		}
	}
}

// unmet returns what this component still waits for, each with its state, or
// why that will never come.
func (a *actor) unmet() (waiting []string, err error) {
	a.supervisor.mu.Lock()
	defer a.supervisor.mu.Unlock()
	for _, edge := range a.plan.After {
		dep := a.supervisor.byID[edge.ID].status
		met, never := satisfied(edge, dep)
		switch {
		case met:
		case never && edge.Required:
			return nil, fmt.Errorf("cannot start: %s is %s and will not be %s", edge.ID, dep.State, edge.Condition)
		case never:
		default:
			waiting = append(waiting, edge.ID)
		}
	}
	return waiting, nil
}

// satisfied reports whether dep meets the edge's condition, or never will.
func satisfied(edge plan.Edge, dep Status) (met, never bool) {
	switch edge.Condition {
	case pipeline.Started:
		met = dep.Attempt > 0 && !dep.StartedAt.IsZero()
	case pipeline.Registered, pipeline.Ready, pipeline.Healthy:
		// A one-shot that was ready and has completed has done what it is for.
		met = dep.State.Up() || dep.State == Completed && !dep.ReadyAt.IsZero()
		if edge.Condition == pipeline.Healthy {
			met = met && dep.State != Degraded
		}
	case pipeline.Completed:
		met = dep.State == Completed
	}
	return met, !met && dep.State.Ended()
}

// fail ends the component for good and the run with it.
func (a *actor) fail(reason string, edits ...func(*Status)) {
	a.enter(Failed, reason, edits...)
	failed := &FailedError{Component: a.plan.ID, Reason: reason}
	for _, e := range a.supervisor.opts.Journal.Tail(a.plan.ID, tailLines) {
		failed.Tail = append(failed.Tail, e.Text)
	}
	a.supervisor.stop(failed)
}

// stopReason says how a requested stop went. How it ended is no failure: many
// components know no signals.
func stopReason(exit *driver.Exit) string {
	switch {
	case exit == nil:
		return "stopped before it had started"
	case exit.Forced:
		return "killed: it did not end within its grace"
	case exit.Success():
		return "stopped"
	default:
		return "stopped: it " + exit.String()
	}
}

// ended records the end of an attempt.
func ended(exit *driver.Exit) func(*Status) {
	return func(s *Status) {
		s.PID, s.EndedAt = 0, time.Now()
		if exit != nil {
			s.Exit = exit
		}
	}
}

// briefly rounds a duration to what a reader cares for.
func briefly(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

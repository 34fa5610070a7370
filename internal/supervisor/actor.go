package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// actor is one component's state machine: where its goroutine stands is the
// state. The goroutine lives until the run stops or the component is removed.
type actor struct {
	supervisor *Supervisor
	id         string // the component's
	inbox      chan command
	// woken has room for one: something it waits for has changed.
	woken chan struct{}
	// turn is closed when it is this component's turn to stop, done when its goroutine has ended.
	turn, done chan struct{}

	// These belong to the actor's goroutine.
	past      history
	attempts  int
	everReady bool // it has been ready in this run

	// These are guarded by supervisor.mu; only the actor's goroutine writes plan and status.
	plan     plan.Component
	status   Status
	launched bool
}

func newActor(s *Supervisor, c plan.Component) *actor {
	return &actor{
		supervisor: s, id: c.ID, plan: c, inbox: make(chan command), woken: make(chan struct{}, 1),
		turn: make(chan struct{}), done: make(chan struct{}),
		status: Status{Component: c.ID, Role: c.Role, State: Pending, Since: time.Now()},
	}
}

// step is what an actor does next.
type step int

const (
	proceed step = iota // wait for the dependencies and start
	park                // nothing, until a command comes
	leave               // end the goroutine
)

// run lives until the run stops or the component is removed.
func (a *actor) run() {
	defer close(a.done)
	for {
		next := a.awaitDependencies()
		if next == proceed {
			next = a.afterwards(a.attempt())
		}
		if next == park {
			next = a.park()
		}
		if next == leave {
			return
		}
	}
}

// park waits for a command, or for the end of the run.
func (a *actor) park() step {
	for {
		select {
		case <-a.supervisor.stopping:
			return leave
		case cmd := <-a.inbox:
			if next := a.idle(cmd, park); next != park {
				a.past = history{} // what a user asks for starts anew
				return next
			}
		}
	}
}

// afterwards decides what follows the end of an attempt.
func (a *actor) afterwards(e end) step {
	switch {
	case e.command != nil:
		return a.obey(e)
	case e.requested:
		a.enter(Stopped, stopReason(e.exit), ended(e.exit))
		return leave
	case e.failure == "" && a.plan.Restart.Policy != pipeline.RestartAlways:
		a.enter(Completed, fmt.Sprintf("%s after %s", e.exit, briefly(e.lived)), ended(e.exit))
		return park
	}
	return a.retry(e)
}

// retry starts the component again as its policy says, or gives it up.
func (a *actor) retry(e end) step {
	reason := e.failure
	if reason == "" {
		reason = fmt.Sprintf("%s after %s", e.exit, briefly(e.lived))
	}
	policy := a.plan.Restart
	for _, final := range []struct {
		holds bool
		text  string
	}{
		{a.supervisor.isStopping(), reason},
		{policy.Policy == pipeline.RestartNo, reason},
		{!a.everReady && !policy.Explicit, reason},
		{e.permanent(), reason + ", which no restart can mend"},
	} {
		if final.holds {
			a.fail(final.text, e.trouble, ended(e.exit))
			return park
		}
	}
	number, delay, ok := a.past.next(time.Now(), policy, e.readyFor)
	if !ok {
		a.fail(fmt.Sprintf("has failed for good after %d restarts within %s: it %s", policy.Attempts, briefly(policy.Window), reason), e.trouble, ended(e.exit))
		return park
	}
	when := "at once"
	if delay > 0 {
		when = "in " + briefly(delay)
	}
	a.enter(Backoff, fmt.Sprintf("%s; restart %d of %d %s", reason, number, policy.Attempts, when),
		ended(e.exit), func(s *Status) { s.Restarts++; s.RetryAt = time.Now().Add(delay) })
	a.restartDependents()
	return a.pause(delay)
}

// pause waits for the time of the next attempt.
func (a *actor) pause(delay time.Duration) step {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return proceed
		case <-a.supervisor.stopping:
			a.enter(Stopped, "while it waited for its restart")
			return leave
		case cmd := <-a.inbox:
			if cmd.verb == toFollow { // it will be started anyway
				cmd.reply <- nil
				continue
			}
			return a.idle(cmd, proceed)
		}
	}
}

// restartDependents restarts those that want to be restarted with this component.
func (a *actor) restartDependents() {
	for _, d := range a.supervisor.dependents(a.id) {
		wants := slices.ContainsFunc(d.component().After, func(e plan.Edge) bool { return e.ID == a.id && e.Restart })
		if !wants {
			continue
		}
		cmd := newCommand(toFollow, a.id+" is restarted")
		select {
		case d.inbox <- cmd:
		case <-d.done:
		case <-a.supervisor.stopping:
		}
	}
}

// component is the component as it is planned now.
func (a *actor) component() plan.Component {
	a.supervisor.mu.Lock()
	defer a.supervisor.mu.Unlock()
	return a.plan
}

// awaitTurn closes turn once everything stops and all dependents have ended, or order no longer counts.
func (a *actor) awaitTurn() {
	select {
	case <-a.supervisor.stopping:
	case <-a.done:
		return
	}
	for _, d := range a.supervisor.dependents(a.id) {
		select {
		case <-d.done:
		case <-a.supervisor.hurry:
		}
	}
	close(a.turn)
}

// poke tells the actor that something it may wait for has changed.
func (a *actor) poke() {
	select {
	case a.woken <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// awaitDependencies returns the instant every dependency has come as far as this component wants.
func (a *actor) awaitDependencies() step {
	s := a.supervisor
	said := ""
	for {
		waiting, never := a.unmet()
		switch {
		case s.isStopping():
			reason := "never started"
			if a.attempts > 0 {
				reason = "before it was started again"
			}
			a.enter(Stopped, reason)
			return leave
		case never != "":
			a.fail(never, nil)
			return park
		case len(waiting) == 0:
			return proceed
		}
		if now := "for " + strings.Join(waiting, ", "); now != said {
			said = now
			a.enter(Waiting, now)
		}
		select {
		case <-a.woken:
		case <-s.stopping:
		case cmd := <-a.inbox:
			if next := a.idle(cmd, proceed); next != proceed {
				return next
			}
		}
	}
}

// unmet returns what this component still waits for, or why that will never come.
func (a *actor) unmet() (waiting []string, never string) {
	a.supervisor.mu.Lock()
	defer a.supervisor.mu.Unlock()
	for _, edge := range a.plan.After {
		actor, ok := a.supervisor.byID[edge.ID]
		if !ok {
			continue // it has been removed
		}
		dep := actor.status
		switch met, never := satisfied(edge, dep); {
		case met, !edge.Required && dep.State == Failed:
		case never:
			return nil, fmt.Sprintf("cannot start: %s is %s and will not be %s", edge.ID, dep.State, edge.Condition)
		case dep.State.Ended():
			waiting = append(waiting, fmt.Sprintf("%s (%s)", edge.ID, dep.State))
		default:
			waiting = append(waiting, edge.ID)
		}
	}
	return waiting, ""
}

// satisfied reports whether dep meets the edge's condition, or never will by itself.
func satisfied(edge plan.Edge, dep Status) (met, never bool) {
	met = dep.Meets(edge.Condition)
	return met, !met && dep.State == Completed
}

// fail gives the component up, and the run with it unless the pipeline says otherwise.
func (a *actor) fail(reason string, trouble error, edits ...func(*Status)) {
	failed := &FailedError{Component: a.id, Reason: reason, Trouble: trouble}
	for _, e := range a.supervisor.opts.Journal.Tail(a.id, tailLines) {
		failed.Tail = append(failed.Tail, e.Text)
	}
	a.supervisor.failed(failed) // first: the new state may end the run
	a.enter(Failed, reason, edits...)
	if a.supervisor.onFailure() != pipeline.OnFailureKeep {
		a.supervisor.stop(a.id+" failed", failed)
	}
}

// stopReason says how a requested stop went. How it ended is no failure: many
// components know no signals.
func stopReason(exit *driver.Exit) string {
	switch {
	case exit == nil:
		return "before it had started"
	case exit.Forced && exit.Signal == 0:
		return exit.String() + "; what it had started had to be killed"
	case exit.Forced:
		return exit.String() + ": it had not ended in time"
	default:
		return exit.String()
	}
}

// ended records the end of an attempt.
func ended(exit *driver.Exit) func(*Status) {
	return func(s *Status) {
		s.PID, s.Container, s.EndedAt = 0, "", time.Now()
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
		return pipeline.FormatDuration(d.Round(time.Second))
	}
}

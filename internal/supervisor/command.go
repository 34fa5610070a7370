package supervisor

import (
	"context"
	"fmt"

	"github.com/withobsrvr/flowctl/internal/plan"
)

// verb is what a command asks for.
type verb int

const (
	toRestart verb = iota // a new attempt, whatever the state
	toFollow              // a new attempt, if one lives: what it depends on is restarted
	toStop                // no attempt until start or restart
	toStart               // an attempt if there is none
	toReplace             // another plan for the component, and a new attempt
	toRemove              // the end of the component
)

// command is something a user asks of one component.
type command struct {
	verb verb
	// reason is shown with the states it leads to.
	reason string
	// replacement belongs to toReplace.
	replacement *replacement
	// reply receives nil when the command has been taken up, or why not; it has room for one.
	reply chan error
}

// replacement is a component's next plan. It is taken up when no attempt lives,
// whatever else is asked for meanwhile.
type replacement struct {
	plan plan.Component
	// ended is called once no attempt lives; nothing is started before release is closed.
	ended   func()
	release <-chan struct{}
}

func newCommand(v verb, reason string) command {
	return command{verb: v, reason: reason, reply: make(chan error, 1)}
}

// Restart ends the component's attempt, if there is one, and begins a new one.
// It returns when that has begun to be done. What a user asks for counts
// nothing in the restart policy.
func (s *Supervisor) Restart(ctx context.Context, id string) error {
	return s.command(ctx, id, newCommand(toRestart, "a restart was asked for"))
}

// Stop ends the component's attempt; it is not started again before Start or
// Restart. Dependents keep running.
func (s *Supervisor) Stop(ctx context.Context, id string) error {
	return s.command(ctx, id, newCommand(toStop, "a stop was asked for"))
}

// Start starts a component that has been stopped, has completed or has failed.
func (s *Supervisor) Start(ctx context.Context, id string) error {
	return s.command(ctx, id, newCommand(toStart, "a start was asked for"))
}

// UnknownError says that there is no such component.
type UnknownError struct{ Component string }

func (e *UnknownError) Error() string { return fmt.Sprintf("there is no component %q", e.Component) }

// command hands cmd to a component and returns its reply.
func (s *Supervisor) command(ctx context.Context, id string, cmd command) error {
	a := s.actor(id)
	if a == nil {
		return &UnknownError{id}
	}
	select {
	case a.inbox <- cmd:
		return <-cmd.reply
	case <-a.done:
		return fmt.Errorf("%s has ended: the run stops", id)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// idle carries out a command that comes while no attempt lives, and returns
// what to do next: as is what the actor would have done without it.
func (a *actor) idle(cmd command, as step) step {
	if cmd.verb == toReplace {
		cmd.reply <- nil // now: it is for others to release it
		a.adopt(cmd.replacement)
		if a.state() == Stopped { // whoever stopped it wants it stopped
			return park
		}
		return proceed
	}
	defer func() { cmd.reply <- nil }()
	switch cmd.verb {
	case toFollow:
		return as
	case toStop:
		if state := a.state(); state != Stopped {
			a.enter(Stopped, cmd.reason)
		}
		return park
	case toRemove:
		a.enter(Stopped, cmd.reason)
		return leave
	}
	return proceed
}

// supersedes reports whether cmd takes the place of an earlier command that has
// not been carried out yet: a removal is final, and what follows from other
// components or from a new plan does not count against what a user wants.
func (cmd command) supersedes(earlier *command) bool {
	switch {
	case earlier == nil:
		return true
	case earlier.verb == toRemove:
		return false
	default:
		return cmd.verb != toFollow && cmd.verb != toReplace
	}
}

// obey carries out the command that ended an attempt.
func (a *actor) obey(e end) step {
	cmd := e.command
	state, reason := Pending, cmd.reason
	if cmd.verb == toStop || cmd.verb == toRemove {
		state, reason = Stopped, cmd.reason+"; it "+stopReason(e.exit)
	}
	a.enter(state, reason, ended(e.exit))
	if e.replacement != nil {
		a.adopt(e.replacement)
	}
	switch cmd.verb {
	case toRemove:
		return leave
	case toStop:
		return park
	}
	a.past = history{}
	a.restartDependents()
	return proceed
}

// adopt makes r the component's plan and waits until it may be started.
func (a *actor) adopt(r *replacement) {
	a.supervisor.mu.Lock()
	a.plan = r.plan
	a.supervisor.link()
	a.supervisor.mu.Unlock()
	r.ended()
	select {
	case <-r.release:
	case <-a.supervisor.stopping:
	}
}

func (a *actor) state() State {
	a.supervisor.mu.Lock()
	defer a.supervisor.mu.Unlock()
	return a.status.State
}

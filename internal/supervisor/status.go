package supervisor

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// State is where a component's goroutine stands.
type State string

// The states. Completed, Stopped and Failed are ends.
const (
	Pending     State = "pending"     // nothing has been done yet
	Waiting     State = "waiting"     // for its dependencies
	Starting    State = "starting"    // the attempt lives, its probe has not passed
	Registering State = "registering" // the probe has passed, the registration has not come
	Ready       State = "ready"       // dependents may start
	Degraded    State = "degraded"    // it was ready, and something is not right now
	Backoff     State = "backoff"     // it has ended and will be started again
	Stopping    State = "stopping"    // it was asked to end
	Completed   State = "completed"   // it ended of itself with code 0
	Stopped     State = "stopped"     // it ended because it was asked to, or was never started
	Failed      State = "failed"      // it will not be started again
)

// Up reports whether the component serves, be it with limits.
func (s State) Up() bool { return s == Ready || s == Degraded }

// Ended reports whether nothing more will happen.
func (s State) Ended() bool { return s == Completed || s == Stopped || s == Failed }

// Status is a component now.
type Status struct {
	Component string
	Role      pipeline.Role
	State     State
	// Reason is one sentence that says why; Since is when the state was entered.
	Reason string
	Since  time.Time
	// Attempt counts from 1; 0 before the first. PID is its process, 0 when none lives.
	Attempt int
	PID     int
	// Container is the id of its container, "" when none lives or it is a process;
	// Image and Digest are what that was made of.
	Container, Image, Digest string
	// StartedAt and ReadyAt belong to the attempt; zero when it did not come so far.
	StartedAt, ReadyAt, EndedAt time.Time
	// Restarts counts those that the restart policy made; RetryAt is when the next
	// one comes, in Backoff.
	Restarts int
	RetryAt  time.Time
	// Exit is how the last attempt ended, nil when none has.
	Exit *driver.Exit
}

// Lives reports whether an attempt of it lives.
func (s Status) Lives() bool { return s.PID != 0 || s.Container != "" }

// Place is where it is found: "pid 4711", "container 1f0c6a9b2d3e"; "" when nothing lives.
func (s Status) Place() string {
	switch {
	case s.Container != "":
		return "container " + driver.Ref{Container: s.Container}.Short()
	case s.PID != 0:
		return fmt.Sprintf("pid %d", s.PID)
	}
	return ""
}

// Meets reports whether the component has come as far as a dependent with this
// condition wants.
func (s Status) Meets(condition pipeline.Condition) bool {
	switch condition {
	case pipeline.Started:
		return s.Lives() || s.State == Completed
	case pipeline.Completed:
		return s.State == Completed
	case pipeline.Healthy:
		return s.State != Degraded && s.Meets(pipeline.Ready)
	default:
		// A one-shot that was ready and has completed has done what it is for.
		return s.State.Up() || s.State == Completed && !s.ReadyAt.IsZero()
	}
}

// enter publishes a new state with its reason, to Statuses and to the journal.
func (a *actor) enter(state State, reason string, edits ...func(*Status)) {
	now := time.Now()
	s := a.supervisor
	s.mu.Lock()
	before := a.status
	a.status.State, a.status.Reason, a.status.Since = state, reason, now
	for _, edit := range edits {
		edit(&a.status)
	}
	after := a.status
	s.broadcast()
	for _, d := range s.waiters[a.id] {
		d.poke()
	}
	s.mu.Unlock()

	data := map[string]string{"state": string(state), "from": string(before.State)}
	if after.Attempt > 0 {
		data["attempt"] = strconv.Itoa(after.Attempt)
	}
	if after.PID > 0 {
		data["pid"] = strconv.Itoa(after.PID)
	}
	if after.Container != "" {
		maps.Copy(data, map[string]string{"container": after.Container, "image": after.Image, "digest": after.Digest})
	}
	if state.Ended() && after.Exit != nil {
		maps.Copy(data, map[string]string{"exit_code": strconv.Itoa(after.Exit.Code)})
	}
	s.opts.Journal.Append(journal.Entry{
		Time: now, Component: a.id, Kind: journal.State, Text: reason, Data: data,
	})
}

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/probe"
)

// end is how an attempt ended.
type end struct {
	// exit is nil when it could not be started or observed.
	exit *driver.Exit
	// requested is true when it ended because the run stops.
	requested bool
	// failure is the predicate of a sentence, "" when there is none.
	failure string
	// lived is how long it lived.
	lived time.Duration
}

// result is what the driver returned.
type result struct {
	exit driver.Exit
	err  error
}

// attempt is one attempt under way, as its actor's goroutine sees it.
type attempt struct {
	*actor
	number  int
	started chan driver.Ref
	exited  chan result
	// probed receives a value when the probe has passed and the registration has not come.
	probed chan struct{}
	// ready receives nil or why the component did not become ready.
	ready chan error
	// beats and probes receive what heartbeats and the probe say of a ready component.
	beats, probes chan error
	// cancel stops the attempt.
	cancel context.CancelFunc
	// watchers are the goroutines of this attempt; stopWatching ends those that watch.
	watchers     sync.WaitGroup
	stopWatching context.CancelFunc
}

// attempt runs the component once and returns when it has ended.
func (a *actor) attempt() end {
	at := &attempt{
		actor: a, number: 1,
		started: make(chan driver.Ref, 1), exited: make(chan result, 1),
		probed: make(chan struct{}), ready: make(chan error, 1), beats: make(chan error), probes: make(chan error),
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	at.cancel = cancel
	hooks := a.supervisor.opts.Hooks
	if hooks.Begin != nil {
		hooks.Begin(a.plan, at.number)
	}
	at.watchers.Go(func() { at.drive(ctx) })
	e := at.observe()
	at.watchers.Wait()
	if hooks.End != nil && e.exit != nil {
		hooks.End(a.plan, at.number, *e.exit)
	}
	return e
}

// drive hands the attempt to the driver.
func (at *attempt) drive(ctx context.Context) {
	stdout, stderr := at.supervisor.opts.Hooks.Output(at.plan.ID)
	exit, err := at.supervisor.opts.Driver.Run(ctx, at.plan.Spec(), driver.Attempt{
		Number: at.number, Stdout: stdout, Stderr: stderr,
		Started: func(ref driver.Ref) { at.started <- ref },
		Kill:    at.supervisor.kill,
	})
	stdout.Close()
	stderr.Close()
	at.exited <- result{exit, err}
}

// observe follows the attempt from its start to its end.
func (at *attempt) observe() (e end) {
	begin := time.Now()
	watch, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	at.stopWatching = stopWatching
	turn := (<-chan struct{})(at.turn)
	wasReady := false
	var beats, probes error
	for {
		select {
		case ref := <-at.started:
			at.begun(watch, ref)
		case r := <-at.exited:
			stopWatching()
			e.lived = time.Since(begin)
			at.conclude(&e, r, wasReady)
			return e
		case <-at.probed:
			at.enter(Registering, "waiting for its registration")
		case err := <-at.ready:
			if len(at.exited) > 0 {
				continue // whoever answered, it was not this attempt
			}
			if err == nil && !e.requested {
				wasReady = true
				at.becomeReady(watch, begin)
				continue
			}
			if err != nil && !e.requested {
				e.failure = err.Error()
				at.stop(e.failure)
			}
		case beats = <-at.beats:
			at.judge(beats, probes)
		case probes = <-at.probes:
			at.judge(beats, probes)
		case <-turn:
			turn = nil
			if e.failure == "" {
				e.requested = true
				at.stop("the run stops")
			}
		}
	}
}

// begun is called when the attempt lives.
func (at *attempt) begun(watch context.Context, ref driver.Ref) {
	at.enter(Starting, fmt.Sprintf("started, pid %d", ref.PID), func(s *Status) {
		s.Attempt, s.PID, s.StartedAt, s.ReadyAt, s.EndedAt = at.number, ref.PID, time.Now(), time.Time{}, time.Time{}
	})
	at.watchers.Go(func() {
		if err := at.awaitReady(watch); watch.Err() == nil {
			at.ready <- err // there is room: it is the only value
		}
	})
}

// awaitReady returns nil when the component is ready, or why it is not within its start timeout.
func (at *attempt) awaitReady(ctx context.Context) error {
	timeout := 30 * time.Second
	if p := at.plan.Probe; p != nil && p.StartTimeout > 0 {
		timeout = p.StartTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("no answer yet"))
	defer cancel()
	if p := at.plan.Probe; p != nil {
		if err := probe.Await(ctx, at.question(), timing(p)); err != nil {
			return fmt.Errorf("was not healthy %v after its start: %w", timeout, err)
		}
	}
	if at.plan.Registration != pipeline.RegistrationRequired || at.supervisor.opts.Hooks.Registered == nil {
		return nil
	}
	select {
	case at.probed <- struct{}{}:
	case <-ctx.Done():
	}
	if err := at.supervisor.opts.Hooks.Registered(ctx, at.plan.ID); err != nil {
		return fmt.Errorf("did not register within %v (a program without an SDK needs `registration: none`)", timeout)
	}
	return nil
}

// becomeReady announces the component and begins to watch it.
func (at *attempt) becomeReady(watch context.Context, begin time.Time) {
	at.enter(Ready, "ready after "+briefly(time.Since(begin)), func(s *Status) { s.ReadyAt = time.Now() })
	if p := at.plan.Probe; p != nil {
		at.watchers.Go(func() { probe.Watch(watch, at.question(), timing(p), reportTo(watch, at.probes)) })
	}
	if alive := at.supervisor.opts.Hooks.Alive; alive != nil && at.plan.Registration != pipeline.RegistrationNone {
		at.watchers.Go(func() { alive(watch, at.plan.ID, reportTo(watch, at.beats)) })
	}
}

// reportTo sends a watcher's verdicts to c until ctx is done.
func reportTo(ctx context.Context, c chan<- error) func(error) {
	return func(verdict error) {
		select {
		case c <- verdict:
		case <-ctx.Done():
		}
	}
}

// judge enters ready or degraded as heartbeats and probe say.
func (at *attempt) judge(beats, probes error) {
	switch {
	case beats != nil:
		at.enter(Degraded, beats.Error())
	case probes != nil:
		at.enter(Degraded, "probe: "+probes.Error())
	default:
		at.enter(Ready, "healthy again")
	}
}

// stop asks the attempt to end.
func (at *attempt) stop(reason string) {
	at.stopWatching()
	at.enter(Stopping, reason)
	at.cancel()
}

// conclude fills in how the attempt ended.
func (at *attempt) conclude(e *end, r result, wasReady bool) {
	if r.err == nil || r.exit != (driver.Exit{}) {
		e.exit = &r.exit
	}
	switch {
	case e.failure != "" || e.requested:
	case r.err != nil:
		e.failure = "could not be started: " + r.err.Error()
	case !r.exit.Success() && wasReady:
		e.failure = fmt.Sprintf("%s after %s", r.exit, briefly(e.lived))
	case !r.exit.Success():
		e.failure = fmt.Sprintf("%s %s after its start, before it was ready", r.exit, briefly(e.lived))
	}
}

// question is the component's probe.
func (at *attempt) question() probe.Probe {
	p := at.plan.Probe
	switch {
	case p.HTTP != nil:
		return probe.HTTP("http://" + probe.Local(p.HTTP.Port) + p.HTTP.Path)
	case p.GRPC != nil:
		return probe.GRPC(probe.Local(p.GRPC.Port), p.GRPC.Service)
	case p.TCP != nil:
		return probe.TCP(probe.Local(p.TCP.Port))
	default:
		spec := at.plan.Spec()
		return probe.Exec(p.Exec, spec.Env, spec.Dir)
	}
}

func timing(p *pipeline.Probe) probe.Timing {
	return probe.Timing{
		Interval: p.Interval, Timeout: p.Timeout,
		SuccessThreshold: p.SuccessThreshold, FailureThreshold: p.FailureThreshold,
	}
}

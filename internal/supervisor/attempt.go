package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
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
	// requested is true when it ended because the run stops, command is set when
	// it ended because a user wanted something.
	requested bool
	command   *command
	// replacement is set when it is to be planned otherwise from now on.
	replacement *replacement
	// failure is the predicate of a sentence, "" when there is none.
	failure string
	// trouble is why it could not be started or observed, nil if it could.
	trouble error
	// lived is how long it lived, readyFor how long it was ready.
	lived, readyFor time.Duration
}

// asked reports whether somebody wanted it to end.
func (e *end) asked() bool { return e.requested || e.command != nil }

// result is what the driver returned.
type result struct {
	exit driver.Exit
	err  error
}

// attempt is one attempt under way, as its actor's goroutine sees it.
type attempt struct {
	*actor
	number int
	// started receives the attempt's reference; the driver goes on, and output
	// comes, when begun has been taken from it.
	started chan driver.Ref
	begun   chan struct{}
	exited  chan result
	// probed receives a value when the probe has passed and the registration has not come.
	probed chan struct{}
	// ready receives nil or why the component did not become ready.
	ready chan error
	// beats and probes receive what heartbeats and the probe say of a ready
	// component, stalls why it makes no progress.
	beats, probes, stalls chan error

	// cancel stops the attempt, stopWatching ends its watchers.
	cancel, stopWatching context.CancelFunc
	watch                context.Context
	watchers             sync.WaitGroup

	ref                driver.Ref // zero until it lives
	startedAt, readyAt time.Time
	// lastBeats and lastProbes are the last verdicts; unhealthy fires when the
	// component has been unhealthy for too long.
	lastBeats, lastProbes error
	unhealthy             *time.Timer
}

// attempt runs the component once and returns when it has ended.
func (a *actor) attempt() end {
	a.attempts++
	at := &attempt{
		actor: a, number: a.attempts, startedAt: time.Now(),
		started: make(chan driver.Ref), begun: make(chan struct{}), exited: make(chan result, 1),
		probed: make(chan struct{}), ready: make(chan error, 1),
		beats: make(chan error), probes: make(chan error), stalls: make(chan error),
		unhealthy: time.NewTimer(time.Hour),
	}
	at.unhealthy.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	at.cancel = cancel
	at.watch, at.stopWatching = context.WithCancel(context.Background())
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
	stdout, stderr := at.supervisor.opts.Hooks.Output(at.id)
	exit, err := at.supervisor.opts.Driver.Run(ctx, at.spec(), driver.Attempt{
		Number: at.number, Stdout: stdout, Stderr: stderr,
		Started: func(ref driver.Ref) { at.started <- ref; <-at.begun },
		Kill:    at.supervisor.kill,
	})
	stdout.Close()
	stderr.Close()
	at.exited <- result{exit, err}
}

// spec is what the driver runs, and what an exec probe sees.
func (at *attempt) spec() driver.Spec {
	spec := at.plan.Spec()
	spec.Env = append(spec.Env, "FLOWCTL_ATTEMPT="+strconv.Itoa(at.number))
	return spec
}

// observe follows the attempt from its start to its end.
func (at *attempt) observe() (e end) {
	turn := (<-chan struct{})(at.turn)
	for {
		select {
		case ref := <-at.started:
			at.live(ref)
			at.begun <- struct{}{}
		case r := <-at.exited:
			at.stopWatching()
			at.unhealthy.Stop()
			at.conclude(&e, r)
			return e
		case <-at.probed:
			at.enter(Registering, "its registration has not come yet")
		case err := <-at.ready:
			switch {
			case len(at.exited) > 0: // whoever answered, it was not this attempt
			case err != nil && !probe.IsDegraded(err):
				at.giveUp(&e, err.Error())
			case !e.asked():
				at.lastProbes = err
				at.becomeReady()
			}
		case at.lastBeats = <-at.beats:
			at.judge()
		case at.lastProbes = <-at.probes:
			at.judge()
		case err := <-at.stalls:
			at.giveUp(&e, err.Error())
		case <-at.unhealthy.C:
			at.giveUp(&e, fmt.Sprintf("was unhealthy for %s: %v", briefly(at.plan.Restart.UnhealthyTimeout), at.verdict()))
		case cmd := <-at.inbox:
			at.take(&e, cmd)
		case <-turn:
			turn = nil
			e.requested = true
			at.stop(at.supervisor.stopReason())
		}
	}
}

// take takes up a command while the attempt lives.
func (at *attempt) take(e *end, cmd command) {
	if cmd.verb == toStart && e.command == nil {
		cmd.reply <- fmt.Errorf("%s is running already", at.id)
		return
	}
	if cmd.verb == toReplace {
		e.replacement = cmd.replacement
	}
	if cmd.supersedes(e.command) {
		e.command = &cmd
		at.stop(cmd.reason)
	}
	cmd.reply <- nil
}

// giveUp ends the attempt because of a failure that is not its exit.
func (at *attempt) giveUp(e *end, failure string) {
	if e.asked() || e.failure != "" {
		return
	}
	e.failure = failure
	at.stop(failure)
}

// live is called when the attempt lives.
func (at *attempt) live(ref driver.Ref) {
	at.startedAt, at.ref = time.Now(), ref
	reason := fmt.Sprintf("pid %d", ref.PID)
	if ref.Container != "" {
		reason = "container " + ref.Short()
	}
	if at.number > 1 {
		reason += fmt.Sprintf(", attempt %d", at.number)
	}
	at.enter(Starting, reason, func(s *Status) {
		s.Attempt, s.PID, s.StartedAt = at.number, ref.PID, at.startedAt
		s.Container, s.Image, s.Digest = ref.Container, ref.Image, ref.Digest
		s.ReadyAt, s.EndedAt, s.RetryAt = time.Time{}, time.Time{}, time.Time{}
	})
	if !at.signsReady() {
		at.becomeReady() // at once: it may end before anybody could look
		return
	}
	at.watchers.Go(func() {
		if err := at.awaitReady(); at.watch.Err() == nil {
			at.ready <- err // there is room: it is the only value
		}
	})
}

// awaitReady returns nil when the component is ready, a probe.Degraded when it
// is and calls itself degraded, or why it is not ready within its start timeout.
func (at *attempt) awaitReady() (verdict error) {
	timeout := 30 * time.Second
	if p := at.plan.Probe; p != nil && p.StartTimeout > 0 {
		timeout = p.StartTimeout
	}
	ctx, cancel := context.WithTimeoutCause(at.watch, timeout, errors.New("no answer yet"))
	defer cancel()
	if p := at.plan.Probe; p != nil {
		if err := probe.Await(ctx, at.question(), timing(p)); probe.IsDegraded(err) {
			verdict = err
		} else if err != nil {
			return fmt.Errorf("was not healthy %s after its start: %w", briefly(timeout), err)
		}
	}
	registered := at.supervisor.opts.Hooks.Registered
	if at.plan.Registration != pipeline.RegistrationRequired || registered == nil {
		return verdict
	}
	if isRegistered := at.supervisor.opts.Hooks.IsRegistered; isRegistered != nil && isRegistered(at.id) {
		return verdict
	}
	select {
	case at.probed <- struct{}{}:
	case <-ctx.Done():
	}
	if err := registered(ctx, at.id); err != nil {
		return fmt.Errorf("did not register within %s (a program without an SDK needs `registration: none`)", briefly(timeout))
	}
	return verdict
}

// becomeReady announces the component and begins to watch it.
func (at *attempt) becomeReady() {
	at.readyAt = time.Now()
	at.everReady = at.everReady || at.signsReady()
	state, reason := Ready, "after "+briefly(at.readyAt.Sub(at.startedAt))
	if at.lastProbes != nil {
		state, reason = Degraded, reason+": "+at.verdict().Error()
	}
	at.enter(state, reason, func(s *Status) { s.ReadyAt = at.readyAt })
	if p, verdict := at.plan.Probe, at.lastProbes; p != nil {
		at.watchers.Go(func() { probe.Watch(at.watch, at.question(), timing(p), verdict, at.reportTo(at.probes)) })
	}
	hooks := at.supervisor.opts.Hooks
	if hooks.Alive != nil && at.plan.Registration != pipeline.RegistrationNone {
		at.watchers.Go(func() { hooks.Alive(at.watch, at.id, at.reportTo(at.beats)) })
	}
	if hooks.Progress != nil && at.plan.Progress != nil {
		at.watchers.Go(func() { hooks.Progress(at.watch, at.plan, at.reportTo(at.stalls)) })
	}
}

// signsReady reports whether the component gives a sign of its own that it is ready.
func (at *attempt) signsReady() bool {
	return at.plan.Probe != nil || at.plan.Registration == pipeline.RegistrationRequired
}

// reportTo sends a watcher's verdicts to c as long as they count.
func (at *attempt) reportTo(c chan<- error) func(error) {
	return func(verdict error) {
		select {
		case c <- verdict:
		case <-at.watch.Done():
		}
	}
}

// verdict is what is wrong with a ready component, nil if nothing is.
func (at *attempt) verdict() error {
	switch {
	case at.lastBeats != nil:
		return at.lastBeats
	case at.lastProbes != nil:
		return fmt.Errorf("probe: %w", at.lastProbes)
	}
	return nil
}

// judge enters ready or degraded as heartbeats and probe say. A component that
// stays unhealthy is restarted after a while; one that calls itself degraded is not.
func (at *attempt) judge() {
	verdict := at.verdict()
	if verdict == nil {
		at.unhealthy.Stop()
		at.enter(Ready, "healthy again")
		return
	}
	wasUp := at.state() == Ready
	at.enter(Degraded, verdict.Error())
	limit := at.plan.Restart.UnhealthyTimeout
	if wasUp && limit > 0 && at.plan.Restart.Policy != pipeline.RestartNo && !probe.IsDegraded(verdict) {
		at.unhealthy.Reset(limit)
	}
}

// stop asks the attempt to end.
func (at *attempt) stop(reason string) {
	at.stopWatching()
	at.unhealthy.Stop()
	at.enter(Stopping, reason)
	at.cancel()
}

// conclude fills in how the attempt ended.
func (at *attempt) conclude(e *end, r result) {
	now := time.Now()
	e.lived = now.Sub(at.startedAt)
	if !at.readyAt.IsZero() {
		e.readyFor = now.Sub(at.readyAt)
		at.everReady = at.everReady || e.readyFor >= startPeriod
	}
	if r.err == nil || r.exit != (driver.Exit{}) {
		e.exit = &r.exit
	}
	switch {
	case e.failure != "" || e.asked():
	case at.ref != (driver.Ref{}) && errors.Is(r.err, driver.ErrUnavailable):
		e.failure, e.trouble = "was lost: "+r.err.Error(), r.err
	case r.err != nil:
		e.failure, e.trouble = "could not be started: "+r.err.Error(), r.err
	case r.exit.Success():
	case at.readyAt.IsZero() && at.signsReady():
		e.failure = fmt.Sprintf("%s %s after its start, before it was ready", r.exit, briefly(e.lived))
	default:
		e.failure = fmt.Sprintf("%s after %s", r.exit, briefly(e.lived))
	}
}

// question is the component's probe, each of which is told to the hook.
func (at *attempt) question() probe.Probe {
	ask, probed := at.ask(), at.supervisor.opts.Hooks.Probed
	if probed == nil {
		return ask
	}
	return func(ctx context.Context) error {
		begin := time.Now()
		err := ask(ctx)
		probed(at.id, time.Since(begin), err)
		return err
	}
}

// ask is the component's probe.
func (at *attempt) ask() probe.Probe {
	p := at.plan.Probe
	switch {
	case p.HTTP != nil:
		return probe.HTTP("http://" + at.address(p.HTTP.Port) + p.HTTP.Path)
	case p.GRPC != nil:
		return probe.GRPC(at.address(p.GRPC.Port), p.GRPC.Service)
	case p.TCP != nil:
		return probe.TCP(at.address(p.TCP.Port))
	}
	spec := at.spec()
	if executor, ok := at.supervisor.opts.Driver.(driver.Executor); ok && at.ref.Container != "" {
		return func(ctx context.Context) error { return executor.Exec(ctx, at.ref, p.Exec) }
	}
	return probe.Exec(p.Exec, spec.Env, spec.Dir)
}

// address is where a port of this machine is asked. A container is asked itself if
// that can be done: who offers its ports accepts connections for it before it listens.
func (at *attempt) address(port int) string {
	if at.plan.Container == nil || !at.ref.Address.IsValid() {
		return probe.Local(port)
	}
	for _, p := range at.plan.Container.Ports {
		if p.Host == port {
			return netip.AddrPortFrom(at.ref.Address, uint16(p.Container)).String()
		}
	}
	return probe.Local(port)
}

func timing(p *pipeline.Probe) probe.Timing {
	return probe.Timing{
		Interval: p.Interval, Timeout: p.Timeout,
		SuccessThreshold: p.SuccessThreshold, FailureThreshold: p.FailureThreshold,
	}
}

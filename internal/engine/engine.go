// Package engine assembles one pipeline with its control plane and runs it,
// from the first listener to the last goodbye. It owns the order in which
// things begin and end; what they do is their own business.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/process"
	"github.com/withobsrvr/flowctl/internal/guardian"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/metrics"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/port"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/supervisor"
	"github.com/withobsrvr/flowctl/internal/tracing"
)

// Options say what to run and how.
type Options struct {
	// Pipeline is what to run; required.
	Pipeline *pipeline.Pipeline
	// Orchestrator is where components run that do not say it themselves: see
	// plan.Options.
	Orchestrator string
	// ControlPlane is the control plane that is started, or joined.
	ControlPlane ControlPlane
	// LogDir receives one <component>.log for each component; "" means "logs".
	LogDir string
	// LogRotation bounds the files there.
	LogRotation LogRotation
	// Watch restarts components whose program or watched paths change, and applies
	// the pipeline file when that changes.
	Watch bool
	// StateDir receives the run file; "" means none is written.
	StateDir string
	// Guardian is the command that watches over the run from a process of its
	// own, see package guardian; without one a killed flowctl leaves components behind.
	Guardian []string
	// ShutdownTimeout bounds the whole stop if it is shorter than the longest grace; 0: no other bound.
	ShutdownTimeout time.Duration
	// Beside is a sandbox that the pipeline's containers are connected with.
	Beside Beside
	// Environ is what components inherit, as KEY=value.
	Environ []string
	// Progress is told, while New is under way, how the pulls of images are going; nil
	// means that it stands in the journal only.
	Progress func(text string)
	// Logger receives flowctl's own troubles; nil discards them.
	Logger *slog.Logger
}

// Beside is a sandbox.
type Beside struct {
	// Network is what it is called on the container engine; "" is no sandbox.
	Network string
	// Services are what is found there.
	Services []plan.Service
}

// Engine is one pipeline with its control plane.
type Engine struct {
	opts       Options
	runID      string
	journal    *journal.Journal
	plane      *plane
	supervisor *supervisor.Supervisor
	tracing    *tracing.Tracing
	processes  *process.Driver
	containers *containers        // nil if no component runs in one
	guardian   *guardian.Guardian // until Run has it
	preparing  atomic.Bool        // New is under way
	logs       *logFiles
	startedAt  time.Time
	chronicle  chronicle
	// asked ends when shutdown is called: the run is to stop.
	asked    context.Context
	shutdown context.CancelFunc

	replanned chan struct{} // has a value when the plan has been replaced; for the watch

	applying sync.Mutex // only one Apply at a time

	mismatched sync.Map // pairs of components whose event types do not fit, and that this was told of

	mu   sync.Mutex // guards plan
	plan *plan.Plan
}

// New plans the pipeline, opens the control plane's listener and checks
// everything that can be checked before anything is started: all that is wrong
// is in one *PreflightError. If there are to be containers it makes their network and
// pulls their images, and the end of ctx interrupts that. Whoever has an Engine must
// call Run or Close.
func New(ctx context.Context, opts Options) (*Engine, error) {
	e := &Engine{opts: opts, runID: newRunID(opts.Pipeline.Name), startedAt: time.Now(), replanned: make(chan struct{}, 1)}
	e.chronicle.exits = make(map[string][]PastExit)
	e.asked, e.shutdown = context.WithCancel(context.Background())
	e.opts.LogDir = cmp.Or(opts.LogDir, "logs")
	if e.opts.Logger == nil {
		e.opts.Logger = slog.New(slog.DiscardHandler)
	}
	e.processes = &process.Driver{Orphans: process.NewOrphans()}
	e.journal = journal.New(journal.Options{})
	e.preparing.Store(true)
	defer e.preparing.Store(false)
	problems := e.open()
	allocated, err := e.makePlan()
	if err == nil && len(problems) == 0 && e.plan.HasContainers() {
		if problems = e.openContainers(ctx); len(problems) == 0 {
			e.plan, err = plan.New(e.opts.Pipeline, e.planOptions(e.plan)) // now the addresses are known
		}
	}
	if err == nil {
		problems = append(problems, e.preflight(ctx, e.plan.Components, allocated...)...)
		problems = append(problems, e.obtain(ctx, e.plan.Components)...)
		err = context.Cause(ctx)
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	if len(problems) == 0 {
		if err := e.plane.makeServer(e, e.opts.Logger); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) == 0 {
		if e.logs, err = openLogs(e.opts.LogDir, e.opts.LogRotation, e.plan, e.Notice); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		e.Close()
		return nil, &PreflightError{Problems: problems}
	}
	e.assemble()
	return e, nil
}

// open opens what must be open before there can be a plan, and returns what is in the way.
func (e *Engine) open() (problems []string) {
	var err error
	if e.tracing, err = tracing.New(context.Background(), e.opts.ControlPlane.Version, e.getenv, e.Notice); err != nil {
		problems = append(problems, err.Error())
	}
	e.opts.ControlPlane.Trace = e.tracing.Calls()
	certDir := ""
	if e.opts.StateDir != "" {
		certDir = runFolder(e.opts.StateDir, e.runID)
	}
	record := func(entry journal.Entry) { e.journal.Append(entry) }
	var more []string
	e.plane, more = openPlane(e.opts.ControlPlane, e.opts.Pipeline.Name, e.runID, certDir, record, e.Notice)
	return append(problems, more...)
}

// makePlan plans the pipeline, and returns the ports that were found for it:
// nobody listened there a moment ago.
func (e *Engine) makePlan() (allocated []int, err error) {
	planning := e.planOptions(nil)
	planning.AllocatePort = func() (int, error) {
		found, err := port.Free()
		allocated = append(allocated, found)
		return found, err
	}
	e.plan, err = plan.New(e.opts.Pipeline, planning)
	return allocated, err
}

// planOptions are what this run plans with; previous is the plan that is to be replaced.
func (e *Engine) planOptions(previous *plan.Plan) plan.Options {
	gateway, containerEndpoint := "", ""
	if e.containers != nil {
		gateway, containerEndpoint = e.containers.network.Host, e.containers.endpoint
	}
	return plan.Options{
		Orchestrator: e.opts.Orchestrator,
		Endpoint:     e.plane.endpoint(),
		Gateway:      gateway, ContainerEndpoint: containerEndpoint,
		ServiceID:         e.plane.serviceID,
		Services:          e.opts.Beside.Services,
		Credentials:       e.plane.credentials,
		HeartbeatInterval: e.plane.heartbeatInterval(),
		RunID:             e.runID,
		Environ:           e.opts.Environ,
		AllocatePort:      port.Free,
		Previous:          previous,
	}
}

// assemble makes the parts that live while the pipeline runs.
func (e *Engine) assemble() {
	where := hosts{processes: e.processes}
	if e.containers != nil {
		where.containers = e.containers.driver
	}
	e.supervisor = supervisor.New(supervisor.Options{
		Plan: e.plan, Driver: where, Journal: e.journal, ShutdownTimeout: e.opts.ShutdownTimeout,
		Hooks: supervisor.Hooks{
			Begin: func(c plan.Component, attempt int) {
				if err := e.plane.issue(c.ID, c.Container != nil); err != nil {
					e.Notice(err.Error())
				}
				e.plane.expect(c.ID, registry.Role(c.Role), c.HealthPort, attempt)
			},
			End: func(c plan.Component, attempt int, exit driver.Exit) {
				e.plane.exited(c.ID, "its "+runsAs(c)+" "+exit.String())
				e.chronicle.exited(c.ID, attempt, exit)
			},
			Registered:   e.registered,
			IsRegistered: e.isRegistered,
			Alive:        e.alive,
			Progress:     e.progress,
			Probed:       e.plane.metrics.Probe,
			Output:       e.output,
		},
	})
	e.plane.metrics.Show(e.plan.Pipeline, e)
}

// Run runs the pipeline until it has ended; see supervisor.Run for what it
// returns. The control plane listens before the first component starts and
// outlives the last one. Cancelling ctx stops the pipeline.
func (e *Engine) Run(ctx context.Context) error {
	defer e.Close()
	// The control plane must hear the components' goodbyes: it does not end with ctx.
	ctl, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var parts sync.WaitGroup
	e.guard(ctl, &parts) // from now on nothing is left, whatever happens
	removeRunFile, err := e.writeRunFile()
	if err != nil {
		e.Notice("other terminals cannot find this run: " + err.Error())
	}
	parts.Go(func() { e.logs.run(ctl) })
	e.plane.serve(ctl, &parts)
	parts.Go(func() { e.tracing.Follow(ctl, e.journal, e.traced()) })
	e.beginHistory()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(e.asked, stop)()
	if e.opts.Watch {
		w, err := e.newWatch()
		if err != nil {
			e.Notice("changes cannot be watched: " + err.Error())
		} else {
			parts.Go(func() { w.run(ctx) })
		}
	}
	err = e.supervisor.Run(ctx)
	e.processes.Orphans.StopRun(e.runID)
	left := e.closeContainers(context.WithoutCancel(ctx))
	stop()
	e.logs.close() // what they lack is told before the journal ends
	e.endHistory(err)
	e.journal.Close() // who follows it comes to its end
	if !left {
		removeRunFile()
	}
	cancel()
	parts.Wait()
	if err := e.tracing.Close(); err != nil {
		e.opts.Logger.Warn("not all traces could be sent", "error", err)
	}
	return err
}

// traced is what is told of the run in traces.
func (e *Engine) traced() tracing.Run {
	run := tracing.Run{Pipeline: e.opts.Pipeline.Name, ID: e.runID, StartedAt: e.startedAt}
	for _, c := range e.Plan().Components {
		run.Components = append(run.Components, c.ID)
	}
	return run
}

// getenv looks up a variable of flowctl's own environment.
func (e *Engine) getenv(name string) string {
	for _, v := range slices.Backward(e.opts.Environ) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// Close ends what New has opened; after Run it does nothing.
func (e *Engine) Close() {
	e.closeContainers(context.Background())
	e.dismissGuardian()
	e.plane.close()
	if e.logs != nil {
		e.logs.close()
	}
	e.journal.Close()
}

// Shutdown begins the stop of the pipeline, as the end of Run's context does.
func (e *Engine) Shutdown() { e.shutdown() }

// Kill ends the grace of a stop that is under way: what is left is killed now.
func (e *Engine) Kill() { e.supervisor.Kill() }

// AwaitReady returns nil once every component is ready or has completed.
func (e *Engine) AwaitReady(ctx context.Context) error { return e.supervisor.AwaitReady(ctx) }

// Restart, Stop and Start do what a user asks for one component; see supervisor.
func (e *Engine) Restart(ctx context.Context, id string) error { return e.supervisor.Restart(ctx, id) }

// Stop stops one component and leaves the others running.
func (e *Engine) Stop(ctx context.Context, id string) error { return e.supervisor.Stop(ctx, id) }

// Start starts a component that does not run.
func (e *Engine) Start(ctx context.Context, id string) error { return e.supervisor.Start(ctx, id) }

// Journal is the record of the run: it is closed when Run returns.
func (e *Engine) Journal() *journal.Journal { return e.journal }

// Plan is what is being run.
func (e *Engine) Plan() *plan.Plan {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.plan
}

func (e *Engine) setPlan(p *plan.Plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plan = p
	select {
	case e.replanned <- struct{}{}:
	default:
	}
}

// RunID names this run of the pipeline.
func (e *Engine) RunID() string { return e.runID }

// LogDir is the folder that the components' complete output goes to.
func (e *Engine) LogDir() string { return e.opts.LogDir }

// Endpoint is the control plane's address as components see it.
func (e *Engine) Endpoint() string { return e.plane.endpoint() }

// Notice records, where every view and other terminals see it, what flowctl itself has to say.
func (e *Engine) Notice(text string) {
	e.journal.Append(journal.Entry{Kind: journal.Notice, Text: text})
}

// registered returns nil once the component has registered in its present attempt.
func (e *Engine) registered(ctx context.Context, id string) error {
	_, err := e.plane.services.Await(ctx, id, func(s registry.Service) bool { return s.Registered })
	return err
}

// isRegistered reports whether the component has registered in its present attempt.
func (e *Engine) isRegistered(id string) bool {
	s, ok := e.plane.services.Get(id)
	return ok && s.Registered
}

// alive reports when the component's service becomes unhealthy and healthy again.
func (e *Engine) alive(ctx context.Context, id string, report func(error)) {
	e.checkEventTypes(id)
	for well := true; ; well = !well {
		s, err := e.plane.services.Await(ctx, id, func(s registry.Service) bool {
			if well {
				return s.Unwell()
			}
			return s.Healthy
		})
		if err != nil {
			return
		}
		if s.Healthy {
			report(nil)
		} else {
			report(errors.New(s.Reason))
		}
	}
}

// output returns the writers of a component's streams: to its log file and to the journal.
func (e *Engine) output(id string) (stdout, stderr io.WriteCloser) {
	out, errout := e.logs.file(id).begin()
	return e.journal.Writer(id, "stdout", out), e.journal.Writer(id, "stderr", errout)
}

// LogPath is the file that a component's complete output goes to.
func (e *Engine) LogPath(id string) string { return filepath.Join(e.opts.LogDir, id+".log") }

// runsAs is what a component is while it lives: a process, a container.
func runsAs(c plan.Component) string {
	if c.Container != nil {
		return "container"
	}
	return "process"
}

// Snapshot is every state and service at one journal sequence number.
type Snapshot = controlplane.Snapshot

// Component is one component in a Snapshot.
type Component = controlplane.Component

// Snapshot returns how everything stands now. Changes after it are in the
// journal after its Seq.
func (e *Engine) Snapshot() Snapshot {
	snap := Snapshot{Seq: e.journal.Seq()}
	for _, status := range e.supervisor.Statuses() {
		c := Component{Status: status}
		if s, ok := e.plane.services.Get(status.Component); ok {
			c.Service = &s
		}
		snap.Components = append(snap.Components, c)
	}
	return snap
}

// Components is what the metrics show of each component.
func (e *Engine) Components() []metrics.Component {
	var all []metrics.Component
	for _, s := range e.supervisor.Statuses() {
		all = append(all, metrics.Component{
			ID: s.Component, Role: string(s.Role), State: string(s.State), Restarts: s.Restarts, Attempt: s.Attempt, LogBytes: e.logs.file(s.Component).bytes(),
		})
	}
	return all
}

// PreflightError is all that stands in the way of a run, found before anything was started.
type PreflightError struct{ Problems []string }

// Environment reports that the machine is to blame, not who asked.
func (e *PreflightError) Environment() bool { return true }

func (e *PreflightError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0]
	}
	text := fmt.Sprintf("%d things stand in the way, nothing was started:", len(e.Problems))
	for _, p := range e.Problems {
		text += "\n  - " + p
	}
	return text
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

// defaultFile is the pipeline file of commands that are given none.
const defaultFile = "flow.yml"

// runOptions are the flags of run.
type runOptions struct {
	file           string
	engine         engine.Options
	plane          planeFlags
	shared         clientFlags
	logs           logFlags
	showStatus     bool
	statusInterval time.Duration
	// detach starts the run in the background and waits for waitTimeout until it
	// is ready. That run is given reportFD, where it tells how far it has come; 0: none.
	detach      bool
	waitTimeout time.Duration
	reportFD    int
}

func newRunCmd(a *app) *cobra.Command {
	opts := runOptions{plane: planeFlags{addressFlag: "--control-plane-address"}}
	cmd := &cobra.Command{
		Use:   "run [FILE]",
		Short: "Run a pipeline with its control plane",
		Long: `Run starts the control plane and then the components of a pipeline, each the
moment what it needs is ready, and shows what they print and what happens to
them. It ends by itself when all sinks have completed.

Ctrl-C stops the components in order, dependents first; a second one kills them.

Exit codes: 0 the pipeline completed or was stopped after it had been ready,
1 a component failed, 2 the command line or the file is wrong, 3 something on
this machine is in the way (a port, a missing program, a container engine that does
not answer), 4 a detached run was not ready in time, 130 or 143 interrupted before
everything was ready, or forced.`,
		Example: `  # Run flow.yml of this folder
  flowctl run

  # Take whatever port is free for the control plane
  flowctl run pipeline.yaml --control-plane-port 0

  # Keep the components' output somewhere else, and show no status lines
  flowctl run pipeline.yaml --log-dir /var/log/pipeline --show-status=false

  # In the background: return when everything is ready
  flowctl run pipeline.yaml --detach

  # Encrypted: a certificate for each component, made for this run
  flowctl run pipeline.yaml --tls auto

  # With containers: the same file, each component from its image
  flowctl run pipeline.yaml --orchestrator container

  # Share a control plane with other pipelines
  flowctl run pipeline.yaml --control-plane localhost:8080`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.file = defaultFile
			if len(args) > 0 {
				opts.file = args[0]
			}
			if opts.detach {
				return a.detach(opts.file, cmd.Flags(), opts.waitTimeout)
			}
			return a.run(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	e := &opts.engine
	f.StringVar(&e.Orchestrator, "orchestrator", "", "where components run that do not say it themselves: process or container (default: what the file says, else process)")
	plane := &opts.plane.plane
	f.StringVar(&plane.Address, "control-plane-address", "127.0.0.1", "address the control plane listens on, or unix:///path of a socket")
	f.IntVar(&plane.Port, "control-plane-port", 8080, "port the control plane listens on, 0 for a free one")
	f.StringVar(&plane.Database, "db-path", "", "database that keeps what the control plane knows (default: it is kept in memory)")
	f.StringVar(&opts.plane.tlsMode, "tls", "", "auto: encrypt the control plane with certificates made for this run, one for each component, which say who it is")
	opts.plane.add(f)
	f.StringVar(&opts.shared.target.Endpoint, "control-plane", "", "control plane to share with other pipelines, as 'flowctl server' runs one; the --tls flags are then what is shown there")
	f.StringVar(&opts.shared.tokenFile, "token-file", "", "with --control-plane, file with the operators' token of that one (default: $FLOWCTL_TOKEN)")
	f.DurationVar(&e.ShutdownTimeout, "shutdown-timeout", 0, "bound of the whole stop, if shorter than the longest grace (default: no other bound)")
	f.StringVar(&e.LogDir, "log-dir", "logs", "folder for the components' complete output")
	opts.logs.add(f)
	f.BoolVar(&e.Watch, "watch", false, "restart components whose program or watched paths change, and apply the file when it changes")
	f.BoolVar(&opts.showStatus, "show-status", true, "print a status line now and then")
	f.DurationVar(&opts.statusInterval, "status-interval", 10*time.Second, "time between two status lines")
	f.BoolVarP(&opts.detach, "detach", "d", false, "run in the background and return when everything is ready")
	f.DurationVar(&opts.waitTimeout, "wait-timeout", time.Minute, "with --detach, how long to wait until everything is ready; 0: for ever")
	f.IntVar(&opts.reportFD, "report-fd", 0, "descriptor on which a detached run tells how far it has come")
	_ = f.MarkHidden("report-fd") // it is there
	return cmd
}

// run runs a pipeline until its end.
func (a *app) run(ctx context.Context, opts runOptions) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// A closed stdout must not end flowctl before its components.
	signal.Ignore(syscall.SIGPIPE)
	everyday := collectSeldom(a.getenv)
	defer everyday()

	eng, err := a.assemble(ctx, opts, signals)
	if err != nil {
		return err
	}
	report := newReporter(opts.reportFD)
	defer report.close()
	report.say(reportRun + eng.RunID())
	v := newRunView(a, eng, opts.logs.format)
	v.eventsOnly = opts.reportFD != 0
	v.header()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	ended := make(chan struct{})
	ready, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	caught := &interrupt{view: v, stop: stop, kill: eng.Kill}
	if opts.reportFD != 0 { // nobody's terminal can be closed
		caught.reload = func() { others.Go(func() { v.reload(ctx, opts.file) }) }
	}
	others.Go(func() { caught.await(signals, ended) })
	others.Go(func() {
		if v.follow(context.WithoutCancel(ctx)) != nil {
			fmt.Fprintln(a.Err, "flowctl: nobody reads the output any more: stopping")
			stop()
		}
	})
	others.Go(func() {
		err := eng.AwaitReady(ready)
		everyday()
		if err == nil && serves(eng.Snapshot()) {
			report.say(reportReady)
		}
	})
	if opts.showStatus && !v.eventsOnly {
		others.Go(func() { v.statusLines(opts.statusInterval, ended) })
	}
	err = eng.Run(ctx)
	close(ended)
	giveUp()
	others.Wait()
	v.summary()
	return caught.outcome(eng.LogPath, err)
}

// tidying is how long what is being prepared may take to end after a signal.
const tidying = 2 * time.Second

// assemble reads the file and checks everything that can be checked. A signal
// meanwhile ends that: nothing has been started yet.
func (a *app) assemble(ctx context.Context, opts runOptions, signals <-chan os.Signal) (*engine.Engine, error) {
	type result struct {
		engine *engine.Engine
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		eng, err := a.prepare(ctx, opts)
		done <- result{eng, err}
	}()
	select {
	case r := <-done:
		return r.engine, r.err
	case sig := <-signals:
		cancel()
		select {
		case r := <-done:
			if r.engine != nil {
				r.engine.Close()
			}
		case <-time.After(tidying): // what is being read may never end; the guardian removes what was made
		}
		return nil, &interruptedError{signal: sig}
	}
}

// controlPlane is the control plane that the flags ask for.
func (o *runOptions) controlPlane(a *app) (engine.ControlPlane, error) {
	o.plane.plane.Version = version
	if o.shared.target.Endpoint == "" {
		if o.shared.tokenFile != "" {
			return engine.ControlPlane{}, usageError{errors.New("--token-file goes with --control-plane: a control plane of the run's own makes its tokens itself")}
		}
		err := o.plane.settle(a)
		return o.plane.plane, err
	}
	if o.plane.tlsMode != "" || o.plane.auth != "" || o.plane.plane.Database != "" {
		return engine.ControlPlane{}, usageError{errors.New("--tls, --auth and --db-path are for a control plane of the run's own, and --control-plane is another one")}
	}
	o.shared.target.TLS, o.plane.plane.TLS = o.plane.plane.TLS, controlplane.TLSFiles{}
	if err := o.shared.settle(a.getenv); err != nil {
		return engine.ControlPlane{}, err
	}
	shared := o.plane.plane
	shared.Join = o.shared.target
	return shared, nil
}

// prepare makes an engine of what was asked for.
func (a *app) prepare(ctx context.Context, opts runOptions) (*engine.Engine, error) {
	if opts.statusInterval <= 0 {
		return nil, usageError{errors.New("--status-interval must be longer than 0")}
	}
	var err error
	if opts.engine.ControlPlane, err = opts.controlPlane(a); err != nil {
		return nil, err
	}
	p, warnings, err := pipeline.Load(opts.file, pipeline.Options{Environ: a.Env})
	if err != nil {
		return nil, err
	}
	a.printProblems(warnings)
	opts.engine.Pipeline, opts.engine.Environ = p, a.Env
	if opts.engine.LogRotation, err = opts.logs.rotation(); err != nil {
		return nil, err
	}
	opts.engine.StateDir = engine.DefaultStateDir(a.getenv)
	containers, err := plan.NeedsContainers(p, opts.engine.Orchestrator)
	if err != nil {
		return nil, planError(err)
	}
	a.reap(ctx, opts.engine.StateDir, containers)
	opts.engine.Guardian, opts.engine.Beside = a.guardian(), a.beside
	opts.engine.Progress = func(text string) { fmt.Fprintln(a.Err, "flowctl: "+text) }
	return engine.New(ctx, opts.engine)
}

// interrupt turns signals into a stop and then a kill.
type interrupt struct {
	view       *runView
	stop, kill func()
	// reload, if not nil, is what a hang-up asks for, instead of a stop.
	reload func()

	first   os.Signal
	firstAt time.Time
	forced  bool
}

// sameSignal is how soon after a signal the next one is the same, delivered to
// the process and to its group.
const sameSignal = 20 * time.Millisecond

// await handles signals until ended is closed.
func (i *interrupt) await(signals <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP && i.reload != nil:
				i.reload()
			case i.first == nil:
				i.first, i.firstAt = sig, time.Now()
				i.view.say(fmt.Sprintf("%s: stopping, dependents first; once more kills at once", signalName(sig)))
				i.stop()
			case time.Since(i.firstAt) < sameSignal:
			default:
				i.forced = true
				i.view.say(fmt.Sprintf("%s again: killing what is left", signalName(sig)))
				i.kill()
			}
		case <-ended:
			return
		}
	}
}

// outcome is what the command ends with.
func (i *interrupt) outcome(logPath func(string) string, err error) error {
	var failed *supervisor.FailedError
	switch {
	case errors.As(err, &failed):
		return &runFailedError{failed, logPath(failed.Component)}
	case errors.Is(err, supervisor.ErrInterrupted) || i.forced:
		if i.first == nil {
			return err
		}
		return &interruptedError{signal: i.first, forced: i.forced}
	}
	return err
}

// runFailedError tells a failure with its last lines and where to read on.
type runFailedError struct {
	*supervisor.FailedError
	log string
}

func (e *runFailedError) Error() string {
	text := e.FailedError.Error()
	if len(e.Tail) == 0 {
		return text
	}
	text += fmt.Sprintf("; its last lines (all of them: %s):", e.log)
	for _, line := range e.Tail {
		text += "\n  | " + visible(line)
	}
	return text
}

// interruptedError is a run ended by a signal before it was ready, or by force.
type interruptedError struct {
	signal os.Signal
	forced bool
}

func (e *interruptedError) Error() string {
	if e.forced {
		return "killed by a second " + signalName(e.signal)
	}
	return "interrupted by " + signalName(e.signal) + " before everything was ready"
}

// code is the shell's: 128 and the signal's number.
func (e *interruptedError) code() int {
	if sig, ok := e.signal.(syscall.Signal); ok {
		return 128 + int(sig)
	}
	return 1
}

func signalName(sig os.Signal) string {
	if sig == os.Interrupt {
		return "Ctrl-C"
	}
	if s, ok := sig.(syscall.Signal); ok {
		return driver.SignalName(s)
	}
	return sig.String()
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
	"github.com/withobsrvr/flowctl/internal/sandbox"
)

// sandboxStartOptions are the flags of sandbox start.
type sandboxStartOptions struct {
	sandboxOptions
	ports     []string
	pipeline  string
	stopAfter bool
	// runArgs are handed to flowctl run.
	runArgs []string
}

func newSandboxStartCmd(a *app) *cobra.Command {
	var opts sandboxStartOptions
	cmd := &cobra.Command{
		Use:   "start [SERVICE...] [-- RUN-FLAGS]",
		Short: "Start services and wait until they are healthy",
		Long: `Start brings up the services of sandbox.yaml, or those named with everything
they depend on; without a file they come from the catalogue (flowctl sandbox
catalogue). What runs is left alone, what has ended is started again, and what is
defined differently now is replaced; its data stays. Images that are missing are
pulled. At the end it prints how programs connect.

Ctrl-C ends only the wait: what has been begun goes on.

With --pipeline the pipeline runs when all are healthy, as by 'flowctl run', with
the variables of the services in its environment: REDIS_URL, REDIS_HOST,
REDIS_PORT. What comes after -- goes to run. The services go on when it has ended.`,
		Example: `  # Two services of the catalogue
  flowctl sandbox start redis postgres

  # Whatever port is free, since 6379 is somebody else's
  flowctl sandbox start redis --port redis=0

  # Everything in sandbox.yaml of this folder
  flowctl sandbox start

  # Run a pipeline beside them, and stop them when it has ended
  flowctl sandbox start --pipeline pipeline.yaml --stop-after -- --control-plane-port 0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ids = args
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				opts.ids, opts.runArgs = slices.Clone(args[:dash]), args[dash:]
			}
			return a.sandboxStart(cmd.Context(), opts)
		},
	}
	opts.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&opts.ports, "port", nil, "SERVICE=PORT: offer a service's first port at another port of this host, 0 for a free one")
	f.StringVar(&opts.pipeline, "pipeline", "", "pipeline file to run when all are healthy")
	f.BoolVar(&opts.stopAfter, "stop-after", false, "with --pipeline, stop the services when the pipeline has ended; their data stays")
	return cmd
}

// sandboxStart starts services, and a pipeline beside them.
func (a *app) sandboxStart(ctx context.Context, opts sandboxStartOptions) error {
	if opts.pipeline == "" && (opts.stopAfter || len(opts.runArgs) > 0) {
		return usageError{errors.New("--stop-after and what comes after -- go with --pipeline")}
	}
	file, err := a.loadSandbox(opts.sandboxOptions)
	if err != nil {
		return err
	}
	services, err := chooseServices(file, opts)
	if err != nil {
		return err
	}
	var ids []string
	for _, s := range services {
		ids = append(ids, s.ID)
	}
	box, done, err := a.openSandbox(ctx, opts.sandboxOptions.orDefault(file), file, a.sandboxPrinter(ids))
	if err != nil {
		return err
	}
	defer done()
	if err := a.bringUp(ctx, func(ctx context.Context) error { return box.Start(ctx, services) }); err != nil {
		return err
	}
	wiring, err := box.Wiring(ctx, ids)
	if err != nil {
		return sandboxError(err)
	}
	if err := printWiring(a.Out, box.Name(), wiring); err != nil || opts.pipeline == "" {
		return err
	}
	return a.besidePipeline(ctx, opts, box, wiring, ids)
}

// orDefault names the sandbox that a start is to make: never one that only happens to
// be there.
func (o sandboxOptions) orDefault(file *pipeline.SandboxFile) sandboxOptions {
	if o.name == "" && file == nil {
		o.name = sandbox.DefaultName
	}
	return o
}

// chooseServices are the services that a command line asks for: of the file, else of
// the catalogue.
func chooseServices(file *pipeline.SandboxFile, opts sandboxStartOptions) ([]pipeline.Service, error) {
	entries, err := sandbox.Catalogue()
	if err != nil {
		return nil, err
	}
	all, ids := entries, opts.ids
	if file != nil {
		all = slices.Clone(file.Services)
		for _, e := range entries {
			if !slices.ContainsFunc(all, func(s pipeline.Service) bool { return s.ID == e.ID }) {
				all = append(all, e)
			}
		}
		for _, s := range file.Services {
			if len(opts.ids) == 0 {
				ids = append(ids, s.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil, usageError{fmt.Errorf("there is no %s here: say which services, such as 'flowctl sandbox start redis'; 'flowctl sandbox catalogue' lists them", defaultSandboxFile)}
	}
	chosen, err := sandbox.Choose(all, ids)
	if err != nil {
		return nil, usageError{err}
	}
	return chosen, movePorts(chosen, opts.ports)
}

// movePorts applies the flags --port.
func movePorts(services []pipeline.Service, flags []string) error {
	for _, flag := range flags {
		id, text, _ := strings.Cut(flag, "=")
		number, err := strconv.Atoi(text)
		if err != nil || number < 0 || number > 65535 {
			return usageError{fmt.Errorf("--port %s: write SERVICE=PORT with a port from 0 to 65535", flag)}
		}
		i := slices.IndexFunc(services, func(s pipeline.Service) bool { return s.ID == id })
		if i < 0 || len(services[i].Ports) == 0 {
			return usageError{fmt.Errorf("--port %s: there is no service %q with a port among those to be started", flag, id)}
		}
		services[i] = services[i].Clone()
		services[i].Ports[0].HostPort, services[i].FromCatalogue = number, false
	}
	return nil
}

// bringUp runs what waits for services, until a signal ends the wait.
func (a *app) bringUp(ctx context.Context, wait func(context.Context) error) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case sig := <-signals:
			cancel(&interruptedError{signal: sig})
		case <-ctx.Done():
		}
	})
	err := wait(ctx)
	cancel(nil)
	watcher.Wait()
	if errors.As(err, new(*interruptedError)) {
		fmt.Fprintln(a.Err, "What has been begun goes on: 'flowctl sandbox status' shows it, 'flowctl sandbox stop' ends it.")
	}
	a.printLastLines(err)
	return sandboxError(err)
}

// printLastLines shows what services said that have failed.
func (a *app) printLastLines(err error) {
	var joined interface{ Unwrap() []error }
	errs := []error{err}
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}
	for _, e := range errs {
		var failed *sandbox.FailedError
		if !errors.As(e, &failed) || len(failed.Lines) == 0 {
			continue
		}
		fmt.Fprintf(a.Err, "The last lines of %s (all of them: flowctl sandbox logs %s):\n", failed.Service, failed.Service)
		for _, line := range failed.Lines {
			fmt.Fprintln(a.Err, "  | "+visible(line))
		}
	}
}

// isTaken reports whether a port was taken.
func isTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// printWiring says how programs connect.
func printWiring(out io.Writer, name string, wiring sandbox.Wiring) error {
	fmt.Fprintf(out, "\nsandbox %s is up; containers find it in the network %s\n", name, wiring.Network)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tVARIABLE\tCONNECTION\tIN THE NETWORK")
	for _, id := range slices.Sorted(maps.Keys(wiring.Services)) {
		e := wiring.Services[id]
		variable := e.Variable
		if e.Connection == "" {
			variable = "" // it would tell nothing
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", id, orDash(variable), orDash(e.Connection), orDash(e.Inside))
	}
	return w.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// besidePipeline runs a pipeline with the services' variables in its environment. Its
// containers are in the sandbox's network.
func (a *app) besidePipeline(ctx context.Context, opts sandboxStartOptions, box *sandbox.Sandbox, wiring sandbox.Wiring, ids []string) error {
	beside := *a
	beside.Env, beside.beside = slices.Clone(a.Env), engine.Beside{Network: wiring.Network}
	for _, id := range slices.Sorted(maps.Keys(wiring.Services)) {
		found := wiring.Services[id]
		for _, name := range slices.Sorted(maps.Keys(found.Outside)) {
			beside.Env = append(beside.Env, name+"="+found.Outside[name])
		}
		service := plan.Service{ID: id, Variables: found.Within}
		for _, p := range found.Ports {
			service.Ports = append(service.Ports, plan.ServicePort{Host: p.Host, Container: p.Container})
		}
		beside.beside.Services = append(beside.beside.Services, service)
	}
	fmt.Fprintln(a.Out)
	root := newRoot(&beside)
	root.SetArgs(append([]string{"run", opts.pipeline}, opts.runArgs...))
	err := root.ExecuteContext(ctx)
	if !opts.stopAfter {
		return err
	}
	_, stopErr := box.Stop(context.WithoutCancel(ctx), ids, false)
	if err == nil {
		return sandboxError(stopErr)
	}
	a.report(stopErr)
	return err
}

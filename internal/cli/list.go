package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// Where list looks when no run is found, and how long it waits there.
const (
	defaultEndpoint = "localhost:8080"
	briefWait       = 2 * time.Second
)

// listedService is one row of list.
type listedService struct {
	Pipeline      string            `json:"pipeline,omitempty"`
	ID            string            `json:"id"`
	Component     string            `json:"component,omitempty"`
	Role          string            `json:"role"`
	Healthy       bool              `json:"healthy"`
	Tier          registry.Tier     `json:"tier,omitempty"`
	Flapping      bool              `json:"flapping,omitempty"`
	Reason        string            `json:"reason,omitempty"`
	LastHeartbeat time.Time         `json:"last_heartbeat"`
	Inputs        []string          `json:"inputs,omitempty"`
	Outputs       []string          `json:"outputs,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Metrics       metricValues      `json:"metrics,omitempty"`
}

// listOptions are the flags of list.
type listOptions struct {
	client      clientFlags
	filter      registry.Filter
	role        string
	metadata    []string
	wait, watch bool
	output      string
}

func newListCmd(a *app) *cobra.Command {
	var opts listOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the services that have registered",
		Long: `List shows the services registered with the control planes of all pipelines
that you run on this machine, whatever their ports. Without any it asks
localhost:8080.

HEALTH is healthy, warning (nothing was heard for half the TTL), unhealthy, or
unknown (not heard since the control plane was started anew); "flapping" stands
behind it while it changes often. 'flowctl describe' tells the rest of a service.`,
		Example: `  flowctl list
  flowctl list --endpoint localhost:9090 -o json

  # Who gives transfers, and who takes ledgers?
  flowctl list --produces token.transfer
  flowctl list --consumes stellar.ledger

  # Follow what changes
  flowctl list --watch`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.settle(a); err != nil {
				return err
			}
			if opts.watch {
				return a.watchList(cmd.Context(), opts)
			}
			services, err := a.list(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return a.print(opts.output, services, func(w io.Writer) error { return printServices(w, services) })
		},
	}
	f := cmd.Flags()
	opts.client.add(f, "control plane to ask (default: those of your running pipelines, else localhost:8080)")
	f.BoolVar(&opts.wait, "wait", true, "wait two seconds for a control plane that does not answer")
	f.BoolVarP(&opts.watch, "watch", "w", false, "go on and show what changes")
	f.StringSliceVar(&opts.filter.Produces, "produces", nil, "only services that give events of one of these types")
	f.StringSliceVar(&opts.filter.Consumes, "consumes", nil, "only services that take events of one of these types")
	f.StringVar(&opts.role, "role", "", "only sources, processors or sinks")
	f.StringVar(&opts.filter.Pipeline, "pipeline", "", "only services of this pipeline")
	f.StringArrayVar(&opts.metadata, "metadata", nil, "only services with this metadata, as key=value; more than once: with all of it")
	f.BoolVar(&opts.filter.Healthy, "healthy", false, "only healthy services")
	outputFlag(cmd, &opts.output)
	return cmd
}

// settle checks the flags.
func (o *listOptions) settle(a *app) error {
	if err := checkFormat(o.output); err != nil {
		return err
	}
	switch o.filter.Role = registry.Role(strings.TrimSuffix(o.role, "s")); o.filter.Role {
	case "", registry.Source, registry.Processor, registry.Sink:
	default:
		return usageError{fmt.Errorf("there is no role %q; use source, processor or sink", o.role)}
	}
	for _, pair := range o.metadata {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return usageError{fmt.Errorf("--metadata %q is not key=value", pair)}
		}
		if o.filter.Metadata == nil {
			o.filter.Metadata = make(map[string]string)
		}
		o.filter.Metadata[key] = value
	}
	return o.client.settle(a.getenv)
}

// asked is a control plane that is asked, and whose it is.
type asked struct {
	target   controlplane.Target
	pipeline string // "" for one that several share
	run      string
}

// planes are the control planes to ask: the one that is named, those of the runs
// of this user, each once, or the usual one.
func (a *app) planes(client clientFlags) ([]asked, error) {
	if client.target.Endpoint != "" {
		return []asked{{target: client.target}}, nil
	}
	runs, err := engine.Runs(a.stateDir())
	if err != nil {
		return nil, environmentError{err}
	}
	var all []asked
	for _, run := range runs {
		next := asked{target: run.Target(), pipeline: run.Pipeline, run: run.ID}
		if run.ControlPlane != "" {
			next = asked{target: client.target, run: run.ID}
			next.target.Endpoint = run.ControlPlane
		}
		if !slices.ContainsFunc(all, func(p asked) bool { return p.target.Endpoint == next.target.Endpoint }) {
			all = append(all, next)
		}
	}
	if len(all) == 0 {
		client.target.Endpoint = defaultEndpoint
		all = []asked{{target: client.target}}
	}
	return all, nil
}

// list asks the control planes it finds.
func (a *app) list(ctx context.Context, opts listOptions) ([]listedService, error) {
	planes, err := a.planes(opts.client)
	if err != nil {
		return nil, err
	}
	services := []listedService{}
	for _, plane := range planes {
		found, err := listPlane(ctx, plane, opts)
		if err != nil && len(planes) > 1 { // it may have just ended: the others count
			fmt.Fprintf(a.Err, "flowctl: ask the control plane of %s: %v\n", plane.run, err)
			continue
		}
		if err != nil {
			return nil, a.noAnswer(plane, opts.client, err)
		}
		services = append(services, found...)
	}
	return services, nil
}

// noAnswer is why a control plane has not answered, and what to do.
func (a *app) noAnswer(plane asked, client clientFlags, err error) error {
	hint := "is the pipeline running?"
	if client.target.Endpoint == "" && plane.run == "" {
		hint = "no pipeline of yours is running on this machine, and nobody answers there"
	}
	var refused controlplane.RefusedError
	if errors.As(err, &refused) {
		return environmentError{fmt.Errorf("ask the control plane at %s: %w", plane.target.Endpoint, refused)}
	}
	return environmentError{fmt.Errorf("ask the control plane at %s: %w: %s", plane.target.Endpoint, err, hint)}
}

// dialPlane returns a client of a control plane, which has answered if that is to be waited for.
func dialPlane(ctx context.Context, plane asked, wait bool) (*controlplane.Client, error) {
	client, err := controlplane.Dial(plane.target)
	if err != nil || !wait {
		return client, err
	}
	ctx, cancel := context.WithTimeout(ctx, briefWait)
	defer cancel()
	err = client.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", briefWait)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// listPlane asks one control plane.
func listPlane(ctx context.Context, plane asked, opts listOptions) ([]listedService, error) {
	client, err := dialPlane(ctx, plane, opts.wait)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found, err := client.List(ctx, opts.filter)
	if err != nil {
		return nil, err
	}
	services := make([]listedService, len(found))
	for i, s := range found {
		services[i] = listed(s, plane.pipeline)
	}
	return services, nil
}

func listed(s registry.Service, pipeline string) listedService {
	return listedService{
		Pipeline: cmp.Or(s.Pipeline, pipeline), ID: s.ID, Component: s.Component, Role: cmp.Or(string(s.Role), "unknown"),
		Healthy: s.Healthy, Tier: s.Tier, Flapping: s.Flapping, Reason: s.Reason, LastHeartbeat: s.LastSeen,
		Inputs: s.Inputs, Outputs: s.Outputs, Metadata: s.Metadata, Metrics: s.Metrics,
	}
}

func printServices(out io.Writer, services []listedService) error {
	if len(services) == 0 {
		_, err := fmt.Fprintln(out, "No services have registered yet.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PIPELINE\tID\tROLE\tHEALTH\tLAST HEARTBEAT\tMETRICS")
	for _, s := range services {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s ago\t%s\n", cmp.Or(s.Pipeline, "-"), s.ID, s.Role, s.health(),
			round(time.Since(s.LastHeartbeat)), cmp.Or(metricsText(s.Metrics), "-"))
	}
	return w.Flush()
}

// health is a service's health in a word or two.
func (s listedService) health() string {
	text := "unhealthy"
	switch {
	case s.Tier == registry.Warning:
		text = "warning"
	case s.Tier == registry.Unheard:
		text = "unknown"
	case s.Healthy:
		text = "healthy"
	}
	if s.Flapping {
		text += ", flapping"
	}
	return text
}

// watchList shows all services and then what changes, until the last control plane is gone.
func (a *app) watchList(ctx context.Context, opts listOptions) error {
	planes, err := a.planes(opts.client)
	if err != nil {
		return err
	}
	lines := serviceLines{app: a, output: opts.output}
	var watching sync.WaitGroup
	failures := make([]error, len(planes))
	for i, plane := range planes {
		watching.Go(func() {
			client, err := dialPlane(ctx, plane, opts.wait)
			if err == nil {
				err = client.Watch(ctx, opts.filter, false, func(c controlplane.Change) { lines.print(c, plane.pipeline) })
				client.Close()
			}
			if ctx.Err() == nil {
				failures[i] = a.noAnswer(plane, opts.client, err)
			}
		})
	}
	watching.Wait()
	return errors.Join(failures...)
}

// serviceLines prints changes, a line each.
type serviceLines struct {
	app    *app
	output string

	mu sync.Mutex // held while a change is printed
}

func (l *serviceLines) print(c controlplane.Change, pipeline string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().Format("15:04:05")
	for _, s := range c.Changed {
		row := listed(s, pipeline)
		if l.output != "table" {
			_ = json.NewEncoder(l.app.Out).Encode(row)
			continue
		}
		text := row.health()
		if s.Reason != "" {
			text += ": " + s.Reason
		}
		fmt.Fprintf(l.app.Out, "%s  %s  %s  %s\n", now, row.ID, row.Role, text)
	}
	for _, id := range c.Gone {
		if l.output != "table" {
			_ = json.NewEncoder(l.app.Out).Encode(map[string]any{"id": id, "gone": true})
			continue
		}
		fmt.Fprintf(l.app.Out, "%s  %s  gone\n", now, id)
	}
}

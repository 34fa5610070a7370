package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
)

// Where list looks when no run is found, and how long it waits there.
const (
	defaultEndpoint = "localhost:8080"
	briefWait       = 2 * time.Second
)

// listedService is one row of list.
type listedService struct {
	Pipeline      string    `json:"pipeline,omitempty"`
	ID            string    `json:"id"`
	Component     string    `json:"component,omitempty"`
	Role          string    `json:"role"`
	Healthy       bool      `json:"healthy"`
	LastHeartbeat time.Time `json:"last_heartbeat"`
	Metrics       metrics   `json:"metrics,omitempty"`
}

func newListCmd(a *app) *cobra.Command {
	var endpoint, output string
	var wait bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the services that have registered",
		Long: `List shows the services registered with the control planes of all pipelines
that you run on this machine, whatever their ports. Without any it asks
localhost:8080.`,
		Example: `  flowctl list
  flowctl list --endpoint localhost:9090 -o json`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			services, err := a.list(cmd.Context(), endpoint, wait)
			if err != nil {
				return err
			}
			return a.print(output, services, func(w io.Writer) error { return printServices(w, services) })
		},
	}
	cmd.Flags().StringVarP(&endpoint, "endpoint", "e", "", "control plane to ask (default: those of your running pipelines, else localhost:8080)")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait two seconds for a control plane that does not answer")
	outputFlag(cmd, &output)
	return cmd
}

// list asks the control planes it finds.
func (a *app) list(ctx context.Context, endpoint string, wait bool) ([]listedService, error) {
	runs := []engine.Run{{Endpoint: endpoint}}
	if endpoint == "" {
		var err error
		if runs, err = engine.Runs(engine.DefaultStateDir(a.getenv)); err != nil {
			return nil, err
		}
		if len(runs) == 0 {
			runs = []engine.Run{{Endpoint: defaultEndpoint}}
		}
	}
	services := []listedService{}
	for _, run := range runs {
		found, err := listRun(ctx, run, wait)
		if err != nil && len(runs) > 1 { // it may have just ended: the others count
			fmt.Fprintf(a.Err, "flowctl: ask the control plane of %s: %v\n", run.ID, err)
			continue
		}
		if err != nil {
			hint := "is the pipeline running?"
			if endpoint == "" && run.Pipeline == "" {
				hint = "no pipeline of yours is running on this machine, and nobody answers there"
			}
			return nil, environmentError{fmt.Errorf("ask the control plane at %s: %w: %s", run.Endpoint, err, hint)}
		}
		services = append(services, found...)
	}
	return services, nil
}

// listRun asks one control plane.
func listRun(ctx context.Context, run engine.Run, wait bool) ([]listedService, error) {
	client, err := controlplane.Dial(run.Endpoint)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if wait {
		ctx, cancel := context.WithTimeout(ctx, briefWait)
		defer cancel()
		if err := client.Wait(ctx); err != nil {
			return nil, fmt.Errorf("no answer within %s", briefWait)
		}
	}
	found, err := client.List(ctx)
	if err != nil {
		return nil, err
	}
	var services []listedService
	for _, s := range found {
		services = append(services, listedService{
			Pipeline: run.Pipeline, ID: s.ID, Component: s.Component, Role: cmp.Or(string(s.Role), "unknown"),
			Healthy: s.Healthy, LastHeartbeat: s.LastSeen, Metrics: s.Metrics,
		})
	}
	return services, nil
}

func printServices(out io.Writer, services []listedService) error {
	if len(services) == 0 {
		_, err := fmt.Fprintln(out, "No services have registered yet.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PIPELINE\tID\tROLE\tHEALTH\tLAST HEARTBEAT\tMETRICS")
	for _, s := range services {
		health := "unhealthy"
		if s.Healthy {
			health = "healthy"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s ago\t%s\n", cmp.Or(s.Pipeline, "-"), s.ID, s.Role, health,
			round(time.Since(s.LastHeartbeat)), cmp.Or(metricsText(s.Metrics), "-"))
	}
	return w.Flush()
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// describeOptions are the flags of describe.
type describeOptions struct {
	client clientFlags
	output string
}

// describedService is what describe prints.
type describedService struct {
	listedService
	Gone           bool           `json:"gone,omitempty"`
	Name           string         `json:"name,omitempty"`
	Description    string         `json:"description,omitempty"`
	Version        string         `json:"version,omitempty"`
	HealthEndpoint string         `json:"health_endpoint,omitempty"`
	MaxInflight    int            `json:"max_inflight,omitempty"`
	Reported       string         `json:"reported,omitempty"`
	FirstSeen      time.Time      `json:"first_seen"`
	RegisteredAt   time.Time      `json:"registered_at,omitzero"`
	History        []serviceEvent `json:"history"`
}

// serviceEvent is one event of its history.
type serviceEvent struct {
	Time time.Time `json:"time"`
	Tier string    `json:"tier"`
	Text string    `json:"text"`
}

func newDescribeCmd(a *app) *cobra.Command {
	var opts describeOptions
	cmd := &cobra.Command{
		Use:   "describe ID",
		Short: "Show all that is known of one service, with its history",
		Long: `Describe shows what a service has said of itself, how it is, and what has
happened to it: when it was first and last heard, and every change of its health
with the reason. The last services that are no more are described as well.

Exit codes: 2 there is no such service, 3 no control plane answers.`,
		Example: `  flowctl describe ttp-processor
  flowctl describe ttp-processor -o json`,
		Args: exactArgs(1, "the id of a service"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(checkFormat(opts.output), opts.client.settle(a.getenv)); err != nil {
				return err
			}
			s, err := a.describe(cmd.Context(), opts, args[0])
			if err != nil {
				return err
			}
			return a.print(opts.output, s, func(w io.Writer) error { return printDescription(w, s) })
		},
	}
	opts.client.add(cmd.Flags(), "control plane to ask (default: those of your running pipelines, else localhost:8080)")
	outputFlag(cmd, &opts.output)
	return cmd
}

// describe asks the control planes it finds for a service.
func (a *app) describe(ctx context.Context, opts describeOptions, id string) (describedService, error) {
	planes, err := a.planes(opts.client)
	if err != nil {
		return describedService{}, err
	}
	for _, plane := range planes {
		d, err := describeAt(ctx, plane, id)
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, controlplane.ErrUnknownService):
			return describedService{}, a.noAnswer(plane, opts.client, err)
		}
	}
	return describedService{}, usageError{fmt.Errorf("there is no service %q; 'flowctl list' shows those there are", id)}
}

func describeAt(ctx context.Context, plane asked, id string) (describedService, error) {
	client, err := dialPlane(ctx, plane, true)
	if err != nil {
		return describedService{}, err
	}
	defer client.Close()
	d, err := client.Describe(ctx, id)
	if err != nil {
		return describedService{}, err
	}
	s := describedService{
		listedService: listed(d.Service, plane.pipeline), Gone: d.Gone, Name: d.Name, Description: d.Description, Version: d.Version,
		HealthEndpoint: d.HealthEndpoint, MaxInflight: d.MaxInflight, Reported: string(d.Reported),
		FirstSeen: d.FirstSeen, RegisteredAt: d.RegisteredAt, History: []serviceEvent{},
	}
	for _, e := range d.History {
		s.History = append(s.History, serviceEvent{e.Time, string(e.Tier), e.Text})
	}
	return s, nil
}

// printDescription shows a service for a person.
func printDescription(out io.Writer, s describedService) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, visible(value))
		}
	}
	health := s.health()
	if s.Gone {
		health = "it is no more"
	}
	if s.Reason != "" {
		health += ": " + s.Reason
	}
	line("service", s.ID)
	line("pipeline", s.Pipeline)
	line("component", s.Component)
	line("role", s.Role)
	line("health", health)
	if s.Reported != string(registry.Unknown) {
		line("says of itself", s.Reported)
	}
	line("name", s.Name)
	line("version", s.Version)
	line("description", s.Description)
	line("takes", strings.Join(s.Inputs, ", "))
	line("gives", strings.Join(s.Outputs, ", "))
	line("health endpoint", s.HealthEndpoint)
	if s.MaxInflight > 0 {
		line("takes at once", fmt.Sprint(s.MaxInflight))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Metadata)) {
		line("metadata", key+"="+s.Metadata[key])
	}
	line("metrics", metricsText(s.Metrics))
	line("first heard", shortTime(s.FirstSeen))
	if !s.RegisteredAt.IsZero() {
		line("registered", shortTime(s.RegisteredAt))
	}
	line("last heard", fmt.Sprintf("%s, %s ago", shortTime(s.LastHeartbeat), round(time.Since(s.LastHeartbeat))))
	if err := w.Flush(); err != nil || len(s.History) == 0 {
		return err
	}
	fmt.Fprintln(out)
	for _, e := range s.History {
		if _, err := fmt.Fprintf(out, "%s  %-8s  %s\n", shortTime(e.Time), cmp.Or(e.Tier, "-"), visible(e.Text)); err != nil {
			return err
		}
	}
	return nil
}

// exactArgs refuses any other number of arguments.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s needs %s\nSee '%s --help'", cmd.CommandPath(), what, cmd.CommandPath())}
		}
		return nil
	}
}

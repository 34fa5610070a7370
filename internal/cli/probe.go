package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/probe"
)

// probeOptions are the flags of probe.
type probeOptions struct {
	timeout, wait time.Duration
}

func newProbeCmd(a *app) *cobra.Command {
	var opts probeOptions
	cmd := &cobra.Command{
		Use:   "probe http URL | grpc ADDRESS [SERVICE] | tcp ADDRESS",
		Short: "Ask a component whether it is healthy, as run does",
		Long: `Probe puts one health question and says what came back. It judges as run does:

  http  any 2xx answer is healthy, unless it is a JSON object whose "status" is
        unhealthy or starting; degraded is healthy enough
  grpc  the standard health service says SERVING, of SERVICE or of the server
        as a whole
  tcp   the port accepts a connection

It is a program of its own that needs neither shell nor curl, so it can be the
health check of a container that has none of them: Compose files that translate
writes use it so.

Exit codes: 0 healthy, 1 not, 2 the command line is wrong, 4 not within --wait.`,
		Example: `  flowctl probe http http://localhost:8088/health
  flowctl probe grpc localhost:50051
  flowctl probe grpc localhost:50051 token_transfer_service.EventService
  flowctl probe tcp localhost:5432

  # In a script: until it is healthy, for at most a minute
  flowctl probe http http://localhost:8088/health --wait 1m`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.probe(cmd.Context(), opts, args)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&opts.timeout, "timeout", 2*time.Second, "how long one answer may take")
	f.DurationVar(&opts.wait, "wait", 0, "how long to go on asking until it is healthy; 0: ask once")
	return cmd
}

// probe asks once, or until the answer is good or the time is over.
func (a *app) probe(ctx context.Context, opts probeOptions, args []string) error {
	question, err := questionOf(args)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("%w\nSee 'flowctl probe --help'", err)}
	case opts.timeout <= 0 || opts.wait < 0:
		return usageError{errors.New("--timeout must be longer than 0, and --wait must not be shorter")}
	}
	if opts.wait == 0 {
		late := fmt.Errorf("no answer within %v", opts.timeout)
		ctx, cancel := context.WithTimeoutCause(ctx, opts.timeout, late)
		defer cancel()
		err := question(ctx)
		if err != nil && context.Cause(ctx) == late {
			err = late
		}
		return a.answered(args, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, opts.wait, errors.New("no answer"))
	defer cancel()
	err = probe.Await(ctx, question, probe.Timing{Timeout: opts.timeout})
	if err != nil && !probe.IsDegraded(err) {
		return timeoutError{fmt.Errorf("%s is not healthy after %v: %w", args[1], opts.wait, err)}
	}
	return a.answered(args, err)
}

// answered says what came back.
func (a *app) answered(args []string, err error) error {
	switch {
	case err == nil:
		fmt.Fprintln(a.Out, "healthy")
	case probe.IsDegraded(err):
		fmt.Fprintln(a.Out, visible(err.Error()))
	default:
		return fmt.Errorf("%s is not healthy: %w", args[1], err)
	}
	return nil
}

// questionOf reads which question is to be put.
func questionOf(args []string) (probe.Probe, error) {
	kind, rest := "", []string{}
	if len(args) > 0 {
		kind, rest = args[0], args[1:]
	}
	switch {
	case kind == "":
		return nil, errors.New("probe needs to know what to ask: http, grpc or tcp, and whom")
	case kind != "http" && kind != "grpc" && kind != "tcp":
		return nil, fmt.Errorf("there is no question %q: it is http, grpc or tcp", kind)
	case len(rest) == 0 || kind == "grpc" && len(rest) > 2 || kind != "grpc" && len(rest) > 1:
		return nil, fmt.Errorf("probe %s takes %s, not %s", kind, map[string]string{
			"http": "a URL", "grpc": "an address and perhaps a service", "tcp": "an address",
		}[kind], plural(len(rest), "argument"))
	case kind == "http":
		u, err := url.Parse(rest[0])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("%q is no URL such as http://localhost:8088/health", rest[0])
		}
		return probe.HTTP(rest[0]), nil
	}
	if _, port, err := net.SplitHostPort(rest[0]); err != nil || port == "" {
		return nil, fmt.Errorf("%q is no address such as localhost:50051", rest[0])
	}
	if kind == "tcp" {
		return probe.TCP(rest[0]), nil
	}
	service := ""
	if len(rest) == 2 {
		service = rest[1]
	}
	return probe.GRPC(rest[0], service), nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// serverOptions are the flags of server.
type serverOptions struct {
	address  string
	port     int
	registry registry.Options
}

func newServerCmd(a *app) *cobra.Command {
	var opts serverOptions
	cmd := &cobra.Command{
		Use:    "server",
		Short:  "Run a control plane without a pipeline",
		Hidden: true,
		Example: `  flowctl server
  flowctl server --address 127.0.0.1 --port 9090`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.server(cmd.Context(), opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.address, "address", "0.0.0.0", "address to listen on")
	f.IntVar(&opts.port, "port", 8080, "port to listen on, 0 for a free one")
	f.DurationVar(&opts.registry.TTL, "heartbeat-ttl", 30*time.Second, "how long after its last heartbeat a service counts as healthy")
	f.DurationVar(&opts.registry.JanitorInterval, "janitor-interval", 10*time.Second, "how often the heartbeats are checked")
	return cmd
}

// server serves a control plane until a signal comes.
func (a *app) server(ctx context.Context, opts serverOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	lis, err := controlplane.Listen(opts.address, opts.port)
	if err != nil {
		var taken *controlplane.PortInUseError
		if errors.As(err, &taken) {
			err = fmt.Errorf("%w; choose another with --port (0 takes a free one)", err)
		}
		return environmentError{err}
	}
	logger := slog.New(slog.NewTextHandler(a.Out, nil))
	opts.registry.Record = func(e journal.Entry) { logger.Info(e.Text, "component", e.Component) }
	reg := registry.New(opts.registry)
	logger.Info("control plane listening", "address", lis.Addr().String())
	var janitor sync.WaitGroup
	janitor.Go(func() { _ = reg.Run(ctx) })
	defer janitor.Wait()
	defer stop()
	return controlplane.New(controlplane.Options{Registry: reg, Logger: logger}).Serve(ctx, lis)
}

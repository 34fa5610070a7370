// ttp-processor is a processor: it turns raw ledgers from a source into the
// token transfer events that the Stellar SDK finds in them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/stellar/go-stellar-sdk/processors/token_transfer"

	"github.com/withobsrvr/flowctl/components/ttpapi/grpcserver"
	"github.com/withobsrvr/flowctl/components/ttpapi/tokentransfer"
	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// name is the component's id if the environment gives no other.
const name = "ttp-processor"

// drainGrace is what streams get to send the rest of the ledger they are at.
const drainGrace = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// run serves events until ctx ends.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	config, err := readConfig(getenv)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stdout, &slog.HandlerOptions{Level: config.logLevel}))
	if config.assumed {
		logger.Warn("neither NETWORK_PASSPHRASE nor STELLAR_NETWORK is set: the public network is assumed")
	}
	source, err := dial(config.source)
	if err != nil {
		return err
	}
	defer source.conn.Close()
	listener, err := net.Listen("tcp", config.address)
	if err != nil {
		return fmt.Errorf("open the gRPC port: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := grpcserver.New()
	service := &service{
		source:    source,
		processor: token_transfer.NewEventsProcessor(config.passphrase),
		logger:    logger,
		start:     config.start,
		end:       config.end,
		stopping:  ctx,
		ready:     make(chan struct{}),
	}
	tokentransfer.RegisterEventServiceServer(server, service)

	var running sync.WaitGroup
	var serveErr error
	running.Go(func() {
		serveErr = server.Run(ctx, listener, drainGrace)
		cancel()
	})
	logger.Info("serving", "address", listener.Addr().String(), "source", config.source)
	member, err := join(ctx, config, service, listener.Addr())
	if member != nil {
		server.Ready()
		close(service.ready)
		source.watch(ctx)
	}
	cancel()
	running.Wait()
	logger.Info("stopped")
	if member != nil {
		if err := member.Leave(); err != nil {
			logger.Debug("left without telling the control plane", "error", err)
		}
	}
	return errors.Join(err, serveErr)
}

// join makes the processor a member of the pipeline as soon as its source
// answers, and tells the service. Without an error and without a member
// ctx has ended before.
func join(ctx context.Context, config config, service *service, address net.Addr) (*flowctl.Member, error) {
	service.logger.Info("waiting for the source", "source", config.source)
	if err := service.source.connect(ctx); err != nil {
		return nil, nil
	}
	member, err := flowctl.Join(ctx, flowctl.Component{
		ID:       name,
		Role:     flowctl.Processor,
		Inputs:   []string{"raw_ledger_service.RawLedger"},
		Outputs:  []string{"token_transfer.TokenTransferEvent"},
		Metadata: map[string]string{"grpc_address": address.String(), "network_passphrase": config.passphrase},
		Logger:   service.logger,
	})
	if err != nil {
		return nil, err
	}
	service.member = member
	service.source.state = newCondition(member, service.logger, config.source)
	return member, nil
}

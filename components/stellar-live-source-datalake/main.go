// stellar-live-source-datalake is a source: it streams the ledgers of a Stellar
// data lake, as the network closed them, to processors.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // the authorities of buckets' certificates, where the system has none

	"github.com/withobsrvr/flowctl/components/stellar-live-source-datalake/internal/datalake"
	"github.com/withobsrvr/flowctl/components/ttpapi/grpcserver"
	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// name is the component's id if the environment gives no other.
const name = "stellar-live-source-datalake"

// openTimeout limits the search for the lake at the start.
const openTimeout = 30 * time.Second

// drainGrace is what streams get to send the ledger they are at.
const drainGrace = time.Second

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

// run serves the lake that the environment describes until ctx ends.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	config, err := readConfig(getenv)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stdout, &slog.HandlerOptions{Level: config.logLevel}))

	lake, err := openLake(ctx, config.lake)
	if err != nil {
		return err
	}
	defer lake.Close()
	listener, err := net.Listen("tcp", config.address)
	if err != nil {
		return fmt.Errorf("open the gRPC port: %w", err)
	}
	defer listener.Close()

	member, err := flowctl.Join(ctx, flowctl.Component{
		ID:       name,
		Role:     flowctl.Source,
		Outputs:  []string{"raw_ledger_service.RawLedger"},
		Metadata: map[string]string{"grpc_address": listener.Addr().String(), "storage_type": config.lake.Type},
		Logger:   logger,
	})
	if err != nil {
		return err
	}
	server := grpcserver.New()
	rawledger.RegisterRawLedgerServiceServer(server, &service{
		lake:     lake,
		member:   member,
		logger:   logger,
		stopping: member.Context(),
	})
	server.Ready()
	logger.Info("serving", "address", listener.Addr().String(), "storage", config.lake.Type, "bucket", config.lake.Bucket)
	err = server.Run(member.Context(), listener, drainGrace)
	logger.Info("stopped")
	if leaveErr := member.Leave(); leaveErr != nil {
		logger.Debug("left without telling the control plane", "error", leaveErr)
	}
	return err
}

// openLake opens the lake within a limit, because a server that does not answer
// is as wrong as one that is not there.
func openLake(ctx context.Context, config datalake.Config) (*datalake.Lake, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return datalake.Open(ctx, config)
}

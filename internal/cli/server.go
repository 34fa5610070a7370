package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/metrics"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/store"
)

// serverOptions are the flags of server.
type serverOptions struct {
	planeFlags
	database  string
	tokenFile string
	checkDB   bool
	program   string
	output    string
}

func newServerCmd(a *app) *cobra.Command {
	opts := serverOptions{planeFlags: planeFlags{addressFlag: "--address"}}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a control plane without a pipeline",
		Long: `Server runs a control plane that stands alone: components register with it, and
pipelines that are run with --control-plane share it. It keeps what it knows in
a database.

Exit codes: 2 the command line is wrong, 3 something on this machine is in the
way: the port, the database.`,
		Hidden: true,
		Example: `  flowctl server
  flowctl run pipeline.yaml --control-plane localhost:8080

  # For other machines
  flowctl server --address 0.0.0.0 --tls-cert server.pem --tls-key server.key --auth required

  # What is in the database, and is it sound?
  flowctl server --check-db`,
		Args: maxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("db-path") && a.stateDir() != "" {
				opts.database = filepath.Join(a.stateDir(), "control-plane.db")
			}
			if opts.checkDB {
				return a.checkDB(opts)
			}
			return a.server(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.plane.Address, "address", "127.0.0.1", "address to listen on, or unix:///path of a socket")
	f.IntVar(&opts.plane.Port, "port", 8080, "port to listen on, 0 for a free one")
	f.StringVar(&opts.database, "db-path", "", `database that keeps what it knows, "" for none (default: control-plane.db in the state folder)`)
	opts.planeFlags.add(f)
	f.StringVar(&opts.tokenFile, "token-file", "", "file with the operators' token, made if there is none (default: control-plane.token in the state folder)")
	f.StringVar(&opts.program, "copy-program", "", "folder that gets a copy of this program first, for containers that ask their health with 'flowctl probe'")
	f.BoolVar(&opts.checkDB, "check-db", false, "check the database, say what is in it, and end")
	outputFlag(cmd, &opts.output)
	return cmd
}

// server serves a control plane until a signal comes.
func (a *app) server(ctx context.Context, opts serverOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := opts.settle(a); err != nil {
		return err
	}
	if opts.program != "" {
		if err := a.copyProgram(opts.program); err != nil {
			return environmentError{err}
		}
	}
	plane := opts.plane
	logger := slog.New(slog.NewTextHandler(a.Out, nil))
	record := func(e journal.Entry) { logger.Info(e.Text, "component", e.Component) }
	known := registry.Options{TTL: plane.TTL, JanitorInterval: plane.JanitorInterval, ExpireAfter: plane.ExpireAfter, Record: record}
	if opts.database != "" {
		db, saved, err := store.Open(opts.database)
		if err != nil {
			return environmentError{err}
		}
		defer db.Close()
		known.Store, known.Saved = db, saved
	}
	reg := registry.New(known)
	measured := metrics.New(version, reg)
	token, err := a.serverToken(opts)
	if err != nil {
		return environmentError{fmt.Errorf("keep the operators' token: %w", err)}
	}
	server, err := controlplane.New(controlplane.Options{
		Registry: reg, Access: controlplane.Access{Token: token, Required: plane.AuthRequired}, TLS: plane.TLS, Hosts: plane.Hosts,
		Metrics: measured.Handler(), Observe: measured.Call, Notice: func(text string) { logger.Warn(text) }, Logger: logger,
	})
	if err != nil {
		return environmentError{err}
	}
	lis, err := controlplane.Listen(plane.Address, plane.Port)
	if err != nil {
		return environmentError{serverListenError(err)}
	}
	logger.Info("control plane listening", "address", lis.Addr().String(), "tls", plane.TLS.Set(), "auth", plane.AuthRequired, "database", opts.database)
	var janitor sync.WaitGroup
	janitor.Go(func() { _ = reg.Run(ctx) })
	defer janitor.Wait()
	defer stop()
	return server.Serve(ctx, lis)
}

// serverListenError says what to do when the server cannot listen.
func serverListenError(err error) error {
	var failed *controlplane.ListenError
	if errors.As(err, &failed) && failed.InUse && failed.Port != 0 {
		return fmt.Errorf("%w; choose another with --port (0 takes a free one)", err)
	}
	return fmt.Errorf("%w; choose another with --address", err)
}

// serverToken returns the operators' token. Without a state folder it is forgotten
// with the server.
func (a *app) serverToken(opts serverOptions) (string, error) {
	path, made := opts.tokenFile, rand.Text()
	if path == "" && a.stateDir() == "" {
		return made, nil
	}
	if path == "" {
		path = filepath.Join(a.stateDir(), "control-plane.token")
	}
	return ownToken(path, made)
}

// checkDB checks the database.
func (a *app) checkDB(opts serverOptions) error {
	if opts.database == "" {
		return usageError{errors.New("--check-db needs --db-path: there is no state folder")}
	}
	report, err := store.Check(opts.database)
	if err != nil {
		return environmentError{err}
	}
	return a.print(opts.output, report, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is sound: schema %d, %s, %s that are no more, %s, %d bytes\n", opts.database, report.Schema,
			plural(report.Services, "service"), plural(report.Gone, "service"), plural(report.Runs, "run"), report.Size)
		return err
	})
}

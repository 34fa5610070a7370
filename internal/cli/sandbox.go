package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/sandbox"
)

// defaultSandboxFile is the sandbox file of commands that are given none; it need not be there.
const defaultSandboxFile = "sandbox.yaml"

// sandboxOptions are the flags that say which sandbox is meant.
type sandboxOptions struct {
	name, file string
	ids        []string
}

func newSandboxCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run databases and other services beside pipelines in development",
		Long: `Sandbox runs backing services as containers on the Docker Engine of this
machine: those of its catalogue, such as redis and postgres, and any image that
sandbox.yaml names. They outlive the terminal, are found again from any other one,
and keep their data until they are told not to.

Exit codes: 0 fine, 1 a service failed or is not well, 2 the command line or the
file is wrong, 3 something is in the way (the engine, an image, a port), 4 a
service was not healthy in time, 130 or 143 interrupted.`,
		Example: `  flowctl sandbox start redis postgres
  flowctl sandbox status
  flowctl sandbox logs postgres -f
  flowctl sandbox stop

  # Run a pipeline that finds them as REDIS_URL and POSTGRES_URL
  flowctl sandbox start redis postgres --pipeline pipeline.yaml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usageError{fmt.Errorf("there is no command %q\nSee 'flowctl sandbox --help'", "sandbox "+args[0])}
		},
	}
	cmd.AddCommand(newSandboxCatalogueCmd(a), newSandboxLogsCmd(a), newSandboxStartCmd(a), newSandboxStatusCmd(a), newSandboxStopCmd(a), newSandboxUpgradeCmd(a))
	return cmd
}

// flags adds the flags that say which sandbox is meant.
func (o *sandboxOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.name, "name", "", "the sandbox's name (default: what the file says, else the only one there is, else default)")
	cmd.Flags().StringVarP(&o.file, "file", "f", "", "sandbox file (default: sandbox.yaml of this folder, if there is one)")
}

// load reads the sandbox file; nil if there is none and none was asked for.
func (a *app) loadSandbox(o sandboxOptions) (*pipeline.SandboxFile, error) {
	file := o.file
	if file == "" {
		file = defaultSandboxFile
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
	}
	return sandbox.Load(file, pipeline.Options{Environ: a.Env})
}

// openSandbox connects to the engine and settles which sandbox is meant: the one of
// the flag, else of the file, else the only one, else the default. It must be closed.
func (a *app) openSandbox(ctx context.Context, o sandboxOptions, file *pipeline.SandboxFile, printer *sandboxPrinter) (*sandbox.Sandbox, func(), error) {
	if o.name != "" && pipeline.SandboxName(o.name) != "" {
		return nil, nil, usageError{fmt.Errorf("--name %q: a sandbox's name %s", o.name, pipeline.SandboxName(o.name))}
	}
	engine, err := sandbox.Connect(a.getenv)
	if err != nil {
		return nil, nil, environmentError{err}
	}
	name := o.name
	if name == "" && file != nil {
		name = file.Name
		if name == "" {
			name = sandbox.DefaultName
		}
	}
	if name == "" {
		names, err := sandbox.Names(ctx, engine)
		switch {
		case err != nil:
			engine.Close()
			return nil, nil, sandboxError(err)
		case len(names) == 1:
			name = names[0]
		case len(names) == 0 || slices.Contains(names, sandbox.DefaultName):
			name = sandbox.DefaultName
		default:
			engine.Close()
			return nil, nil, usageError{fmt.Errorf("there are several sandboxes, say with --name which is meant: %s", strings.Join(names, ", "))}
		}
	}
	return sandbox.New(engine, name, printer.say), engine.Close, nil
}

// lookSandbox is openSandbox for commands that need no file: one that is wrong says
// no name, and is no reason to refuse a status or a stop.
func (a *app) lookSandbox(ctx context.Context, o sandboxOptions, printer *sandboxPrinter) (*sandbox.Sandbox, func(), error) {
	file, err := a.loadSandbox(o)
	if err != nil && o.file != "" {
		return nil, nil, err
	}
	return a.openSandbox(ctx, o, file, printer)
}

// sandboxPrinter prints what happens, from any goroutine.
type sandboxPrinter struct {
	mu    sync.Mutex // guards lines
	lines *linePrinter
}

func (a *app) sandboxPrinter(ids []string) *sandboxPrinter {
	return &sandboxPrinter{lines: a.linePrinter(ids, "auto")}
}

func (p *sandboxPrinter) say(service, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines.event(time.Now(), service, text)
	_ = p.lines.flush() // a start goes on without readers
}

// sandboxError turns an error of a sandbox into one with an exit code: what failed
// counts more than what is in the way, and that more than what is late.
func sandboxError(err error) error {
	var failed *sandbox.FailedError
	var late *sandbox.LateError
	var preflight *sandbox.PreflightError
	var unknown *sandbox.UnknownError
	var interrupted *interruptedError
	switch {
	case err == nil, errors.As(err, &interrupted):
		return err
	case errors.As(err, &failed):
		return err
	case errors.As(err, &unknown):
		return usageError{err}
	case errors.As(err, &preflight), errors.Is(err, driver.ErrUnavailable), isTaken(err):
		return environmentError{err}
	case errors.As(err, &late):
		return timeoutError{err}
	}
	return err
}

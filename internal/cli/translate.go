package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/compose"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// translateOptions are the flags of translate.
type translateOptions struct {
	file, output, toFile, prefix, registry string
	startInterval                          time.Duration
}

func newTranslateCmd(a *app) *cobra.Command {
	var opts translateOptions
	cmd := &cobra.Command{
		Use:   "translate [FILE]",
		Short: "Write a pipeline as a file for another tool",
		Long: `Translate writes a pipeline as something that runs without 'flowctl run':

  compose  a Compose file: every component that runs in a container, with its
           variables, health check, dependencies, ports and volumes, and flowctl's
           control plane as one service more. docker-compose is the same
  local    a shell script that starts the components as processes in the same
           order, waits until they are healthy, and stops them

What cannot be said there is told on standard error and at the head of the file;
nothing is dropped in silence. Secrets are not written: a variable stands for
each. The same pipeline gives the same file, byte for byte.`,
		Example: `  flowctl translate pipeline.yaml -o compose --to-file compose.yaml
  docker compose up

  # Two copies beside each other, with images of one's own registry
  flowctl translate pipeline.yaml -o compose --prefix blue --registry registry.example.com/team > blue.yaml

  flowctl translate pipeline.yaml -o local --to-file pipeline.sh`,
		Args: maxArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts.file = defaultFile
			if len(args) > 0 {
				opts.file = args[0]
			}
			return a.translate(opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.output, "output", "o", "compose", "what to write: compose, docker-compose or local")
	f.StringVar(&opts.toFile, "to-file", "", "file to write, all of it or nothing (default: standard output)")
	f.StringVar(&opts.prefix, "prefix", "", "what the names of the Compose project and of its volumes begin with")
	f.StringVar(&opts.registry, "registry", "", "HOST[:PORT][/PATH] of images that name no registry")
	f.DurationVar(&opts.startInterval, "start-interval", 0, "how often a starting component is asked, for Docker Engines since version 25; 0: every 2s also later, for all engines")
	return cmd
}

// translation is a pipeline in another tool's words.
type translation struct {
	io.WriterTo
	losses, secrets []string
}

// translate writes one file in another tool's words.
func (a *app) translate(opts translateOptions) error {
	if err := opts.check(); err != nil {
		return usageError{err}
	}
	p, warnings, err := pipeline.Load(opts.file, pipeline.Options{Environ: a.Env})
	a.printProblems(warnings)
	if err != nil {
		return err
	}
	var done translation
	if opts.output == "local" {
		done, err = a.toScript(p)
	} else {
		done, err = opts.toCompose(p)
	}
	if err != nil {
		return err
	}
	if err := a.deliver(opts, done); err != nil {
		return err
	}
	a.reportLosses(done)
	return nil
}

// registryText is a host, perhaps with a port, and perhaps a path.
var registryText = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*/?$`)

// prefixText is what a name on an engine may begin with.
var prefixText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// check refuses what makes no sense.
func (o translateOptions) check() error {
	switch {
	case !slices.Contains([]string{"compose", "docker-compose", "local"}, o.output):
		return fmt.Errorf("there is no translation to %q; use compose, docker-compose or local", o.output)
	case o.output == "local" && (o.prefix != "" || o.registry != "" || o.startInterval != 0):
		return errors.New("--prefix, --registry and --start-interval are about containers, and -o local has none")
	case o.prefix != "" && !prefixText.MatchString(o.prefix):
		return fmt.Errorf("--prefix %q cannot begin a name: it may consist of letters, digits, '.', '_' and '-', beginning with a letter or digit", o.prefix)
	case o.registry != "" && !registryText.MatchString(o.registry):
		return fmt.Errorf("--registry %q is no registry such as registry.example.com:5000/team", o.registry)
	case o.startInterval < 0 || o.startInterval > 0 && o.startInterval < time.Millisecond:
		return errors.New("--start-interval must be at least 1ms")
	}
	return nil
}

// release is a version that images are tagged with.
var release = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)

// toCompose translates a pipeline to a Compose file.
func (o translateOptions) toCompose(p *pipeline.Pipeline) (translation, error) {
	opts := compose.Options{Prefix: o.prefix, Registry: o.registry, StartInterval: o.startInterval}
	if release.MatchString(version) {
		opts.Version = version
	}
	f, err := compose.New(p, opts)
	if err != nil {
		return translation{}, err
	}
	done := translation{WriterTo: f}
	for _, l := range f.Losses {
		done.losses = append(done.losses, l.String())
	}
	for _, s := range f.Secrets {
		done.secrets = append(done.secrets, s.Variable+": "+s.Of)
	}
	return done, nil
}

// deliver writes what has come out to where it is wanted.
func (a *app) deliver(opts translateOptions, done translation) error {
	if opts.toFile == "" {
		_, err := done.WriteTo(a.Out)
		return err
	}
	mode := os.FileMode(0o644)
	if opts.output == "local" {
		mode = 0o755
	}
	err := replaceFile(opts.toFile, mode, func(w io.Writer) error {
		_, err := done.WriteTo(w)
		return err
	})
	if err != nil {
		return environmentError{fmt.Errorf("write %s: %w", opts.toFile, err)}
	}
	return nil
}

// reportLosses tells what has been lost, and what is to be set.
func (a *app) reportLosses(done translation) {
	if len(done.losses) > 0 {
		fmt.Fprintln(a.Err, "flowctl: what the translation does not say:")
	}
	for _, loss := range done.losses {
		fmt.Fprintf(a.Err, "  - %s\n", visible(loss))
	}
	if len(done.secrets) > 0 {
		fmt.Fprintln(a.Err, "flowctl: secrets are not in it; set these variables before it is started:")
	}
	for _, secret := range done.secrets {
		fmt.Fprintf(a.Err, "  %s\n", visible(secret))
	}
}

// Bench measures flowctl against floors that are taken in the same run, on the
// same machine, in turns with it: what counts is the ratio. docs/benchmarks.md
// says what is measured and how to read it. Run it from the repository's root:
//
//	go run ./e2e/bench [-quick] [-json] [-run REGEXP] [-flowctl bin/flowctl]
//
// A measure over its target is printed as OVER and is no failure: machines
// differ. The exit code is 1 when something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// budget bounds a whole run.
const budget = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, budget)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	quick, json bool
	only        *regexp.Regexp
	flowctl     string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.quick, "quick", false, "fewer rounds and less output: under 40 seconds on two cores")
	f.BoolVar(&o.json, "json", false, "print JSON, with every sample, in place of the table")
	f.StringVar(&o.flowctl, "flowctl", "bin/flowctl", "the flowctl to measure")
	only := f.String("run", "", "measure only the groups that match: start, restart, stubborn, idle, logs, follow, plane, containers, version, overhead")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	re, err := regexp.Compile(*only)
	if err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	o.only = re
	return o, nil
}

// run measures what the arguments ask for and prints the results.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opts, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	host, err := newHost(ctx, opts.flowctl, stderr)
	if err != nil {
		return err
	}
	defer host.close()

	began := time.Now()
	scale := full
	if opts.quick {
		scale = quick
	}
	report := results{Date: began.UTC().Format("2006-01-02 15:04 MST"), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Before: loadAverage()}
	var broken []error
	for _, g := range groups {
		if !opts.only.MatchString(g.name) {
			continue
		}
		fmt.Fprintf(stderr, "measuring %s\n", g.name)
		rows, err := g.measure(ctx, host, scale)
		if err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", g.name, err))
		}
		report.Rows = append(report.Rows, rows...)
	}
	report.Seconds, report.After = time.Since(began).Seconds(), loadAverage()
	if err := report.print(stdout, opts.json); err != nil {
		broken = append(broken, err)
	}
	return errors.Join(broken...)
}

// group is a set of measures that are taken together.
type group struct {
	name    string
	measure func(context.Context, *host, scale) ([]row, error)
}

var groups = []group{
	{"start", measureStart},
	{"restart", measureRestart},
	{"stubborn", measureStubborn},
	{"idle", measureIdle},
	{"logs", measureLogs},
	{"follow", measureFollow},
	{"plane", measurePlane},
	{"containers", measureContainers},
	{"version", measureVersion},
	{"overhead", measureOverhead},
}

// scale says how much is measured.
type scale struct {
	// sizes are the numbers of components that are started, rounds how often each is.
	sizes  []int
	rounds int
	// killRounds is how often a set of components is killed one by one.
	killRounds int
	// stubborn is how many components do not end by themselves, stubbornRounds how
	// often they are stopped.
	stubborn, stubbornRounds int
	// idle is how long nothing happens.
	idle time.Duration
	// lines is how many lines are written, logRounds how often.
	lines, logRounds int
	// planeRounds is how often each control plane is put to work.
	planeRounds int
	// containers are the lengths of chains of containers, containerRounds how often each
	// is started.
	containers      []int
	containerRounds int
	// execs is how often a program that ends at once is run.
	execs int
}

var (
	full = scale{
		sizes: []int{3, 10, 50, 200}, rounds: 11, killRounds: 3, stubborn: 200, stubbornRounds: 3,
		idle: 10 * time.Second, lines: 1_000_000, logRounds: 7, planeRounds: 7, containers: []int{3, 10}, containerRounds: 7, execs: 41,
	}
	quick = scale{
		sizes: []int{3, 10, 50, 200}, rounds: 3, killRounds: 1, stubborn: 200, stubbornRounds: 1,
		idle: 5 * time.Second, lines: 1_000_000, logRounds: 3, planeRounds: 3, containers: []int{3}, containerRounds: 2, execs: 15,
	}
)

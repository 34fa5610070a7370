// ledger-lake writes a data lake: the real ledger 53312000 of the Stellar public
// network and as many clones of it as asked, at once or one by one, like a live
// network in a box.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/withobsrvr/flowctl/components/ledger-lake/lake"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run writes the lake that args describe and returns the exit code: 0 when it
// is written or was interrupted, 1 when it could not be written, 2 for usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	options, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "ledger-lake:", err)
		return 2
	}
	if options.Every > 0 {
		options.Wrote = func(first, last uint32) {
			fmt.Fprintln(stdout, "wrote", ledgers(first, last))
		}
	}
	summary, err := lake.Write(ctx, options)
	if err != nil {
		fmt.Fprintln(stderr, "ledger-lake:", err)
		return 1
	}
	if summary.Last == 0 {
		fmt.Fprintf(stdout, "interrupted before the first file of %s\n", options.Dir)
		return 0
	}
	fmt.Fprintf(stdout, "%s holds %s: %d files written, %d kept\n",
		options.Dir, ledgers(summary.First, summary.Last), summary.Written, summary.Kept)
	return 0
}

// parse turns the command line into options.
func parse(args []string, stderr io.Writer) (lake.Options, error) {
	flags := flag.NewFlagSet("ledger-lake", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "", "`folder` of the lake; required")
	start := flags.Uint("start", uint(lake.RealLedger), "first `ledger`")
	count := flags.Uint("count", 1, "`number` of ledgers; rounded up to whole files")
	forever := flags.Bool("forever", false, "go on without end; one ledger a second unless --every says otherwise")
	every := flags.Duration("every", 0, "`pause` between two ledgers, e.g. 5s; 0 writes them all at once")
	perFile := flags.Uint("ledgers-per-file", 1, "`number` of ledgers in a file")
	perPartition := flags.Uint("files-per-partition", 64000, "`number` of files in a partition")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, "Usage: ledger-lake --dir FOLDER [flags]")
			flags.SetOutput(stderr)
			flags.PrintDefaults()
		}
		return lake.Options{}, err
	}

	switch {
	case flags.NArg() > 0:
		return lake.Options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case *dir == "":
		return lake.Options{}, errors.New("--dir is missing: name the folder of the lake")
	case *count == 0:
		return lake.Options{}, errors.New("--count 0: ask for at least one ledger, or for --forever")
	case max(*start, *count, *perFile, *perPartition) > math.MaxUint32:
		return lake.Options{}, fmt.Errorf("a number is greater than %d", uint32(math.MaxUint32))
	}
	if *forever {
		*count = 0
		if *every == 0 {
			*every = time.Second
		}
	}
	return lake.Options{
		Dir:    *dir,
		Schema: datastore.DataStoreSchema{LedgersPerFile: uint32(*perFile), FilesPerPartition: uint32(*perPartition)},
		Start:  uint32(*start),
		Count:  uint32(*count),
		Every:  *every,
	}, nil
}

// ledgers names a range for people.
func ledgers(first, last uint32) string {
	if first == last {
		return fmt.Sprintf("ledger %d", first)
	}
	return fmt.Sprintf("ledgers %d to %d", first, last)
}

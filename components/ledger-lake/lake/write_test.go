package lake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
)

func options(t *testing.T, perFile, perPartition, count uint32) Options {
	return Options{
		Dir:    t.TempDir(),
		Schema: datastore.DataStoreSchema{LedgersPerFile: perFile, FilesPerPartition: perPartition},
		Start:  RealLedger,
		Count:  count,
	}
}

func mustWrite(t *testing.T, options Options) Summary {
	t.Helper()
	summary, err := Write(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// read returns a lake's ledgers, oldest first, and its files.
func read(t *testing.T, options Options, first, last uint32) ([]xdr.LedgerCloseMeta, map[string]string) {
	t.Helper()
	var ledgers []xdr.LedgerCloseMeta
	for sequence := first; sequence <= last; {
		content, err := os.ReadFile(filepath.Join(options.Dir, options.Schema.GetObjectKeyFromSequenceNumber(sequence)))
		if err != nil {
			t.Fatal(err)
		}
		batch, err := decode(content)
		if err != nil {
			t.Fatal(err)
		}
		if uint32(batch.StartSequence) != sequence {
			t.Fatalf("the file of ledger %d begins with %d", sequence, batch.StartSequence)
		}
		ledgers = append(ledgers, batch.LedgerCloseMetas...)
		sequence = uint32(batch.EndSequence) + 1
	}
	files := map[string]string{}
	err := filepath.WalkDir(options.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		files[path] = info.ModTime().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ledgers, files
}

// checkChain checks that each ledger follows the one before it, that hashes are
// right, and that the Stellar SDK finds the events of the real ledger in each.
func checkChain(t *testing.T, ledgers []xdr.LedgerCloseMeta, first uint32) {
	t.Helper()
	processor := token_transfer.NewEventsProcessor(network.PublicNetworkPassphrase)
	for i, ledger := range ledgers {
		if want := first + uint32(i); ledger.LedgerSequence() != want {
			t.Fatalf("ledger %d is in the place of %d", ledger.LedgerSequence(), want)
		}
		header := ledger.LedgerHeaderHistoryEntry()
		encoded, err := header.Header.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if xdr.Hash(sha256.Sum256(encoded)) != header.Hash {
			t.Errorf("ledger %d has not the hash it names", ledger.LedgerSequence())
		}
		if i > 0 {
			previous := ledgers[i-1]
			if ledger.PreviousLedgerHash() != previous.LedgerHash() {
				t.Errorf("ledger %d does not follow the one before it", ledger.LedgerSequence())
			}
			if ledger.LedgerCloseTime() != previous.LedgerCloseTime()+closeInterval {
				t.Errorf("ledger %d closed %d s after the one before it", ledger.LedgerSequence(), ledger.LedgerCloseTime()-previous.LedgerCloseTime())
			}
		}
		events, err := processor.EventsFromLedger(ledger)
		if err != nil || len(events) != 296 {
			t.Errorf("ledger %d has %d events, error %v", ledger.LedgerSequence(), len(events), err)
		}
	}
}

func TestWrite(t *testing.T) {
	for _, c := range []struct {
		perFile, perPartition, count uint32
		last                         uint32
		written                      int
	}{
		{1, 64000, 1, RealLedger, 1},
		{1, 1, 3, RealLedger + 2, 3},
		{4, 2, 5, RealLedger + 7, 2},
		{9, 3, 3, RealLedger + 3, 1}, // RealLedger is the sixth ledger of its file
	} {
		options := options(t, c.perFile, c.perPartition, c.count)
		got := mustWrite(t, options)
		if diff := cmp.Diff(Summary{First: RealLedger, Last: c.last, Written: c.written}, got); diff != "" {
			t.Errorf("%d per file (-want +got):\n%s", c.perFile, diff)
		}
		ledgers, files := read(t, options, RealLedger, c.last)
		checkChain(t, ledgers, RealLedger)
		if want := c.written + 1; len(files) != want {
			t.Errorf("%d per file: %d files, want %d with the manifest: %v", c.perFile, len(files), want, files)
		}
	}
}

// The first ledger is what the network closed, to the last byte.
func TestRealLedgerIsReal(t *testing.T) {
	options := options(t, 1, 64000, 1)
	mustWrite(t, options)
	ledgers, _ := read(t, options, RealLedger, RealLedger)
	got, err := ledgers[0].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	batch, err := decode(realLedger)
	if err != nil {
		t.Fatal(err)
	}
	want, err := batch.LedgerCloseMetas[0].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Error("the ledger was changed")
	}
}

// A second Write touches nothing that is there and continues the chain.
func TestWriteContinues(t *testing.T) {
	options := options(t, 1, 64000, 2)
	mustWrite(t, options)
	_, before := read(t, options, RealLedger, RealLedger+1)
	options.Count = 4
	if diff := cmp.Diff(Summary{First: RealLedger, Last: RealLedger + 3, Written: 2, Kept: 2}, mustWrite(t, options)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ledgers, after := read(t, options, RealLedger, RealLedger+3)
	checkChain(t, ledgers, RealLedger)
	for path, changed := range before {
		if after[path] != changed {
			t.Errorf("%s was written again", path)
		}
	}
}

// Ledgers before and after the real one lead up to it and on from it, except
// that the real one keeps its own predecessor.
func TestOtherStart(t *testing.T) {
	options := options(t, 1, 64000, 2)
	options.Start = RealLedger + 1000
	mustWrite(t, options)
	ledgers, _ := read(t, options, RealLedger+1000, RealLedger+1001)
	checkChain(t, ledgers, RealLedger+1000)
}

func TestOneByOneUntilTheEnd(t *testing.T) {
	options := options(t, 1, 64000, 0)
	options.Every = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		options.Wrote = func(first, _ uint32) {
			if want := RealLedger + uint32(len(at)); first != want {
				t.Errorf("wrote ledger %d, want %d", first, want)
			}
			at = append(at, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		summary, err := Write(ctx, options)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]time.Duration{0, 5 * time.Second, 10 * time.Second}, at); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if diff := cmp.Diff(Summary{First: RealLedger, Last: RealLedger + 2, Written: 3}, summary); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	other := options(t, 2, 2, 1)
	mustWrite(t, other)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Dir = "" }, "the lake's folder has no name"},
		{func(o *Options) { o.Dir = filepath.Join(file, "lake") }, "not a directory"},
		{func(o *Options) { o.Dir = other.Dir }, "holds another lake: ledgersPerFile: wanted=1, datastore=2"},
		{func(o *Options) { o.Schema.LedgersPerFile = 0 }, "0 ledgers per file and 64000 files per partition: both must be at least 1"},
		{func(o *Options) { o.Schema.LedgersPerFile = 1 << 20 }, "more than there are sequence numbers"},
		{func(o *Options) { o.Start = 1 }, "start at ledger 1: a lake begins with ledger 2 at the earliest"},
		{func(o *Options) { o.Every = -1 }, "must not be negative"},
	} {
		options := options(t, 1, 64000, 1)
		c.change(&options)
		if _, err := Write(t.Context(), options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want %q in it", err, c.want)
		}
	}
}

package datalake

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
	"go.uber.org/goleak"

	writer "github.com/withobsrvr/flowctl/components/ledger-lake/lake"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const realLedger = writer.RealLedger

// write makes or extends a lake.
func write(t *testing.T, options writer.Options) {
	t.Helper()
	if _, err := writer.Write(t.Context(), options); err != nil {
		t.Fatal(err)
	}
}

func cutInto(perFile, perPartition uint32) datastore.DataStoreSchema {
	return datastore.DataStoreSchema{LedgersPerFile: perFile, FilesPerPartition: perPartition}
}

func open(t *testing.T, dir string) *Lake {
	t.Helper()
	lake, err := Open(t.Context(), Config{Type: FS, Bucket: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lake.Close() })
	return lake
}

// take reads n ledgers, checks that each is the one it says it is, and returns
// their sequence numbers.
func take(ctx context.Context, t *testing.T, lake *Lake, start uint32, n int) ([]uint32, error) {
	t.Helper()
	var got []uint32
	for ledger, err := range lake.Ledgers(ctx, start, nil) {
		if err != nil {
			return got, err
		}
		if inside, err := xdr.LedgerCloseMetaView(ledger.XDR).LedgerSequence(); err != nil || inside != ledger.Sequence {
			t.Fatalf("ledger %d holds ledger %d, error %v", ledger.Sequence, inside, err)
		}
		if got = append(got, ledger.Sequence); len(got) == n {
			break
		}
	}
	return got, nil
}

func sequence(first uint32, n int) []uint32 {
	var all []uint32
	for i := range n {
		all = append(all, first+uint32(i))
	}
	return all
}

func TestLedgersOfEverySchema(t *testing.T) {
	for _, schema := range []datastore.DataStoreSchema{cutInto(1, 1), cutInto(4, 2), cutInto(9, 3), cutInto(8, 10)} {
		dir := t.TempDir()
		write(t, writer.Options{Dir: dir, Schema: schema, Start: realLedger, Count: 6})
		lake := open(t, dir)
		for _, c := range []struct{ start, first uint32 }{
			{0, realLedger}, {1, realLedger}, {realLedger, realLedger}, {realLedger + 3, realLedger + 3},
		} {
			n := int(realLedger + 6 - c.first)
			got, err := take(t.Context(), t, lake, c.start, n)
			if err != nil {
				t.Fatalf("%v from %d: %v", schema, c.start, err)
			}
			if diff := cmp.Diff(sequence(c.first, n), got); diff != "" {
				t.Errorf("%v from %d (-want +got):\n%s", schema, c.start, diff)
			}
		}
	}
}

func TestLedgersBeforeTheLakeAreRefused(t *testing.T) {
	for _, schema := range []datastore.DataStoreSchema{cutInto(1, 64000), cutInto(9, 3)} {
		dir := t.TempDir()
		write(t, writer.Options{Dir: dir, Schema: schema, Start: realLedger, Count: 3})
		lake := open(t, dir)
		for _, start := range []uint32{2, realLedger - 100, realLedger - 1} {
			if _, err := take(t.Context(), t, lake, start, 1); !errors.Is(err, ErrBeforeLake) {
				t.Errorf("%v from %d: got error %v, want ErrBeforeLake", schema, start, err)
			}
		}
	}
}

// A ledger that appears is passed on within a quarter of a second. Time is
// virtual here: it stands still while anything is being done.
func TestNewLedgersAreSeenPromptly(t *testing.T) {
	dir := t.TempDir()
	write(t, writer.Options{Dir: dir, Schema: cutInto(1, 64000), Start: realLedger, Count: 2})
	synctest.Test(t, func(t *testing.T) {
		lake := open(t, dir)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range uint32(5) {
				time.Sleep(1730 * time.Millisecond)
				write(t, writer.Options{Dir: dir, Schema: cutInto(1, 64000), Start: realLedger, Count: 3 + i})
			}
		}()
		began := time.Now()
		got, err := take(t.Context(), t, lake, realLedger, 7)
		if err != nil {
			t.Fatal(err)
		}
		if late := time.Since(began) - 5*1730*time.Millisecond; late > 250*time.Millisecond {
			t.Errorf("the last ledger came %s late", late)
		}
		if diff := cmp.Diff(sequence(realLedger, 7), got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		<-done
	})
}

func TestEmptyLakeIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		lake := open(t, dir)
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(time.Minute)
			// Not how an empty lake without a manifest is assumed to be cut.
			write(t, writer.Options{Dir: dir, Schema: cutInto(4, 2), Start: realLedger, Count: 4})
		}()
		got, err := take(t.Context(), t, lake, realLedger, 4)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sequence(realLedger, 4), got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		<-done
	})
}

func TestLongWaitIsTold(t *testing.T) {
	dir := t.TempDir()
	write(t, writer.Options{Dir: dir, Schema: cutInto(1, 64000), Start: realLedger, Count: 1})
	synctest.Test(t, func(t *testing.T) {
		lake := open(t, dir)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var told []uint32
		var last error
		for _, err := range lake.Ledgers(ctx, realLedger, func(sequence uint32) { told = append(told, sequence) }) {
			last = err
		}
		if !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("got error %v, want the context's", last)
		}
		if diff := cmp.Diff([]uint32{realLedger + 1}, told); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// Not every exporter writes files whole: one that is half there is read again,
// one that stays that way is an error.
func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, writer.Options{Dir: dir, Schema: cutInto(1, 64000), Start: realLedger, Count: 2})
	path := filepath.Join(dir, cutInto(1, 64000).GetObjectKeyFromSequenceNumber(realLedger+1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"half": whole[:len(whole)/2], "empty": nil, "text": []byte("ledger")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lake := open(t, dir)
				put(t, path, content)
				if got, err := take(t.Context(), t, lake, realLedger, 2); !errors.Is(err, ErrDamaged) || len(got) != 1 {
					t.Errorf("got %v and error %v, want one ledger and ErrDamaged", got, err)
				}
				time.AfterFunc(500*time.Millisecond, func() { put(t, path, whole) })
				if got, err := take(t.Context(), t, lake, realLedger, 2); err != nil || len(got) != 2 {
					t.Errorf("completed: got %v and error %v, want two ledgers", got, err)
				}
			})
		})
	}
}

func put(t *testing.T, path string, content []byte) {
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	write(t, writer.Options{Dir: dir, Schema: cutInto(4, 2), Start: realLedger, Count: 1})
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, nil)
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Type: FS, Bucket: "/nowhere/at/all"}, "open the lake's folder: stat /nowhere/at/all: no such file or directory"},
		{Config{Type: FS, Bucket: file}, "is not a folder"},
		{Config{Type: FS, Bucket: dir, LedgersPerFile: 64, FilesPerPartition: 10}, "is cut in another way than configured: ledgersPerFile: local=64, datastore=4"},
		{Config{Type: "FTP", Bucket: dir}, `storage type "FTP" is not one of FS, S3, GCS`},
		{Config{Type: FS, Bucket: t.TempDir(), LedgersPerFile: 1 << 16, FilesPerPartition: 1 << 16}, "cannot have 65536 ledgers per file and 65536 files per partition"},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := Open(t.Context(), c.config)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: got error %v, want %q in it", c.config, err, c.want)
			}
		})
	}
}

// What is yielded is what was stored, byte for byte.
func TestLedgersAreNotTouched(t *testing.T) {
	dir := t.TempDir()
	write(t, writer.Options{Dir: dir, Schema: cutInto(1, 64000), Start: realLedger, Count: 1})
	for ledger, err := range open(t, dir).Ledgers(t.Context(), 0, nil) {
		if err != nil {
			t.Fatal(err)
		}
		var meta xdr.LedgerCloseMeta
		if err := xdr.SafeUnmarshal(ledger.XDR, &meta); err != nil {
			t.Fatal(err)
		}
		again, err := meta.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, ledger.XDR) {
			t.Error("the ledger does not encode to the bytes it came in")
		}
		return
	}
}

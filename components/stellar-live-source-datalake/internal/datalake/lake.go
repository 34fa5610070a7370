package datalake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"time"

	"github.com/stellar/go-stellar-sdk/support/datastore"
)

// manifestName is where the Stellar SDK keeps how a lake is cut.
const manifestName = ".config.json"

// ErrBeforeLake means that a ledger is older than the oldest one in the lake,
// so that waiting for it is no use.
var ErrBeforeLake = errors.New("not in the lake")

// ErrDamaged means that a file of the lake cannot be read as ledgers.
var ErrDamaged = errors.New("damaged file")

// Lake is an open data lake. Its methods may be called concurrently.
type Lake struct {
	store  datastore.DataStore
	config Config
	poll   time.Duration // between two looks for a ledger that is not there yet
	ahead  int           // ledgers to have on the way while reading
}

// Ledger is one ledger as the network closed it.
type Ledger struct {
	Sequence uint32
	XDR      []byte // one LedgerCloseMeta, as stored; valid until the next ledger is asked for
}

// Close lets go of the storage.
func (l *Lake) Close() error { return l.store.Close() }

// Ledgers yields every ledger from start on, in order, without a gap. Ledgers
// that do not exist yet are waited for, so that it ends only with ctx or an
// error, which is yielded last: ErrBeforeLake, ErrDamaged, or what the storage
// said after several tries. Start 0 and 1 mean the oldest ledger in the lake.
//
// waiting, when not nil, is called once for each ledger that has not come for
// a longer time.
func (l *Lake) Ledgers(ctx context.Context, start uint32, waiting func(sequence uint32)) iter.Seq2[Ledger, error] {
	return func(yield func(Ledger, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		reader, err := l.open(ctx, start, waiting)
		if err != nil {
			yield(Ledger{}, err)
			return
		}
		defer reader.close()
		defer cancel() // before close, which waits
		for {
			first, ledgers, err := reader.next(ctx)
			if err != nil {
				yield(Ledger{}, err)
				return
			}
			for i, xdr := range ledgers {
				if !yield(Ledger{Sequence: first + uint32(i), XDR: xdr}, nil) {
					return
				}
			}
		}
	}
}

// open prepares reading from start on, as soon as the lake has any ledger.
func (l *Lake) open(ctx context.Context, start uint32, waiting func(uint32)) (*reader, error) {
	schema, err := l.schema(ctx)
	for err == nil && schema.FileExtension == "" {
		if err = sleep(ctx, l.poll); err == nil {
			schema, err = l.schema(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	if start > 1 {
		if err := l.checkStart(ctx, schema, start); err != nil {
			return nil, err
		}
		return newReader(l, schema, start, false, waiting)
	}
	oldest, err := datastore.FindOldestLedgerSequence(ctx, l.store, schema)
	if err != nil {
		return nil, fmt.Errorf("find the oldest ledger: %w", err)
	}
	return newReader(l, schema, oldest, true, waiting)
}

// checkStart refuses a start that lies before the lake's oldest ledger.
func (l *Lake) checkStart(ctx context.Context, schema datastore.DataStoreSchema, start uint32) error {
	exists, err := l.store.Exists(ctx, schema.GetObjectKeyFromSequenceNumber(start))
	if err != nil {
		return fmt.Errorf("look for ledger %d: %w", start, err)
	}
	if exists {
		return nil
	}
	oldest, err := datastore.FindOldestLedgerSequence(ctx, l.store, schema)
	if err != nil {
		return fmt.Errorf("find the oldest ledger: %w", err)
	}
	if start < oldest {
		return beforeLake(start, oldest)
	}
	return nil
}

// schema says how the lake is cut. While the lake is empty nobody knows its
// files' extension: FileExtension is "" then.
func (l *Lake) schema(ctx context.Context) (datastore.DataStoreSchema, error) {
	cut := datastore.DataStoreSchema{
		LedgersPerFile:    l.config.LedgersPerFile,
		FilesPerPartition: l.config.FilesPerPartition,
	}
	exists, err := l.store.Exists(ctx, manifestName)
	if err != nil {
		return cut, fmt.Errorf("look for the manifest of the lake %s: %w", l.config.Bucket, err)
	}
	if !exists {
		cut.LedgersPerFile = orDefault(cut.LedgersPerFile, DefaultLedgersPerFile)
		cut.FilesPerPartition = orDefault(cut.FilesPerPartition, DefaultFilesPerPartition)
	}
	schema, err := datastore.LoadSchema(ctx, l.store, datastore.DataStoreConfig{Schema: cut})
	var mismatch *datastore.ConfigMismatchError
	if errors.As(err, &mismatch) && !exists {
		return l.schema(ctx) // the manifest has come in between
	}
	if errors.As(err, &mismatch) {
		return schema, fmt.Errorf("the lake %s is cut in another way than configured: %s", l.config.Bucket, mismatch.Diffs[0])
	}
	if err != nil {
		return schema, fmt.Errorf("read the schema of the lake %s: %w", l.config.Bucket, err)
	}
	if n := uint64(schema.LedgersPerFile) * uint64(schema.FilesPerPartition); n == 0 || n > math.MaxUint32 {
		return schema, fmt.Errorf("the lake %s cannot have %d ledgers per file and %d files per partition",
			l.config.Bucket, schema.LedgersPerFile, schema.FilesPerPartition)
	}
	return schema, nil
}

func orDefault(n, otherwise uint32) uint32 {
	if n == 0 {
		return otherwise
	}
	return n
}

func beforeLake(start, oldest uint32) error {
	return fmt.Errorf("ledger %d is %w, whose oldest ledger is %d", start, ErrBeforeLake, oldest)
}

// missing reports whether a file is not in the lake, or not yet.
func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

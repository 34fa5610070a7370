package datalake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
)

// How many ledgers to have on the way. A folder answers at once; a bucket takes
// its time and is asked for up to maxWindow files at a time.
const (
	aheadFolder = 8
	aheadBucket = 64
	maxWindow   = 16
)

// tries is how often a file is read before its error counts. A file can be
// unreadable for a moment: a folder may hold one that is still being written.
const tries = 20

// longWait is after how long waiting for one ledger is worth a word.
const longWait = 10 * time.Second

// reader walks through the files of a lake. It fetches files ahead of the one
// that is being read: one at the end of the lake, where the next file does not
// exist yet, and twice as many with each file that does.
type reader struct {
	lake    *Lake
	schema  datastore.DataStoreSchema
	waiting func(sequence uint32)
	fetches sync.WaitGroup

	sequence uint32  // the next ledger wanted
	oldest   bool    // sequence may be less than the first ledger of its file
	pending  []fetch // files on the way; the first one holds sequence
	window   int     // how many of them there may be
	decoder  *zstd.Decoder
	batch    []byte // the file being read, decompressed
}

// fetch is one file on the way; its outcome comes through the channel.
type fetch struct {
	sequence uint32 // of a ledger in the file
	done     chan fetched
}

type fetched struct {
	file []byte
	err  error
}

func newReader(lake *Lake, schema datastore.DataStoreSchema, start uint32, oldest bool, waiting func(uint32)) (*reader, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("prepare decompression: %w", err)
	}
	return &reader{
		lake: lake, schema: schema, waiting: waiting,
		sequence: start, oldest: oldest, window: 1, decoder: decoder,
	}, nil
}

// close waits for what is on the way, whose context has ended.
func (r *reader) close() {
	r.fetches.Wait()
	r.decoder.Close()
}

// next returns the ledgers of the next file, from the one wanted on, and the
// sequence number of the first. They are valid until the next call.
func (r *reader) next(ctx context.Context) (uint32, [][]byte, error) {
	file, err := r.take(ctx)
	since, told, failures := time.Now(), false, 0
	for {
		var first uint32
		var ledgers [][]byte
		if err == nil {
			first, ledgers, err = r.decode(file)
		}
		switch {
		case err == nil:
			r.sequence = first + uint32(len(ledgers))
			return first, ledgers, nil
		case missing(err):
			// What comes after a missing ledger was most likely missing too.
			r.pending, r.window = nil, 1
			if !told && r.waiting != nil && time.Since(since) >= longWait {
				r.waiting(r.sequence)
				told = true
			}
		default:
			if failures++; failures == tries || errors.Is(err, ErrBeforeLake) {
				return 0, nil, err
			}
		}
		if err := sleep(ctx, r.lake.poll); err != nil {
			return 0, nil, err
		}
		file, err = r.get(ctx, r.sequence)
	}
}

// take waits for the file of the ledger wanted and keeps the window full.
func (r *reader) take(ctx context.Context) ([]byte, error) {
	ahead := min(r.window, max(1, r.lake.ahead/int(r.schema.LedgersPerFile)))
	for len(r.pending) < ahead {
		sequence := r.sequence
		if n := len(r.pending); n > 0 {
			sequence = r.schema.GetSequenceNumberEndBoundary(r.pending[n-1].sequence) + 1
		}
		r.pending = append(r.pending, r.fetch(ctx, sequence))
	}
	first := r.pending[0]
	select {
	case outcome := <-first.done:
		r.pending = r.pending[1:]
		r.window = min(2*r.window, maxWindow)
		return outcome.file, outcome.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch starts to get the file that holds a ledger.
func (r *reader) fetch(ctx context.Context, sequence uint32) fetch {
	f := fetch{sequence: sequence, done: make(chan fetched, 1)}
	r.fetches.Go(func() {
		file, err := r.get(ctx, sequence)
		f.done <- fetched{file, err}
	})
	return f
}

// get reads the file that holds a ledger, compressed.
func (r *reader) get(ctx context.Context, sequence uint32) ([]byte, error) {
	key := r.schema.GetObjectKeyFromSequenceNumber(sequence)
	file, _, err := r.lake.store.GetFile(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read ledger %d: %w", sequence, err)
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read ledger %d from %s: %w", sequence, key, err)
	}
	return content, nil
}

// decode cuts a file into its ledgers, without decoding these, and returns
// those from the one wanted on.
func (r *reader) decode(file []byte) (uint32, [][]byte, error) {
	key := r.schema.GetObjectKeyFromSequenceNumber(r.sequence)
	batch, err := r.decoder.DecodeAll(file, r.batch[:0])
	if err != nil {
		return 0, nil, fmt.Errorf("%w %s: decompress: %w", ErrDamaged, key, err)
	}
	r.batch = batch
	first, ledgers, err := cut(batch)
	if err != nil {
		return 0, nil, fmt.Errorf("%w %s: %w", ErrDamaged, key, err)
	}
	if r.oldest && r.sequence < first {
		r.sequence = first // the lake's first file need not be full
	}
	r.oldest = false
	if r.sequence < first {
		return 0, nil, beforeLake(r.sequence, first)
	}
	skip := r.sequence - first
	if skip >= uint32(len(ledgers)) {
		return 0, nil, fmt.Errorf("%w %s: it has %d ledgers from %d on, and not %d", ErrDamaged, key, len(ledgers), first, r.sequence)
	}
	return r.sequence, ledgers[skip:], nil
}

// cut finds the ledgers in a LedgerCloseMetaBatch.
func cut(batch []byte) (uint32, [][]byte, error) {
	view := xdr.LedgerCloseMetaBatchView(batch)
	start, err := view.StartSequence()
	if err != nil {
		return 0, nil, fmt.Errorf("first sequence number: %w", err)
	}
	first, err := start.Value()
	if err != nil {
		return 0, nil, fmt.Errorf("first sequence number: %w", err)
	}
	metas, err := view.LedgerCloseMetas()
	if err != nil {
		return 0, nil, fmt.Errorf("ledgers: %w", err)
	}
	views, err := metas.All()
	if err != nil {
		return 0, nil, fmt.Errorf("ledgers: %w", err)
	}
	ledgers := make([][]byte, len(views))
	for i, view := range views {
		ledgers[i] = view
	}
	return uint32(first), ledgers, nil
}

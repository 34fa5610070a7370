// Package lake writes data lakes of Stellar ledgers, in the layout that the
// Stellar SDK's datastore reads: one real ledger of the public network and
// clones of it before and after.
package lake

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
)

// Options say what to write.
type Options struct {
	Dir    string                    // the lake's folder; made if it is missing
	Schema datastore.DataStoreSchema // ledgers per file, files per partition; both at least 1
	Start  uint32                    // the first ledger
	Count  uint32                    // how many ledgers; 0 means without end
	Every  time.Duration             // the pause before each ledger but the first; 0 writes them all at once
	Wrote  func(first, last uint32)  // called after each new file; nil is allowed
}

// Summary counts what Write has done.
type Summary struct {
	First, Last uint32 // the ledgers that are in the lake now
	Written     int    // new files
	Kept        int    // files that were there already and were not touched
}

// Write fills the lake until it has the ledgers asked for or ctx ends; the
// latter is no error. A file always holds all of its ledgers, so that the last
// one may go beyond Count. Files appear whole or not at all, and a file that
// exists is kept, so that a second Write continues where the first one ended.
func Write(ctx context.Context, options Options) (Summary, error) {
	if err := checkOptions(options); err != nil {
		return Summary{}, err
	}
	if err := publishManifest(ctx, options); err != nil {
		return Summary{}, err
	}
	chain, err := newChain()
	if err != nil {
		return Summary{}, err
	}
	w := &writer{options: options, chain: chain}
	summary := Summary{First: options.Start}
	for first := options.Start; ; {
		last := options.Schema.GetSequenceNumberEndBoundary(first)
		written, err := w.writeFile(ctx, first, last)
		if ctx.Err() != nil {
			return summary, nil
		}
		if err != nil {
			return summary, err
		}
		if written {
			summary.Written++
		} else {
			summary.Kept++
		}
		summary.Last = last
		// For no end, Count-1 wraps around to the greatest number.
		if last-options.Start >= options.Count-1 || last == math.MaxUint32 {
			return summary, nil
		}
		first = last + 1
	}
}

// writer holds what is carried from one file to the next.
type writer struct {
	options Options
	chain   *chain
	started bool     // a ledger was made: from now on, Every is waited for
	hashed  uint32   // the ledger that hash belongs to; 0 at the start
	hash    xdr.Hash // what the next ledger names as its predecessor
}

// writeFile writes the file of the ledgers first to last, unless it exists.
func (w *writer) writeFile(ctx context.Context, first, last uint32) (bool, error) {
	path := w.path(first)
	if _, err := os.Stat(path); err == nil {
		return false, ctx.Err()
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("look for %s: %w", path, err)
	}
	if err := w.findPrevious(first); err != nil {
		return false, err
	}

	// A batch in XDR is its bounds, the number of its ledgers, and these.
	batch := binary.BigEndian.AppendUint32(nil, first)
	batch = binary.BigEndian.AppendUint32(batch, last)
	batch = binary.BigEndian.AppendUint32(batch, last-first+1)
	for i := range last - first + 1 {
		if err := w.pace(ctx); err != nil {
			return false, err
		}
		ledger, hash, err := w.chain.encode(first+i, w.hash)
		if err != nil {
			return false, err
		}
		batch = append(batch, ledger...)
		w.hashed, w.hash = first+i, hash
	}
	var file bytes.Buffer
	if err := compress(&file, batch); err != nil {
		return false, fmt.Errorf("compress %s: %w", path, err)
	}
	if err := writeWhole(path, file.Bytes()); err != nil {
		return false, err
	}
	if w.options.Wrote != nil {
		w.options.Wrote(first, last)
	}
	return true, nil
}

// pace waits until the next ledger is due.
func (w *writer) pace(ctx context.Context) error {
	if !w.started || w.options.Every == 0 {
		w.started = true
		return ctx.Err()
	}
	due := time.NewTimer(w.options.Every)
	defer due.Stop()
	select {
	case <-due.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// findPrevious makes hash that of the ledger before first. After a file that
// was kept it is read from there; without any file it is left empty.
func (w *writer) findPrevious(first uint32) error {
	if first == 0 || w.hashed == first-1 {
		return nil
	}
	path := w.path(first - 1)
	file, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the ledgers before %d: %w", first, err)
	}
	batch, err := decode(file)
	if err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	ledgers := batch.LedgerCloseMetas
	w.hashed, w.hash = first-1, ledgers[len(ledgers)-1].LedgerHash()
	return nil
}

// path is where the ledger's file belongs.
func (w *writer) path(sequence uint32) string {
	return filepath.Join(w.options.Dir, w.options.Schema.GetObjectKeyFromSequenceNumber(sequence))
}

func compress(to *bytes.Buffer, batch []byte) error {
	w, err := compressxdr.DefaultCompressor.NewWriter(to)
	if err != nil {
		return err
	}
	if _, err := w.Write(batch); err != nil {
		return err
	}
	return w.Close()
}

// writeWhole makes the file appear at path with all of its content.
func writeWhole(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the partition %s: %w", dir, err)
	}
	temporary, err := os.CreateTemp(dir, ".writing-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

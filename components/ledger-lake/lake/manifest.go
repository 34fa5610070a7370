package lake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/support/datastore"
)

// manifestName is where the Stellar SDK looks for a lake's description.
const manifestName = ".config.json"

// checkOptions refuses what would make a lake that nobody can read.
func checkOptions(options Options) error {
	perFile, perPartition := options.Schema.LedgersPerFile, options.Schema.FilesPerPartition
	switch {
	case options.Dir == "":
		return errors.New("the lake's folder has no name")
	case perFile == 0 || perPartition == 0:
		return fmt.Errorf("%d ledgers per file and %d files per partition: both must be at least 1", perFile, perPartition)
	case uint64(perFile)*uint64(perPartition) > math.MaxUint32:
		return fmt.Errorf("%d ledgers per file times %d files per partition: more than there are sequence numbers", perFile, perPartition)
	case options.Start < 2:
		return fmt.Errorf("start at ledger %d: a lake begins with ledger 2 at the earliest", options.Start)
	case options.Every < 0:
		return fmt.Errorf("one ledger every %s: the pause must not be negative", options.Every)
	}
	return nil
}

// publishManifest writes the lake's manifest, or checks that the one that is
// there describes the same schema.
func publishManifest(ctx context.Context, options Options) error {
	path := filepath.Join(options.Dir, manifestName)
	config := datastore.DataStoreConfig{
		Schema:            options.Schema,
		NetworkPassphrase: network.PublicNetworkPassphrase,
		Compression:       compressxdr.DefaultCompressor.Name(),
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		manifest, err := json.Marshal(datastore.DatastoreManifest{
			NetworkPassphrase: config.NetworkPassphrase,
			Version:           datastore.Version,
			Compression:       config.Compression,
			LedgersPerFile:    options.Schema.LedgersPerFile,
			FilesPerPartition: options.Schema.FilesPerPartition,
		})
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		return writeWhole(path, manifest)
	}
	store, err := datastore.NewFilesystemDataStoreWithPath(options.Dir)
	if err != nil {
		return fmt.Errorf("open the lake %s: %w", options.Dir, err)
	}
	_, _, err = datastore.PublishConfig(ctx, store, config)
	var mismatch *datastore.ConfigMismatchError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%s holds another lake: %s", options.Dir, strings.ReplaceAll(mismatch.Diffs[0], "local=", "wanted="))
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

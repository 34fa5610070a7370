package lake

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding"
	"errors"
	"fmt"

	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/xdr"
)

// RealLedger is the sequence number of the one ledger that is not a clone.
const RealLedger uint32 = 53312000

// closeInterval is the number of seconds between two ledgers' close times,
// about the public network's pace.
const closeInterval = 5

//go:embed mainnet/FCD285FF--53312000.xdr.zstd
var realLedger []byte

// chain makes consecutive ledgers out of the real one. Every ledger has the
// real one's transactions. Sequence numbers, close times, ledger hashes and
// transaction set hashes are those of a chain; what validators alone can make
// (signatures, the bucket list's hash) stays as it was.
type chain struct {
	ledger   xdr.LedgerCloseMeta // overwritten by each clone
	original []byte              // the real ledger, as the network closed it
	hash     xdr.Hash            // the real ledger's hash
	closed   int64               // when the real ledger closed, Unix seconds
}

// newChain decodes the embedded ledger.
func newChain() (*chain, error) {
	batch, err := decode(realLedger)
	if err != nil {
		return nil, fmt.Errorf("decode the embedded ledger %d: %w", RealLedger, err)
	}
	ledger := batch.LedgerCloseMetas[0]
	original, err := ledger.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode ledger %d: %w", RealLedger, err)
	}
	return &chain{
		ledger:   ledger,
		original: original,
		hash:     ledger.LedgerHash(),
		closed:   ledger.LedgerCloseTime(),
	}, nil
}

// encode returns ledger sequence in XDR and its hash. previous is the hash of
// the ledger before it; the real ledger keeps its own.
func (c *chain) encode(sequence uint32, previous xdr.Hash) ([]byte, xdr.Hash, error) {
	if sequence == RealLedger {
		return c.original, c.hash, nil
	}
	v1 := c.ledger.V1
	v1.TxSet.V1TxSet.PreviousLedgerHash = previous
	txSetHash, err := hashOf(v1.TxSet)
	if err != nil {
		return nil, xdr.Hash{}, fmt.Errorf("hash the transactions of ledger %d: %w", sequence, err)
	}
	header := &v1.LedgerHeader.Header
	header.LedgerSeq = xdr.Uint32(sequence)
	header.PreviousLedgerHash = previous
	header.ScpValue.TxSetHash = txSetHash
	header.ScpValue.CloseTime = xdr.TimePoint(c.closed + closeInterval*(int64(sequence)-int64(RealLedger)))
	v1.LedgerHeader.Hash, err = hashOf(header)
	if err != nil {
		return nil, xdr.Hash{}, fmt.Errorf("hash the header of ledger %d: %w", sequence, err)
	}
	encoded, err := c.ledger.MarshalBinary()
	if err != nil {
		return nil, xdr.Hash{}, fmt.Errorf("encode ledger %d: %w", sequence, err)
	}
	return encoded, v1.LedgerHeader.Hash, nil
}

// decode returns the ledgers of a lake's file; there is at least one.
func decode(file []byte) (xdr.LedgerCloseMetaBatch, error) {
	var batch xdr.LedgerCloseMetaBatch
	decoder := compressxdr.NewXDRDecoder(compressxdr.DefaultCompressor, &batch)
	if _, err := decoder.ReadFrom(bytes.NewReader(file)); err != nil {
		return batch, err
	}
	if len(batch.LedgerCloseMetas) == 0 {
		return batch, errors.New("the file holds no ledger")
	}
	return batch, nil
}

// hashOf is the SHA-256 of a value's XDR, which is how the network hashes
// headers and transaction sets.
func hashOf(value encoding.BinaryMarshaler) (xdr.Hash, error) {
	encoded, err := value.MarshalBinary()
	return xdr.Hash(sha256.Sum256(encoded)), err
}

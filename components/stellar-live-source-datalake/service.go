package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/flowctl/components/stellar-live-source-datalake/internal/datalake"
	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
)

// member is what the service tells of itself; the SDK's Member is one.
type member interface {
	Report(name string, value float64)
	Count(name string, delta float64)
}

// service streams the lake's ledgers.
type service struct {
	rawledger.UnimplementedRawLedgerServiceServer
	lake     *datalake.Lake
	member   member
	logger   *slog.Logger
	stopping context.Context // ends when the component should; streams end with it
	active   atomic.Int64
}

// StreamRawLedgers sends ledgers from the one asked for on, until the client
// leaves or the component stops.
func (s *service) StreamRawLedgers(request *rawledger.StreamLedgersRequest, stream rawledger.RawLedgerService_StreamRawLedgersServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	s.member.Report("active_streams", float64(s.active.Add(1)))
	defer func() { s.member.Report("active_streams", float64(s.active.Add(-1))) }()

	logger := s.logger.With("start_ledger", request.GetStartLedger())
	logger.Info("stream opened")
	waiting := func(sequence uint32) {
		logger.Info("waiting for a ledger that is not in the lake yet", "ledger", sequence)
	}
	sent := 0
	for ledger, err := range s.lake.Ledgers(ctx, request.GetStartLedger(), waiting) {
		if err == nil {
			// Send has encoded the ledger when it returns: the bytes may be lent.
			err = stream.Send(&rawledger.RawLedger{Sequence: ledger.Sequence, LedgerCloseMetaXdr: ledger.XDR})
		}
		if err != nil {
			err = s.explain(ctx, err)
			logger.Info("stream closed", "ledgers", sent, "reason", status.Convert(err).Message())
			return err
		}
		sent++
		s.member.Count("ledgers_streamed", 1)
		s.member.Report("last_ledger", float64(ledger.Sequence))
	}
	return nil
}

// explain turns what ended a stream into what its client is told.
func (s *service) explain(ctx context.Context, err error) error {
	switch {
	case s.stopping.Err() != nil:
		return status.Error(codes.Unavailable, "the source is stopping")
	case ctx.Err() != nil:
		return status.Error(codes.Canceled, "the client has left")
	case errors.Is(err, datalake.ErrBeforeLake):
		return status.Error(codes.OutOfRange, err.Error())
	case errors.Is(err, datalake.ErrDamaged):
		return status.Error(codes.DataLoss, err.Error())
	default:
		return status.Error(codes.Unavailable, err.Error())
	}
}

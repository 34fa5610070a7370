package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
	"github.com/stellar/go-stellar-sdk/xdr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
	"github.com/withobsrvr/flowctl/components/ttpapi/tokentransfer"
)

// errStopping is why streams end when the component should.
var errStopping = errors.New("the processor is stopping")

// service turns the source's ledgers into token transfer events.
type service struct {
	tokentransfer.UnimplementedEventServiceServer
	source     *source
	processor  *token_transfer.EventsProcessor
	logger     *slog.Logger
	start, end uint32          // for requests that name no range
	stopping   context.Context // ends when the component should; streams end with it
	ready      chan struct{}   // closed when the source was there; member is set then
	member     member
}

// GetTTPEvents sends the events of the ledgers asked for. When the component
// should stop, the stream ends after the ledger it is at, never inside one.
func (s *service) GetTTPEvents(request *tokentransfer.GetEventsRequest, stream tokentransfer.EventService_GetTTPEventsServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	select {
	case <-s.ready:
	case <-ctx.Done():
		return s.explain(ctx, ctx.Err())
	}

	start, end := request.GetStartLedger(), request.GetEndLedger()
	if start == 0 {
		start, end = s.start, s.end
	}
	logger := s.logger.With("start_ledger", start, "end_ledger", end)
	logger.Info("stream opened")
	err := s.send(ctx, start, end, stream)
	if err != nil {
		err = s.explain(ctx, err)
		logger.Info("stream closed", "reason", status.Convert(err).Message())
		return err
	}
	logger.Info("stream complete")
	return nil
}

// send sends the events of the ledgers from start to end; an end before start
// means no end.
func (s *service) send(ctx context.Context, start, end uint32, stream tokentransfer.EventService_GetTTPEventsServer) error {
	bounded := end != 0 && end >= start
	for ledger, err := range s.source.ledgers(ctx, start) {
		if err != nil {
			return err
		}
		if bounded && ledger.GetSequence() > end {
			return status.Errorf(codes.OutOfRange, "the source's oldest ledger is %d, the range ends with %d", ledger.GetSequence(), end)
		}
		events, err := s.events(ledger)
		if err != nil {
			return err
		}
		for _, event := range events {
			if err := stream.Send(event); err != nil {
				return err
			}
		}
		s.member.Count("events", float64(len(events)))
		s.member.Count("ledgers", 1)
		s.member.Report("last_ledger", float64(ledger.GetSequence()))
		if bounded && ledger.GetSequence() == end {
			return nil
		}
	}
	return nil
}

// events derives the events of one ledger.
func (s *service) events(raw *rawledger.RawLedger) ([]*token_transfer.TokenTransferEvent, error) {
	var ledger xdr.LedgerCloseMeta
	if err := xdr.SafeUnmarshal(raw.GetLedgerCloseMetaXdr(), &ledger); err != nil {
		return nil, status.Errorf(codes.DataLoss, "decode ledger %d: %v", raw.GetSequence(), err)
	}
	if ledger.LedgerSequence() != raw.GetSequence() {
		return nil, status.Errorf(codes.DataLoss, "decode ledger %d: it is ledger %d", raw.GetSequence(), ledger.LedgerSequence())
	}
	events, err := s.processor.EventsFromLedger(ledger)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition,
			"derive the events of ledger %d: %v (is it a ledger of the network that NETWORK_PASSPHRASE or STELLAR_NETWORK names?)", raw.GetSequence(), err)
	}
	return events, nil
}

// explain turns what ended a stream into what its client is told.
func (s *service) explain(ctx context.Context, err error) error {
	switch {
	case s.stopping.Err() != nil:
		return status.Error(codes.Unavailable, errStopping.Error())
	case ctx.Err() != nil:
		return status.Error(codes.Canceled, "the client has left")
	}
	s.member.Count("errors", 1)
	return status.Convert(err).Err()
}

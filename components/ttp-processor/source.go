package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
)

// How long to wait before a broken stream is opened again: the first wait, and
// the longest, when one attempt after the other brings no ledger.
const (
	firstRetry   = 100 * time.Millisecond
	longestRetry = 5 * time.Second
)

// window is how many bytes of ledgers may be on the way.
const window = 8 << 20

// source is where ledgers come from.
type source struct {
	address string
	conn    *grpc.ClientConn
	state   *condition // set before the first stream
}

// dial prepares the connection to a source; connect makes it.
func dial(address string) (*source, error) {
	// passthrough leaves the name to the dialer, which looks it up at each
	// attempt: a restarted container may have moved.
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)), // a ledger has no upper limit
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestRetry},
			MinConnectTimeout: longestRetry,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial the source %s: %w", address, err)
	}
	return &source{address: address, conn: conn}, nil
}

// connect waits until the source answers or ctx ends.
func (s *source) connect(ctx context.Context) error {
	for {
		now := s.conn.GetState()
		if now == connectivity.Ready {
			return nil
		}
		s.conn.Connect()
		if !s.conn.WaitForStateChange(ctx, now) {
			return ctx.Err()
		}
	}
}

// watch keeps the connection up, also while nobody streams, and says when it is
// not. It returns when ctx ends.
func (s *source) watch(ctx context.Context) {
	for {
		now := s.conn.GetState()
		if now == connectivity.Idle {
			s.conn.Connect()
		}
		s.state.connected(now == connectivity.Ready)
		if !s.conn.WaitForStateChange(ctx, now) {
			return
		}
	}
}

// ledgers yields every ledger from start on, in order, none lost and none
// twice, whatever happens to the source: a stream that breaks is opened again
// at the next ledger. It ends with ctx or an error that another try would not
// help, yielded last. Start 0 and 1 mean the oldest ledger that the source has.
func (s *source) ledgers(ctx context.Context, start uint32) iter.Seq2[*rawledger.RawLedger, error] {
	return func(yield func(*rawledger.RawLedger, error) bool) {
		next, delay := start, firstRetry
		outage := s.state.stream()
		defer outage.over()
		for {
			err := s.stream(ctx, next, func(ledger *rawledger.RawLedger) bool {
				outage.over()
				next, delay = ledger.GetSequence()+1, firstRetry
				return yield(ledger, nil)
			})
			if err == nil {
				return // the reader has enough
			}
			err = status.Errorf(status.Code(err), "source %s: %s", s.address, status.Convert(err).Message())
			if ctx.Err() != nil || permanent(err) {
				yield(nil, err)
				return
			}
			outage.because(err)
			if err := sleep(ctx, delay); err != nil {
				yield(nil, err)
				return
			}
			delay = min(2*delay, longestRetry)
		}
	}
}

// stream hands ledgers from start on to take until the stream breaks or take
// returns false; then the error is nil. A source that is not there is waited for.
func (s *source) stream(ctx context.Context, start uint32, take func(*rawledger.RawLedger) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := rawledger.NewRawLedgerServiceClient(s.conn)
	stream, err := client.StreamRawLedgers(ctx, &rawledger.StreamLedgersRequest{StartLedger: start}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	next, oldest := start, start <= 1
	for {
		ledger, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "it ended the stream, which has no end")
		}
		if err != nil {
			return err
		}
		sequence := ledger.GetSequence()
		if oldest {
			next, oldest = sequence, false
		}
		if sequence < next {
			continue // a source that begins at the start of its file
		}
		if sequence > next {
			return status.Errorf(codes.DataLoss, "it sent ledger %d where ledger %d was due", sequence, next)
		}
		if !take(ledger) {
			return nil
		}
		next++
	}
}

// permanent reports whether the source has answered what it would answer again.
func permanent(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound, codes.FailedPrecondition,
		codes.DataLoss, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		return true
	default:
		return false
	}
}

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

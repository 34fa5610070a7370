package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/flowctl/components/ledger-lake/lake"
	"github.com/withobsrvr/flowctl/components/ttpapi/grpcserver"
	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
	"github.com/withobsrvr/flowctl/components/ttpapi/tokentransfer"
	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// first is the real ledger; those after it are its clones.
const first = lake.RealLedger

// ledgersPerLake is how many ledgers the tests have.
const ledgersPerLake = 5

// eventsPerLedger is what the Stellar SDK finds in each of them.
const eventsPerLedger = 296

// lakeDir writes the tests' lake, once, and returns its folder.
var lakeDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ttp-processor-test-")
	if err != nil {
		return "", err
	}
	_, err = lake.Write(context.Background(), lake.Options{Dir: dir, Schema: schema(), Start: first, Count: ledgersPerLake})
	return dir, err
})

func schema() datastore.DataStoreSchema {
	return datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000}
}

// ledger returns a ledger's XDR.
func ledger(t *testing.T, sequence uint32) []byte {
	t.Helper()
	dir, err := lakeDir()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, schema().GetObjectKeyFromSequenceNumber(sequence)))
	if err != nil {
		t.Fatal(err)
	}
	var batch xdr.LedgerCloseMetaBatch
	if _, err := compressxdr.NewXDRDecoder(compressxdr.DefaultCompressor, &batch).ReadFrom(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	encoded, err := batch.LedgerCloseMetas[0].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// fakeSource is a source that does what a test says.
type fakeSource struct {
	rawledger.UnimplementedRawLedgerServiceServer
	t       *testing.T
	address string
	// stream answers the n-th call, counted from 1, for ledgers from start on.
	stream func(n int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error
	left   chan struct{} // one value for each stream that ended

	mu     sync.Mutex // guards starts
	starts []uint32   // what was asked for
}

// newSource makes a fake source; serve starts it.
func newSource(t *testing.T, stream func(n int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error) *fakeSource {
	return &fakeSource{t: t, address: "127.0.0.1:0", stream: stream, left: make(chan struct{}, 100)}
}

// serve serves, at the same address every time, until the returned function is
// called, which breaks all connections.
func (s *fakeSource) serve() (stop func()) {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := grpc.NewServer()
	rawledger.RegisterRawLedgerServiceServer(server, s)
	var running sync.WaitGroup
	running.Go(func() { server.Serve(listener) })
	stop = sync.OnceFunc(func() {
		server.Stop()
		running.Wait()
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *fakeSource) StreamRawLedgers(request *rawledger.StreamLedgersRequest, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
	s.mu.Lock()
	s.starts = append(s.starts, request.GetStartLedger())
	n := len(s.starts)
	s.mu.Unlock()
	defer func() { s.left <- struct{}{} }()
	return s.stream(n, request.GetStartLedger(), to)
}

// asked returns the start ledgers of all calls until now.
func (s *fakeSource) asked() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint32(nil), s.starts...)
}

// send sends the ledgers from one to another.
func send(t *testing.T, to rawledger.RawLedgerService_StreamRawLedgersServer, from, until uint32) error {
	for sequence := from; sequence <= until; sequence++ {
		if err := to.Send(&rawledger.RawLedger{Sequence: sequence, LedgerCloseMetaXdr: ledger(t, sequence)}); err != nil {
			return err
		}
	}
	return nil
}

// everything sends all ledgers that there are and waits for ones to come.
func everything(t *testing.T) func(int, uint32, rawledger.RawLedgerService_StreamRawLedgersServer) error {
	return func(_ int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
		if err := send(t, to, max(start, first), first+ledgersPerLake-1); err != nil {
			return err
		}
		<-to.Context().Done()
		return to.Context().Err()
	}
}

// fakeMember records what the processor says of itself.
type fakeMember struct {
	mu      sync.Mutex // guards the fields below
	metrics map[string]float64
	healths []flowctl.Health // every change
	reasons []string
	changed chan struct{} // one value for each change of health
}

func (m *fakeMember) Report(name string, value float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.metrics[name] = value
}

func (m *fakeMember) Count(name string, delta float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.metrics[name] += delta
}

func (m *fakeMember) SetHealth(health flowctl.Health, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.healths, m.reasons = append(m.healths, health), append(m.reasons, reason)
	m.changed <- struct{}{}
}

// processor is the service under test, served over a real connection.
type processor struct {
	*service
	member *fakeMember
	client tokentransfer.EventServiceClient
	stop   context.CancelFunc // as SIGTERM does
}

// newProcessor connects a processor to a source.
func newProcessor(t *testing.T, sourceAddress, passphrase string) *processor {
	t.Helper()
	source, err := dial(sourceAddress)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	member := &fakeMember{metrics: make(map[string]float64), changed: make(chan struct{}, 100)}
	source.state = newCondition(member, logger, "source")
	ctx, stop := context.WithCancel(context.Background())
	p := &processor{member: member, stop: stop, service: &service{
		source: source, processor: token_transfer.NewEventsProcessor(passphrase), logger: logger,
		stopping: ctx, ready: make(chan struct{}), member: member,
	}}
	close(p.ready)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpcserver.New()
	tokentransfer.RegisterEventServiceServer(server, p.service)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	p.client = tokentransfer.NewEventServiceClient(conn)
	var running sync.WaitGroup
	running.Go(func() { server.Run(ctx, listener, drainGrace) })
	running.Go(func() { source.watch(ctx) })
	t.Cleanup(func() {
		stop()
		conn.Close()
		running.Wait()
		source.conn.Close()
	})
	return p
}

func publicProcessor(t *testing.T, sourceAddress string) *processor {
	t.Helper()
	return newProcessor(t, sourceAddress, network.PublicNetworkPassphrase)
}

// get opens a stream.
func (p *processor) get(t *testing.T, start, end uint32) tokentransfer.EventService_GetTTPEventsClient {
	t.Helper()
	stream, err := p.client.GetTTPEvents(t.Context(), &tokentransfer.GetEventsRequest{StartLedger: start, EndLedger: end})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// batch is a number of events in a row from one ledger.
type batch struct {
	Ledger uint32
	Events int
}

// receive receives events until the stream ends or, if there are that many, n
// events have come. A stream that ended well gives a nil error.
func receive(stream tokentransfer.EventService_GetTTPEventsClient, n int) ([]batch, error) {
	var batches []batch
	for range n {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return batches, nil
		}
		if err != nil {
			return batches, err
		}
		if sequence := event.GetMeta().GetLedgerSequence(); len(batches) == 0 || batches[len(batches)-1].Ledger != sequence {
			batches = append(batches, batch{Ledger: sequence})
		}
		batches[len(batches)-1].Events++
	}
	return batches, nil
}

// batches is what n whole ledgers give.
func batches(from uint32, n int) []batch {
	var all []batch
	for i := range n {
		all = append(all, batch{from + uint32(i), eventsPerLedger})
	}
	return all
}

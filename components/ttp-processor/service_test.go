package main

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stellar/go-stellar-sdk/network"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// TestMain lets the test binary play the component in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("PLAY_COMPONENT") == "yes" {
		main()
		return
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.Cleanup(func(code int) {
			if dir, err := lakeDir(); err == nil {
				os.RemoveAll(dir)
			}
			os.Exit(code)
		}))
}

// forever is more events than any test has.
const forever = math.MaxInt

func TestEventsOfTheRealLedger(t *testing.T) {
	source := newSource(t, everything(t))
	source.serve()
	p := publicProcessor(t, source.address)
	stream := p.get(t, first, first)
	kinds := map[string]int{}
	for range eventsPerLedger {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case event.GetFee() != nil:
			kinds["fee"]++
		case event.GetTransfer() != nil:
			kinds["transfer"]++
		default:
			kinds["other"]++
		}
	}
	if diff := cmp.Diff(map[string]int{"fee": 164, "transfer": 132}, kinds); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if rest, err := receive(stream, 1); err != nil || rest != nil {
		t.Errorf("after the last event: %v, %v; want the end", rest, err)
	}
	<-source.left // the source is not read any further
	want := map[string]float64{"events": 296, "ledgers": 1, "last_ledger": float64(first)}
	if diff := cmp.Diff(want, p.member.metrics); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestRanges(t *testing.T) {
	source := newSource(t, everything(t))
	source.serve()
	for _, c := range []struct {
		name                 string
		start, end           uint32
		envStart, envEnd     uint32
		want                 []batch
		live                 bool
		wantCode             codes.Code
		wantMessage          string
		wantAskedOfTheSource uint32
	}{
		{name: "bounded", start: first + 1, end: first + 3, want: batches(first+1, 3), wantAskedOfTheSource: first + 1},
		{name: "no end", start: first, end: 0, live: true, want: batches(first, 5), wantAskedOfTheSource: first},
		{name: "end before start", start: first + 1, end: 7, live: true, want: batches(first+1, 4), wantAskedOfTheSource: first + 1},
		{name: "from the oldest", start: 1, end: first + 1, want: batches(first, 2), wantAskedOfTheSource: 1},
		{name: "range of the environment", envStart: first + 2, envEnd: first + 2, want: batches(first+2, 1), wantAskedOfTheSource: first + 2},
		{name: "no start anywhere", live: true, want: batches(first, 5)},
		{
			name: "before the oldest", start: 1, end: 100, wantAskedOfTheSource: 1,
			wantCode: codes.OutOfRange, wantMessage: "the source's oldest ledger is 53312000, the range ends with 100",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := publicProcessor(t, source.address)
			p.service.start, p.service.end = c.envStart, c.envEnd
			n := forever
			if c.live {
				n = len(c.want) * eventsPerLedger
			}
			got, err := receive(p.get(t, c.start, c.end), n)
			if status.Code(err) != c.wantCode || (err != nil && status.Convert(err).Message() != c.wantMessage) {
				t.Errorf("got error %v, want %s %q", err, c.wantCode, c.wantMessage)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			asked := source.asked()
			if last := asked[len(asked)-1]; last != c.wantAskedOfTheSource {
				t.Errorf("asked the source for ledgers from %d on, want %d", last, c.wantAskedOfTheSource)
			}
		})
	}
}

// A broken stream goes on with the next ledger, also when the source repeats
// some or ends the stream without an error.
func TestBrokenStreamsGoOn(t *testing.T) {
	source := newSource(t, func(n int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
		switch n {
		case 1:
			send(t, to, start, start+1)
			return status.Error(codes.Unavailable, "the source is stopping")
		case 2:
			return status.Error(codes.Unknown, "not this time")
		case 3:
			send(t, to, start-2, start) // twice what was sent before
			return nil
		default:
			return everything(t)(n, start, to)
		}
	})
	source.serve()
	p := publicProcessor(t, source.address)
	got, err := receive(p.get(t, first, first+4), forever)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batches(first, 5), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]uint32{first, first + 2, first + 2, first + 3}, source.asked()); diff != "" {
		t.Errorf("asked of the source (-want +got):\n%s", diff)
	}
	if p.member.metrics["errors"] != 3 {
		t.Errorf("counted %v errors, want 3", p.member.metrics["errors"])
	}
	want := []flowctl.Health{flowctl.Degraded, flowctl.Healthy, flowctl.Degraded, flowctl.Healthy}
	if diff := cmp.Diff(want, p.member.healths); diff != "" {
		t.Errorf("healths (-want +got):\n%s", diff)
	}
	if want := "source " + source.address + ": the source is stopping"; p.member.reasons[0] != want {
		t.Errorf("degraded because %q, want %q", p.member.reasons[0], want)
	}
}

// A source that is gone and comes back: the stream goes on, and the processor
// says meanwhile what it lacks.
func TestSourceRestarts(t *testing.T) {
	source := newSource(t, func(n int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
		if n > 1 {
			return everything(t)(n, start, to)
		}
		send(t, to, start, start+1)
		<-to.Context().Done()
		return nil
	})
	stop := source.serve()
	p := publicProcessor(t, source.address)
	stream := p.get(t, first, first+4)
	before, err := receive(stream, 2*eventsPerLedger)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	<-p.member.changed
	if p.member.healths[0] != flowctl.Degraded {
		t.Errorf("without a source: %s, want degraded", p.member.healths[0])
	}
	source.serve()
	after, err := receive(stream, forever)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batches(first, 5), append(before, after...)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	<-p.member.changed
	if p.member.healths[1] != flowctl.Healthy {
		t.Errorf("with the source back: %s, want healthy", p.member.healths[1])
	}
}

// What another try would not change is told to the client.
func TestPermanentErrors(t *testing.T) {
	for _, c := range []struct {
		name       string
		passphrase string
		stream     func(int, uint32, rawledger.RawLedgerService_StreamRawLedgersServer) error
		code       codes.Code
		message    string
	}{
		{
			name: "refused",
			stream: func(int, uint32, rawledger.RawLedgerService_StreamRawLedgersServer) error {
				return status.Error(codes.OutOfRange, "ledger 53312000 is not in the lake")
			},
			code: codes.OutOfRange, message: ": ledger 53312000 is not in the lake",
		},
		{
			name: "a gap",
			stream: func(_ int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
				return send(t, to, start+1, start+1)
			},
			code: codes.DataLoss, message: ": it sent ledger 53312001 where ledger 53312000 was due",
		},
		{
			name: "no ledger",
			stream: func(_ int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
				return to.Send(&rawledger.RawLedger{Sequence: start, LedgerCloseMetaXdr: []byte("no ledger")})
			},
			code: codes.DataLoss, message: "decode ledger 53312000: ",
		},
		{
			name: "another ledger",
			stream: func(_ int, start uint32, to rawledger.RawLedgerService_StreamRawLedgersServer) error {
				return to.Send(&rawledger.RawLedger{Sequence: start, LedgerCloseMetaXdr: ledger(t, start+1)})
			},
			code: codes.DataLoss, message: "decode ledger 53312000: it is ledger 53312001",
		},
		{
			name: "another network", passphrase: network.TestNetworkPassphrase, stream: everything(t),
			code: codes.FailedPrecondition, message: "(is it a ledger of the network that NETWORK_PASSPHRASE or STELLAR_NETWORK names?)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := newSource(t, c.stream)
			source.serve()
			if c.passphrase == "" {
				c.passphrase = network.PublicNetworkPassphrase
			}
			p := newProcessor(t, source.address, c.passphrase)
			got, err := receive(p.get(t, first, first), forever)
			if len(got) != 0 || status.Code(err) != c.code || !strings.Contains(status.Convert(err).Message(), c.message) {
				t.Errorf("got %v and error %v, want %s %q", got, err, c.code, c.message)
			}
			if asked := source.asked(); len(asked) != 1 {
				t.Errorf("asked the source %d times, want once", len(asked))
			}
			if p.member.metrics["errors"] != 1 {
				t.Errorf("counted %v errors, want 1", p.member.metrics["errors"])
			}
		})
	}
}

// A client that leaves takes its stream from the source with it.
func TestClientLeaves(t *testing.T) {
	source := newSource(t, everything(t))
	source.serve()
	p := publicProcessor(t, source.address)
	t.Run("while it waits", func(t *testing.T) { // t's context ends with this
		if _, err := receive(p.get(t, first, 0), 5*eventsPerLedger); err != nil {
			t.Fatal(err)
		}
	})
	<-source.left
	t.Run("in the middle", func(t *testing.T) {
		if _, err := receive(p.get(t, first, 0), 1); err != nil {
			t.Fatal(err)
		}
	})
	<-source.left
	if p.member.metrics["errors"] != 0 || len(p.member.healths) != 0 {
		t.Errorf("counted %v errors and said %v, want nothing", p.member.metrics["errors"], p.member.healths)
	}
}

// A component that stops finishes the ledger it is at.
func TestStopIsBetweenLedgers(t *testing.T) {
	source := newSource(t, everything(t))
	source.serve()
	p := publicProcessor(t, source.address)
	stream := p.get(t, first, 0)
	if _, err := receive(stream, eventsPerLedger/2); err != nil {
		t.Fatal(err)
	}
	p.stop()
	got, err := receive(stream, forever)
	if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "the processor is stopping" {
		t.Errorf("the stream ended with %v", err)
	}
	got[0].Events += eventsPerLedger / 2
	if diff := cmp.Diff(batches(first, len(got)), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	<-source.left
}

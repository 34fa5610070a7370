// Package scale_test puts very many services and watchers on one control plane.
//
// FLOWCTL_SCALE is how many services, FLOWCTL_SCALE_FOR how long they beat; with
// FLOWCTL_STRICT the bounds of time and memory count, which a machine that does
// other things cannot keep.
package scale_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
)

// The bounds that count with FLOWCTL_STRICT.
const (
	maxHeap  = 1536 // bytes of a service
	maxLock  = 5 * time.Millisecond
	maxList  = 300 * time.Millisecond
	maxWatch = 100 * time.Millisecond // 99th percentile
)

// summary says what was seen.
var summary string

// bin is the flowctl under test.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "flowctl-scale-")
	if err == nil {
		bin = filepath.Join(dir, "flowctl")
		cmd := exec.Command("go", "build", "-o", bin, "../../cmd/flowctl")
		cmd.Stderr = os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build what is to be tested: %v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		if summary != "" {
			fmt.Println(summary)
		}
		os.Exit(code)
	}))
}

// size is how much is asked of the control plane.
type size struct {
	services, watchers   int
	lasts, interval, ttl time.Duration
}

// asked is the size that the environment asks for: a small one, or the real one.
func asked(t *testing.T) size {
	t.Helper()
	s := size{services: 2000, watchers: 50, lasts: 5 * time.Second, interval: time.Second, ttl: 10 * time.Second} // other tests take CPUs away for seconds
	text := os.Getenv("FLOWCTL_SCALE")
	if text == "" {
		return s
	}
	n, err := strconv.Atoi(text)
	lasts, errFor := time.ParseDuration(os.Getenv("FLOWCTL_SCALE_FOR"))
	if err := errors.Join(err, errFor); err != nil {
		t.Fatalf("FLOWCTL_SCALE, FLOWCTL_SCALE_FOR: %v", err)
	}
	return size{services: n, watchers: 1000, lasts: lasts, interval: 10 * time.Second, ttl: 30 * time.Second}
}

// plane is the control plane under test.
type plane struct {
	t    *testing.T
	addr string
}

// startPlane starts one that ends with the test.
func startPlane(t *testing.T, s size) *plane {
	t.Helper()
	cmd := exec.Command(bin, "server", "--port", "0", "--db-path", "", "--heartbeat-ttl", s.ttl.String(), "--janitor-interval", (s.ttl / 3).String())
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	addr := ""
	for addr == "" && lines.Scan() {
		addr = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(lines.Text())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		if err := cmd.Wait(); t.Failed() {
			t.Logf("the control plane has ended: %v", err)
		}
	})
	return &plane{t, addr}
}

// connections are how many the services share.
const connections = 16

func (p *plane) dial() *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// metric reads one of the control plane's own.
func (p *plane) metric(name string) float64 {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + p.addr + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return value
		}
	}
	p.t.Fatalf("there is no metric %s", name)
	return 0
}

// heap is how much of it is in use: it is collected when it has grown to twice that.
func (p *plane) heap() float64 { return p.metric("go_memstats_next_gc_bytes") / 2 }

func serviceName(n int) string { return "service-" + strconv.Itoa(n) }

// each does something for each service, on all connections at the same time.
func each(services int, conns []*grpc.ClientConn, do func(client flowctlpb.ControlPlaneClient, n int) error) error {
	var wg sync.WaitGroup
	failed := make([]error, len(conns))
	for i, conn := range conns {
		wg.Go(func() {
			client := flowctlpb.NewControlPlaneClient(conn)
			for n := i; n < services; n += len(conns) {
				if err := do(client, n); err != nil {
					failed[i] = fmt.Errorf("%s: %w", serviceName(n), err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

func TestScale(t *testing.T) {
	s := asked(t)
	p := startPlane(t, s)
	var conns []*grpc.ClientConn
	for range connections {
		conns = append(conns, p.dial())
	}
	before := p.heap()
	begin := time.Now()
	err := each(s.services, conns, func(client flowctlpb.ControlPlaneClient, n int) error {
		_, err := client.Register(t.Context(), &flowctlpb.ServiceInfo{
			ServiceId: serviceName(n), ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR, InputEventTypes: []string{"raw_ledger"},
			OutputEventTypes: []string{"token_transfer"}, HealthEndpoint: "http://localhost:8089/health", Metadata: map[string]string{"network": "public"},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d services have registered within %s", s.services, time.Since(begin).Round(time.Millisecond))
	beats := p.startBeats(s, conns)
	watch := p.startWatchers(s.watchers)
	<-time.After(s.interval) // who was kept waiting has been heard again
	for end := time.Now().Add(s.lasts); time.Now().Before(end); <-time.After(s.interval / 10) {
		watch.change(t, conns[0])
	}
	late := watch.end()
	<-time.After(s.interval) // what watchers took is collected: there are none any more
	perService := (p.heap() - before) / float64(s.services)
	list := p.list(s.services, conns[0])
	rounds, lock := beats.end()
	summary = fmt.Sprintf("scale: %d services beat every %s for %s (%d rounds), %.0f bytes of heap each; a janitor's pass held the lock for %s at most; all of them listed in %s; %d watchers saw each change within %s (99th percentile)",
		s.services, s.interval, s.lasts, rounds, perService, lock, list, s.watchers, late)
	if os.Getenv("FLOWCTL_STRICT") == "" {
		return
	}
	if perService > maxHeap || lock > maxLock || list > maxList || late > maxWatch {
		t.Errorf("over a bound (%d bytes, %s, %s, %s): %s", maxHeap, maxLock, maxList, maxWatch, summary)
	}
}

// beats are the heartbeats of all services.
type beats struct {
	*plane
	stop   chan struct{}
	done   chan error
	rounds int
	// lock is for how long a janitor's pass has held up others at most.
	lock time.Duration
}

// startBeats has every service beat once in each interval, until it is ended.
// None may be called unhealthy.
func (p *plane) startBeats(s size, conns []*grpc.ClientConn) *beats {
	b := &beats{plane: p, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { b.done <- b.run(s, conns) }()
	return b
}

func (b *beats) run(s size, conns []*grpc.ClientConn) error {
	for ; ; b.rounds++ {
		begin := time.Now()
		err := each(s.services, conns, func(client flowctlpb.ControlPlaneClient, n int) error {
			// Spread over the interval, as they would be.
			if due := time.Duration(float64(s.interval) * float64(n) / float64(s.services)); time.Since(begin) < due {
				<-time.After(due - time.Since(begin))
			}
			_, err := client.Heartbeat(context.Background(), &flowctlpb.ServiceHeartbeat{
				ServiceId: serviceName(n), Timestamp: timestamppb.Now(), Metrics: map[string]float64{"events": float64(n), "ledgers": 1, "last_ledger": 53312000},
			})
			return err
		})
		if err != nil {
			return err
		}
		if n := b.metric(`flowctl_services{tier="critical"}`); n > 0 {
			b.t.Errorf("%v services are unhealthy, and all beat", n)
		}
		b.lock = max(b.lock, time.Duration(b.metric("flowctl_janitor_lock_seconds")*float64(time.Second)))
		select {
		case <-b.stop:
			return nil
		default:
		}
	}
}

// end ends the heartbeats after the round that is under way.
func (b *beats) end() (rounds int, lock time.Duration) {
	b.t.Helper()
	close(b.stop)
	if err := <-b.done; err != nil {
		b.t.Fatal(err)
	}
	return b.rounds + 1, b.lock
}

// list lists all services and returns how long that took.
func (p *plane) list(services int, conn *grpc.ClientConn) time.Duration {
	p.t.Helper()
	var best time.Duration
	for range 5 {
		begin := time.Now()
		list, err := flowctlpb.NewControlPlaneClient(conn).ListServices(p.t.Context(), &emptypb.Empty{})
		took := time.Since(begin)
		if err != nil || len(list.GetServices()) < services {
			p.t.Fatalf("%d services, %v", len(list.GetServices()), err)
		}
		if best == 0 || took < best {
			best = took
		}
	}
	return best
}

// watchers follow what changes.
type watchers struct {
	t       *testing.T
	cancel  context.CancelFunc
	running sync.WaitGroup
	count   int
	made    int // changes

	mu   sync.Mutex // guards late
	late []time.Duration
}

// watched is the service that changes: its version is when it did.
const watched = "watched"

// perConnection is how many watchers share one.
const perConnection = 100

// startWatchers starts watchers, and returns when each has seen what there is.
func (p *plane) startWatchers(n int) *watchers {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watchers{t: p.t, cancel: cancel, count: n}
	var ready sync.WaitGroup
	var conn *grpc.ClientConn
	for i := range n {
		if i%perConnection == 0 {
			conn = p.dial()
		}
		stream, err := registryv1.NewRegistryServiceClient(conn).WatchServices(ctx, &registryv1.WatchServicesRequest{Filter: &registryv1.Filter{Role: "sink"}})
		if err != nil {
			p.t.Fatal(err)
		}
		ready.Add(1)
		w.running.Go(func() { w.follow(stream, ready.Done) })
	}
	ready.Wait()
	return w
}

// follow notes how late each change is seen.
func (w *watchers) follow(stream grpc.ServerStreamingClient[registryv1.WatchServicesResponse], ready func()) {
	for first := true; ; first = false {
		update, err := stream.Recv()
		if err != nil {
			return
		}
		if first {
			ready()
		}
		for _, s := range update.GetChanged() {
			if at, err := strconv.ParseInt(s.GetVersion(), 10, 64); err == nil {
				w.mu.Lock()
				w.late = append(w.late, time.Since(time.Unix(0, at)))
				w.mu.Unlock()
			}
		}
	}
}

// change changes the watched service.
func (w *watchers) change(t *testing.T, conn *grpc.ClientConn) {
	w.made++
	_, err := registerVersion(t.Context(), conn, strconv.FormatInt(time.Now().UnixNano(), 10))
	if err != nil {
		t.Error(err)
	}
}

// end ends the watchers when all have seen every change, or could have, and
// returns the 99th percentile of how late they did.
func (w *watchers) end() time.Duration {
	w.t.Helper()
	seen := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.late)
	}
	want := w.count * w.made
	for deadline := time.Now().Add(30 * time.Second); seen() < want && time.Now().Before(deadline); {
		<-time.After(10 * time.Millisecond)
	}
	w.cancel()
	w.running.Wait()
	// Two changes that come close after each other may be seen as one.
	if n := seen(); n < want*95/100 {
		w.t.Errorf("%d watchers have seen %d of %d changes", w.count, n, want)
	}
	slices.Sort(w.late)
	if len(w.late) == 0 {
		return 0
	}
	return w.late[len(w.late)*99/100].Round(time.Millisecond)
}

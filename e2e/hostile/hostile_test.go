//go:build linux

// Package hostile_test lets bad clients loose on the real control plane, while a
// good one measures how it is served.
package hostile_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/e2e/site"
)

// bin is the folder of flowctl.
var bin string

// What makes this test binary an attacker: the attack's name, and whom it attacks.
const (
	asAttacker = "FLOWCTL_TEST_ATTACK"
	target     = "FLOWCTL_TEST_ATTACKED"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(asAttacker); name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), lasts)
		defer cancel()
		attack, known := attacks[name]
		if !known {
			log.Fatalf("there is no attack %q", name)
		}
		fmt.Println(attack(ctx, os.Getenv(target)))
		return
	}
	site.Main(m, &bin, "../../cmd/flowctl")
}

// attack attacks the control plane at an endpoint until ctx is done, and says what it has done.
type attack func(ctx context.Context, endpoint string) string

// attacks are all that there are.
var attacks = map[string]attack{
	"nobody":                       func(ctx context.Context, _ string) string { <-ctx.Done(); return "nothing" },
	"10,000 silent connections":    crowd(10_000, ""),
	"10,000 connections of HTTP/2": crowd(10_000, preface),
	"connections that are reset":   each(8, sayAndReset),
	"slow bytes":                   each(500, saySlowly),
	"HTTP requests without an end": each(64, endlessRequest),
	"HTTP requests":                each(8, manyRequests),
	"nonsense":                     each(16, sayNonsense),

	"heartbeats every 10 ms":     callers(200, 1, beatFast),
	"heartbeats without a pause": callers(8, 16, beatEndlessly),
	"messages of nothing":        callers(8, 4, nothingAtAll),
	"text that is none":          callers(8, 4, invalidText),
	"messages of a gibibyte":     each(8, announceGibibytes),
	"a million header fields":    each(8, endlessHeaders),
	"much metadata":              callers(8, 1, registerMuch),
	"calls that are taken back":  each(8, resetAtOnce),
	"pings":                      each(8, pingEndlessly),
	"calls without an end":       each(50, streams(nil)),
	"messages without an end":    each(8, streams(announced(512<<10, 512<<10-1))),
	"watchers that do not read":  callers(20, 10, watchAndNotRead),
	"pipeline runs":              callers(4, 4, createRuns),
	"lists of pipeline runs":     callers(8, 4, listRuns),
	"registrations of strangers": callers(8, 16, registerStrangers),
	"heartbeats of strangers":    callers(8, 16, beatAsStrangers),
	"lists of services":          callers(8, 4, listAll),
}

const (
	// lasts is how long each attack lasts.
	lasts = 3 * time.Second
	// strictBound is what the 99th percentile of a good client's heartbeats must keep
	// where FLOWCTL_STRICT is set. On a machine that others use too the other bound
	// holds, and also while an attack takes all CPUs.
	strictBound, looseBound = 50 * time.Millisecond, 2 * time.Second
	// mostMemory bounds what the server may ever have taken, in KiB.
	mostMemory = 1 << 20
)

// server is a control plane under attack.
type server struct {
	t        *testing.T
	process  *site.Process
	endpoint string
}

func serve(t *testing.T, args ...string) *server {
	t.Helper()
	s := site.New(t, bin)
	return launched(t, s.Start(append([]string{"server", "--port", "0"}, args...)...))
}

// launched waits until a server listens.
func launched(t *testing.T, p *site.Process) *server {
	t.Helper()
	return &server{t, p, p.Await(`control plane listening.* address=(\S+)`)[1]}
}

// status is a number in KiB, or another one, of the process's status.
func (s *server) status(name string) int {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatalf("the status of a process tells no %s", name)
	return 0
}

// files is how many file descriptors it has open.
func (s *server) files() int {
	s.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(entries)
}

// client is a connection of its own.
func (s *server) client() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(s.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// good is a client that sends heartbeats and measures how long each takes.
type good struct {
	took []time.Duration
	errs []error
}

// beat sends heartbeats until ctx is done, as a component does that has no mercy
// with itself: over one connection, every 5 ms.
func (g *good) beat(ctx context.Context, conn grpc.ClientConnInterface) {
	client := flowctlpb.NewControlPlaneClient(conn)
	if _, err := client.Register(context.WithoutCancel(ctx), &flowctlpb.ServiceInfo{ServiceId: "good"}); err != nil {
		g.errs = append(g.errs, err)
	}
	for tick := time.Tick(5 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		began := time.Now()
		if _, err := client.Heartbeat(context.WithoutCancel(ctx), &flowctlpb.ServiceHeartbeat{ServiceId: "good", Metrics: map[string]float64{"n": 1}}); err != nil {
			g.errs = append(g.errs, err)
		}
		g.took = append(g.took, time.Since(began))
	}
}

// percentile returns one of the times that were measured.
func (g *good) percentile(n int) time.Duration {
	slices.Sort(g.took)
	return g.took[min(len(g.took)*n/100, len(g.took)-1)]
}

// under runs an attack beside a good client, and reports how that one was served.
// Attackers are a process of their own that gets what CPU is left: they would be
// on machines of their own.
func (s *server) under(name string) {
	bound := looseBound
	if os.Getenv("FLOWCTL_STRICT") != "" {
		bound = strictBound
	}
	s.attacked(name, bound)
}

// withAllMight is the same for an attack that takes all that the server's CPUs give.
func (s *server) withAllMight(name string) { s.attacked(name, looseBound) }

func (s *server) attacked(name string, bound time.Duration) {
	s.t.Run(name, func(t *testing.T) {
		conn := s.client()
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		var g good
		var beating sync.WaitGroup
		beating.Go(func() { g.beat(ctx, conn) })
		cmd := exec.Command("nice", "-n", "19", os.Args[0])
		cmd.Env = append(os.Environ(), asAttacker+"="+name, target+"="+s.endpoint)
		out, err := cmd.CombinedOutput()
		cancel()
		beating.Wait()
		if err != nil {
			t.Errorf("the attacker: %v\n%s", err, out)
		}
		s.report(t, name, &g, strings.TrimSpace(string(out)), bound)
	})
}

// report says how the good client was served, and what that costs the server.
func (s *server) report(t *testing.T, name string, g *good, did string, bound time.Duration) {
	p50, p99, most := g.percentile(50), g.percentile(99), g.percentile(100)
	t.Logf("%s (%s): good client: %d heartbeats, %d errors, p50 %s p99 %s most %s; server: %d MiB, %d at most, %d files",
		name, did, len(g.took), len(g.errs), p50.Round(time.Microsecond), p99.Round(time.Microsecond), most.Round(time.Microsecond),
		s.status("VmRSS")>>10, s.status("VmHWM")>>10, s.files())
	if len(g.errs) > 0 {
		t.Errorf("%d heartbeats of a good client have failed: %v", len(g.errs), g.errs[0])
	}
	if p99 > bound {
		t.Errorf("the p99 of a good client is %s, more than %s", p99, bound)
	}
	if peak := s.status("VmHWM"); peak > mostMemory {
		t.Errorf("the server has taken %d MiB", peak>>10)
	}
}

// calm waits until the server has as few files open as at first: nothing of an
// attack is left.
func (s *server) calm(idle int) {
	s.t.Helper()
	for deadline := time.After(site.Patience); s.files() > idle+2; {
		select {
		case <-time.After(50 * time.Millisecond): // a process does not tell of what it closes
		case <-deadline:
			s.t.Fatalf("the server has %d files open, at first %d", s.files(), idle)
		}
	}
}

//go:build linux

package durable_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/e2e/site"
)

const (
	clients = 8
	// owned is how many services a client speaks for, in turn.
	owned = 25
	// longest is how long a server lives at most after it has begun to listen, and
	// shortest how long it has for its start when it is killed in the middle of that.
	longest, start = 150 * time.Millisecond, 60 * time.Millisecond
)

// A server that is killed at any moment has kept every registration, and every
// leave, that it has acknowledged; its database opens each time; and nobody is
// healthy by hearsay.
func TestKills(t *testing.T) {
	kills := 20
	if text := os.Getenv("FLOWCTL_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("FLOWCTL_KILLS: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FLOWCTL_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FLOWCTL_SEED: %v", err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	s := site.New(t, bin)
	database := filepath.Join(s.Dir, "control-plane.db")
	all := make([]*client, clients)
	for i := range all {
		all[i] = &client{name: i, random: rand.New(rand.NewPCG(seed, uint64(i+1))), services: make([]service, owned)}
	}
	early := 0
	for range kills {
		p := &plane{process: s.Start("server", "--port", "0", "--db-path", database)}
		if random.IntN(5) == 0 {
			<-time.After(time.Duration(random.Int64N(int64(start)))) // any moment of its start
			p.process.Kill()
			early++
			continue
		}
		p.reach(s)
		compare(t, p.conn, all)
		load(p.conn, all, time.Duration(random.Int64N(int64(longest))), p.process.Kill)
		_ = p.conn.Close()
		if t.Failed() {
			break
		}
	}
	p := serve(s, database)
	lost := compare(t, p.conn, all)
	_ = p.conn.Close()
	p.process.Stop()
	kept := check(s, database)
	acknowledged := 0
	for _, c := range all {
		acknowledged += c.acknowledged
	}
	if acknowledged == 0 {
		t.Error("nothing was ever acknowledged")
	}
	fmt.Printf("durable: killed %d times, %d of them while it started; %d registrations and leaves acknowledged, %d lost; %d services and %d that have left in the database; seed %d\n",
		kills, early, acknowledged, lost, kept.Services, kept.Gone, seed)
}

// load has the clients speak for a while, then kills the server in the middle of it.
func load(conn *grpc.ClientConn, all []*client, lasts time.Duration, kill func()) {
	var speaking sync.WaitGroup
	for _, c := range all {
		speaking.Go(func() { c.speak(conn) })
	}
	<-time.After(lasts)
	kill()
	speaking.Wait()
}

// client registers its services again and again, each time in a new version,
// and has them leave now and then.
type client struct {
	name         int
	random       *rand.Rand
	services     []service
	version      int
	acknowledged int
}

// service is what is known of one: what was acknowledged last, and what may have
// come true without that.
type service struct{ is, may state }

// state is that of a service: a version, or 0 while it is not there.
type state int

// speak goes on until the server is gone.
func (c *client) speak(conn *grpc.ClientConn) {
	ctx := context.Background()
	plane := flowctlv1.NewControlPlaneServiceClient(conn)
	for err := error(nil); err == nil; {
		n := c.random.IntN(len(c.services))
		svc, id := &c.services[n], c.id(n)
		switch c.random.IntN(6) {
		case 0:
			svc.may = 0
			_, err = plane.UnregisterComponent(ctx, &flowctlv1.UnregisterRequest{ServiceId: id})
		case 1:
			if svc.is == 0 {
				continue // it would be taken in by its heartbeat
			}
			_, err = plane.Heartbeat(ctx, &flowctlv1.HeartbeatRequest{ServiceId: id, Metrics: map[string]string{"n": "1"}})
			continue
		default:
			c.version++
			svc.may = state(c.version)
			_, err = plane.RegisterComponent(ctx, &flowctlv1.RegisterRequest{Component: &flowctlv1.ComponentInfo{
				Id: id, Version: strconv.Itoa(c.version), Type: flowctlv1.ComponentType_COMPONENT_TYPE_PROCESSOR,
			}})
		}
		if err == nil {
			svc.is = svc.may
			c.acknowledged++
		}
	}
}

func (c *client) id(n int) string { return fmt.Sprintf("client-%d-%d", c.name, n) }

// compare compares what a server that was started anew knows with what its
// predecessors have acknowledged, and returns how much is lost.
func compare(t *testing.T, conn *grpc.ClientConn, all []*client) (lost int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), site.Patience)
	defer cancel()
	answer, err := registryv1.NewRegistryServiceClient(conn).ListServices(ctx, &registryv1.ListServicesRequest{}, grpc.WaitForReady(true))
	if status.Code(err) != codes.OK {
		t.Fatalf("list: %v", err)
	}
	known := map[string]state{}
	for _, s := range answer.GetServices() {
		version, err := strconv.Atoi(s.GetVersion())
		if err != nil {
			t.Errorf("%s has the version %q: %v", s.GetId(), s.GetVersion(), err)
		}
		known[s.GetId()] = state(version)
		if s.GetHealthy() || s.GetTier() != "unknown" {
			t.Errorf("%s is %s by hearsay", s.GetId(), s.GetTier())
		}
	}
	for _, c := range all {
		for n := range c.services {
			svc := &c.services[n]
			got := known[c.id(n)]
			if got != svc.is && got != svc.may {
				t.Errorf("%s: version %d, acknowledged was %d, and %d was under way (0: not there)", c.id(n), got, svc.is, svc.may)
				lost++
			}
			svc.is, svc.may = got, got
		}
	}
	return lost
}

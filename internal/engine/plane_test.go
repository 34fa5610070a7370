package engine

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// However short the TTL is, components are asked to beat within it.
func TestHeartbeatInterval(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, time.Minute: 10 * time.Second, 30 * time.Second: 10 * time.Second,
		15 * time.Second: 5 * time.Second, 3 * time.Second: time.Second, time.Millisecond: time.Millisecond,
	} {
		p := &plane{opts: ControlPlane{TTL: ttl}}
		if got := p.heartbeatInterval(); got != want {
			t.Errorf("TTL %s: %s, want %s", ttl, got, want)
		}
	}
}

// sharedPlane serves a control plane that runs may share, until the test ends.
func sharedPlane(t *testing.T, token string) (endpoint string) {
	t.Helper()
	lis, err := controlplane.Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	server, err := controlplane.New(controlplane.Options{
		Registry: registry.New(registry.Options{}), Access: controlplane.Access{Token: token},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, lis); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return lis.Addr().String()
}

// What is shared is named to components as gRPC takes it.
func TestSharedEndpoint(t *testing.T) {
	endpoint := sharedPlane(t, "token")
	for _, spelling := range []string{endpoint, "http://" + endpoint, "http://" + endpoint + "/"} {
		p, problems := openPlane(ControlPlane{Join: controlplane.Target{Endpoint: spelling, Token: "token"}}, "p", "p-1", "", func(journal.Entry) {}, func(string) {})
		if len(problems) > 0 || p.endpoint() != endpoint {
			t.Errorf("%s: %q, %v", spelling, p.endpoint(), problems)
		}
		p.close()
	}
}

// A run that does not come about, because something else is in the way, is not in
// the way of the next one.
func TestAFailedStartLeavesASharedPlane(t *testing.T) {
	join := controlplane.Target{Endpoint: sharedPlane(t, "token"), Token: "token"}
	for range 2 {
		p := load(t, "  sinks:\n    - {id: snk, command: [/none/such], registration: none}\n")
		_, err := New(t.Context(), Options{Pipeline: p, ControlPlane: ControlPlane{Join: join}, LogDir: filepath.Join(t.TempDir(), "logs")})
		if problems, ok := err.(*PreflightError); !ok || len(problems.Problems) != 1 {
			t.Fatalf("New: %v", err)
		}
	}
}

package controlplane

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/withobsrvr/flowctl/internal/registry"
)

func TestListenOnATakenPort(t *testing.T) {
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	port := lis.Addr().(*net.TCPAddr).Port
	_, err = Listen("127.0.0.1", port)
	var taken *PortInUseError
	if !errors.As(err, &taken) || taken.Address != "127.0.0.1" || taken.Port != port {
		t.Fatalf("Listen: %#v", err)
	}
	number := strconv.Itoa(port)
	same(t, "message", err.Error(), "listen on 127.0.0.1:"+number+": port "+number+" is in use")
	_, err = Listen("192.0.2.1", 0)
	if err == nil || errors.As(err, &taken) {
		t.Errorf("Listen on somebody else's address: %v", err)
	}
}

func TestClient(t *testing.T) {
	// A proxy for the world must not be asked for a neighbour.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	b := serve(t, lis, lis.Addr().String())
	defer b.stop()
	defer b.conn.Close()
	b.registry.Register(registry.Registration{ServiceID: "b", Role: registry.Sink})
	b.registry.Expect(registry.Expected{ID: "a"})
	b.registry.Register(registry.Registration{ComponentID: "a", Role: registry.Source})
	b.registry.Heartbeat("a", registry.Beat{Metrics: map[string]float64{"n": 3}})
	for _, endpoint := range []string{lis.Addr().String(), "http://" + lis.Addr().String(), "http://" + lis.Addr().String() + "/"} {
		c, err := Dial(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		got, err := c.List(t.Context())
		if err != nil || len(got) != 2 {
			t.Fatalf("List at %s: %v, %v", endpoint, got, err)
		}
		a := got[0]
		if a.ID != "a" || a.Component != "a" || a.Role != registry.Source || !a.Healthy || a.Metrics["n"] != 3 || time.Since(a.LastSeen) > time.Minute {
			t.Errorf("a is %+v", a)
		}
		c.Close()
	}
}

func TestClientWithoutControlPlane(t *testing.T) {
	for _, endpoint := range []string{"", "localhost", "https://localhost:8080", "http://"} {
		if c, err := Dial(endpoint); err == nil {
			c.Close()
			t.Errorf("Dial(%q) succeeded", endpoint)
		}
	}
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	lis.Close() // nobody there
	c, err := Dial(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.List(t.Context())
	wantCode(t, "List", errors.Unwrap(err), codes.Unavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
}

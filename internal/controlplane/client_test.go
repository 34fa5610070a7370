package controlplane

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	var taken *ListenError
	if !errors.As(err, &taken) || taken.Address != "127.0.0.1" || taken.Port != port || !taken.InUse {
		t.Fatalf("Listen: %#v", err)
	}
	number := strconv.Itoa(port)
	same(t, "message", err.Error(), "listen on 127.0.0.1:"+number+": port "+number+" is in use")
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "stale")
	left, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	for _, test := range []struct{ address, say string }{
		{"192.0.2.1", "192.0.2.1 is no address of this machine; its addresses are 127.0.0.1, "},
		{"no-such-host.invalid", "no-such-host.invalid is no address of this machine"},
		{"unix://" + file, "there is a file of that name, and it is no socket"},
		{"unix://relative", "the path of a socket must be absolute"},
		{"unix://" + dir + "/none/socket", "the folder " + dir + "/none does not exist"},
		{"unix:///" + strings.Repeat("x", 200), "the path has 201 bytes, and a socket's may have 103"},
		{"::1", ""}, {"[::1]", ""}, {"localhost", ""}, {"unix://" + dir + "/socket", ""}, {"unix://" + stale, ""},
	} {
		lis, err := Listen(test.address, 0)
		if lis != nil {
			defer lis.Close()
		}
		if test.say == "" {
			if err != nil {
				t.Errorf("%s: %v", test.address, err)
			}
			continue
		}
		var failed *ListenError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), test.say) || failed.InUse != (test.address == "unix://"+file) {
			t.Errorf("%s: %v, want %q", test.address, err, test.say)
		}
	}
	if info, err := os.Stat(dir + "/socket"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v, %v", info.Mode(), err)
	}
	for _, nothing := range []string{"", "[]"} {
		lis, err := Listen(nothing, 0)
		if err != nil {
			t.Fatal(err)
		}
		if ip := lis.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
			t.Errorf("an address of %q is %s", nothing, ip)
		}
		lis.Close()
	}
	if _, err := Listen("unix://"+dir+"/socket", 0); err == nil || !strings.Contains(err.Error(), "somebody listens there already") {
		t.Errorf("a socket that is in use: %v", err)
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
		c, err := Dial(Target{Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		got, err := c.List(t.Context(), registry.Filter{})
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
	for _, endpoint := range []string{"", "localhost", "ftp://localhost:8080", "http://"} {
		if c, err := Dial(Target{Endpoint: endpoint}); err == nil {
			c.Close()
			t.Errorf("Dial(%q) succeeded", endpoint)
		}
	}
	lis, err := Listen("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	lis.Close() // nobody there
	c, err := Dial(Target{Endpoint: lis.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.List(t.Context(), registry.Filter{})
	wantCode(t, "List", errors.Unwrap(err), codes.Unavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
}

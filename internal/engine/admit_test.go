package engine

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/withobsrvr/flowctl/internal/authority"
	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
)

func TestNeighboursOnly(t *testing.T) {
	for subnet, welcome := range map[string]bool{"127.0.0.0/8": true, "10.0.0.0/8": false} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taken := make(chan bool, 1)
		go func() {
			conn, err := (&neighbours{Listener: lis, subnet: netip.MustParsePrefix(subnet)}).Accept()
			if err == nil {
				_, _ = conn.Write([]byte("welcome"))
				_ = conn.Close()
			}
			taken <- err == nil
		}()
		conn, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(conn)
		_ = conn.Close()
		_ = lis.Close()
		if got := <-taken; got != welcome || (string(text) == "welcome") != welcome {
			t.Errorf("from %s: taken in: %v, heard %q", subnet, got, text)
		}
	}
}

func TestCertifiedHost(t *testing.T) {
	for _, test := range []struct {
		names      []string
		host, want string
	}{
		{[]string{"localhost", "172.18.0.1"}, "172.18.0.1", "172.18.0.1"},
		{[]string{"localhost", driver.HostName}, "172.18.0.1", driver.HostName},
		{[]string{"localhost"}, "172.18.0.1", ""},
	} {
		a, err := authority.New(t.TempDir()+"/ca", "test")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Issue("plane", nil, test.names...); err != nil {
			t.Fatal(err)
		}
		cert, key := a.Files("plane")
		got, err := certifiedHost(controlplane.TLSFiles{Cert: cert, Key: key}, test.host)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("for %v: %q, %v; want %q", test.names, got, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), driver.HostName) {
			t.Errorf("it does not say which name: %v", err)
		}
	}
}

// Where a control plane listens that is shared cannot be changed.
func TestAdmitShared(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	// The loopback is this machine's address in any network.
	n := docker.Network{Gateway: netip.MustParseAddr("127.0.0.1"), Host: "127.0.0.1"}
	for shared, want := range map[string]string{
		"localhost:" + port:         "127.0.0.1:" + port,
		"https://localhost:" + port: "https://127.0.0.1:" + port,
		"plane.example:8080":        "plane.example:8080",
		"localhost:1":               "",
		"unix:///run/flowctl.sock":  "",
	} {
		p := &plane{opts: ControlPlane{Join: controlplane.Target{Endpoint: shared}}}
		got, err := p.admitShared(t.Context(), n)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", shared, got, err, want)
		}
	}
}

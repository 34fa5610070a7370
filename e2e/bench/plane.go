package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/withobsrvr/flowctl/internal/authority"
	"github.com/withobsrvr/flowctl/internal/controlplane"
)

// shapes are how calls are made: from many clients, one call at a time each, and
// from one that has many under way.
var shapes = []struct {
	name               string
	connections, calls int
}{
	{"16 connections", 16, 1},
	{"1 connection, 64 in flight", 1, 64},
}

// measurePlane measures the calls of the control plane against a gRPC server
// whose handlers do nothing, and against the keep-alives of etcd's leases.
func measurePlane(ctx context.Context, h *host, s scale) (rows []row, err error) {
	certs, err := authority.New(filepath.Join(h.dir, "tls"), "bench")
	if err == nil {
		err = certs.Issue("party", nil, "127.0.0.1")
	}
	if err != nil {
		return nil, err
	}
	cert, key := certs.Files("party")
	files := controlplane.TLSFiles{Cert: cert, Key: key, CA: certs.CA()}
	secure := []string{"--tls-cert", cert, "--tls-key", key, "--tls-ca-cert", certs.CA()}
	launches := map[string]launch{
		"echo":        {program: h.echo},
		"memory":      {program: h.flowctl, args: []string{"server", "--port", "0", "--db-path", ""}},
		"bbolt":       {program: h.flowctl, args: []string{"server", "--port", "0", "--db-path", filepath.Join(h.dir, "bench.db")}},
		"echo, TLS":   {program: h.echo, args: []string{cert, key, certs.CA()}, tls: files},
		"memory, TLS": {program: h.flowctl, args: append([]string{"server", "--port", "0", "--db-path", ""}, secure...), tls: files},
	}
	var beats []task
	for name := range launches {
		beats = append(beats, task{name, name, heartbeat})
	}
	if _, err := exec.LookPath("etcd"); err == nil {
		launches["etcd"] = launch{program: "etcd", args: etcdArgs(filepath.Join(h.dir, "etcd")), addr: "127.0.0.1:23790"}
		beats = append(beats, task{"etcd, a call each", "etcd", keepAliveOnce}, task{"etcd, open streams", "etcd", keepAliveOpen})
	} else {
		fmt.Fprintln(h.stderr, "there is no etcd here to compare with: apt-get install etcd-server")
	}
	fleet, err := h.startFleet(ctx, launches)
	defer fleet.stop()
	if err != nil {
		return nil, err
	}
	for _, shape := range shapes {
		speeds, err := fleet.compare(ctx, s, shape.connections, shape.calls, beats)
		if err != nil {
			return rows, fmt.Errorf("heartbeats, %s: %w", shape.name, err)
		}
		rows = append(rows, heartbeatRows("heartbeats, "+shape.name, speeds)...)
	}
	speeds, err := fleet.compare(ctx, s, shapes[0].connections, shapes[0].calls, []task{{"echo", "echo", registration}, {"memory", "memory", registration}})
	if err == nil {
		rows = append(rows, compare("registrations, 16 connections", "calls/s", speeds["echo"].rate, speeds["memory"].rate, atLeast(0.90)))
	}
	return rows, err
}

// heartbeatRows are what one shape of calls has shown.
func heartbeatRows(of string, speeds map[string]*speeds) []row {
	rows := []row{
		compare(of, "calls/s", speeds["echo"].rate, speeds["memory"].rate, atLeast(0.95)),
		compare(of+", 99th percentile", "ms", speeds["echo"].p99, speeds["memory"].p99, atMost(1.5)),
		compare(of+", with bbolt", "calls/s", speeds["echo"].rate, speeds["bbolt"].rate, atLeast(0.90)),
		compare(of+", mutual TLS", "calls/s", speeds["echo, TLS"].rate, speeds["memory, TLS"].rate, atLeast(0.85)),
	}
	if once := speeds["etcd, a call each"]; once != nil {
		rows = append(rows,
			compare(of+", etcd's keep-alives, a call each", "calls/s", once.rate, speeds["memory"].rate, atLeast(1)),
			compare(of+", etcd's over open streams", "calls/s", speeds["etcd, open streams"].rate, speeds["memory"].rate, recorded))
	}
	return rows
}

// etcdArgs make an etcd that keeps to itself.
func etcdArgs(dir string) []string {
	return []string{"--data-dir", dir, "--listen-client-urls", "http://127.0.0.1:23790", "--advertise-client-urls", "http://127.0.0.1:23790",
		"--listen-peer-urls", "http://127.0.0.1:23800", "--initial-advertise-peer-urls", "http://127.0.0.1:23800",
		"--initial-cluster", "default=http://127.0.0.1:23800", "--log-level", "error"}
}

// speeds are the samples of one server: calls a second, and the 99th percentile
// of how long they took, in milliseconds.
type speeds struct{ rate, p99 []float64 }

// burst is how long calls are made for one sample, settling how long before it
// they are made without being counted.
const (
	burst    = time.Second
	settling = 100 * time.Millisecond
)

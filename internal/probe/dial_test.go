package probe_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/withobsrvr/flowctl/internal/probe"
)

// listen takes a free port of this machine.
func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis
}

func port(lis net.Listener) int { return lis.Addr().(*net.TCPAddr).Port }

func TestTCP(t *testing.T) {
	lis := listen(t)
	ask := probe.TCP(probe.Local(port(lis)))
	if err := ask(t.Context()); err != nil {
		t.Errorf("with a listener: %v", err)
	}
	lis.Close()
	err := ask(t.Context())
	if err == nil || !strings.HasSuffix(err.Error(), ":"+strconv.Itoa(port(lis))+": connection refused") {
		t.Errorf("without a listener: %v, want the address and that it refuses", err)
	}
}

// healthService serves the standard gRPC health service.
func healthService(t *testing.T) (addr string, service *health.Server) {
	t.Helper()
	lis, server := listen(t), grpc.NewServer()
	service = health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, service)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() { server.Stop(); running.Wait() })
	return lis.Addr().String(), service
}

func TestGRPC(t *testing.T) {
	addr, service := healthService(t)
	service.SetServingStatus("ledgers", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	for _, test := range []struct{ service, want string }{
		{"", ""},
		{"ledgers", "grpc health check of " + addr + ": NOT_SERVING"},
		{"unheard.of", "grpc health check of " + addr + ": unknown service"},
	} {
		err := probe.GRPC(addr, test.service)(t.Context())
		if got := text(err); got != test.want {
			t.Errorf("service %q: %q, want %q", test.service, got, test.want)
		}
	}
	service.SetServingStatus("ledgers", grpc_health_v1.HealthCheckResponse_SERVING)
	if err := probe.GRPC(addr, "ledgers")(t.Context()); err != nil {
		t.Errorf("a service that has begun to serve: %v", err)
	}
}

func TestGRPCWhereNobodySpeaksIt(t *testing.T) {
	lis := listen(t) // accepts, and says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := probe.GRPC(lis.Addr().String(), "")(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("a server that says nothing: %v before the deadline", err)
	}
	lis.Close()
	err := probe.GRPC(lis.Addr().String(), "")(t.Context())
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("no server: %v, want that it refuses", err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Package grpcserver is how the Stellar components serve gRPC: where they
// listen, what every server offers, and how it ends.
package grpcserver

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// defaultAddress is where a component listens if nothing is said.
const defaultAddress = ":50051"

// Address is where to listen: GRPC_PORT, else PORT, else :50051. Both variables
// take a port (50051), :50051 or host:50051.
func Address(getenv func(string) string) (string, error) {
	for _, name := range []string{"GRPC_PORT", "PORT"} {
		value := getenv(name)
		if value == "" {
			continue
		}
		address := value
		if !strings.Contains(value, ":") {
			address = ":" + value
		}
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", fmt.Errorf("%s is %q: expected a port such as 50051, or host:port", name, value)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", fmt.Errorf("%s is %q: a port is a number from 0 to 65535", name, value)
		}
		return address, nil
	}
	return defaultAddress, nil
}

// Server is a gRPC server with the standard health service and reflection.
type Server struct {
	*grpc.Server
	health *health.Server
}

// New makes a server. Its health is NOT_SERVING until Ready is called.
func New(options ...grpc.ServerOption) *Server {
	s := &Server{Server: grpc.NewServer(options...), health: health.NewServer()}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s, s.health)
	reflection.Register(s)
	return s
}

// Ready makes the health service answer SERVING, for the server and for each of
// its services.
func (s *Server) Ready() {
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	for name := range s.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
}

// Run serves on listener until ctx ends, which is no error. It then takes no
// new calls, gives those that run until grace is over to end, and cuts the rest.
// Calls that never end by themselves must watch ctx.
func (s *Server) Run(ctx context.Context, listener net.Listener, grace time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	select {
	case err := <-served:
		s.Stop()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	cut := time.AfterFunc(grace, s.Stop)
	defer cut.Stop()
	s.GracefulStop()
	<-served
	return nil
}

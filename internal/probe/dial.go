package probe

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Local is the address of a port of this machine: both loopback addresses are tried.
func Local(port int) string { return net.JoinHostPort("localhost", strconv.Itoa(port)) }

// TCP asks whether addr accepts connections.
func TCP(addr string) Probe {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return brief(err)
		}
		return conn.Close()
	}
}

// GRPC asks the standard gRPC health service at addr for service ("" means the
// server as a whole) and wants SERVING.
func GRPC(addr, service string) Probe {
	return func(ctx context.Context) error {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithNoProxy(),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			return fmt.Errorf("grpc health check of %s: %s", addr, status.Convert(err).Message())
		}
		if resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			return fmt.Errorf("grpc health check of %s: %s", addr, resp.Status)
		}
		return nil
	}
}

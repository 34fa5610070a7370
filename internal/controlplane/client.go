package controlplane

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// Client asks a control plane, this one or an older one.
type Client struct {
	endpoint string
	conn     *grpc.ClientConn
}

// Dial returns a client for endpoint, host:port with or without http://. It
// connects at the first call, so that only a malformed endpoint is an error.
func Dial(endpoint string) (*Client, error) { return dial(endpoint) }

func dial(endpoint string, more ...grpc.DialOption) (*Client, error) {
	target := strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), "/")
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return nil, fmt.Errorf("dial control plane %q: want host:port: %w", endpoint, err)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// One that is just coming up is found quickly.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if ip := net.ParseIP(host); host == "localhost" || ip.IsLoopback() {
		opts = append(opts, grpc.WithNoProxy())
	}
	conn, err := grpc.NewClient("passthrough:///"+target, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dial control plane %q: %w", endpoint, err)
	}
	return &Client{endpoint: target, conn: conn}, nil
}

// Wait waits until the control plane can be reached. The error is ctx's.
func (c *Client) Wait(ctx context.Context) error {
	for {
		state := c.conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		c.conn.Connect()
		if !c.conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("wait for control plane %s: %w", c.endpoint, context.Cause(ctx))
		}
	}
}

// List returns all services, ordered by id, with their ID, Component, Role,
// Healthy, LastSeen and Metrics. It fails at once if nobody listens.
func (c *Client) List(ctx context.Context) ([]registry.Service, error) {
	list, err := flowctlpb.NewControlPlaneClient(c.conn).ListServices(ctx, &emptypb.Empty{})
	if err != nil {
		return nil, fmt.Errorf("list services of control plane %s: %w", c.endpoint, err)
	}
	services := make([]registry.Service, len(list.GetServices()))
	for i, s := range list.GetServices() {
		services[i] = registry.Service{
			ID:        s.GetServiceId(),
			Component: s.GetComponentId(),
			Role:      roleOf(s.GetServiceType()),
			Healthy:   s.GetIsHealthy(),
			LastSeen:  s.GetLastHeartbeat().AsTime(),
			Metrics:   s.GetMetrics(),
		}
	}
	return services, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

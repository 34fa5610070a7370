package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// Target is a control plane, and what is shown there.
type Target struct {
	// Endpoint is host:port, with or without http:// before it, https://host:port,
	// or unix:///path.
	Endpoint string
	// TLS, if set, encrypts the connection; https:// does so too.
	TLS TLSFiles
	// Pinned, if not empty, is a file of the server's own certificate: no other is
	// trusted, and its name does not count.
	Pinned string
	// Token, if not empty, says who calls.
	Token string
}

// encrypted reports whether its fields want TLS.
func (t Target) encrypted() bool { return t.TLS.Set() || t.Pinned != "" }

// Client asks a control plane, this one or an older one.
type Client struct {
	endpoint  string
	encrypted bool
	conn      *grpc.ClientConn
}

// maxAnswer bounds an answer, in bytes: a list of very many services, or a block of
// output, which is never split, however long its line.
const maxAnswer = 128 << 20

// Dial returns a client. It connects at the first call, so that only a malformed
// endpoint and unreadable files are errors.
func Dial(target Target) (*Client, error) {
	c, dialed, err := resolve(target)
	if err != nil {
		return nil, fmt.Errorf("dial control plane %q: %w", target.Endpoint, err)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// One that is just coming up is found quickly.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
	if c.encrypted {
		config, err := clientTLS(target.TLS, target.Pinned, dialed.host)
		if err != nil {
			return nil, fmt.Errorf("dial control plane %q: %w", target.Endpoint, err)
		}
		opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	}
	if target.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(access(target.Token)))
	}
	if ip := net.ParseIP(dialed.host); dialed.host == "localhost" || ip.IsLoopback() {
		opts = append(opts, grpc.WithNoProxy())
	}
	if c.conn, err = grpc.NewClient(dialed.target, opts...); err != nil {
		return nil, fmt.Errorf("dial control plane %q: %w", target.Endpoint, err)
	}
	return c, nil
}

// destination is where gRPC is to connect, and the host's name there.
type destination struct{ target, host string }

// resolve reads an endpoint.
func resolve(t Target) (*Client, destination, error) {
	if strings.HasPrefix(t.Endpoint, unixScheme) {
		return &Client{endpoint: t.Endpoint, encrypted: t.encrypted()}, destination{t.Endpoint, "localhost"}, nil
	}
	hostPort, https := strings.CutPrefix(t.Endpoint, "https://")
	hostPort, http := strings.CutPrefix(hostPort, "http://")
	hostPort = strings.TrimSuffix(hostPort, "/")
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, destination{}, fmt.Errorf("want host:port or unix:///path: %w", err)
	}
	if http && t.encrypted() {
		return nil, destination{}, errors.New("http:// means no TLS, and files for TLS are given: use https://")
	}
	// passthrough leaves the name to the dialer, which asks again every time.
	return &Client{endpoint: hostPort, encrypted: https || t.encrypted()}, destination{"passthrough:///" + hostPort, host}, nil
}

// Wait waits until the control plane can be reached, or it is known what keeps
// the client from that and waiting will not mend. The error is that, or ctx's.
func (c *Client) Wait(ctx context.Context) error {
	for {
		state := c.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure:
			if problem := c.obstacle(ctx); problem != nil {
				return fmt.Errorf("reach control plane %s: %w", c.endpoint, problem)
			}
		}
		c.conn.Connect()
		if !c.conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("wait for control plane %s: %w", c.endpoint, context.Cause(ctx))
		}
	}
}

// obstacle is what keeps the client from the server for good, if anything does:
// a connection's own error is told to calls only.
func (c *Client) obstacle(ctx context.Context) error {
	_, err := flowctlpb.NewControlPlaneClient(c.conn).GetServiceStatus(ctx, &flowctlpb.ServiceInfo{})
	if status.Code(err) != codes.Unavailable {
		return nil // it has answered
	}
	return c.problem(err)
}

// RefusedError is why a control plane that is there does not answer as it
// should: TLS, a certificate, a token.
type RefusedError struct{ text string }

// Error is the reason, in words.
func (e RefusedError) Error() string { return e.text }

// problem is what keeps the client from the server, if err says so, else nil.
func (c *Client) problem(err error) error {
	s, ok := status.FromError(err)
	switch {
	case !ok || s.Code() == codes.OK:
		return nil
	case s.Code() == codes.Unauthenticated, s.Code() == codes.PermissionDenied, s.Code() == codes.FailedPrecondition, s.Code() == codes.AlreadyExists:
		return RefusedError{s.Message()}
	case s.Code() != codes.Unavailable:
		return nil
	}
	if words := connectionProblem(err, c.encrypted); words != "" {
		return RefusedError{words}
	}
	return nil
}

// failed is why a call has failed, in words where they are known.
func (c *Client) failed(what string, err error) error {
	if problem := c.problem(err); problem != nil {
		err = problem
	}
	return &callError{fmt.Sprintf("%s control plane %s", what, c.endpoint), err}
}

// callError is a call that has failed, without what gRPC adds to the reason.
type callError struct {
	what string
	err  error
}

func (e *callError) Error() string {
	if s, ok := status.FromError(e.err); ok {
		return e.what + ": " + s.Message()
	}
	return e.what + ": " + e.err.Error()
}

// Unwrap returns the call's error.
func (e *callError) Unwrap() error { return e.err }

// List returns the services that the filter lets through, ordered by id. It
// fails at once if nobody listens. Older control planes tell of each service its
// ID, Component, Role, Healthy, LastSeen and Metrics, and filter nothing else.
func (c *Client) List(ctx context.Context, f registry.Filter) ([]registry.Service, error) {
	list, err := registryv1.NewRegistryServiceClient(c.conn).ListServices(ctx, &registryv1.ListServicesRequest{Filter: filterToWire(f)})
	if status.Code(err) == codes.Unimplemented {
		return c.listOld(ctx, f)
	}
	if err != nil {
		return nil, c.failed("list services of", err)
	}
	return servicesFromWire(list.GetServices()), nil
}

func (c *Client) listOld(ctx context.Context, f registry.Filter) ([]registry.Service, error) {
	list, err := flowctlpb.NewControlPlaneClient(c.conn).ListServices(ctx, &emptypb.Empty{})
	if err != nil {
		return nil, c.failed("list services of", err)
	}
	var services []registry.Service
	for _, w := range list.GetServices() {
		s := registry.Service{
			ID:        w.GetServiceId(),
			Component: w.GetComponentId(),
			Role:      roleOf(w.GetServiceType()),
			Healthy:   w.GetIsHealthy(),
			LastSeen:  w.GetLastHeartbeat().AsTime(),
			Metrics:   w.GetMetrics(),
		}
		if f.Matches(&s) {
			services = append(services, s)
		}
	}
	return services, nil
}

// Description is one service with its history, the oldest event first.
type Description struct {
	registry.Service
	History []registry.Event
	// Gone is true when it is no more.
	Gone bool
}

// ErrUnknownService is the error for a service that nobody has heard of.
var ErrUnknownService = errors.New("no such service")

// Describe returns one service with its history; the error may be ErrUnknownService.
func (c *Client) Describe(ctx context.Context, id string) (Description, error) {
	w, err := registryv1.NewRegistryServiceClient(c.conn).DescribeService(ctx, &registryv1.DescribeServiceRequest{Id: id})
	if status.Code(err) == codes.NotFound {
		return Description{}, fmt.Errorf("%w: %s", ErrUnknownService, id)
	}
	if err != nil {
		return Description{}, c.failed("describe a service of", err)
	}
	d := Description{Service: serviceFromWire(w.GetService()), Gone: w.GetGone()}
	for _, e := range w.GetHistory() {
		d.History = append(d.History, registry.Event{Time: timeFromWire(e.GetTime()), Tier: registry.Tier(e.GetTier()), Text: e.GetText()})
	}
	return d, nil
}

// Change is what a watcher is told.
type Change struct {
	Changed []registry.Service
	Gone    []string
	// All is true when what was told before does not count any more: Changed here and in
	// what follows is all there are.
	All bool
	// Instance names the control plane's start: another one counts revisions anew.
	Instance string
}

// Watch calls tell with all services that the filter lets through and then with
// what changes among them, with metrics also when they are heard, until ctx is
// done or the control plane is gone, which is an error.
func (c *Client) Watch(ctx context.Context, f registry.Filter, metrics bool, tell func(Change)) error {
	stream, err := registryv1.NewRegistryServiceClient(c.conn).WatchServices(ctx, &registryv1.WatchServicesRequest{Filter: filterToWire(f), Metrics: metrics})
	for err == nil {
		var w *registryv1.WatchServicesResponse
		if w, err = stream.Recv(); err == nil {
			tell(Change{Changed: servicesFromWire(w.GetChanged()), Gone: w.GetGone(), All: w.GetAll(), Instance: w.GetInstance()})
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.failed("watch services of", err)
}

func servicesFromWire(list []*registryv1.Service) []registry.Service {
	services := make([]registry.Service, len(list))
	for i, w := range list {
		services[i] = serviceFromWire(w)
	}
	return services
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// ReadToken reads a token from a file: the first line.
func ReadToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token, _, _ := strings.Cut(string(text), "\n")
	if token = strings.TrimSpace(token); token == "" {
		return "", fmt.Errorf("there is no token in %s", path)
	}
	return token, nil
}

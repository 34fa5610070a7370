// Package controlplane is the gRPC face of the registry: one listener that
// serves flowctl.ControlPlane and flowctl.v1.ControlPlaneService over the same
// services, with standard health and reflection, and a thin client. It
// translates between the wire and the registry and decides nothing itself.
package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// stopGrace is how long calls that are under way may take to end at a stop.
const stopGrace = 2 * time.Second

// maxMessage bounds a received message, in bytes.
const maxMessage = 4 << 20

// Options configure a Server.
type Options struct {
	// Registry holds the services; required. Its janitor is run by its owner.
	Registry *registry.Registry
	// Run is served as flowctl.run.v1 to callers that show Token; nil: there is none.
	Run   Run
	Token string
	// Logger receives panics of handlers; nil discards them.
	Logger *slog.Logger
}

// Server serves the control plane.
type Server struct {
	registry *registry.Registry
	run      Run
	token    string
	logger   *slog.Logger
}

// New returns a server that serves nothing yet: see Serve.
func New(opts Options) *Server {
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Server{registry: opts.Registry, run: opts.Run, token: opts.Token, logger: logger}
}

// Serve serves on lis until ctx ends and then stops: calls under way and who
// follows the run get two seconds, other streams are ended at once. It closes
// lis, returns when all it started has ended, and returns nil unless lis broke.
// It may be called once more after it has returned, with another listener.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	tracked := newTracked(lis)
	streams, endStreams := context.WithCancel(context.Background())
	defer endStreams()
	server := s.assemble(streams)
	served := make(chan error, 1)
	go func() { served <- server.Serve(tracked) }()
	select {
	case err := <-served:
		server.Stop()
		return fmt.Errorf("serve control plane on %s: %w", lis.Addr(), err)
	case <-ctx.Done():
	}
	endStreams()
	graceful := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(graceful)
	}()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-graceful:
	case <-grace.C:
		// Stop alone would wait for peers that connected and never spoke.
		tracked.closeConns()
		server.Stop()
		<-graceful
	}
	<-served
	return nil
}

// assemble builds the gRPC server; streaming calls end with streams.
func (s *Server) assemble(streams context.Context) *grpc.Server {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return s.stream(streams, srv, ss, info.FullMethod, handler)
		}),
	)
	flowctlpb.RegisterControlPlaneServer(server, &wire{registry: s.registry})
	flowctlv1.RegisterControlPlaneServiceServer(server, &wireV1{registry: s.registry})
	if s.run != nil {
		runv1.RegisterRunServiceServer(server, &runService{run: s.run})
	}
	// Answers SERVING for the server as a whole, which is the empty name.
	checks := health.NewServer()
	for name := range server.GetServiceInfo() {
		checks.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(server, checks)
	reflection.Register(server)
	return server
}

// unary translates errors and survives a handler's panic.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer s.survive(info.FullMethod, &err)
	if err := s.authorize(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	resp, err = handler(ctx, req)
	return resp, wireError(err)
}

// stream ends a stream together with streams and survives a handler's panic.
// Who follows the run gets all of it: such a stream ends by itself, with the journal.
func (s *Server) stream(streams context.Context, srv any, ss grpc.ServerStream, method string, handler grpc.StreamHandler) (err error) {
	defer s.survive(method, &err)
	if err := s.authorize(ss.Context(), method); err != nil {
		return err
	}
	if isRunMethod(method) {
		return handler(srv, ss)
	}
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	defer context.AfterFunc(streams, cancel)()
	return handler(srv, endable{ss, ctx})
}

// survive turns a panic into an error for the one call it happened in.
func (s *Server) survive(what string, err *error) {
	if p := recover(); p != nil {
		s.logger.Error("control plane handler panicked", "method", what, "panic", p, "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "%s: internal error", what)
	}
}

// endable is a stream with a context that ends when the server stops.
type endable struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the stream's context.
func (e endable) Context() context.Context { return e.ctx }

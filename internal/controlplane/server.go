// Package controlplane is the face of the registry: listeners that serve
// flowctl.ControlPlane and flowctl.v1.ControlPlaneService over the same
// services, flowctl.registry.v1 for those who look, flowctl.run.v1 for those who
// operate a run, standard health, reflection and a little HTTP, on one port;
// and thin clients. It translates between the wire and the registry, knows who
// may call, and decides nothing else.
package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// stopGrace is how long calls that are under way may take to end at a stop.
const stopGrace = 2 * time.Second

// What one client may ask for at most; see also door and registry.
const (
	maxMessage  = 512 << 10 // bytes of a message
	maxHeaders  = 16 << 10  // bytes of a call's metadata
	maxStreams  = 128       // calls under way on one connection
	longestIdle = 10 * time.Minute
)

// callWorkers are the goroutines that are kept for calls: one that is started for
// a call must grow its stack first. When all are busy more are started.
const callWorkers = 32

// Options configure a Server.
type Options struct {
	// Registry holds the services; required. Its janitor is run by its owner.
	Registry *registry.Registry
	// Run is served as flowctl.run.v1 to operators; nil: there is none.
	Run Run
	// Pipeline is the name of the run's pipeline: no other run may join as that.
	Pipeline string
	// Access says who may call.
	Access Access
	// TLS, if set, encrypts everything, and with a CA wants certificates of clients.
	TLS TLSFiles
	// OperatorCA, where certificates are wanted, is a file of another authority whose
	// certificates are as good.
	OperatorCA string
	// Hosts are names, beside those of this machine, under which HTTP may be asked.
	Hosts []string
	// Metrics, if not nil, is served as /metrics.
	Metrics http.Handler
	// Observe, if not nil, is told of each call that has ended; it must be quick.
	Observe func(method string, code codes.Code, took time.Duration)
	// Trace, if not nil, follows calls.
	Trace stats.Handler
	// Notice, if not nil, is told in a sentence who was turned away, not too often.
	Notice func(text string)
	// Logger receives panics of handlers; nil discards them.
	Logger *slog.Logger
}

// Server serves the control plane.
type Server struct {
	opts     Options
	registry *registry.Registry
	access   Access
	tls      *tls.Config
	logger   *slog.Logger
	turned   *rarely
}

// New returns a server that serves nothing yet: see Serve. The error is about
// the files of TLS.
func New(opts Options) (*Server, error) {
	s := &Server{opts: opts, registry: opts.Registry, access: opts.Access, logger: opts.Logger}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.opts.Notice == nil {
		s.opts.Notice = func(string) {}
	}
	s.turned = newRarely(s.opts.Notice)
	if opts.TLS.Set() {
		var err error
		if s.tls, err = serverTLS(opts.TLS, opts.OperatorCA); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Serve serves on the listeners until ctx ends and then stops: calls under way
// and who follows the run get two seconds, other streams are ended at once. It
// closes the listeners, returns when all it started has ended, and returns nil
// unless a listener broke.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	streams, endStreams := context.WithCancel(context.Background())
	defer endStreams()
	door := newDoor(s.tls, s.turned.tell)
	servers := s.assemble(streams, door)
	var serving sync.WaitGroup
	for _, serve := range servers.serve {
		serving.Go(serve)
	}
	broken := make(chan error, len(listeners))
	for _, lis := range listeners {
		serving.Go(func() { broken <- fmt.Errorf("serve control plane on %s: %w", lis.Addr(), door.open(lis)) })
	}
	var err error
	select {
	case err = <-broken:
	case <-ctx.Done():
	}
	for _, lis := range listeners {
		_ = lis.Close()
	}
	endStreams()
	servers.stop(door)
	serving.Wait()
	return err
}

// servers are those behind the door.
type servers struct {
	grpc, lost *grpc.Server
	http       *http.Server
	serve      []func()
}

// assemble builds the servers; streaming calls end with streams.
func (s *Server) assemble(streams context.Context, d *door) *servers {
	all := &servers{grpc: s.assembleGRPC(streams), lost: lostServer(), http: s.assembleHTTP()}
	all.serve = []func(){
		func() { _ = all.grpc.Serve(d.grpc) },
		func() { _ = all.lost.Serve(d.lost) },
		func() { _ = all.http.Serve(d.http) },
	}
	return all
}

// stop lets what is under way end, for stopGrace at most.
func (all *servers) stop(d *door) {
	grace, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		all.grpc.GracefulStop()
		_ = all.http.Shutdown(grace)
	}()
	select {
	case <-graceful:
	case <-grace.Done():
	}
	// Stop alone would wait for peers that connected and never spoke.
	d.close()
	all.grpc.Stop()
	all.lost.Stop()
	_ = all.http.Close()
	<-graceful
}

// assembleGRPC builds the gRPC server.
func (s *Server) assembleGRPC(streams context.Context) *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(manners),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(callWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: longestIdle}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return s.stream(streams, srv, ss, info.FullMethod, handler)
		}),
	}
	if s.tls != nil {
		opts = append(opts, grpc.Creds(handshaken{}))
	}
	if s.opts.Trace != nil {
		opts = append(opts, grpc.StatsHandler(s.opts.Trace))
	}
	server := grpc.NewServer(opts...)
	flowctlpb.RegisterControlPlaneServer(server, &wire{registry: s.registry, access: s.access, run: s.opts.Run})
	flowctlv1.RegisterControlPlaneServiceServer(server, &wireV1{registry: s.registry, access: s.access})
	registryv1.RegisterRegistryServiceServer(server, &registryService{registry: s.registry, own: s.opts.Pipeline, joined: newJoined(), instance: rand.Text(), stopping: streams, watching: make(chan struct{}, maxWatches)})
	if s.opts.Run != nil {
		runv1.RegisterRunServiceServer(server, &runService{run: s.opts.Run})
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

// lostServer tells gRPC clients that speak no TLS that they should.
func lostServer() *grpc.Server {
	return grpc.NewServer(grpc.ConnectionTimeout(manners), grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.Error(codes.FailedPrecondition, "this control plane speaks TLS only: connect with TLS (flowctl: --tls-ca-cert, components: FLOWCTL_TLS_CA)")
	}))
}

// unary translates errors and survives a handler's panic.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	begin := time.Now()
	resp, err = s.answer(ctx, req, info.FullMethod, handler)
	if err != nil {
		err = s.refuse(ctx, wireError(err))
	}
	if s.opts.Observe != nil {
		s.opts.Observe(info.FullMethod, status.Code(err), time.Since(begin))
	}
	return resp, err
}

// answer lets the handler answer one who may ask.
func (s *Server) answer(ctx context.Context, req any, method string, handler grpc.UnaryHandler) (resp any, err error) {
	defer s.survive(method, &err)
	if err := s.authorize(ctx, method); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// stream ends a stream together with streams and survives a handler's panic.
// Who follows the run gets all of it: such a stream ends by itself, with the journal.
func (s *Server) stream(streams context.Context, srv any, ss grpc.ServerStream, method string, handler grpc.StreamHandler) (err error) {
	defer s.survive(method, &err)
	if err := s.authorize(ss.Context(), method); err != nil {
		return s.refuse(ss.Context(), err)
	}
	if isRunMethod(method) {
		return handler(srv, ss)
	}
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	defer context.AfterFunc(streams, cancel)()
	return wireError(handler(srv, endable{ss, ctx}))
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

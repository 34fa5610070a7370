package flowctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
)

const (
	// callTimeout bounds one call in the background.
	callTimeout = 5 * time.Second
	// Retries of a registration the control plane refused or did not answer.
	retryMin, retryMax = 100 * time.Millisecond, 5 * time.Second
	// farewellTimeout bounds deregistration, so that Leave keeps its promise of
	// two seconds on a busy machine too.
	farewellTimeout = 1500 * time.Millisecond
)

// errNotRegistered is Beat's error while the control plane does not know us.
var errNotRegistered = errors.New("not registered yet")

// link keeps a member known to its control plane.
type link struct {
	conn     *grpc.ClientConn
	target   target
	interval time.Duration
	info     *flowctlpb.ServiceInfo
	snapshot func() snapshot
	logger   *slog.Logger
	running  sync.WaitGroup
	// stop ends what goes on in the background, but a registration under way:
	// the control plane may know us already, and must hear that we leave. That
	// ends with abort.
	stop, abort context.CancelFunc
	// wanted is full when a registration is wanted.
	wanted chan struct{}
	// What has been told of connections that came to nothing, of calls that
	// were denied, and of files that could not be read again.
	connecting, admission, files notice

	mu        sync.Mutex // guards serviceID
	serviceID string     // "" until registered
}

// openLink starts to keep m known, and does not wait until it is.
func openLink(env environment, c Component, m *Member) (*link, error) {
	calls, abort := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(calls)
	l := &link{
		target:   env.target,
		interval: env.interval,
		info:     c.serviceInfo(env.healthEndpoint),
		snapshot: m.snapshot,
		logger:   c.Logger,
		stop:     stop,
		abort:    abort,
		wanted:   make(chan struct{}, 1),
	}
	var err error
	if l.conn, err = l.dial(); err != nil {
		abort()
		return nil, err
	}
	l.running.Go(func() { l.watch(ctx) })
	l.running.Go(func() { l.keep(ctx, calls) })
	return l, nil
}

// dial makes a connection that is tried anew for ever, often enough that a
// control plane that comes up late is found quickly.
func (l *link) dial() (*grpc.ClientConn, error) {
	creds, err := newHandshaker(l.target, l.refused, l.reread)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: callTimeout,
		}),
		grpc.WithIdleTimeout(0),
	}
	if l.target.token != "" {
		opts = append(opts, grpc.WithUnaryInterceptor(l.target.authorize))
	}
	// A proxy set for the outside world must not be asked for a neighbour.
	if l.target.near() {
		opts = append(opts, grpc.WithNoProxy())
	}
	conn, err := grpc.NewClient(l.target.name(), opts...)
	if err != nil {
		return nil, fmt.Errorf("dial control plane %s: %w", l.target.endpoint, err)
	}
	return conn, nil
}

// watch keeps the connection up and wants a registration whenever it has come
// up: the server at its other end may be a new one that knows nobody.
func (l *link) watch(ctx context.Context) {
	for {
		state := l.conn.GetState()
		switch state {
		case connectivity.Idle:
			l.conn.Connect()
		case connectivity.Ready:
			l.connecting.clear()
			l.want()
		}
		if !l.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// want asks for a registration.
func (l *link) want() {
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// keep registers when that is wanted, again until it succeeds, and sends
// heartbeats in between, until ctx ends. Registrations are made under calls.
func (l *link) keep(ctx, calls context.Context) {
	beats := time.NewTicker(l.interval)
	defer beats.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	delay := retryMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
			if err := l.beat(ctx); err != nil && ctx.Err() == nil {
				l.logger.Debug("heartbeat not delivered", "endpoint", l.target.endpoint, "error", err)
			}
			continue
		case <-retry.C:
		case <-l.wanted:
		}
		err := l.register(calls)
		switch {
		case err == nil:
			delay = retryMin
			retry.Stop()
			beats.Reset(l.interval)
		case ctx.Err() == nil:
			level := slog.LevelWarn
			if l.told(err) {
				level = slog.LevelDebug
			}
			l.logger.Log(ctx, level, "registration not accepted, trying again", "endpoint", l.target.endpoint, "after", delay, "error", err)
			retry.Reset(delay/2 + rand.N(delay/2+1))
			delay = min(2*delay, retryMax)
		}
	}
}

// register announces the component once.
func (l *link) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ack, err := flowctlpb.NewControlPlaneClient(l.conn).Register(ctx, l.info)
	if l.answered(err); err != nil {
		return fmt.Errorf("register with %s: %w", l.target.endpoint, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serviceID = ack.GetServiceId()
	if l.serviceID == "" {
		l.serviceID = l.info.GetServiceId()
	}
	l.logger.Info("registered", "endpoint", l.target.endpoint, "service", l.serviceID)
	return nil
}

// beat sends one heartbeat, and wants a registration if the control plane does.
func (l *link) beat(ctx context.Context) error {
	l.mu.Lock()
	id := l.serviceID
	l.mu.Unlock()
	if id == "" {
		return errNotRegistered
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	header, err := l.send(ctx, id, l.snapshot())
	again := len(header.Get("flowctl-register")) > 0 && header.Get("flowctl-register")[0] == "again"
	if again || status.Code(err) == codes.NotFound {
		l.want()
	}
	if l.answered(err); err != nil {
		return fmt.Errorf("send heartbeat to %s: %w", l.target.endpoint, err)
	}
	return nil
}

// send sends a heartbeat. Only the newer service takes a health with it: it is
// used once the component has said something, if the control plane serves it.
func (l *link) send(ctx context.Context, id string, now snapshot) (header metadata.MD, err error) {
	if now.spoken {
		_, err = flowctlv1.NewControlPlaneServiceClient(l.conn).Heartbeat(ctx, beatV1(id, now), grpc.Header(&header))
		if status.Code(err) != codes.Unimplemented {
			return header, err
		}
	}
	_, err = flowctlpb.NewControlPlaneClient(l.conn).Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{
		ServiceId: id,
		Timestamp: timestamppb.Now(),
		Metrics:   now.metrics,
	}, grpc.Header(&header))
	return header, err
}

func beatV1(id string, now snapshot) *flowctlv1.HeartbeatRequest {
	metrics := make(map[string]string, len(now.metrics))
	for name, value := range now.metrics {
		metrics[name] = strconv.FormatFloat(value, 'g', -1, 64)
	}
	return &flowctlv1.HeartbeatRequest{ServiceId: id, Status: now.state.wire(), Metrics: metrics}
}

func (h Health) wire() flowctlv1.HealthStatus {
	switch h {
	case Starting:
		return flowctlv1.HealthStatus_HEALTH_STATUS_STARTING
	case Healthy:
		return flowctlv1.HealthStatus_HEALTH_STATUS_HEALTHY
	case Degraded:
		return flowctlv1.HealthStatus_HEALTH_STATUS_DEGRADED
	case Unhealthy:
		return flowctlv1.HealthStatus_HEALTH_STATUS_UNHEALTHY
	case stopping:
		return flowctlv1.HealthStatus_HEALTH_STATUS_STOPPING
	default:
		return flowctlv1.HealthStatus_HEALTH_STATUS_UNKNOWN
	}
}

// close stops heartbeats, says farewell if the control plane knows us, and
// ends the connection.
func (l *link) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, l.abort)()
	l.stop()
	l.running.Wait()
	defer l.abort()
	defer l.conn.Close()
	l.mu.Lock()
	id := l.serviceID
	l.mu.Unlock()
	if id == "" {
		return nil
	}
	if err := l.farewell(ctx, id); err != nil {
		return fmt.Errorf("deregister at %s: %w", l.target.endpoint, err)
	}
	return nil
}

// farewell sends the last metrics, which a short-lived component has had no
// other heartbeat for, and deregisters. Control planes that know no
// deregistration, or no longer know us, are content without.
func (l *link) farewell(ctx context.Context, id string) error {
	if _, err := l.send(ctx, id, l.snapshot()); err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	_, err := flowctlv1.NewControlPlaneServiceClient(l.conn).UnregisterComponent(ctx, &flowctlv1.UnregisterRequest{ServiceId: id})
	if code := status.Code(err); code == codes.Unimplemented || code == codes.NotFound {
		return nil
	}
	return err
}

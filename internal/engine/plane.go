package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/withobsrvr/flowctl/internal/authority"
	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/journal"
	"github.com/withobsrvr/flowctl/internal/metrics"
	"github.com/withobsrvr/flowctl/internal/registry"
	"github.com/withobsrvr/flowctl/internal/store"
)

// ControlPlane configures a run's control plane.
type ControlPlane struct {
	// Address to listen on, "" for 127.0.0.1, or unix:///path. Port 0 takes a free one.
	Address string
	Port    int
	// TTL is how long after its last heartbeat a service stays healthy (0: 30 s),
	// JanitorInterval how often that is checked (0: 10 s), ExpireAfter how long a
	// silent stranger is remembered (0: 5 min).
	TTL, JanitorInterval, ExpireAfter time.Duration
	// Database is the file that keeps what it knows; "" keeps nothing.
	Database string
	// TLS encrypts it. With AutoTLS the files are made for the run: each component
	// gets a certificate of its own, which says who it is, and nobody else may call.
	TLS     controlplane.TLSFiles
	AutoTLS bool
	// AuthRequired turns away whoever shows neither token nor certificate; components
	// are handed tokens.
	AuthRequired bool
	// Hosts are further names that it is asked under.
	Hosts []string
	// Join, if it has an endpoint, is the control plane that the run shares with
	// others: components are told of that one. What listens here then is for
	// operating the run only.
	Join controlplane.Target
	// Trace, if not nil, follows calls.
	Trace stats.Handler
	// Version is flowctl's, for the metrics.
	Version string
}

// services keep the health of the run's components; ids are the pipeline's.
type services interface {
	Get(component string) (registry.Service, bool)
	Await(ctx context.Context, component string, cond func(registry.Service) bool) (registry.Service, error)
}

// plane is the control plane of a run: its own, or its part in a shared one.
type plane struct {
	opts          ControlPlane
	run, pipeline string
	token         string // the operators'
	notice        func(string)
	services      services

	listener net.Listener
	// gateway is where containers reach it, if they do not at the listener.
	gateway    net.Listener
	store      *store.Bolt
	registry   *registry.Registry
	authority  *authority.Authority // nil without TLS
	server     *controlplane.Server
	metrics    *metrics.Metrics
	client     *controlplane.Client     // nil unless it is shared
	membership *controlplane.Membership // nil unless it is shared
	served     bool
}

// openPlane opens what has to be open before anything is planned, and returns all
// that is in the way. It must be closed all the same.
func openPlane(opts ControlPlane, pipeline, run, certDir string, record func(journal.Entry), notice func(string)) (p *plane, problems []string) {
	p = &plane{opts: opts, run: run, pipeline: pipeline, token: rand.Text(), notice: notice}
	tell := func(err error) {
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	if opts.Join.Endpoint != "" {
		p.opts.Address, p.opts.Port, p.opts.TLS, p.opts.AutoTLS, p.opts.Database = "", 0, controlplane.TLSFiles{}, false, ""
		tell(p.join())
	}
	lis, err := controlplane.Listen(p.opts.Address, p.opts.Port)
	if err != nil {
		problems = append(problems, listenProblem(err))
	}
	p.listener = lis
	tell(p.openStore(record))
	if lis != nil {
		tell(p.certify(certDir))
	}
	return p, problems
}

// openStore makes the registry, with what its database holds.
func (p *plane) openStore(record func(journal.Entry)) (err error) {
	opts := registry.Options{TTL: p.opts.TTL, JanitorInterval: p.opts.JanitorInterval, ExpireAfter: p.opts.ExpireAfter, Record: record}
	if p.opts.Database != "" {
		if p.store, opts.Saved, err = store.Open(p.opts.Database); err != nil {
			return err
		}
		opts.Store = p.store
	}
	p.registry = registry.New(opts)
	if p.services == nil {
		p.services = p.registry
	}
	p.metrics = metrics.New(p.opts.Version, p.registry)
	return nil
}

// joinPatience is how long a shared control plane may take to answer.
const joinPatience = 5 * time.Second

// join makes the run part of a shared control plane.
func (p *plane) join() (err error) {
	if p.client, err = controlplane.Dial(p.opts.Join); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinPatience)
	defer cancel()
	if err = p.client.Wait(ctx); err == nil {
		p.membership, err = controlplane.Join(ctx, p.client, p.pipeline, p.run, p.notice)
	}
	if err == nil {
		p.services = p.membership
	}
	return err
}

// The parties of a run's certificates; a component's begins with componentParty.
const (
	planeParty     = "control-plane"
	operatorParty  = "operator"
	componentParty = "component-"
)

// certify makes an authority and a certificate for the operator, for the commands
// that find the run by its run file. With AutoTLS the control plane is to have one of
// it too, when it is known where it listens: see makeServer.
func (p *plane) certify(dir string) (err error) {
	if !p.opts.AutoTLS && !p.opts.TLS.Set() {
		return nil
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "flowctl-"); err != nil {
			return err
		}
	}
	if p.authority, err = authority.New(dir, p.run); err != nil {
		return err
	}
	if err = p.authority.Issue(operatorParty, controlplane.OperatorURI()); err != nil || !p.opts.AutoTLS {
		return err
	}
	cert, key := p.authority.Files(planeParty)
	p.opts.TLS = controlplane.TLSFiles{Cert: cert, Key: key, CA: p.authority.CA()}
	return nil
}

// hosts are the names under which the control plane may be reached.
func (p *plane) hosts() []string {
	hosts := append([]string{"localhost", "127.0.0.1", "::1", driver.HostName}, p.opts.Hosts...)
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	if p.gateway != nil {
		hosts = append(hosts, p.gateway.Addr().(*net.TCPAddr).IP.String())
	}
	if addr, ok := p.listener.Addr().(*net.TCPAddr); ok && !addr.IP.IsUnspecified() {
		return append(hosts, addr.IP.String())
	}
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok {
			hosts = append(hosts, ip.IP.String())
		}
	}
	return hosts
}

// makeServer makes the server that serves the run.
func (p *plane) makeServer(run controlplane.Run, logger *slog.Logger) (err error) {
	if p.opts.AutoTLS {
		if err := p.authority.Issue(planeParty, nil, p.hosts()...); err != nil {
			return err
		}
	}
	opts := controlplane.Options{
		Registry: p.registry, Run: run, Pipeline: p.pipeline, Access: controlplane.Access{Token: p.token, Required: p.opts.AuthRequired || p.opts.AutoTLS},
		TLS: p.opts.TLS, Hosts: p.opts.Hosts, Metrics: p.metrics.Handler(), Observe: p.metrics.Call, Trace: p.opts.Trace,
		Notice: p.notice, Logger: logger,
	}
	if p.authority != nil {
		opts.OperatorCA = p.authority.CA()
	}
	p.server, err = controlplane.New(opts)
	return err
}

// serve begins to serve, until ctx is done.
func (p *plane) serve(ctx context.Context, parts *sync.WaitGroup) {
	p.served = true
	parts.Go(func() { _ = p.registry.Run(ctx) })
	listeners := []net.Listener{p.listener}
	if p.gateway != nil {
		listeners = append(listeners, p.gateway)
	}
	parts.Go(func() {
		if err := p.server.Serve(ctx, listeners...); err != nil {
			p.notice("the control plane has ended: " + err.Error())
		}
	})
	if p.membership != nil {
		parts.Go(func() { _ = p.membership.Run(ctx) })
	}
}

// endpoint is the control plane's address as components see it.
func (p *plane) endpoint() string {
	if p.membership != nil {
		// Components hand it to gRPC as it is, which knows no http://.
		return strings.TrimSuffix(strings.TrimPrefix(p.opts.Join.Endpoint, "http://"), "/")
	}
	return p.own()
}

// usualInterval is how often components beat.
const usualInterval = 10 * time.Second

// heartbeatInterval is how often components are asked to beat: often enough that
// one heartbeat may be lost within the TTL.
func (p *plane) heartbeatInterval() time.Duration {
	if p.opts.TTL == 0 || p.membership != nil {
		return usualInterval
	}
	return max(min(usualInterval, p.opts.TTL/3), time.Millisecond)
}

// own is the address at which the run is operated.
func (p *plane) own() string {
	if p.listener == nil {
		return ""
	}
	addr, ok := p.listener.Addr().(*net.TCPAddr)
	if !ok {
		return "unix://" + p.listener.Addr().String()
	}
	host := addr.IP.String()
	switch {
	case addr.IP.IsUnspecified():
		host = "127.0.0.1"
	case addr.IP.To4() == nil && addr.Zone != "":
		host += "%" + addr.Zone
	}
	return net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// serviceID is what a component's service is called.
func (p *plane) serviceID(component string) string {
	if p.membership != nil {
		return controlplane.SharedID(p.pipeline, component)
	}
	return component
}

// credentials are what a component is told besides, so that it may call.
func (p *plane) credentials(component string) map[string]string {
	told := map[string]string{}
	switch {
	case p.membership != nil:
		if token := p.opts.Join.Token; token != "" {
			told["FLOWCTL_TOKEN"] = controlplane.ComponentToken(token, p.serviceID(component))
		}
		if ca := p.opts.Join.TLS.CA; ca != "" {
			told["FLOWCTL_TLS_CA"] = fromAnywhere(ca)
		}
	case p.opts.AutoTLS && p.authority != nil:
		cert, key := p.authority.Files(componentParty + component)
		told["FLOWCTL_TLS_CA"], told["FLOWCTL_TLS_CERT"], told["FLOWCTL_TLS_KEY"] = p.authority.CA(), cert, key
	case p.opts.AuthRequired:
		told["FLOWCTL_TOKEN"] = controlplane.ComponentToken(p.token, component)
	}
	if p.opts.TLS.Set() && told["FLOWCTL_TLS_CA"] == "" {
		if p.opts.TLS.CA != "" {
			told["FLOWCTL_TLS_CA"] = fromAnywhere(p.opts.TLS.CA)
		} else {
			told["FLOWCTL_TLS_CA"] = fromAnywhere(p.opts.TLS.Cert) // one that is its own authority, or has it in its file
		}
	}
	return told
}

// issue makes the certificate of a component, if it needs one. In a container it may
// run as any user.
func (p *plane) issue(id string, contained bool) error {
	if !p.opts.AutoTLS {
		return nil
	}
	err := p.authority.Issue(componentParty+id, identityOf(id))
	if err == nil && contained {
		err = p.authority.Share(componentParty + id)
	}
	return err
}

// expect says that an attempt of a component starts.
func (p *plane) expect(id string, role registry.Role, healthPort, attempt int) {
	var err error
	if p.membership != nil {
		err = p.membership.Expect(id, role, healthPort, attempt)
	} else {
		_, err = p.registry.Expect(registry.Expected{
			ID: id, Pipeline: p.pipeline, Role: role, HealthPort: healthPort, Attempt: p.run + "/" + strconv.Itoa(attempt),
		})
	}
	if err != nil {
		p.notice(err.Error())
	}
}

func identityOf(component string) *url.URL { return controlplane.ComponentURI(component) }

// exited says that the process of a component has ended.
func (p *plane) exited(id, reason string) {
	tell := p.registry.Exited
	if p.membership != nil {
		tell = p.membership.Exited
	}
	if err := tell(id, reason); err != nil {
		p.notice(err.Error())
	}
}

// target is how this user's other commands reach the run.
func (p *plane) target() controlplane.Target {
	t := controlplane.Target{Endpoint: p.own(), Token: p.token}
	if p.authority == nil {
		return t
	}
	t.TLS.Cert, t.TLS.Key = p.authority.Files(operatorParty)
	if p.opts.AutoTLS {
		t.TLS.CA = p.authority.CA()
	} else {
		t.Pinned = fromAnywhere(p.opts.TLS.Cert)
	}
	return t
}

// fromAnywhere is a path as those with another working directory see it.
func fromAnywhere(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// close closes what openPlane has opened; it may be called again.
func (p *plane) close() {
	var errs []error
	for _, lis := range []net.Listener{p.listener, p.gateway} {
		if lis != nil {
			_ = lis.Close() // the server has, if it ran
		}
	}
	if p.membership != nil && !p.served {
		errs = append(errs, p.membership.Withdraw())
		p.membership = nil
	}
	if p.client != nil {
		_ = p.client.Close()
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.authority != nil {
		errs = append(errs, p.authority.Close())
	}
	if err := errors.Join(errs...); err != nil {
		p.notice("close the control plane: " + strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// begin notes in the registry that the run has begun, end how it has ended.
func (p *plane) begin(components []string) {
	if p.membership != nil {
		return // joining has told it
	}
	if _, err := p.registry.CreateRun(registry.PipelineRun{ID: p.run, Pipeline: p.pipeline, Status: registry.RunRunning, Components: components}); err != nil {
		p.notice(err.Error())
	}
}

func (p *plane) end(status registry.RunStatus, reason string) {
	status = cmp.Or(status, registry.RunStopped)
	var err error
	if p.membership != nil {
		err = p.membership.Leave(status, reason)
	} else {
		_, err = p.registry.UpdateRun(p.run, func(run *registry.PipelineRun) { run.Status, run.Error = status, reason })
	}
	if err != nil {
		p.notice(fmt.Sprintf("tell the control plane that the run has ended: %v", err))
	}
}

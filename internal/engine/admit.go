package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
)

// admit lets the containers of a network reach the control plane, and nobody else
// besides, and returns its address there. What listens on the loopback of this
// machine they do not reach: so it listens on the network's gateway too.
func (p *plane) admit(ctx context.Context, n docker.Network) (endpoint string, err error) {
	if p.membership != nil {
		return p.admitShared(ctx, n)
	}
	bound, isTCP := p.listener.Addr().(*net.TCPAddr)
	port := 0
	if isTCP {
		port = bound.Port
	}
	switch {
	case n.Gateway.IsValid() && (!isTCP || !bound.IP.IsUnspecified()):
		if port, err = p.listenFor(n, port); err != nil {
			return "", err
		}
	case !isTCP:
		return "", errors.New("containers cannot use the control plane's socket: its engine is on another machine; leave out --control-plane-address unix://")
	}
	host := n.Host
	if !p.opts.AutoTLS && p.opts.TLS.Set() {
		if host, err = certifiedHost(p.opts.TLS, n.Host); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// listenFor listens on a network's gateway, on the control plane's own port if that
// is free there.
func (p *plane) listenFor(n docker.Network, port int) (int, error) {
	lis, err := controlplane.Listen(n.Gateway.String(), port)
	if errors.Is(err, syscall.EADDRINUSE) {
		lis, err = controlplane.Listen(n.Gateway.String(), 0)
	}
	if err != nil {
		return 0, fmt.Errorf("let containers reach the control plane: %w", err)
	}
	p.gateway = &neighbours{Listener: lis, subnet: n.Subnet}
	return lis.Addr().(*net.TCPAddr).Port, nil
}

// certifiedHost is a name of this machine in containers that the certificate is for.
func certifiedHost(files controlplane.TLSFiles, host string) (string, error) {
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil { // the server says it better
		return host, nil
	}
	for _, name := range []string{host, driver.HostName} {
		if pair.Leaf.VerifyHostname(name) == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("containers reach the control plane as %s, and the certificate %s is not for that name: have it made for it too, or use --tls auto",
		driver.HostName, files.Cert)
}

// reachPatience is how long it may take to reach a shared control plane.
const reachPatience = 2 * time.Second

// admitShared is admit for a control plane that is another process's: where that
// listens cannot be changed.
func (p *plane) admitShared(ctx context.Context, n docker.Network) (string, error) {
	shared := p.opts.Join.Endpoint
	scheme, hostPort := "", shared
	if i := strings.Index(shared, "://"); i >= 0 {
		scheme, hostPort = shared[:i+3], strings.TrimSuffix(shared[i+3:], "/")
	}
	if scheme == "unix://" {
		return "", fmt.Errorf("containers cannot use the socket of the control plane at %s: let it listen on a port as well", shared)
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", fmt.Errorf("find out how containers reach the control plane at %s: %w", shared, err)
	}
	if ip, _ := netip.ParseAddr(host); host != "localhost" && !ip.IsLoopback() {
		return shared, nil
	}
	hostPort = net.JoinHostPort(n.Host, port)
	if n.Gateway.IsValid() {
		dialer := net.Dialer{Timeout: reachPatience}
		conn, err := dialer.DialContext(ctx, "tcp", hostPort)
		if err != nil {
			return "", fmt.Errorf("containers cannot reach the control plane at %s: nothing of it listens on %s; start it with --address 0.0.0.0, or leave out --control-plane", shared, hostPort)
		}
		_ = conn.Close()
	}
	return scheme + hostPort, nil
}

// neighbours is a listener for those of one network: this machine's address there may
// be reached from elsewhere too.
type neighbours struct {
	net.Listener
	subnet netip.Prefix
}

// Accept returns the next connection from the network, and closes all others.
func (l *neighbours) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err == nil && l.subnet.Contains(from.Addr().Unmap()) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

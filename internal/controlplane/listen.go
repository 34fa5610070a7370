package controlplane

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// PortInUseError says that somebody listens on the wanted port already.
type PortInUseError struct {
	// Address and Port are what was asked for.
	Address string
	Port    int
	err     error
}

// Error names the port and the address.
func (e *PortInUseError) Error() string {
	return fmt.Sprintf("listen on %s: port %d is in use", net.JoinHostPort(e.Address, strconv.Itoa(e.Port)), e.Port)
}

// Unwrap returns the system's error.
func (e *PortInUseError) Unwrap() error { return e.err }

// Listen opens the control plane's TCP listener; port 0 takes a free one. The
// error is a *PortInUseError if that is the reason.
func Listen(address string, port int) (net.Listener, error) {
	hostPort := net.JoinHostPort(address, strconv.Itoa(port))
	lis, err := net.Listen("tcp", hostPort)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &PortInUseError{Address: address, Port: port, err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", hostPort, err)
	}
	return lis, nil
}

// tracked is a listener that can close every connection it accepted, the ones
// that never finished a handshake included.
type tracked struct {
	net.Listener

	mu     sync.Mutex // guards conns and closed
	conns  map[net.Conn]struct{}
	closed bool
}

func newTracked(lis net.Listener) *tracked {
	return &tracked{Listener: lis, conns: make(map[net.Conn]struct{})}
}

// Accept accepts a connection and remembers it until it is closed.
func (t *tracked) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	c := &trackedConn{Conn: conn, forget: t.forget}
	t.conns[c] = struct{}{}
	return c, nil
}

func (t *tracked) forget(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// closeConns closes every open connection and those still to be accepted.
func (t *tracked) closeConns() {
	t.mu.Lock()
	t.closed = true
	conns := make([]net.Conn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// trackedConn tells its listener when it is closed.
type trackedConn struct {
	net.Conn
	forget func(net.Conn)
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.forget(c)
	return c.Conn.Close()
}

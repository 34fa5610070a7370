package flowctl

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// handshaker makes each new connection what the target says: one in plaintext,
// or TLS with the files as they are at that moment. While they cannot be used,
// because they are being written, those of the last time count.
type handshaker struct {
	// TransportCredentials are those of the first time. They serve for all but
	// ClientHandshake.
	credentials.TransportCredentials
	target target
	// refused is told what ended a connection before the control plane has said
	// anything on it, but not that we ended it.
	refused func(error)
	// reread is told how each reading of the files went.
	reread func(error)

	mu   sync.Mutex // guards last
	last credentials.TransportCredentials
}

// newHandshaker fails if the files of t cannot be used.
func newHandshaker(t target, refused, reread func(error)) (*handshaker, error) {
	first := insecure.NewCredentials()
	if t.tls {
		config, err := t.config()
		if err != nil {
			return nil, err
		}
		first = credentials.NewTLS(config)
	}
	return &handshaker{TransportCredentials: first, target: t, refused: refused, reread: reread, last: first}, nil
}

// Clone returns h, which may be used for any number of connections.
func (h *handshaker) Clone() credentials.TransportCredentials { return h }

// ClientHandshake makes a connection of raw, which is to the server of that name.
func (h *handshaker) ClientHandshake(ctx context.Context, name string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.renewed().ClientHandshake(ctx, name, raw)
	if err == nil {
		return &opened{Conn: conn, refused: h.refused}, info, nil
	}
	switch {
	case ctx.Err() == nil:
		h.refused(err)
	case !errors.Is(ctx.Err(), context.Canceled): // it has closed raw, and err may be of that
		h.refused(ctx.Err())
	}
	return nil, nil, err
}

// renewed reads the files again.
func (h *handshaker) renewed() credentials.TransportCredentials {
	if !h.target.tls {
		return h.TransportCredentials
	}
	config, err := h.target.config()
	h.reread(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.last = credentials.NewTLS(config)
	}
	return h.last
}

// errNoHTTP2 is what is told of a first answer that is no frame of HTTP/2.
var errNoHTTP2 = errors.New("the answer is not HTTP/2")

// opened is a connection that tells if it ends before the control plane has
// said anything: with TLS 1.3 that is when a client learns that its certificate
// is not accepted.
type opened struct {
	net.Conn
	refused func(error)
	heard   bool // belongs to Read, which is called by one goroutine
}

func (c *opened) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case c.heard:
	case n > 0 && p[0] != 0: // the highest byte of a length that is never so long
		c.refused(errNoHTTP2)
	case n == 0 && err != nil && !errors.Is(err, net.ErrClosed):
		c.refused(err)
	}
	c.heard = true
	return n, err
}

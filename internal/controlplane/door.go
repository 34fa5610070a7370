package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// manners is how long a connection may take to say what it wants.
	manners = 5 * time.Second
	// maxConnections is how many there are at a time. When more come, the oldest
	// goes that has said next to nothing.
	maxConnections = 8192
	// nextToNothing is less than any gRPC client has sent that has made a call, in
	// bytes; what the handshake of TLS takes is not counted.
	nextToNothing = 96
	// shaking is what a guest has said before its handshake has ended.
	shaking = math.MinInt64 / 2
)

// door takes in connections and leads each to the server that it is for, by what
// it says first: gRPC or HTTP/1, encrypted or not. There is one port for all.
type door struct {
	tls *tls.Config // nil: nothing is encrypted
	// grpc and http are for who comes as is wanted, lost for who speaks gRPC without
	// encryption where it is wanted.
	grpc, http, lost *hall
	// notice is told why somebody was turned away.
	notice func(what string)

	mu     sync.Mutex // guards all below
	guests map[*guest]struct{}
	oldest uint64 // number of the next guest
	closed bool
	greet  sync.WaitGroup
}

func newDoor(config *tls.Config, notice func(string)) *door {
	return &door{tls: config, grpc: newHall(), http: newHall(), lost: newHall(), notice: notice, guests: make(map[*guest]struct{})}
}

// open takes in connections until the listener is closed, and returns its error.
func (d *door) open(lis net.Listener) error {
	for pause := time.Millisecond; ; {
		conn, err := lis.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = time.Millisecond
			d.take(conn)
		case errors.As(err, &temporary) && temporary.Temporary() && !errors.Is(err, net.ErrClosed):
			// Too many open files, say. If nobody makes room, nobody tells when there is some again.
			if d.makeRoom() {
				continue
			}
			<-time.After(pause)
			pause = min(2*pause, time.Second)
		default:
			return err
		}
	}
}

// take takes in one connection.
func (d *door) take(conn net.Conn) {
	g := &guest{Conn: conn, left: d.bid}
	if d.tls != nil {
		g.heard.Store(shaking)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		conn.Close()
		return
	}
	if len(d.guests) >= maxConnections {
		d.sendAway(false)
	}
	g.number = d.oldest
	d.oldest++
	d.guests[g] = struct{}{}
	d.greet.Go(func() { d.lead(g) })
}

// makeRoom sends away somebody who has said next to nothing, and reports whether there was one.
func (d *door) makeRoom() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sendAway(true)
}

// sendAway sends away the oldest guest that has said next to nothing, or, unless
// only such ones may be, the oldest of all. The caller holds d.mu.
func (d *door) sendAway(onlyQuiet bool) bool {
	var quiet, first *guest
	for g := range d.guests {
		if first == nil || g.number < first.number {
			first = g
		}
		if g.heard.Load() < nextToNothing && (quiet == nil || g.number < quiet.number) {
			quiet = g
		}
	}
	if quiet == nil && !onlyQuiet {
		quiet = first
	}
	if quiet == nil {
		return false
	}
	delete(d.guests, quiet)
	_ = quiet.Conn.Close()
	return true
}

// bid forgets a guest that has left.
func (d *door) bid(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.guests, g)
}

// close ends every connection, and takes in no more.
func (d *door) close() {
	d.mu.Lock()
	d.closed = true
	guests := make([]*guest, 0, len(d.guests))
	for g := range d.guests {
		guests = append(guests, g)
	}
	d.mu.Unlock()
	for _, g := range guests {
		_ = g.Close()
	}
	d.greet.Wait()
}

// lead finds out what a connection wants, and leads it there.
func (d *door) lead(g *guest) {
	_ = g.SetDeadline(time.Now().Add(manners))
	first, err := g.peek(1)
	switch {
	case err != nil:
		_ = g.Close()
	case first[0] == tlsHandshake && d.tls == nil:
		d.notice("a client at " + g.RemoteAddr().String() + " was turned away: it speaks TLS, and this control plane does not")
		_, _ = g.Write([]byte(noTLS))
		g.sendOff()
	case d.tls == nil:
		d.leadBy(g, d.grpc)
	case first[0] != tlsHandshake:
		d.notice("a client at " + g.RemoteAddr().String() + " was turned away: it does not speak TLS, and this control plane does")
		d.leadBy(g, d.lost)
	default:
		d.leadEncrypted(g)
	}
}

// leadEncrypted makes the TLS handshake and leads on.
func (d *door) leadEncrypted(g *guest) {
	conn := tls.Server(g, d.tls)
	ctx, cancel := context.WithTimeout(context.Background(), manners)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		d.notice("a client at " + g.RemoteAddr().String() + " was turned away: " + handshakeProblem(err))
		g.sendOff() // what is wrong has been told, in an alert
		return
	}
	g.heard.Store(0)
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		d.enter(conn, g, d.grpc)
	} else {
		d.enter(conn, g, d.http)
	}
}

// The first bytes that tell connections apart.
const (
	tlsHandshake  = 0x16
	http2Preface  = "PRI "
	prefaceLength = 64
)

// noTLS is what clients that speak TLS get where there is none: those of all
// languages know from it that this is no TLS.
const noTLS = "HTTP/1.0 400 Bad Request\r\n\r\nthis control plane does not speak TLS\n"

// leadBy leads a connection that is not encrypted to a gRPC server if it speaks
// HTTP/2, else to the HTTP server.
func (d *door) leadBy(g *guest, grpc *hall) {
	switch preface, err := g.peek(len(http2Preface)); {
	case err != nil:
		_ = g.Close()
	case string(preface) == http2Preface:
		d.enter(g, g, grpc)
	default:
		d.enter(g, g, d.http)
	}
}

// enter lets a connection into a hall.
func (d *door) enter(conn net.Conn, g *guest, h *hall) {
	_ = g.SetDeadline(time.Time{})
	h.enter(conn)
}

// guest is one connection; it counts what it has heard.
type guest struct {
	net.Conn
	number uint64
	heard  atomic.Int64
	first  []byte // what was looked at, and not read
	left   func(*guest)
}

// Read implements net.Conn.
func (g *guest) Read(p []byte) (int, error) {
	if len(g.first) > 0 {
		n := copy(p, g.first)
		g.first = g.first[n:]
		return n, nil
	}
	p = p[:min(len(p), mouthful)]
	n, err := g.Conn.Read(p)
	g.heard.Add(int64(n))
	if n == mouthful {
		runtime.Gosched()
	}
	return n, err
}

// mouthful is how many bytes are read at once from a guest. Who has more to say at
// that moment waits until everybody else had their turn.
const mouthful = 1 << 10

// peek returns the first n bytes, which Read will return too. Nothing must have been read.
func (g *guest) peek(n int) ([]byte, error) {
	for len(g.first) < n {
		more := make([]byte, prefaceLength)
		got, err := g.Conn.Read(more)
		g.heard.Add(int64(got))
		g.first = append(g.first, more[:got]...)
		if err != nil && len(g.first) < n {
			return nil, err
		}
	}
	return g.first[:n], nil
}

// How long, and for how many bytes, who is turned away is listened to.
const (
	farewell      = time.Second
	farewellBytes = 64 << 10
)

// sendOff closes a connection whose other side has been told why. To close it at
// once, with something unread, would take back what was said.
func (g *guest) sendOff() {
	if g.CloseWrite() == nil {
		_ = g.SetReadDeadline(time.Now().Add(farewell))
		_, _ = io.CopyN(io.Discard, g.Conn, farewellBytes)
	}
	_ = g.Close()
}

// CloseWrite says to the other side that nothing more will come; it may go on.
// net/http uses it when it refuses a request of which it has not read all.
func (g *guest) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection.
func (g *guest) Close() error {
	g.left(g)
	return g.Conn.Close()
}

// hall is a listener of connections that have been led into it.
type hall struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHall() *hall { return &hall{conns: make(chan net.Conn), closed: make(chan struct{})} }

// enter hands a connection to whoever accepts; when nobody will any more, it is closed.
func (h *hall) enter(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (h *hall) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *hall) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener; the connections know theirs.
func (h *hall) Addr() net.Addr { return hallAddr{} }

type hallAddr struct{}

func (hallAddr) Network() string { return "control plane" }
func (hallAddr) String() string  { return "control plane" }

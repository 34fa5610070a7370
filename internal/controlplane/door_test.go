package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// clientPreface is how an HTTP/2 client begins.
const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// One port serves gRPC and HTTP, encrypted or not, to clients of many kinds.
func TestOnePort(t *testing.T) {
	ca := newCA(t)
	for name, files := range map[string]TLSFiles{"plain": {}, "encrypted": ca.server()} {
		t.Run(name, func(t *testing.T) {
			o := open(t, Options{TLS: files})
			scheme, target := "http://", Target{}
			if files.Set() {
				scheme, target.TLS = "https://", TLSFiles{CA: ca.CA()}
			}
			roots, err := clientTLS(target.TLS, "", "localhost")
			if err != nil {
				t.Fatal(err)
			}
			for offered, wantHTTP := range map[string]bool{"http/1.1": true, "h2 http/1.1": true, "": true, "h2": false} {
				config := roots.Clone()
				config.NextProtos = strings.Fields(offered)
				if !files.Set() && offered != "http/1.1" {
					continue
				}
				client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: patience}
				resp, err := client.Get(scheme + o.endpoint + "/healthz")
				if (err == nil) != wantHTTP {
					t.Errorf("HTTP with %q offered: %v", offered, err)
				}
				if err == nil {
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					same(t, "GET /healthz", string(text), "ok\n")
				}
				client.CloseIdleConnections()
			}
			if _, err := o.client(target).List(t.Context(), registry.Filter{}); err != nil {
				t.Errorf("gRPC: %v", err)
			}
		})
	}
}

// Who connects and does not say in time what it wants is sent away; the times are virtual.
func TestSlowAndHalfOpenConnections(t *testing.T) {
	ca := newCA(t)
	settings := clientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, test := range []struct {
		name   string
		tls    bool
		says   string
		slowly time.Duration // between two bytes
		gone   time.Duration // since it connected
	}{
		{name: "silent", gone: manners},
		{name: "silent where there is TLS", tls: true, gone: manners},
		{name: "one letter", says: "P", gone: manners},
		{name: "the beginning of HTTP/2", says: "PRI", gone: manners},
		{name: "the beginning of a TLS record", tls: true, says: "\x16\x03\x01\x02\x00\x01", gone: manners},
		{name: "a slow TLS record", tls: true, says: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", slowly: time.Second, gone: manners},
		{name: "a preface without settings", says: clientPreface, gone: manners},
		{name: "a slow preface", says: clientPreface, slowly: time.Second, gone: 3*time.Second + manners},
		{name: "a request without an end", says: "GET / HTTP/1.1\r\nHost: localhost\r\n", gone: manners},
		{name: "a slow request", says: strings.Repeat("GET / HTTP/1.1\r\n", 9), slowly: time.Second, gone: 3*time.Second + manners},
		{name: "a request and then nothing", says: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", gone: time.Minute},
		// They get a goodbye first, and some seconds to hear it.
		{name: "HTTP/2 and then nothing", says: settings, gone: longestIdle + 10*time.Second},
		{name: "HTTP/2 with half a frame", says: settings + "\x00\x40\x00\x01", gone: longestIdle + 10*time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := TLSFiles{}
			if test.tls {
				files = ca.server()
			}
			synctest.Test(t, func(t *testing.T) {
				lis := bufconn.Listen(1 << 16)
				o := openOn(t, Options{TLS: files}, lis)
				conn, err := lis.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				began := time.Now()
				var talking sync.WaitGroup
				talking.Go(func() {
					for i := range len(test.says) {
						if _, err := conn.Write([]byte{test.says[i]}); err != nil {
							return
						}
						time.Sleep(test.slowly)
					}
				})
				_, _ = io.Copy(io.Discard, conn) // to its end
				if took := time.Since(began); took > test.gone+time.Second {
					t.Errorf("it was sent away after %s, want %s", took, test.gone)
				}
				talking.Wait()
				o.stop()
			})
		})
	}
}

// bufferedPlane is a control plane in memory, and how it is connected to.
type bufferedPlane struct {
	t   *testing.T
	lis *bufconn.Listener
}

func (b *bufferedPlane) connect() net.Conn {
	b.t.Helper()
	conn, err := b.lis.DialContext(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return conn
}

func (b *bufferedPlane) client() *grpc.ClientConn {
	b.t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return b.lis.DialContext(ctx) }))
	if err != nil {
		b.t.Fatal(err)
	}
	return conn
}

// However many connect and say nothing, a client that came first stays, and one
// that comes last is let in.
func TestMakingRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bufferedPlane{t, bufconn.Listen(1 << 10)}
		o := openOn(t, Options{}, b.lis)
		early, late := b.client(), b.client()
		if _, err := flowctlpb.NewControlPlaneClient(early).ListServices(t.Context(), &emptypb.Empty{}); err != nil {
			t.Fatal(err)
		}
		var silent []net.Conn
		for range maxConnections + 2000 {
			silent = append(silent, b.connect())
		}
		synctest.Wait()
		gone := 0
		for _, conn := range silent {
			_ = conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				gone++
			}
		}
		if want := 2000 + 1; gone != want { // all but one place are theirs
			t.Errorf("%d of the silent are gone, want %d", gone, want)
		}
		for name, conn := range map[string]*grpc.ClientConn{"early": early, "late": late} {
			if _, err := flowctlpb.NewControlPlaneClient(conn).Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: name}); err != nil {
				t.Errorf("the %s client: %v", name, err)
			}
		}
		for _, conn := range append(silent, closer{early}, closer{late}) {
			conn.Close()
		}
		o.stop()
	})
}

// closer lets a client be closed like a connection.
type closer struct{ *grpc.ClientConn }

func (closer) Read([]byte) (int, error)         { return 0, io.EOF }
func (closer) Write([]byte) (int, error)        { return 0, io.EOF }
func (closer) LocalAddr() net.Addr              { return hallAddr{} }
func (closer) RemoteAddr() net.Addr             { return hallAddr{} }
func (closer) SetDeadline(time.Time) error      { return nil }
func (closer) SetReadDeadline(time.Time) error  { return nil }
func (closer) SetWriteDeadline(time.Time) error { return nil }

// crowded is a listener of a process with few file descriptors: it fails while
// more connections are open than there may be.
type crowded struct {
	net.Listener
	mu   sync.Mutex // guards all below
	open int
	most int
}

func (c *crowded) Accept() (net.Conn, error) {
	c.mu.Lock()
	full := c.open == c.most
	c.mu.Unlock()
	if full {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	return &counted{Conn: conn, left: sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
	})}, nil
}

type counted struct {
	net.Conn
	left func()
}

func (c *counted) Close() error {
	c.left()
	return c.Conn.Close()
}

// When there are no more file descriptors, the silent make room at once.
func TestTooManyOpenFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bufferedPlane{t, bufconn.Listen(1 << 10)}
		o := openOn(t, Options{}, &crowded{Listener: b.lis, most: 16})
		early := b.client()
		if _, err := flowctlpb.NewControlPlaneClient(early).ListServices(t.Context(), &emptypb.Empty{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var silent []net.Conn
		for range 200 {
			silent = append(silent, b.connect())
		}
		late := b.client()
		if _, err := flowctlpb.NewControlPlaneClient(late).ListServices(t.Context(), &emptypb.Empty{}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > manners/2 {
			t.Errorf("a client has waited for %s", took)
		}
		if _, err := flowctlpb.NewControlPlaneClient(early).ListServices(t.Context(), &emptypb.Empty{}); err != nil {
			t.Error(err)
		}
		for _, conn := range append(silent, closer{early}, closer{late}) {
			conn.Close()
		}
		o.stop()
	})
}

// A server that stops does not wait for those who connect meanwhile, or are in the
// middle of something.
func TestStopInTheMiddleOfArrivals(t *testing.T) {
	ca := newCA(t)
	for name, files := range map[string]TLSFiles{"plain": {}, "encrypted": ca.server()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bufferedPlane{t, bufconn.Listen(1 << 16)}
				o := openOn(t, Options{TLS: files}, b.lis)
				for _, says := range []string{"", "P", "PRI *", "\x16", "\x16\x03\x01\x00\xff", "GET / HTTP/1.1\r\n", clientPreface, "nonsense"} {
					conn := b.connect()
					defer conn.Close()
					if _, err := conn.Write([]byte(says)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				o.stop()
				if took := time.Since(began); took > stopGrace {
					t.Errorf("stop took %s", took)
				}
			})
		})
	}
}

// A client that resets, or speaks what nobody here speaks, harms nobody, and is
// not told of again and again.
func TestBrokenHandshakesAreToldOnce(t *testing.T) {
	ca := newCA(t)
	o := open(t, Options{TLS: ca.trusting(ca.server())})
	for range 50 {
		conn, err := net.Dial("tcp", o.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("\x16\x03\x01\x00\x10")); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		conn.Close()
	}
	for range 50 {
		conn, err := net.Dial("tcp", o.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(append([]byte("\x16\x03\x01\x00\x10"), bytes.Repeat([]byte{0xff}, 16)...))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	conn, err := tls.Dial("tcp", o.endpoint, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	o.notices.await(t, "unsupported versions")
	if told, _ := o.notices.all(); len(told) > 5 {
		t.Errorf("%d notices:\n%s", len(told), strings.Join(told, "\n"))
	}
}

package flowctl

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
)

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	template := certificate(func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	key := newKey(t)
	return &authority{cert: sign(t, template, template, key, key), key: key}
}

// certificate is one for this machine, valid now, but for what change makes of it.
func certificate(change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate and its key, in PEM.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	private := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return inPEM(sign(t, certificate(change), a.cert, private, a.key)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// pair is a certificate as a server wants it.
func (a *authority) pair(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t, change))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) pem() []byte { return inPEM(a.cert) }

func inPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// file writes data to a file and returns its path.
func file(t *testing.T, data []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.pem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// replace does what a careful renewer does: the file is always whole.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.Rename(file(t, data), path); err != nil {
		t.Fatal(err)
	}
}

// guarded is a control plane that tells of each registration what came with it.
type guarded struct {
	flowctlpb.UnimplementedControlPlaneServer
	registered chan visit
	beaten     chan visit

	mu   sync.Mutex // guards deny
	deny error
}

// visit is what a control plane sees of who calls.
type visit struct {
	authorization []string
	ctx           context.Context
}

func newGuarded() *guarded {
	return &guarded{registered: make(chan visit, 1000), beaten: make(chan visit, 1000)}
}

func (g *guarded) answer(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deny = err
}

func (g *guarded) come(ctx context.Context, visits chan visit) error {
	in, _ := metadata.FromIncomingContext(ctx)
	visits <- visit{authorization: in.Get("authorization"), ctx: ctx}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deny
}

func (g *guarded) Register(ctx context.Context, _ *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	return &flowctlpb.RegistrationAck{}, g.come(ctx, g.registered)
}

func (g *guarded) Heartbeat(ctx context.Context, _ *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, g.come(ctx, g.beaten)
}

// door counts the connections it accepts.
type door struct {
	net.Listener
	accepted chan struct{}
}

func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err == nil {
		d.accepted <- struct{}{}
	}
	return conn, err
}

// serve serves g on the address until the returned function is called or the
// test ends. A nil config means no TLS.
func serve(t *testing.T, g flowctlpb.ControlPlaneServer, network, addr string, config *tls.Config) (*door, func()) {
	t.Helper()
	lis, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if config != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(opts...)
	flowctlpb.RegisterControlPlaneServer(server, g)
	d := &door{Listener: lis, accepted: make(chan struct{}, 1000)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(d) }()
	stop := sync.OnceFunc(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return d, stop
}

// port is that of a listener on TCP.
func port(lis net.Listener) int { return lis.Addr().(*net.TCPAddr).Port }

// logbook keeps what a logger writes, whatever its level.
type logbook struct {
	mu    sync.Mutex // guards lines
	lines []string
	wrote chan struct{}
}

func newLogbook() *logbook { return &logbook{wrote: make(chan struct{}, 1000)} }

func (b *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (b *logbook) Write(line []byte) (int, error) {
	b.mu.Lock()
	b.lines = append(b.lines, string(bytes.TrimSpace(line)))
	b.mu.Unlock()
	b.wrote <- struct{}{}
	return len(line), nil
}

// warnings are the lines that a person is to see.
func (b *logbook) warnings() []string { return b.with("level=WARN") }

func (b *logbook) with(text string) (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// await waits for a warning that contains the text.
func (b *logbook) await(t *testing.T, text string) {
	t.Helper()
	b.until(t, fmt.Sprintf("no warning says %q", text), func() bool {
		return strings.Contains(strings.Join(b.warnings(), "\n"), text)
	})
}

// awaitRegistered waits until the component knows that it has been registered so often.
func (b *logbook) awaitRegistered(t *testing.T, times int) {
	t.Helper()
	b.until(t, "it is not registered", func() bool { return len(b.with("msg=registered")) >= times })
}

// until looks after every line whether cond holds.
func (b *logbook) until(t *testing.T, otherwise string, cond func() bool) {
	t.Helper()
	for limit := time.After(10 * time.Second); !cond(); {
		select {
		case <-b.wrote:
		case <-limit:
			t.Fatalf("%s; all lines:\n%s", otherwise, strings.Join(b.with(""), "\n"))
		}
	}
}

// await waits for one more thing on a channel.
func await[T any](t *testing.T, things <-chan T, what string) T {
	t.Helper()
	select {
	case thing := <-things:
		return thing
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// setSecurity is setEnvironment with more variables.
func setSecurity(t *testing.T, endpoint string, more map[string]string) {
	t.Helper()
	setEnvironment(t, endpoint, "a", "10s")
	for name, value := range more {
		t.Setenv(name, value)
	}
}

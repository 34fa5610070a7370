package flowctl

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

func elsewhere(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"elsewhere.example"}, nil }

// Each case is a control plane and what a component is told of it; cause is
// what its log says, "" if it is let in.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	ca, otherCA := file(t, ours.pem()), file(t, theirs.pem())
	identity := func(a *authority, change func(*x509.Certificate)) map[string]string {
		cert, key := a.issue(t, change)
		return map[string]string{"FLOWCTL_TLS_CA": ca, "FLOWCTL_TLS_CERT": file(t, cert), "FLOWCTL_TLS_KEY": file(t, key)}
	}
	server := func(change func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ours.pair(t, change)}}
	}
	mutual := func(version uint16) *tls.Config {
		config := server(nil)
		config.ClientAuth, config.ClientCAs, config.MaxVersion = tls.RequireAndVerifyClientCert, ours.pool(), version
		return config
	}
	withCA := map[string]string{"FLOWCTL_TLS_CA": ca}
	const (
		wants   = "it asks for a client certificate: set FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY"
		unknown = "(FLOWCTL_TLS_CERT): unknown certificate authority"
		outworn = "(FLOWCTL_TLS_CERT): expired certificate"
	)
	for _, test := range []struct {
		name     string
		server   *tls.Config
		endpoint string
		env      map[string]string
		cause    string
	}{
		{"right CA", server(nil), "https://127.0.0.1:%d", withCA, ""},
		{"right CA, no scheme", server(nil), "127.0.0.1:%d", withCA, ""},
		{"right CA, by name", server(nil), "https://localhost:%d", withCA, ""},
		{"no CA", server(nil), "https://127.0.0.1:%d", nil, "not signed by a CA this system knows: name the file of its CA in FLOWCTL_TLS_CA"},
		{"other CA", server(nil), "https://127.0.0.1:%d", map[string]string{"FLOWCTL_TLS_CA": otherCA}, "not signed by a CA of " + otherCA},
		{"expired", server(expired), "127.0.0.1:%d", withCA, "its certificate has expired or is not valid yet"},
		{"wrong name", server(elsewhere), "localhost:%d", withCA, "not for the name in FLOWCTL_ENDPOINT: x509: certificate is valid for elsewhere.example, not localhost"},
		{"wrong address", server(elsewhere), "127.0.0.1:%d", withCA, "not for the name in FLOWCTL_ENDPOINT: x509: cannot validate certificate for 127.0.0.1"},
		{"client certificate", mutual(0), "127.0.0.1:%d", identity(ours, nil), ""},
		{"client certificate, TLS 1.2", mutual(tls.VersionTLS12), "127.0.0.1:%d", identity(ours, nil), ""},
		{"no client certificate", mutual(0), "127.0.0.1:%d", withCA, wants},
		{"no client certificate, TLS 1.2", mutual(tls.VersionTLS12), "127.0.0.1:%d", withCA, "perhaps for want of a client certificate (FLOWCTL_TLS_CERT)"},
		{"client certificate of another CA", mutual(0), "127.0.0.1:%d", identity(theirs, nil), unknown},
		{"client certificate of another CA, TLS 1.2", mutual(tls.VersionTLS12), "127.0.0.1:%d", identity(theirs, nil), unknown},
		{"expired client certificate", mutual(0), "127.0.0.1:%d", identity(ours, expired), outworn},
		{"client certificate nobody asks for", server(nil), "127.0.0.1:%d", identity(theirs, nil), ""},
		{"TLS to plaintext", nil, "https://127.0.0.1:%d", withCA, "it speaks no TLS: have it serve TLS"},
		{"plaintext to TLS", server(nil), "http://127.0.0.1:%d", nil, "if it speaks TLS, write https:// in FLOWCTL_ENDPOINT"},
		{"plaintext to plaintext", nil, "http://127.0.0.1:%d", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // must not be asked
			g := newGuarded()
			door, _ := serve(t, g, "tcp", "127.0.0.1:0", test.server)
			setSecurity(t, fmt.Sprintf(test.endpoint, port(door)), test.env)
			book := newLogbook()
			m := join(t, Component{Logger: book.logger()})
			if test.cause != "" {
				refusedOnce(t, m, book, door, test.cause)
				return
			}
			if got := await(t, g.registered, "a registration"); len(got.authorization) > 0 {
				t.Errorf("a token came without one being set: %q", got.authorization)
			}
			m.Leave()
			if got := book.warnings(); len(got) > 0 {
				t.Errorf("let in, with warnings: %s", got)
			}
		})
	}
}

// refusedOnce waits until the cause is told and more has been tried.
func refusedOnce(t *testing.T, m *Member, book *logbook, door *door, cause string) {
	t.Helper()
	book.await(t, cause)
	for range 3 { // the first may have come before the warning
		await(t, door.accepted, "one more try")
	}
	m.Leave()
	if got := book.warnings(); len(got) != 1 || len(book.with("msg=registered")) > 0 {
		t.Errorf("%d warnings:\n%s", len(got), strings.Join(book.with(""), "\n"))
	}
}

// The roots of the system are read once in a process: hence one of its own.
func TestSystemRoots(t *testing.T) {
	if runtime.GOOS != "linux" {
		missing(t, "only on Linux can a test choose the roots of the system")
	}
	ours, g := newAuthority(t, "ours"), newGuarded()
	door, _ := serve(t, g, "tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ours.pair(t, nil)}})
	setSecurity(t, fmt.Sprintf("https://127.0.0.1:%d", port(door)), map[string]string{"SSL_CERT_FILE": file(t, ours.pem())})
	startComponent(t, "plain")
	await(t, g.registered, "a registration")
}

// missing skips a test that needs what this machine has not; where everything
// is required, that fails it.
func missing(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func TestUnixSocket(t *testing.T) {
	ours := newAuthority(t, "ours")
	for _, test := range []struct {
		name, file string
		server     *tls.Config
		env        map[string]string
	}{
		{"plaintext", "s", nil, nil},
		{"characters that mean something in a URL", "a b%41?c#d", nil, nil},
		{"TLS", "s", &tls.Config{Certificates: []tls.Certificate{ours.pair(t, nil)}}, map[string]string{"FLOWCTL_TLS_CA": file(t, ours.pem())}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
				t.Setenv(name, "http://127.0.0.1:1") // must not be asked
			}
			// Not t.TempDir: the path of a socket must be short.
			dir, err := os.MkdirTemp("", "")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			path, g := filepath.Join(dir, test.file), newGuarded()
			setSecurity(t, "unix://"+path, test.env)
			book := newLogbook()
			m := join(t, Component{Logger: book.logger()}) // before it is there
			serve(t, g, "unix", path, test.server)
			await(t, g.registered, "a registration")
			if m.Leave(); len(book.warnings()) > 0 {
				t.Errorf("warnings: %s", book.warnings())
			}
		})
	}
}

// Something else listens there, and answers.
func TestNoControlPlaneAtAll(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			conn.Close()
		}
	}()
	defer func() { lis.Close(); <-done }()
	setEnvironment(t, lis.Addr().String(), "a", "10s")
	book := newLogbook()
	defer join(t, Component{Logger: book.logger()}).Leave()
	book.await(t, "it does not speak HTTP/2 here: if it speaks TLS, write https://")
}

const secret = "canary-token-5f2c"

func TestToken(t *testing.T) {
	for _, scheme := range []string{"http://", "https://"} {
		t.Run(scheme, func(t *testing.T) {
			ours, g := newAuthority(t, "ours"), newGuarded()
			env := map[string]string{"FLOWCTL_TOKEN": secret}
			var config *tls.Config
			if scheme == "https://" {
				config = &tls.Config{Certificates: []tls.Certificate{ours.pair(t, nil)}}
				env["FLOWCTL_TLS_CA"] = file(t, ours.pem())
			}
			door, _ := serve(t, g, "tcp", "127.0.0.1:0", config)
			setSecurity(t, fmt.Sprintf("%s127.0.0.1:%d", scheme, port(door)), env)
			m := join(t, Component{})
			got := await(t, g.registered, "a registration")
			m.Leave()
			for _, visit := range []visit{got, await(t, g.beaten, "the last heartbeat")} {
				if len(visit.authorization) != 1 || visit.authorization[0] != "Bearer "+secret {
					t.Errorf("authorization %q", visit.authorization)
				}
			}
		})
	}
}

// What a control plane refuses is told once, with the cause and without the
// token, even if the control plane has told it to the world.
func TestTokenRefused(t *testing.T) {
	for _, test := range []struct {
		token string
		code  codes.Code
		cause string
	}{
		{secret, codes.Unauthenticated, "it does not accept the token of FLOWCTL_TOKEN"},
		{"", codes.Unauthenticated, "it asks for a token: set FLOWCTL_TOKEN"},
		{secret, codes.PermissionDenied, "it does not permit this component to join"},
	} {
		t.Run(test.cause, func(t *testing.T) {
			g := newGuarded()
			g.answer(status.Errorf(test.code, "what is %s to me", secret))
			door, _ := serve(t, g, "tcp", "127.0.0.1:0", nil)
			setSecurity(t, door.Addr().String(), map[string]string{"FLOWCTL_TOKEN": test.token, "FLOWCTL_HEARTBEAT_INTERVAL": "20ms"})
			book := newLogbook()
			m := join(t, Component{Logger: book.logger()})
			for range 3 {
				await(t, g.registered, "one more try")
			}
			g.answer(nil)
			book.awaitRegistered(t, 1)
			// Later it is refused again, which is news.
			g.answer(status.Errorf(test.code, "what is %s to me", secret))
			for len(book.warnings()) < 2 {
				await(t, book.wrote, "a line")
			}
			for len(g.beaten) > 0 {
				<-g.beaten
			}
			for range 3 {
				await(t, g.beaten, "one more heartbeat")
			}
			err := m.Leave()
			if got := book.warnings(); len(got) != 2 || !strings.Contains(got[0], test.cause) || !strings.Contains(got[1], test.cause) {
				t.Errorf("warnings:\n%s", strings.Join(got, "\n"))
			}
			all := fmt.Sprint(strings.Join(book.with(""), "\n"), err)
			if test.token != "" && (strings.Contains(all, secret) || !strings.Contains(all, "what is <FLOWCTL_TOKEN> to me")) {
				t.Errorf("the token, or not the error:\n%s", all)
			}
		})
	}
}

// New files are taken up with the next connection; one that is not whole
// changes nothing, and is told of.
func TestRenewal(t *testing.T) {
	first, second := newAuthority(t, "ours"), newAuthority(t, "theirs")
	server := func(a *authority) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{a.pair(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}
	}
	cert, key := first.issue(t, nil)
	env := map[string]string{"FLOWCTL_TLS_CA": file(t, first.pem()), "FLOWCTL_TLS_CERT": file(t, cert), "FLOWCTL_TLS_KEY": file(t, key)}
	g := newGuarded()
	door, stop := serve(t, g, "tcp", "127.0.0.1:0", server(first))
	addr := door.Addr().String()
	setSecurity(t, addr, env)
	book := newLogbook()
	m := join(t, Component{Logger: book.logger()})
	book.awaitRegistered(t, 1)

	// In the middle of being written, and gone.
	next := second.pem()
	replace(t, env["FLOWCTL_TLS_CA"], next[:len(next)/2])
	stop()
	_, stop = serve(t, g, "tcp", addr, server(first))
	book.awaitRegistered(t, 2)
	book.await(t, env["FLOWCTL_TLS_CA"]+" is not whole")
	os.Remove(env["FLOWCTL_TLS_CA"])
	stop()
	_, stop = serve(t, g, "tcp", addr, server(first))
	book.awaitRegistered(t, 3)
	book.await(t, "read FLOWCTL_TLS_CA: open "+env["FLOWCTL_TLS_CA"])

	// Certificates are renewed while the control plane is another already.
	stop()
	_, stop = serve(t, g, "tcp", addr, server(second))
	book.await(t, "not signed by a CA of "+env["FLOWCTL_TLS_CA"])
	cert, key = second.issue(t, func(c *x509.Certificate) { c.Subject.CommonName = "renewed" })
	replace(t, env["FLOWCTL_TLS_CERT"], cert) // not the key yet: they do not fit
	replace(t, env["FLOWCTL_TLS_CA"], next)
	book.await(t, "read FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY: ")
	replace(t, env["FLOWCTL_TLS_KEY"], key)
	book.awaitRegistered(t, 4)
	for range 3 {
		<-g.registered
	}
	visit := <-g.registered
	who, _ := peer.FromContext(visit.ctx)
	if name := who.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName; name != "renewed" {
		t.Errorf("registered as %q", name)
	}

	_, unfit := second.issue(t, nil)
	replace(t, env["FLOWCTL_TLS_KEY"], unfit) // once more, after all was well
	stop()
	serve(t, g, "tcp", addr, server(second))
	book.awaitRegistered(t, 5)
	m.Leave()
	if got := book.warnings(); len(got) != 5 {
		t.Errorf("%d warnings:\n%s", len(got), strings.Join(got, "\n"))
	}
	if all := strings.Join(book.with(""), "\n"); strings.Contains(all, "PRIVATE KEY") || strings.Contains(all, string(key[30:60])) {
		t.Errorf("the log has a key: %s", all)
	}
}

// A cause that comes back after all was well is told again; the tries in
// between are not.
func TestRefusedAgain(t *testing.T) {
	ours, theirs, g := newAuthority(t, "ours"), newAuthority(t, "theirs"), newGuarded()
	good := &tls.Config{Certificates: []tls.Certificate{ours.pair(t, nil)}}
	bad := &tls.Config{Certificates: []tls.Certificate{theirs.pair(t, nil)}}
	door, stop := serve(t, g, "tcp", "127.0.0.1:0", good)
	addr := door.Addr().String()
	setSecurity(t, addr, map[string]string{"FLOWCTL_TLS_CA": file(t, ours.pem())})
	book := newLogbook()
	m := join(t, Component{Logger: book.logger()})
	book.awaitRegistered(t, 1)
	stop()
	_, stop = serve(t, g, "tcp", addr, bad)
	book.await(t, "not signed")
	stop()
	g.answer(status.Error(codes.Internal, "not today"))
	_, stop = serve(t, g, "tcp", addr, good)
	book.await(t, "not today") // it tries to register again and again from now on
	stop()
	serve(t, g, "tcp", addr, bad)
	book.until(t, "no second warning", func() bool { return len(book.with("cause=")) >= 2 })
	tries := func() int { return len(book.with("msg=\"registration not accepted, trying again\"")) }
	before := tries()
	book.until(t, "it does not try any more", func() bool { return tries() >= before+2 })
	m.Leave()
	for _, line := range book.warnings() {
		if strings.Contains(line, "registration not accepted") && strings.Contains(line, "x509") {
			t.Errorf("told with every try: %s", line)
		}
	}
	if got := book.with("cause="); len(got) != 2 {
		t.Errorf("%d causes:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// That a component leaves is no fault of the control plane.
func TestLeaveIsNoRefusal(t *testing.T) {
	for _, scheme := range []string{"http://", "https://"} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		setEnvironment(t, scheme+lis.Addr().String(), "a", "10s")
		book := newLogbook()
		m := join(t, Component{Logger: book.logger()})
		conn, err := lis.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil { // it has begun to speak, and waits
			t.Fatal(err)
		}
		m.Leave()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		io.Copy(io.Discard, conn) // until it has hung up
		conn.Close()
		lis.Close()
		if got := book.with(""); len(got) > 0 {
			t.Errorf("%s: %s", scheme, got)
		}
	}
}

func TestJoinRefusesFiles(t *testing.T) {
	ours := newAuthority(t, "ours")
	cert, key := ours.issue(t, nil)
	_, otherKey := ours.issue(t, nil)
	absent := filepath.Join(t.TempDir(), "absent.pem")
	half, words, keyless := file(t, cert[:len(cert)/2]), file(t, []byte("no PEM")), file(t, key)
	good, goodKey, wrongKey := file(t, cert), file(t, key), file(t, otherKey)
	for _, test := range []struct {
		name string
		env  map[string]string
		err  string
	}{
		{"no CA file", map[string]string{"FLOWCTL_TLS_CA": absent}, "read FLOWCTL_TLS_CA: open " + absent + ": no such file"},
		{"CA file of words", map[string]string{"FLOWCTL_TLS_CA": words}, "read FLOWCTL_TLS_CA: " + words + " is not a PEM file"},
		{"half a CA file", map[string]string{"FLOWCTL_TLS_CA": half}, "read FLOWCTL_TLS_CA: " + half + " is not whole"},
		{"CA file of a key", map[string]string{"FLOWCTL_TLS_CA": keyless}, "read FLOWCTL_TLS_CA: " + keyless + " has no certificate"},
		{"no certificate file", map[string]string{"FLOWCTL_TLS_CERT": absent, "FLOWCTL_TLS_KEY": goodKey}, "read FLOWCTL_TLS_CERT: open " + absent},
		{"no key file", map[string]string{"FLOWCTL_TLS_CERT": good, "FLOWCTL_TLS_KEY": absent}, "read FLOWCTL_TLS_KEY: open " + absent},
		{"key file of words", map[string]string{"FLOWCTL_TLS_CERT": good, "FLOWCTL_TLS_KEY": words}, "read FLOWCTL_TLS_KEY: " + words + " is not a PEM file"},
		{"another key", map[string]string{"FLOWCTL_TLS_CERT": good, "FLOWCTL_TLS_KEY": wrongKey}, "read FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY: " + good + " and " + wrongKey + ": tls: private key does not match"},
		{"no key", map[string]string{"FLOWCTL_TLS_CERT": good}, "read FLOWCTL_TLS_CERT: " + good + " has no key"},
		{"plaintext and CA", map[string]string{"FLOWCTL_ENDPOINT": "http://localhost:1", "FLOWCTL_TLS_CA": good}, "http://localhost:1 means no TLS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			setSecurity(t, "localhost:1", test.env)
			m, err := Join(t.Context(), Component{HealthPort: freePort(t)})
			if err == nil {
				m.Leave()
			}
			if err == nil || !strings.HasPrefix(err.Error(), "join") || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}

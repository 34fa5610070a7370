package controlplane

import (
	"context"
	"crypto/x509"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// Who is refused is told why, and so is who operates the control plane.
func TestTLSRefusals(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	server := ca.trusting(ca.server())
	fine := ca.trusting(ca.issue("fine", certified{identity: OperatorURI()}))
	for _, test := range []struct {
		name   string
		server TLSFiles
		target Target
		client string // what the client says
		notice string // what the server says; "": nothing
	}{
		{name: "the right certificate", server: server, target: Target{TLS: fine}},
		{name: "no certificate", server: server, target: Target{TLS: TLSFiles{CA: ca.CA()}},
			client: "it wants a client certificate: --tls-cert and --tls-key",
			notice: "it showed no certificate, and --tls-ca-cert demands one"},
		{name: "of another authority", server: server, target: Target{TLS: ca.trusting(other.issue("fine", certified{}))},
			client: "the client certificate is from an authority that it does not trust",
			notice: "its certificate is from another authority than --tls-ca-cert names"},
		{name: "expired", server: server, target: Target{TLS: ca.trusting(ca.issue("old", certified{until: -time.Minute}))},
			client: "the client certificate has expired or is not valid yet",
			notice: "its certificate has expired or is not valid yet"},
		{name: "not valid yet", server: server, target: Target{TLS: ca.trusting(ca.issue("new", certified{from: time.Minute}))},
			client: "the client certificate has expired or is not valid yet",
			notice: "its certificate has expired or is not valid yet"},
		{name: "not for clients", server: server, target: Target{TLS: ca.trusting(ca.issue("usage", certified{usage: x509.ExtKeyUsageServerAuth}))},
			client: "it does not accept the client certificate",
			notice: "its certificate is not for clients"},
		{name: "an authority that the client does not trust", server: server, target: Target{TLS: other.trusting(fine)},
			client: "its certificate is from an authority that is not trusted: --tls-ca-cert names the right one",
			notice: "it does not accept this control plane's certificate"},
		{name: "a server's certificate that has expired", server: ca.issue("server-old", certified{hosts: []string{"127.0.0.1"}, until: -time.Minute}), target: Target{TLS: TLSFiles{CA: ca.CA()}},
			client: "its certificate has expired or is not valid yet",
			notice: "it does not accept this control plane's certificate"},
		{name: "a server's certificate for another name", server: ca.issue("server-name", certified{hosts: []string{"example.org", "192.0.2.1"}}), target: Target{TLS: TLSFiles{CA: ca.CA()}},
			client: "its certificate is for another name",
			notice: "it does not accept this control plane's certificate"},
		{name: "a server's certificate for a name alone", server: ca.issue("server-dns", certified{hosts: []string{"example.org"}}), target: Target{TLS: TLSFiles{CA: ca.CA()}},
			client: "its certificate is for names, not for this address: use the name",
			notice: "it does not accept this control plane's certificate"},
		{name: "another certificate than the pinned one", server: ca.issue("server", certified{hosts: []string{"127.0.0.1"}}), target: Target{Pinned: fine.Cert},
			client: "its certificate is not the one in " + fine.Cert,
			notice: "it does not accept this control plane's certificate"},
		{name: "the pinned certificate, whatever its name", server: ca.issue("server-pin", certified{}), target: Target{Pinned: ca.dir + "/server-pin.pem"}},
		{name: "plaintext to TLS", server: server, target: Target{},
			client: "this control plane speaks TLS only",
			notice: "it does not speak TLS, and this control plane does"},
		{name: "TLS to plaintext", target: Target{TLS: fine},
			client: "it speaks no TLS: leave out the --tls flags",
			notice: "it speaks TLS, and this control plane does not"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 20 { // a cause must not be lost in a race with the end of the connection
				o := open(t, Options{TLS: test.server})
				_, err := o.client(test.target).List(t.Context(), registry.Filter{})
				switch {
				case test.client == "" && err != nil:
					t.Fatal(err)
				case test.client != "" && (err == nil || !strings.Contains(err.Error(), test.client)):
					t.Fatalf("the client says: %v\nwant: %s", err, test.client)
				}
				if test.notice != "" {
					o.notices.await(t, test.notice)
				}
				o.stop()
			}
		})
	}
}

// Certificates, keys and authorities that are renewed count from the next
// handshake on, at both ends; what is half written does not.
func TestRenewal(t *testing.T) {
	ca, lis := newCA(t), listenCuttable(t)
	server := ca.trusting(ca.server())
	client := ca.trusting(ca.issue("client", certified{identity: ComponentURI("src")}))
	o := openOn(t, Options{TLS: server, Access: Access{Required: true}}, lis)
	c := o.client(Target{TLS: client})
	registered := func(when string) string {
		t.Helper()
		lis.cut()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			ack, err := flowctlpb.NewControlPlaneClient(c.conn).Register(ctx, &flowctlpb.ServiceInfo{}, grpc.WaitForReady(true))
			if err == nil {
				return ack.GetServiceId()
			}
			if status.Code(err) != codes.Unavailable || ctx.Err() != nil { // else it was on its way when the connection was cut
				t.Fatalf("%s: %v", when, err)
			}
		}
	}
	same(t, "at first", registered("at first"), "src")

	half := ca.issue("half", certified{})
	for _, path := range []string{server.Cert, client.Cert} { // they do not fit to the keys
		rename(t, half.Cert, path)
		half = ca.issue("half", certified{})
	}
	letBeLookedAtAgain(t)
	same(t, "in the middle of a renewal", registered("in the middle of a renewal"), "src")

	// All come from another authority, whose file takes the place of the old one's.
	other := newCA(t)
	for to, from := range map[TLSFiles]TLSFiles{server: other.server(), client: other.issue("client", certified{identity: ComponentURI("other")})} {
		rename(t, from.Cert, to.Cert)
		rename(t, from.Key, to.Key)
	}
	rename(t, other.CA(), ca.CA())
	letBeLookedAtAgain(t)
	same(t, "after the renewal", registered("after the renewal"), "other")
}

// letBeLookedAtAgain returns when files that were looked at are looked at again:
// nobody tells of their renewal.
func letBeLookedAtAgain(t *testing.T) {
	t.Helper()
	<-time.After(lookAgain + 50*time.Millisecond)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// A certificate says who calls, and that one speaks for nobody else.
func TestCertifiedIdentity(t *testing.T) {
	ca := newCA(t)
	o := open(t, Options{TLS: ca.trusting(ca.server()), Access: Access{Required: true}})
	as := func(name string, identity *url.URL) flowctlpb.ControlPlaneClient {
		return flowctlpb.NewControlPlaneClient(o.client(Target{TLS: ca.trusting(ca.issue(name, certified{identity: identity}))}).conn)
	}
	src := as("src", ComponentURI("src"))
	ack, err := src.Register(t.Context(), &flowctlpb.ServiceInfo{})
	if err != nil || ack.GetServiceId() != "src" {
		t.Fatalf("%v, %v", ack, err)
	}
	_, err = as("sink", ComponentURI("sink")).Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: "src"})
	wantCode(t, "another component's heartbeat", err, codes.PermissionDenied)
	o.notices.await(t, `sink cannot speak for "src": its token or certificate is its own`)
	for name, identity := range map[string]*url.URL{
		"none": nil, "foreign": {Scheme: "spiffe", Host: "component", Path: "/src"},
		"empty": ComponentURI(""), "unknown": {Scheme: identityScheme, Host: "admin"},
	} {
		_, err = as(name, identity).Heartbeat(t.Context(), &flowctlpb.ServiceHeartbeat{ServiceId: "src"})
		wantCode(t, "a certificate that names nobody: "+name, err, codes.Unauthenticated)
	}
	o.notices.await(t, "this control plane wants to know who calls")
}

// A control plane that is not this one's kin is told apart from a broken one.
func TestTLSToForeignServers(t *testing.T) {
	ca := newCA(t)
	files := ca.trusting(ca.server())
	plain, encrypted := grpc.NewServer(), grpc.NewServer(grpc.Creds(mustServerCredentials(t, files)))
	for _, test := range []struct {
		name   string
		server *grpc.Server
		target Target
		want   string
	}{
		{"TLS to plaintext", plain, Target{TLS: files}, "it speaks no TLS: leave out the --tls flags"},
		{"plaintext to TLS", encrypted, Target{}, "it does not speak plain gRPC: does it want TLS (--tls-ca-cert)?"},
	} {
		lis, err := Listen("127.0.0.1", 0)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- test.server.Serve(lis) }()
		test.target.Endpoint = lis.Addr().String()
		c, err := Dial(test.target)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := c.Wait(ctx); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		cancel()
		c.Close()
		test.server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

func mustServerCredentials(t *testing.T, files TLSFiles) credentials.TransportCredentials {
	t.Helper()
	creds, err := credentials.NewServerTLSFromFile(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// Files that cannot be used are told of when they are read for the first time.
func TestUnusableTLSFiles(t *testing.T) {
	ca := newCA(t)
	server, other := ca.server(), ca.issue("other", certified{})
	for _, test := range []struct {
		name  string
		files TLSFiles
		want  string
	}{
		{"a key that is another certificate's", TLSFiles{Cert: server.Cert, Key: other.Key}, "private key does not match public key"},
		{"a file that is not there", TLSFiles{Cert: server.Cert, Key: ca.dir + "/none"}, ca.dir + "/none: no such file"},
		{"authorities that are none", TLSFiles{Cert: server.Cert, Key: server.Key, CA: server.Key}, "there is no PEM certificate in " + server.Key},
		{"a certificate without its key", TLSFiles{Cert: server.Cert}, "a certificate and its key come together"},
		{"an authority alone", TLSFiles{CA: ca.CA()}, "a server needs a certificate: --tls-cert and --tls-key"},
	} {
		if _, err := New(Options{Registry: registry.New(registry.Options{}), TLS: test.files}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := Dial(Target{Endpoint: "localhost:1", TLS: TLSFiles{CA: ca.dir + "/none"}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a client without its authorities: %v", err)
	}
	if _, err := Dial(Target{Endpoint: "http://localhost:1", TLS: TLSFiles{CA: ca.CA()}}); err == nil || !strings.Contains(err.Error(), "http:// means no TLS") {
		t.Errorf("http:// with files for TLS: %v", err)
	}
}

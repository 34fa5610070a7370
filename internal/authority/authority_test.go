package authority

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	a, err := New(dir, "pipeline-abcdefgh")
	if err != nil {
		t.Fatal(err)
	}
	identity := &url.URL{Scheme: "flowctl", Host: "component", Path: "/ttp"}
	for range 2 { // the second time changes nothing
		if err := a.Issue("ttp", identity, "localhost", "127.0.0.1", "::1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Issue(strings.Repeat("x", 63), nil); err != nil {
		t.Error(err)
	}
	pair, err := tls.LoadX509KeyPair(a.Files("ttp"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs) != 1 || *cert.URIs[0] != *identity {
		t.Errorf("it bears %v", cert.URIs)
	}
	text, err := os.ReadFile(a.CA())
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("%v\n%s", err, text)
	}
	for host, fine := range map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, "example.org": false, "10.0.0.1": false} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}}); (err == nil) != fine {
				t.Errorf("for %s: %v", host, err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAuthorityWithoutAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(filepath.Join(file, "tls"), "run"); err == nil || !strings.Contains(err.Error(), "make the folder") {
		t.Errorf("%v", err)
	}
}

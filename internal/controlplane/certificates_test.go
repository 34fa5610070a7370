package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// testCA is a certificate authority whose certificates may have anything wrong.
type testCA struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// newCA makes an authority; its file is CA().
func newCA(t testing.TB) *testCA {
	t.Helper()
	ca := &testCA{t: t, dir: t.TempDir(), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, KeyUsage: x509.KeyUsageCertSign,
		IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writeTestPEM(t, ca.CA(), "CERTIFICATE", der)
	return ca
}

// CA is the file of the authority's own certificate.
func (ca *testCA) CA() string { return filepath.Join(ca.dir, "ca.pem") }

// certified is a certificate that is to be issued.
type certified struct {
	hosts    []string
	identity *url.URL
	// usage, if not zero, is all that it is for.
	usage x509.ExtKeyUsage
	// from and until are when it is valid, from now on; zero: an hour ago and in an hour.
	from, until time.Duration
}

// issue writes a certificate and its key; issuing under a name again renews it.
func (ca *testCA) issue(name string, c certified) TLSFiles {
	ca.t.Helper()
	key := newKey(ca.t)
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if c.usage != 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{c.usage}
	}
	if c.from != 0 {
		template.NotBefore = time.Now().Add(c.from)
	}
	if c.until != 0 {
		template.NotAfter = time.Now().Add(c.until)
	}
	if c.identity != nil {
		template.URIs = []*url.URL{c.identity}
	}
	for _, host := range c.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	files := TLSFiles{Cert: filepath.Join(ca.dir, name+".pem"), Key: filepath.Join(ca.dir, name+".key")}
	writeTestPEM(ca.t, files.Key, "PRIVATE KEY", private)
	writeTestPEM(ca.t, files.Cert, "CERTIFICATE", der)
	return files
}

// server issues a certificate for a server on this machine.
func (ca *testCA) server() TLSFiles {
	return ca.issue("server", certified{hosts: []string{"localhost", "127.0.0.1", "::1"}})
}

// trusting is files with this authority as the one that is trusted.
func (ca *testCA) trusting(files TLSFiles) TLSFiles {
	files.CA = ca.CA()
	return files
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeTestPEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

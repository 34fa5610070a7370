// Package authority is a certificate authority that lives as long as one run: it
// certifies the run's control plane, its components and its operator, keeps
// their files where only this user can read them, and takes them away at the
// end. Its own key never leaves the memory of this process.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// lifetime is how long certificates are valid: longer than any run. What ends
// their validity is the end of the run, with which the authority is gone.
const lifetime = 10 * 365 * 24 * time.Hour

// skew is how far other clocks may be behind.
const skew = time.Hour

// Authority certifies the parties of one run.
type Authority struct {
	dir  string
	key  crypto.Signer
	cert *x509.Certificate

	mu     sync.Mutex // guards issued
	issued map[string]struct{}
}

// New makes an authority whose files are in dir, which it makes; the run's name
// is what people see in its certificates.
func New(dir, run string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the run's certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the run's certificate authority: %w", err)
	}
	template := certificate("flowctl run " + run)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the run's certificate authority: %w", err)
	}
	a := &Authority{dir: dir, key: key, issued: make(map[string]struct{})}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return a, writePEM(a.CA(), "CERTIFICATE", der)
}

// CA is the file of the authority's own certificate.
func (a *Authority) CA() string { return filepath.Join(a.dir, "ca.pem") }

// Files are where the certificate of a party and its key are, once they are issued.
func (a *Authority) Files(party string) (cert, key string) {
	return filepath.Join(a.dir, party+".pem"), filepath.Join(a.dir, party+".key")
}

// Issue writes a certificate for a party, which is the name of its files, and
// its key, unless that was done before. It is valid for the hosts, names or
// addresses, and bears the identity, if there is one.
func (a *Authority) Issue(party string, identity *url.URL, hosts ...string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, done := a.issued[party]; done {
		return nil
	}
	template := certificate(party)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	if identity != nil {
		template.URIs = []*url.URL{identity}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if err := a.issue(party, template); err != nil {
		return fmt.Errorf("issue a certificate for %s: %w", party, err)
	}
	a.issued[party] = struct{}{}
	return nil
}

func (a *Authority) issue(party string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certFile, keyFile := a.Files(party)
	if err := writePEM(keyFile, "PRIVATE KEY", private); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", der)
}

// Share lets others than this user read the files of a party, and the authority's
// own certificate: a container that is given them may run as anybody. The folder
// they are in stays closed.
func (a *Authority) Share(party string) error {
	cert, key := a.Files(party)
	for _, file := range []string{a.CA(), cert, key} {
		if err := os.Chmod(file, 0o644); err != nil {
			return fmt.Errorf("share the certificate of %s: %w", party, err)
		}
	}
	return nil
}

// Close takes the files away.
func (a *Authority) Close() error { return os.RemoveAll(a.dir) }

// certificate is what all certificates have in common.
func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // it never fails
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: shortened(name)},
		NotBefore: now.Add(-skew), NotAfter: now.Add(lifetime),
	}
}

// shortened is as much of a name as a certificate takes.
func shortened(name string) string { return name[:min(len(name), 64)] }

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

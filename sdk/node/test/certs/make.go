//go:build ignore

// Makes the certificates of the tests, in the folder it is run in: Node cannot
// make any. They are committed; to make new ones:
//
//	cd sdk/node/test/certs && go run make.go
//
// The private keys are worth nothing: nobody trusts the CAs but these tests.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"os"
	"time"
)

// year is the beginning of one. What is to be valid is so until 2096, what has
// expired did in 2001.
func year(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }

func main() {
	log.SetFlags(0)
	here := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	ca, theirs, key := newKey(""), newKey(""), newKey("leaf.key")
	newKey("other.key") // of no certificate
	ours := issue("ca", nil, ca, ca, func(c *x509.Certificate) { c.IsCA = true })
	other := issue("their-ca", nil, theirs, theirs, func(c *x509.Certificate) { c.IsCA = true })
	issue("server", ours, key, ca, func(c *x509.Certificate) { c.IPAddresses = here })
	issue("their-server", other, key, theirs, func(c *x509.Certificate) { c.IPAddresses = here })
	issue("expired", ours, key, ca, func(c *x509.Certificate) { c.IPAddresses, c.NotAfter = here, year(2001) })
	issue("localhost", ours, key, ca, func(*x509.Certificate) {})
	issue("client", ours, key, ca, func(*x509.Certificate) {})
	issue("their-client", other, key, theirs, func(*x509.Certificate) {})
}

// newKey writes a key to a file, unless that is "".
func newKey(file string) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		log.Fatal(err)
	}
	if file != "" {
		write(file, "PRIVATE KEY", der)
	}
	return key
}

// issue writes name.pem: a certificate of that name, for localhost, but for
// what change makes of it. Without a parent it signs itself.
func issue(name string, parent *x509.Certificate, key, by *ecdsa.PrivateKey, change func(*x509.Certificate)) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		log.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             year(2000),
		NotAfter:              year(2096),
		DNSNames:              []string{"localhost"},
		BasicConstraintsValid: true,
	}
	change(c)
	if c.IsCA {
		c.DNSNames, c.KeyUsage = nil, x509.KeyUsageCertSign
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		log.Fatal(err)
	}
	write(name+".pem", "CERTIFICATE", der)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	return cert
}

func write(file, kind string, der []byte) {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
		log.Fatal(err)
	}
}

package flowctl

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// config reads the files.
func (t target) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		ca, err := readPEM("FLOWCTL_TLS_CA", t.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("read FLOWCTL_TLS_CA: %s has no certificate", t.ca)
		}
	}
	if t.cert == "" {
		return config, nil
	}
	cert, err := readPEM("FLOWCTL_TLS_CERT", t.cert)
	if err != nil {
		return nil, err
	}
	key, err := readPEM("FLOWCTL_TLS_KEY", t.key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY: %s and %s: %w", t.cert, t.key, err)
	}
	// It is sent whatever CAs the control plane asks for: sending none instead
	// would make it say that one is missing.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return config, nil
}

// readPEM reads a file that must be PEM to its end. A file that is being
// written is an error, unless it happens to end between two blocks.
func readPEM(variable, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", variable, err)
	}
	whole := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		whole++
	}
	switch begun := bytes.Count(data, []byte("-----BEGIN ")); {
	case begun == 0:
		return nil, fmt.Errorf("read %s: %s is not a PEM file", variable, path)
	case begun != whole:
		return nil, fmt.Errorf("read %s: %s is not whole: a PEM block has no end", variable, path)
	}
	return data, nil
}

package controlplane

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TLSFiles are the PEM files of one side of an encrypted connection.
type TLSFiles struct {
	// Cert and Key are its own certificate and that one's key.
	Cert, Key string
	// CA are the authorities that the other side's certificate must be from; "": a
	// server asks clients for none, a client trusts those of the system.
	CA string
}

// Set reports whether any file is named.
func (f TLSFiles) Set() bool { return f != TLSFiles{} }

// lookAgain is how often files are looked at for renewal.
const lookAgain = time.Second

// credentialFiles are TLSFiles as they were last read. Files that are renewed
// are read anew at a handshake; while they cannot be, as in the middle of a
// renewal, what was read last counts.
type credentialFiles struct {
	files TLSFiles

	mu     sync.Mutex // guards all below
	looked time.Time
	stamps []string
	cert   *tls.Certificate // nil: none is named
	roots  *x509.CertPool   // nil: none are named
}

// readCredentials reads the files for the first time: then nothing may be wrong.
func readCredentials(files TLSFiles) (*credentialFiles, error) {
	c := &credentialFiles{files: files}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("a certificate and its key come together: --tls-cert and --tls-key")
	}
	stamps, err := c.stamp()
	if err != nil {
		return nil, err
	}
	return c, c.read(stamps)
}

// current returns what counts now.
func (c *credentialFiles) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookAgain {
		c.looked = now
		if stamps, err := c.stamp(); err == nil && !slices.Equal(stamps, c.stamps) {
			_ = c.read(stamps)
		}
	}
	return c.cert, c.roots
}

// stamp tells the files' states apart.
func (c *credentialFiles) stamp() ([]string, error) {
	var stamps []string
	for _, path := range []string{c.files.Cert, c.files.Key, c.files.CA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, fmt.Sprint(path, info.ModTime().UnixNano(), info.Size()))
	}
	return stamps, nil
}

// read reads the files; if one is wrong nothing changes.
func (c *credentialFiles) read(stamps []string) error {
	var cert *tls.Certificate
	var roots *x509.CertPool
	if c.files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
		if err != nil {
			return fmt.Errorf("read the certificate %s and its key %s: %w", c.files.Cert, c.files.Key, err)
		}
		cert = &pair
	}
	if c.files.CA != "" {
		text, err := os.ReadFile(c.files.CA)
		if err != nil {
			return err
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("read the certificate authorities: there is no PEM certificate in %s", c.files.CA)
		}
	}
	c.cert, c.roots, c.stamps = cert, roots, stamps
	return nil
}

// protocols are what may be spoken inside, the wanted first.
var protocols = []string{"h2", "http/1.1"}

// serverTLS is a server's configuration: clients must show a certificate if
// authorities are named; those of the other one are as good.
func serverTLS(files TLSFiles, otherCA string) (*tls.Config, error) {
	if files.Cert == "" {
		return nil, errors.New("a server needs a certificate: --tls-cert and --tls-key")
	}
	credentials, err := readCredentials(files)
	if err != nil {
		return nil, err
	}
	var other []byte
	if otherCA != "" {
		if other, err = os.ReadFile(otherCA); err != nil {
			return nil, err
		}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots := credentials.current()
			config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}, NextProtos: protocols}
			if slices.Contains(hello.SupportedProtos, "http/1.1") {
				config.NextProtos = protocols[1:] // who offers both is a browser or curl; gRPC offers h2 alone
			}
			if roots != nil {
				all := roots.Clone()
				all.AppendCertsFromPEM(other)
				config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, all
			}
			return config, nil
		},
	}, nil
}

// clientTLS is a client's configuration for a server of this name. If pinned
// names a file, the server must have the certificate in it, whatever its name.
func clientTLS(files TLSFiles, pinned, serverName string) (*tls.Config, error) {
	credentials, err := readCredentials(files)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: serverName, NextProtos: protocols[:1],
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert, _ := credentials.current(); cert != nil {
				return cert, nil
			}
			return &tls.Certificate{}, nil
		},
		InsecureSkipVerify: true, // VerifyConnection verifies, by the authorities of that time
		VerifyConnection: func(state tls.ConnectionState) error {
			if pinned != "" {
				return isPinned(state, pinned)
			}
			_, roots := credentials.current()
			return isTrusted(state, roots, serverName)
		},
	}, nil
}

// isTrusted refuses a server whose certificate is not for this name and from one
// of the authorities; nil are those of the system.
func isTrusted(state tls.ConnectionState, roots *x509.CertPool, name string) error {
	opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(opts)
	return err
}

// isPinned refuses a server that does not have the first certificate of a file,
// as that is now.
func isPinned(state tls.ConnectionState, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil || len(state.PeerCertificates) == 0 || !bytes.Equal(block.Bytes, state.PeerCertificates[0].Raw) {
		return fmt.Errorf("its certificate is not the one in %s", file)
	}
	return nil
}

// identityScheme is that of the URI by which a certificate says whose it is:
// flowctl://component/ID or flowctl://operator.
const identityScheme = "flowctl"

// ComponentURI is what a component's certificate bears, OperatorURI an operator's.
func ComponentURI(id string) *url.URL {
	return &url.URL{Scheme: identityScheme, Host: "component", Path: "/" + id}
}

// OperatorURI is what an operator's certificate bears.
func OperatorURI() *url.URL { return &url.URL{Scheme: identityScheme, Host: "operator"} }

// certifiedCaller is whom a verified certificate names: a component, an operator, or nobody.
func certifiedCaller(cert *x509.Certificate) caller {
	for _, uri := range cert.URIs {
		switch {
		case uri.Scheme != identityScheme:
		case uri.Host == "operator":
			return caller{operator: true}
		case uri.Host == "component":
			return caller{component: strings.TrimPrefix(uri.Path, "/")}
		}
	}
	return caller{}
}

// handshakeProblem puts a failed handshake into words, as the server sees it.
func handshakeProblem(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	refused, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "its certificate is not for clients"
	case errors.As(err, &unknown):
		return "its certificate is from another authority than --tls-ca-cert names"
	case strings.Contains(err.Error(), "client didn't provide a certificate"):
		return "it showed no certificate, and --tls-ca-cert demands one"
	case refused == "" && strings.Contains(alert, "certificate"):
		return "it does not accept this control plane's certificate: " + alert
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "it did not finish its handshake in time"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it ended the connection during the TLS handshake"
	}
	return err.Error()
}

// connectionProblem puts what keeps a client from a server into words; "" when
// it has nothing to do with encryption.
func connectionProblem(err error, encrypted bool) string {
	text := err.Error()
	for _, known := range []struct{ part, words string }{
		{"first record does not look like a TLS handshake", "it speaks no TLS: leave out the --tls flags"},
		{"certificate signed by unknown authority", "its certificate is from an authority that is not trusted: --tls-ca-cert names the right one"},
		{"certificate has expired", "its certificate has expired or is not valid yet"},
		{"certificate is valid for", "its certificate is for another name: " + afterLast(text, "x509: ")},
		{"certificate is not valid for any names", "its certificate is for no name at all"},
		{"doesn't contain any IP SANs", "its certificate is for names, not for this address: use the name"},
		{"tls: certificate required", "it wants a client certificate: --tls-cert and --tls-key"},
		{"tls: bad certificate", "it does not accept the client certificate"},
		{"tls: expired certificate", "the client certificate has expired or is not valid yet"},
		{"tls: unknown certificate authority", "the client certificate is from an authority that it does not trust"},
	} {
		if strings.Contains(text, known.part) {
			return known.words
		}
	}
	switch {
	case !encrypted && strings.Contains(text, "error reading server preface"):
		return "it does not speak plain gRPC: does it want TLS (--tls-ca-cert)?"
	case encrypted && strings.Contains(text, "authentication handshake failed: EOF"):
		return "it ends the connection where the TLS handshake should begin: does it speak TLS at all?"
	}
	return ""
}

// afterLast is what follows the last sep in text.
func afterLast(text, sep string) string { return text[strings.LastIndex(text, sep)+len(sep):] }

package flowctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal says why a connection has come to nothing, given the error that
// ended it. It is not sure where the control plane has only hung up: it may have
// said why another time.
func (t target) refusal(err error) (cause string, sure bool) {
	var (
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &record):
		return "it speaks no TLS: have it serve TLS, or ask for none (no https:// in FLOWCTL_ENDPOINT, no FLOWCTL_TLS_ variable)", true
	case errors.Is(err, errNoHTTP2):
		return "it does not speak HTTP/2 here: if it speaks TLS, write https:// in FLOWCTL_ENDPOINT or set FLOWCTL_TLS_CA", true
	case errors.As(err, &unknown) && t.ca == "":
		return "its certificate is not signed by a CA this system knows: name the file of its CA in FLOWCTL_TLS_CA", true
	case errors.As(err, &unknown):
		return fmt.Sprintf("its certificate is not signed by a CA of %s: FLOWCTL_TLS_CA must name the file of its CA", t.ca), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet: renew it, or set the clock of this machine", true
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate is not for the name in FLOWCTL_ENDPOINT: %s", name.Error()), true
	case errors.As(err, &op) && op.Op == "remote error":
		return t.alert(op.Err.Error()), true
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("it does not finish a TLS handshake within %s", callTimeout), false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return t.silence(), false
	case errors.As(err, &op):
		return "the connection fails: " + op.Err.Error(), true // without the ports, which are others every time
	}
	return "the TLS handshake fails: " + err.Error(), true
}

// alert is the cause if the control plane has ended the handshake with these words.
func (t target) alert(words string) string {
	words = strings.TrimPrefix(words, "tls: ")
	switch {
	case t.cert != "" && (strings.Contains(words, "certificate") || words == "handshake failure"):
		return fmt.Sprintf("it does not accept the certificate of %s (FLOWCTL_TLS_CERT): %s", t.cert, words)
	case words == "certificate required":
		return "it asks for a client certificate: set FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY"
	case t.cert == "":
		return "it ends the TLS handshake, perhaps for want of a client certificate (FLOWCTL_TLS_CERT): " + words
	}
	return "it ends the TLS handshake: " + words
}

// silence is the cause if the control plane has hung up without a word.
func (t target) silence() string {
	if t.tls {
		return "it closes connections before it says anything: it may not accept the client certificate, or have none of its own"
	}
	return "it closes connections before it says anything: if it speaks TLS, write https:// in FLOWCTL_ENDPOINT or set FLOWCTL_TLS_CA"
}

// denial says why a call was refused, "" if that is not about who calls.
func (t target) denial(err error) string {
	switch code := status.Code(err); {
	case code == codes.Unauthenticated && t.token == "":
		return "it asks for a token: set FLOWCTL_TOKEN"
	case code == codes.Unauthenticated:
		return "it does not accept the token of FLOWCTL_TOKEN"
	case code == codes.PermissionDenied:
		return "it does not permit this component to join"
	}
	return ""
}

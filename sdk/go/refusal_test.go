package flowctl

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
)

// What no control plane of a test says when it is wanted to. The real ones are
// in TestTLS.
func TestRefusal(t *testing.T) {
	reset := &net.OpError{Op: "read", Addr: &net.TCPAddr{Port: 1234}, Err: fmt.Errorf("read: %w", syscall.ECONNRESET)}
	alert := func(words string) error { return &net.OpError{Op: "remote error", Err: errors.New(words)} }
	plain, secure, known := target{}, target{tls: true}, target{tls: true, cert: "/c.pem"}
	for _, test := range []struct {
		name   string
		target target
		err    error
		want   string
		sure   bool
	}{
		{"hung up in plaintext", plain, io.EOF, plain.silence(), false},
		{"reset in plaintext", plain, reset, plain.silence(), false},
		{"hung up in TLS", secure, io.ErrUnexpectedEOF, secure.silence(), false},
		{"silent in TLS", secure, context.DeadlineExceeded, "it does not finish a TLS handshake within 5s", false},
		{"other trouble, told without ports", secure, &net.OpError{Op: "read", Addr: &net.TCPAddr{Port: 1234}, Err: syscall.EIO}, "the connection fails: input/output error", true},
		{"a certificate for something else", secure, x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}, "the TLS handshake fails: x509: certificate specifies an incompatible key usage", true},
		{"an alert with a certificate", known, alert("tls: bad certificate"), "it does not accept the certificate of /c.pem (FLOWCTL_TLS_CERT): bad certificate", true},
		{"an alert about something else", known, alert("tls: internal error"), "it ends the TLS handshake: internal error", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, sure := test.target.refusal(test.err); got != test.want || sure != test.sure {
				t.Errorf("got %q, sure %t; want %q, sure %t", got, sure, test.want, test.sure)
			}
		})
	}
	if plain.silence() == secure.silence() {
		t.Error("silence is told alike with and without TLS")
	}
}

func TestNotice(t *testing.T) {
	var n notice
	for i, step := range []struct {
		cause       string
		sure, fresh bool
	}{
		{"guess", false, true}, {"guess", false, false}, {"other guess", false, false}, // one guess is enough
		{"known", true, true}, {"known", true, false}, {"guess", false, false},
		{"better known", true, true}, {"known", true, true},
	} {
		if got := n.fresh(step.cause, step.sure); got != step.fresh || !n.stands() {
			t.Errorf("step %d, %s: fresh %t, stands %t", i, step.cause, got, n.stands())
		}
	}
	n.clear()
	if n.stands() || !n.fresh("known", true) {
		t.Error("it stands after clear")
	}
}

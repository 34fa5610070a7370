package flowctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// target is where the control plane is, and how to speak to it.
type target struct {
	// endpoint is host:port or unix:///path.
	endpoint string
	tls      bool
	// PEM files, "" if none is given: the CAs that the control plane's
	// certificate is checked against, and the component's own certificate.
	ca, cert, key string
	// token goes with every call; "" sends none. It must not get into a log or
	// an error.
	token string
}

// readTarget reads the variables that getenv gives, and no file.
func readTarget(getenv func(string) string) (target, error) {
	text := cmp.Or(getenv("FLOWCTL_ENDPOINT"), defaultEndpoint)
	t := target{
		ca:    strings.TrimSpace(getenv("FLOWCTL_TLS_CA")),
		cert:  strings.TrimSpace(getenv("FLOWCTL_TLS_CERT")),
		key:   strings.TrimSpace(getenv("FLOWCTL_TLS_KEY")),
		token: strings.TrimSpace(getenv("FLOWCTL_TOKEN")),
	}
	var err error
	if t.endpoint, err = parseEndpoint(text); err != nil {
		return target{}, fmt.Errorf("read FLOWCTL_ENDPOINT: %w", err)
	}
	switch {
	case t.cert != "" && t.key == "":
		return target{}, fmt.Errorf("read FLOWCTL_TLS_CERT: %s has no key: set FLOWCTL_TLS_KEY too", t.cert)
	case t.key != "" && t.cert == "":
		return target{}, fmt.Errorf("read FLOWCTL_TLS_KEY: %s has no certificate: set FLOWCTL_TLS_CERT too", t.key)
	case strings.HasPrefix(text, "http://") && t.ca != "":
		return target{}, fmt.Errorf("read FLOWCTL_ENDPOINT: %s means no TLS, and FLOWCTL_TLS_CA (%s) means TLS: write https:// or unset it", text, t.ca)
	case strings.HasPrefix(text, "http://") && t.cert != "":
		return target{}, fmt.Errorf("read FLOWCTL_ENDPOINT: %s means no TLS, and FLOWCTL_TLS_CERT (%s) means TLS: write https:// or unset it", text, t.cert)
	case strings.ContainsFunc(t.token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return target{}, errors.New("read FLOWCTL_TOKEN: it has a blank, a line break or another character that no token has")
	}
	t.tls = strings.HasPrefix(text, "https://") || t.ca != "" || t.cert != ""
	return t, nil
}

// parseEndpoint takes host:port, with or without http:// or https:// before
// it, and unix:///path.
func parseEndpoint(text string) (string, error) {
	if strings.HasPrefix(text, "unix:/") {
		if path, ok := strings.CutPrefix(text, "unix:///"); !ok || path == "" {
			return "", fmt.Errorf("%q is not unix:///path, with an absolute path", text)
		}
		return text, nil
	}
	endpoint, secure := strings.CutPrefix(text, "https://")
	if !secure {
		endpoint = strings.TrimPrefix(text, "http://")
	}
	endpoint = strings.TrimSuffix(endpoint, "/")
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || port == "" || strings.ContainsAny(host, "/@") {
		return "", fmt.Errorf("%q is not host:port", text)
	}
	return endpoint, nil
}

// name is the endpoint as grpc takes it.
func (t target) name() string {
	if path, ok := strings.CutPrefix(t.endpoint, "unix://"); ok {
		return (&url.URL{Scheme: "unix", Path: path}).String()
	}
	return "passthrough:///" + t.endpoint // leaves the name to the dialer, which asks again every time
}

// near reports whether the endpoint is a port of this machine.
func (t target) near() bool {
	host, _, err := net.SplitHostPort(t.endpoint)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// authorize sends the token with a call. A control plane that repeats it in its
// answer shall not bring it into a log.
func (t target) authorize(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.token)
	err := call(ctx, method, req, reply, conn, opts...)
	if s := status.Convert(err); strings.Contains(s.Message(), t.token) {
		return status.Error(s.Code(), strings.ReplaceAll(s.Message(), t.token, "<FLOWCTL_TOKEN>"))
	}
	return err
}

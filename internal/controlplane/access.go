package controlplane

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
	"github.com/withobsrvr/flowctl/internal/registry"
)

// Tokens are shown in this header.
const (
	accessHeader = "authorization"
	accessScheme = "Bearer "
)

// Access says who may call a control plane.
type Access struct {
	// Token is the operators'; "" and nobody is one by a token. Components' tokens
	// are made of it, see ComponentToken.
	Token string
	// Required turns away whoever shows neither a token nor a certificate that
	// names an operator or a component. Otherwise only operating a run needs one.
	Required bool
}

// ComponentToken is the token of the component with this id, at a control plane
// with this token of the operators': whoever has that can make and check it.
func ComponentToken(operatorToken, id string) string {
	sign := hmac.New(sha256.New, []byte(operatorToken))
	sign.Write([]byte("flowctl component " + id))
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(id)) + "." + encode(sign.Sum(nil))
}

// caller is who calls: a component, an operator, or, if neither, anybody.
type caller struct {
	component string
	operator  bool
}

// named reports whether it is known who calls.
func (c caller) named() bool { return c.operator || c.component != "" }

// caller finds out who calls, by token or else by certificate.
func (a Access) caller(ctx context.Context) (caller, error) {
	for _, value := range metadata.ValueFromIncomingContext(ctx, accessHeader) {
		if token, ok := strings.CutPrefix(value, accessScheme); ok {
			return a.bearer(token)
		}
	}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			return certifiedCaller(info.State.PeerCertificates[0]), nil
		}
	}
	return caller{}, nil
}

// bearer is who has a token.
func (a Access) bearer(token string) (caller, error) {
	if a.Token != "" {
		if equal(token, a.Token) {
			return caller{operator: true}, nil
		}
		name, _, _ := strings.Cut(token, ".")
		if id, err := base64.RawURLEncoding.DecodeString(name); err == nil && equal(token, ComponentToken(a.Token, string(id))) {
			return caller{component: string(id)}, nil
		}
	}
	return caller{}, status.Error(codes.Unauthenticated, "the token is not one of this control plane's")
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// authorize refuses calls of those who may not make them.
func (s *Server) authorize(ctx context.Context, method string) error {
	operators := isRunMethod(method) || s.access.Required && tellsOfRuns(method)
	if !operators && !s.access.Required || strings.HasPrefix(method, "/grpc.health.v1.") {
		return nil
	}
	who, err := s.access.caller(ctx)
	switch {
	case err != nil && isRunMethod(method):
		return notThisRun
	case err != nil:
		return err
	case who.operator || who.named() && !operators:
		return nil
	case isRunMethod(method):
		return notThisRun
	case operators:
		return status.Error(codes.PermissionDenied, "this is for operators of the control plane only: it needs their token (--token-file)")
	default:
		return status.Error(codes.Unauthenticated, "this control plane wants to know who calls: show a token (components: FLOWCTL_TOKEN, operators: --token-file) or a certificate that names you")
	}
}

// tellsOfRuns reports whether a method says that there is a run, or what becomes of
// it: where it matters who calls, no component does that.
func tellsOfRuns(method string) bool {
	switch method {
	case registryv1.RegistryService_Join_FullMethodName, flowctlpb.ControlPlane_CreatePipelineRun_FullMethodName,
		flowctlpb.ControlPlane_UpdatePipelineRun_FullMethodName, flowctlpb.ControlPlane_StopPipelineRun_FullMethodName:
		return true
	}
	return false
}

var notThisRun = status.Error(codes.PermissionDenied, "this run is operated with the token of its run file only, which its user alone can read")

// runMethods is how the full names of flowctl.run.v1's methods begin.
var runMethods = "/" + runv1.RunService_ServiceDesc.ServiceName + "/"

// isRunMethod reports whether a full method name belongs to flowctl.run.v1.
func isRunMethod(method string) bool { return strings.HasPrefix(method, runMethods) }

// identity returns the component that the caller has proven to be, "" if it has
// proven nothing. A component that says it is another one, or speaks under an id
// of another's, is refused.
func (a Access) identity(ctx context.Context, reg *registry.Registry, component, service string) (string, error) {
	who, err := a.caller(ctx)
	if err != nil || who.component == "" {
		return "", err
	}
	owner, _ := reg.Get(service)
	for _, claimed := range []string{component, owner.ID} {
		if claimed != "" && claimed != who.component {
			return "", status.Error(codes.PermissionDenied, fmt.Sprintf("%s cannot speak for %.64q: its token or certificate is its own", who.component, claimed))
		}
	}
	return who.component, nil
}

// speaker returns the id of the service that the caller speaks for when it calls
// itself by an id: one that has proven who it is may call itself anything that
// nobody else goes by.
func (a Access) speaker(ctx context.Context, reg *registry.Registry, id string) (string, error) {
	identity, err := a.identity(ctx, reg, "", id)
	if err != nil || identity == "" {
		return id, err
	}
	if _, known := reg.Get(id); !known {
		return identity, nil
	}
	return id, nil
}

// access shows a token with every call.
type access string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (a access) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{accessHeader: accessScheme + string(a)}, nil
}

// RequireTransportSecurity is false: on the loopback nobody else can listen.
func (a access) RequireTransportSecurity() bool { return false }

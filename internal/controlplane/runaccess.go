package controlplane

import (
	"context"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	runv1 "github.com/withobsrvr/flowctl/api/flowctl/run/v1"
)

// Who may operate a run shows the run file's token in this header.
const (
	accessHeader = "authorization"
	accessScheme = "Bearer "
)

// isRunMethod reports whether a full method name belongs to flowctl.run.v1.
func isRunMethod(method string) bool {
	return strings.HasPrefix(method, "/"+runv1.RunService_ServiceDesc.ServiceName+"/")
}

// authorize refuses calls that operate the run without its token. What
// components call needs none.
func (s *Server) authorize(ctx context.Context, method string) error {
	if !isRunMethod(method) {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get(accessHeader) {
		token, ok := strings.CutPrefix(value, accessScheme)
		if ok && s.token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1 {
			return nil
		}
	}
	return status.Error(codes.PermissionDenied, "this run is operated with the token of its run file only, which its user alone can read")
}

// access shows a token with every call.
type access string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (a access) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{accessHeader: accessScheme + string(a)}, nil
}

// RequireTransportSecurity is false: a run is operated on its own machine.
func (a access) RequireTransportSecurity() bool { return false }

package scale_test

import (
	"context"

	"google.golang.org/grpc"

	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
)

// registerVersion registers the watched service in another version; the older
// wire has none.
func registerVersion(ctx context.Context, conn *grpc.ClientConn, version string) (*flowctlv1.RegisterResponse, error) {
	return flowctlv1.NewControlPlaneServiceClient(conn).RegisterComponent(ctx, &flowctlv1.RegisterRequest{
		Component: &flowctlv1.ComponentInfo{Id: watched, Version: version, Type: flowctlv1.ComponentType_COMPONENT_TYPE_CONSUMER},
	})
}

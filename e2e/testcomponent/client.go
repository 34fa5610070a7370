package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
)

// joinWithoutSDK serves health and registers once, as components do that were
// written before there was an SDK: none of them says which component it is.
// "unnamed" leaves its service id to the control plane, "made-up" brings one.
func joinWithoutSDK(ctx context.Context, how, role, status string) error {
	lis, err := net.Listen("tcp", ":"+os.Getenv("HEALTH_PORT"))
	if err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status":%q}`, status)
	})
	go func() { _ = http.Serve(lis, nil) }() // as long as the process lives

	endpoint := os.Getenv("FLOWCTL_ENDPOINT")
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("dial %s: %w", endpoint, err)
	}
	defer conn.Close()
	info := &flowctlpb.ServiceInfo{
		ServiceType:    flowctlpb.ServiceType(flowctlpb.ServiceType_value["SERVICE_TYPE_"+strings.ToUpper(role)]),
		HealthEndpoint: os.Getenv("HEALTH_ENDPOINT"),
	}
	if how == "made-up" {
		info.ServiceId = fmt.Sprintf("client-%d", os.Getpid())
	}
	ack, err := flowctlpb.NewControlPlaneClient(conn).Register(ctx, info, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("register with %s: %w", endpoint, err)
	}
	fmt.Println("registered as", ack.GetServiceId())
	return nil
}

package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serveHealth serves the standard health service on PORT as long as the process
// lives; signals say what it answers.
func serveHealth() error {
	lis, err := net.Listen("tcp", "localhost:"+os.Getenv("PORT"))
	if err != nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	answers := health.NewServer()
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, answers)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for sig := range signals {
			if sig == syscall.SIGUSR1 {
				answers.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
			} else {
				answers.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
			}
		}
	}()
	go func() { _ = server.Serve(lis) }()
	return nil
}

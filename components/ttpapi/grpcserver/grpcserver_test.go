package grpcserver

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddress(t *testing.T) {
	for _, c := range []struct{ grpcPort, port, want, problem string }{
		{"", "", ":50051", ""},
		{"50052", "", ":50052", ""},
		{"", ":50053", ":50053", ""},
		{"127.0.0.1:0", "50053", "127.0.0.1:0", ""},
		{"65536", "", "", `GRPC_PORT is "65536": a port is a number from 0 to 65535`},
		{"", "a:b:c", "", `PORT is "a:b:c": expected a port such as 50051, or host:port`},
	} {
		env := map[string]string{"GRPC_PORT": c.grpcPort, "PORT": c.port}
		got, err := Address(func(name string) string { return env[name] })
		if got != c.want || (err == nil) != (c.problem == "") || (err != nil && err.Error() != c.problem) {
			t.Errorf("%v: got %q and error %v, want %q and %q", env, got, err, c.want, c.problem)
		}
	}
}

// Run ends on time although a client holds a call that never ends.
func TestRunCutsWhatDoesNotEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := New()
	server.Ready()
	stuck := make(chan struct{})
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Stuck", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Stay", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			close(stuck)
			<-stream.Context().Done()
			return stream.Context().Err()
		}}},
	}, struct{}{})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- server.Run(ctx, listener, 50*time.Millisecond) }()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", answer, err)
	}
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test.Stuck/Stay")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	<-stuck
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	var message healthpb.HealthCheckResponse
	if err := stream.RecvMsg(&message); err == nil {
		t.Error("the call was not cut")
	}
}

func TestRunSaysWhyItCannotServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := New().Run(t.Context(), listener, time.Second); err == nil || !strings.Contains(err.Error(), "serve on "+listener.Addr().String()) {
		t.Errorf("Run: %v", err)
	}
}

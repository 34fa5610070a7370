package wire_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/e2e/bench/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// library is a control plane made with the gRPC library.
type library struct {
	flowctlpb.UnimplementedControlPlaneServer
	got chan *flowctlpb.ServiceInfo
	err error
	// ackID overrides the id in the answer.
	ackID string
}

func (l *library) Register(_ context.Context, info *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	l.got <- info
	id := info.GetServiceId()
	if l.ackID != "" {
		id = l.ackID
	}
	return &flowctlpb.RegistrationAck{ServiceId: id, TopicNames: []string{"a.v1"}}, l.err
}

// serve serves l until the test ends or stop is called.
func serve(t *testing.T, l *library) (endpoint string, stop func()) {
	t.Helper()
	l.got = make(chan *flowctlpb.ServiceInfo, 1)
	server := grpc.NewServer()
	flowctlpb.RegisterControlPlaneServer(server, l)
	lis := listen(t)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String(), server.Stop
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func TestClientSpeaksToTheLibrary(t *testing.T) {
	l := &library{}
	endpoint, stop := serve(t, l)
	client, err := wire.Register(endpoint, "processor-17", 2)
	if err != nil {
		t.Fatal(err)
	}
	got := <-l.got
	if got.GetServiceId() != "processor-17" || got.GetComponentId() != "processor-17" || got.GetServiceType() != flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR {
		t.Errorf("the library got %v", got)
	}
	stop()
	client.Wait() // returns now that the server has gone
}

func TestClientRefuses(t *testing.T) {
	dead := listen(t)
	_ = dead.Close()
	refusing, _ := serve(t, &library{err: status.Error(codes.InvalidArgument, "no")})
	renaming, _ := serve(t, &library{ackID: "another"})
	for _, tc := range []struct{ name, endpoint, id, want string }{
		{"nobody listens", dead.Addr().String(), "a", "connection refused"},
		{"the call fails", refusing, "a", "does not begin with a service id"},
		{"another id", renaming, "a", "registered as another"},
		{"no id", renaming, "", "1 to 60 characters"},
		{"a long id", renaming, strings.Repeat("a", 61), "1 to 60 characters"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := wire.Register(tc.endpoint, tc.id, 1)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestServerAnswersTheLibrary(t *testing.T) {
	lis := listen(t)
	defer lis.Close()
	ended, ids := make(chan error, 1), make(chan string, 2)
	go func() {
		conn, err := lis.Accept()
		if err == nil {
			err = wire.ServeConn(conn, func(id string) { ids <- id })
		}
		ended <- err
	}()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, id := range []string{"source-1", "sink-2"} { // twice on one connection
		ack, err := flowctlpb.NewControlPlaneClient(conn).Register(ctx, &flowctlpb.ServiceInfo{ServiceId: id, ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_SOURCE})
		if err != nil {
			t.Fatal(err)
		}
		if ack.GetServiceId() != id || <-ids != id {
			t.Errorf("%s was acknowledged as %v", id, ack)
		}
	}
	_ = conn.Close()
	if <-ended == nil {
		t.Error("ServeConn returned nil at the end of the connection")
	}
}

func TestServerRefusesStrangers(t *testing.T) {
	server, client := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- wire.ServeConn(server, func(id string) { t.Errorf("registered %s", id) }) }()
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a stranger was served")
	}
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Error("the connection was left open")
	}
	_ = client.Close()
}

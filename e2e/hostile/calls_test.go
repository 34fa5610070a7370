//go:build linux

package hostile_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	registryv1 "github.com/withobsrvr/flowctl/api/flowctl/registry/v1"
)

// callers makes calls on several connections, from several goroutines each, as often
// as they may; n counts them. Who is refused goes on.
func callers(conns, each int, call func(ctx context.Context, conn *grpc.ClientConn, n int64) error) attack {
	return func(ctx context.Context, endpoint string) string {
		var all sync.WaitGroup
		var times, refused atomic.Int64
		var first sync.Once
		why := ""
		for range conns {
			conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
			if err != nil {
				return err.Error()
			}
			defer conn.Close()
			for range each {
				all.Go(func() {
					for ctx.Err() == nil {
						if err := call(ctx, conn, times.Add(1)); err != nil && status.Code(err) != codes.DeadlineExceeded {
							refused.Add(1)
							first.Do(func() { why = ", the first: " + err.Error() })
						}
					}
				})
			}
		}
		all.Wait()
		return fmt.Sprintf("%d calls, %d refused%.200s", times.Load(), refused.Load(), why)
	}
}

// beatFast is what a component does that reads its interval wrongly: a heartbeat every 10 ms.
func beatFast(ctx context.Context, conn *grpc.ClientConn, _ int64) error {
	<-time.After(10 * time.Millisecond)
	_, err := flowctlpb.NewControlPlaneClient(conn).Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: fmt.Sprintf("fast-%p", conn), Metrics: map[string]float64{"n": 1}})
	return err
}

func beatEndlessly(ctx context.Context, conn *grpc.ClientConn, n int64) error {
	_, err := flowctlpb.NewControlPlaneClient(conn).Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: fmt.Sprint("fast-", n%100), Metrics: map[string]float64{"n": 1}})
	return err
}

func registerStrangers(ctx context.Context, conn *grpc.ClientConn, n int64) error {
	texts := make([]string, 15)
	for i := range texts {
		texts[i] = strings.Repeat("x", 1000)
	}
	_, err := flowctlpb.NewControlPlaneClient(conn).Register(ctx, &flowctlpb.ServiceInfo{ServiceId: fmt.Sprint("stranger-", n), InputEventTypes: texts})
	return err
}

func beatAsStrangers(ctx context.Context, conn *grpc.ClientConn, n int64) error {
	metrics := make(map[string]float64)
	for i := range 64 {
		metrics[fmt.Sprint(strings.Repeat("x", 1000), i)] = 1
	}
	_, err := flowctlpb.NewControlPlaneClient(conn).Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: fmt.Sprint("beating-", n), Metrics: metrics})
	return err
}

// muchMetadata is a registration of a million bytes of small entries.
var muchMetadata = func() map[string]string {
	metadata := make(map[string]string)
	for i := range 70_000 {
		metadata[fmt.Sprint(i)] = "x"
	}
	return metadata
}()

func registerMuch(ctx context.Context, conn *grpc.ClientConn, _ int64) error {
	_, err := flowctlpb.NewControlPlaneClient(conn).Register(ctx, &flowctlpb.ServiceInfo{ServiceId: "much", Metadata: muchMetadata})
	return err
}

func createRuns(ctx context.Context, conn *grpc.ClientConn, n int64) error {
	_, err := flowctlpb.NewControlPlaneClient(conn).CreatePipelineRun(ctx, &flowctlpb.CreatePipelineRunRequest{RunId: fmt.Sprint("run-", n), ConfigYaml: strings.Repeat("x", 200_000)})
	return err
}

func listAll(ctx context.Context, conn *grpc.ClientConn, _ int64) error {
	_, err := flowctlpb.NewControlPlaneClient(conn).ListServices(ctx, &emptypb.Empty{}, grpc.MaxCallRecvMsgSize(1<<30))
	return err
}

func listRuns(ctx context.Context, conn *grpc.ClientConn, _ int64) error {
	_, err := flowctlpb.NewControlPlaneClient(conn).ListPipelineRuns(ctx, &flowctlpb.ListPipelineRunsRequest{Limit: 1 << 30}, grpc.MaxCallRecvMsgSize(1<<30))
	return err
}

// watchAndNotRead opens a watch and reads nothing of it.
func watchAndNotRead(ctx context.Context, conn *grpc.ClientConn, _ int64) error {
	_, err := registryv1.NewRegistryServiceClient(conn).WatchServices(ctx, &registryv1.WatchServicesRequest{Metrics: true})
	<-ctx.Done()
	return err
}

func invalidText(ctx context.Context, conn *grpc.ClientConn, n int64) error {
	return conn.Invoke(ctx, "/flowctl.ControlPlane/Register", []byte("\x0a\x04\xff\xfe\xfd\xfc"), new([]byte), grpc.ForceCodec(asItIs{}))
}

func nothingAtAll(ctx context.Context, conn *grpc.ClientConn, n int64) error {
	method := []string{"/flowctl.ControlPlane/Register", "/flowctl.v1.ControlPlaneService/RegisterComponent", "/flowctl.v1.ControlPlaneService/Heartbeat", "/flowctl.ControlPlane/UpdatePipelineRun"}[n%4]
	return conn.Invoke(ctx, method, []byte{}, new([]byte), grpc.ForceCodec(asItIs{}))
}

// asItIs is a codec for messages that are bytes already.
type asItIs struct{}

func (asItIs) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (asItIs) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (asItIs) Name() string                       { return "proto" }

// streams opens as many calls on a connection as there may be, and says something
// in each.
func streams(payload []byte) func(ctx context.Context, conn net.Conn) int {
	return func(ctx context.Context, conn net.Conn) int {
		if _, err := conn.Write([]byte(preface)); err != nil {
			return 0
		}
		// A window as large as can be, so that the server may answer.
		_, _ = conn.Write(frame(8, 0, 0, binary.BigEndian.AppendUint32(nil, 1<<30)))
		for id := uint32(1); id < 2048; id += 2 {
			if _, err := conn.Write(frame(frameHeaders, flagEndHeaders, id, call("/flowctl.ControlPlane/Register"))); err != nil {
				return int(id / 2)
			}
			for rest := payload; len(rest) > 0; {
				n := min(len(rest), 16<<10)
				if _, err := conn.Write(frame(frameData, 0, id, rest[:n])); err != nil {
					return int(id / 2)
				}
				rest = rest[n:]
			}
		}
		<-ctx.Done()
		return 1024
	}
}

// announced is the beginning of a gRPC message of n bytes.
func announced(n uint32, bytes int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, n), make([]byte, bytes)...)
}

// announceGibibytes announces messages of a gibibyte, one call after the other.
func announceGibibytes(ctx context.Context, conn net.Conn) int {
	_, err := conn.Write([]byte(preface))
	for id := uint32(1); err == nil && ctx.Err() == nil; id += 2 {
		_, err = conn.Write(append(frame(frameHeaders, flagEndHeaders, id, call("/flowctl.ControlPlane/Register")), frame(frameData, 0, id, announced(1<<30, 100))...))
		if err != nil {
			return int(id / 2)
		}
	}
	return 1
}

// endlessHeaders sends a million header fields of one call, and more.
func endlessHeaders(ctx context.Context, conn net.Conn) int {
	var block []byte
	for range 500 {
		block = append(block, literal("x-more", "and more")...)
	}
	first := append([]byte(preface), frame(frameHeaders, 0, 1, call("/flowctl.ControlPlane/Register"))...)
	return 500 * repeat(ctx, conn, first, frame(frameContinuation, 0, 1, block))
}

// resetAtOnce begins calls and takes them back at once.
func resetAtOnce(ctx context.Context, conn net.Conn) int {
	_, err := conn.Write([]byte(preface))
	for id := uint32(1); err == nil && ctx.Err() == nil && id < 1<<30; id += 2 {
		_, err = conn.Write(append(frame(frameHeaders, flagEndHeaders|flagEndStream, id, call("/flowctl.ControlPlane/ListServices")), frame(frameReset, 0, id, []byte{0, 0, 0, 8})...))
		if err != nil {
			return int(id / 2)
		}
	}
	return 1
}

func pingEndlessly(ctx context.Context, conn net.Conn) int {
	return repeat(ctx, conn, []byte(preface), frame(framePing, 0, 0, make([]byte, 8)))
}

// Calls of any kind harm nobody else, and what they leave behind is bounded.
func TestBadCalls(t *testing.T) {
	s := serve(t, "--db-path", "")
	idle := s.files()
	for _, name := range []string{
		"heartbeats every 10 ms", "messages of nothing", "text that is none", "messages of a gibibyte", "a million header fields", "much metadata",
	} {
		s.under(name)
	}
	for _, name := range []string{
		"heartbeats without a pause", "calls that are taken back", "pings", "calls without an end", "messages without an end", "watchers that do not read",
		"pipeline runs", "lists of pipeline runs", "registrations of strangers", "heartbeats of strangers", "lists of services",
	} {
		s.withAllMight(name)
	}
	s.calm(idle)
	s.process.Stop()
}

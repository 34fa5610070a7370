package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
)

// metrics are those of a usual heartbeat.
var metrics = map[string]float64{"events": 296, "ledgers": 1, "last_ledger": 53312000}

// info is a usual registration.
func info(n int) *flowctlpb.ServiceInfo {
	return &flowctlpb.ServiceInfo{
		ServiceId: serviceName(n), ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR,
		InputEventTypes: []string{"raw_ledger"}, OutputEventTypes: []string{"token_transfer"},
		HealthEndpoint: "http://localhost:8089/health", Metadata: map[string]string{"network": "public", "component_id": "ttp-processor"},
	}
}

// population is how many services, or leases, there are; the workers speak for
// them in turns.
const population = 1024

// heartbeat sends heartbeats of registered services.
func heartbeat(ctx context.Context, _ *contender, conn *grpc.ClientConn, worker, workers int) (func() error, error) {
	client, n := flowctlpb.NewControlPlaneClient(conn), worker
	for i := worker; i < population; i += workers {
		if _, err := client.Register(ctx, info(i)); err != nil {
			return nil, err
		}
	}
	return func() error {
		n += workers
		_, err := client.Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: serviceName(n), Timestamp: timestamppb.Now(), Metrics: metrics})
		return err
	}, nil
}

// serviceName is what the n-th service is called; they are counted round.
func serviceName(n int) string { return "service-" + strconv.Itoa(n%population) }

// registration registers services over and over.
func registration(ctx context.Context, _ *contender, conn *grpc.ClientConn, worker, workers int) (func() error, error) {
	client, n := flowctlpb.NewControlPlaneClient(conn), worker
	return func() error {
		n += workers
		_, err := client.Register(ctx, info(n))
		return err
	}, nil
}

// raw hands bytes through: it saves the definitions of two messages of etcd's.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "proto" }

var _ encoding.Codec = raw{}

// The two ways in which etcd's clients keep leases alive: a call each, or over a
// stream that stays open.
func keepAliveOnce(ctx context.Context, c *contender, conn *grpc.ClientConn, worker, workers int) (func() error, error) {
	return keepAlive(ctx, c, conn, worker, workers, true)
}

func keepAliveOpen(ctx context.Context, c *contender, conn *grpc.ClientConn, worker, workers int) (func() error, error) {
	return keepAlive(ctx, c, conn, worker, workers, false)
}

// keepAlive keeps leases alive over and over, one answer after the other.
func keepAlive(ctx context.Context, c *contender, conn *grpc.ClientConn, worker, workers int, once bool) (func() error, error) {
	codec := grpc.ForceCodec(raw{})
	for len(c.leases) < population { // once, by the first worker
		grant := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 600) // LeaseGrantRequest.TTL, s
		var granted []byte
		if err := conn.Invoke(ctx, "/etcdserverpb.Lease/LeaseGrant", &grant, &granted, codec); err != nil {
			return nil, err
		}
		id, err := leaseID(granted)
		if err != nil {
			return nil, err
		}
		c.leases = append(c.leases, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)) // LeaseKeepAliveRequest.ID
	}
	open := func() (grpc.ClientStream, error) {
		return conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/etcdserverpb.Lease/LeaseKeepAlive", codec)
	}
	n := worker
	ask := func(stream grpc.ClientStream) error {
		n += workers
		var answer []byte
		return errors.Join(stream.SendMsg(&c.leases[n%population]), stream.RecvMsg(&answer))
	}
	if once {
		return func() error {
			stream, err := open()
			if err == nil {
				err = errors.Join(ask(stream), stream.CloseSend(), ended(stream))
			}
			return err
		}, nil
	}
	stream, err := open()
	return func() error { return ask(stream) }, err
}

// ended waits for the end of a stream.
func ended(stream grpc.ClientStream) error {
	var rest []byte
	if err := stream.RecvMsg(&rest); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream does not end: %w", err)
	}
	return nil
}

// leaseID reads LeaseGrantResponse.ID.
func leaseID(answer []byte) (uint64, error) {
	for len(answer) > 0 {
		number, kind, n := protowire.ConsumeTag(answer)
		if n < 0 {
			break
		}
		answer = answer[n:]
		if number == 2 && kind == protowire.VarintType {
			id, _ := protowire.ConsumeVarint(answer)
			return id, nil
		}
		if n = protowire.ConsumeFieldValue(number, kind, answer); n < 0 {
			break
		}
		answer = answer[n:]
	}
	return 0, errors.New("there is no lease in etcd's answer")
}

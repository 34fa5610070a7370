// Echo is what the control plane is measured against: a gRPC server of the same
// messages whose handlers do nothing. It prints its address and serves until it
// is killed.
//
//	echo                    without encryption
//	echo CERT KEY CA        with mutual TLS
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	var opts []grpc.ServerOption
	if len(files) == 3 {
		config, err := mutual(files[0], files[1], files[2])
		if err != nil {
			return err
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer(opts...)
	flowctlpb.RegisterControlPlaneServer(server, empty{})
	fmt.Println(lis.Addr())
	return server.Serve(lis)
}

// mutual is a configuration that wants certificates of clients.
func mutual(cert, key, ca string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}

// topics make the answer as long as the control plane's.
var topics = []string{"token_transfer.v1"}

// empty does nothing with what it gets.
type empty struct {
	flowctlpb.UnimplementedControlPlaneServer
}

func (empty) Register(_ context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	return &flowctlpb.RegistrationAck{ServiceId: in.GetServiceId(), TopicNames: topics}, nil
}

func (empty) Heartbeat(context.Context, *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

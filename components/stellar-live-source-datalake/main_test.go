package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/withobsrvr/flowctl/components/ledger-lake/lake"
	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
)

// TestMain lets the test binary play the component in a process of its own.
func TestMain(m *testing.M) {
	switch os.Getenv("PLAY_COMPONENT") {
	case "yes":
		main()
		return
	case "roots":
		pool, err := x509.SystemCertPool()
		fmt.Println(err, err == nil && !pool.Equal(x509.NewCertPool()))
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// component is the source in a process of its own.
type component struct {
	*exec.Cmd
	address string // where it serves gRPC
	stderr  bytes.Buffer
}

// start starts the source with nothing in its environment but env, and waits
// until it says that it serves.
func start(t *testing.T, env ...string) *component {
	t.Helper()
	c := &component{Cmd: exec.Command(os.Args[0])}
	c.Env = append(env, "PLAY_COMPONENT=yes", "GRPC_PORT=127.0.0.1:0")
	c.Stderr = &c.stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	lines := bufio.NewReader(stdout)
	for c.address == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the source ended before it served: %v\n%s%s", err, line, c.stderr.String())
		}
		if found := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(line); found != nil {
			c.address = found[1]
		}
	}
	go io.Copy(io.Discard, lines)
	return c
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(1<<16)) // a client that does not read is soon in the way
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// newLake writes a lake of n ledgers and returns its folder.
func newLake(t *testing.T, n uint32) string {
	t.Helper()
	dir := t.TempDir()
	_, err := lake.Write(t.Context(), lake.Options{
		Dir:    dir,
		Schema: datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000},
		Start:  lake.RealLedger,
		Count:  n,
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// stream opens a stream and receives n ledgers.
func stream(t *testing.T, conn *grpc.ClientConn, start uint32, n int) grpc.ServerStreamingClient[rawledger.RawLedger] {
	t.Helper()
	s, err := rawledger.NewRawLedgerServiceClient(conn).StreamRawLedgers(t.Context(), &rawledger.StreamLedgersRequest{StartLedger: start})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		ledger, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if want := start + uint32(i); ledger.GetSequence() != want || len(ledger.GetLedgerCloseMetaXdr()) == 0 {
			t.Fatalf("got ledger %d with %d bytes, want ledger %d", ledger.GetSequence(), len(ledger.GetLedgerCloseMetaXdr()), want)
		}
	}
	return s
}

// A stream that waits, and one whose client does not read, must not keep the
// component from ending on SIGTERM, with exit code 0.
func TestSIGTERMEndsStreams(t *testing.T) {
	source := start(t, "STORAGE_TYPE=FS", "BUCKET_NAME="+newLake(t, 4))
	waiting := stream(t, dial(t, source.address), lake.RealLedger, 4)
	stream(t, dial(t, source.address), lake.RealLedger, 1) // and no further: more than a megabyte stays in its way

	began := time.Now()
	if err := source.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.Recv(); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "the source is stopping" {
		t.Errorf("the stream ended with %v", err)
	}
	if err := source.Wait(); err != nil {
		t.Errorf("the source ended with %v\n%s", err, source.stderr.String())
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the source took %s to end", took)
	}
}

func TestHealthReflectionAndMetrics(t *testing.T) {
	healthPort := freePort(t)
	source := start(t, "STORAGE_TYPE=FS", "BUCKET_NAME="+newLake(t, 2), "HEALTH_PORT="+healthPort)
	conn := dial(t, source.address)
	for _, service := range []string{"", "raw_ledger_service.RawLedgerService"} {
		answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, answer, err)
		}
	}
	reflection, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := reflection.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "raw_ledger_service.RawLedger"},
	}); err != nil {
		t.Fatal(err)
	}
	if answer, err := reflection.Recv(); err != nil || answer.GetFileDescriptorResponse() == nil {
		t.Errorf("reflection: %v, %v", answer, err)
	}
	reflection.CloseSend()

	stream(t, conn, lake.RealLedger, 2)
	want := `"metrics":{"active_streams":1,"last_ledger":53312001,"ledgers_streamed":2}`
	// The metrics follow the ledger: they may be an instant behind.
	for deadline := time.Now().Add(5 * time.Second); ; {
		answer := get(t, "http://localhost:"+healthPort+"/health")
		if strings.Contains(answer, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %s, want %s in it", answer, want)
		}
	}
}

// An image made from scratch has no file with authorities.
func TestKnowsAuthoritiesWhereTheSystemHasNone(t *testing.T) {
	command := exec.Command(os.Args[0])
	command.Env = []string{"PLAY_COMPONENT=roots", "SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/nowhere"}
	if out, err := command.CombinedOutput(); err != nil || string(out) != "<nil> true\n" {
		t.Errorf("got %s, %v, want no error and authorities", out, err)
	}
}

func TestErrorsAreOneSentence(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the subtests, which run in parallel
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{"BUCKET_NAME=lake"}, "stellar-live-source-datalake: STORAGE_TYPE is not set: expected FS, S3 or GCS\n"},
		{
			[]string{"STORAGE_TYPE=FS", "BUCKET_NAME=/nowhere"},
			"stellar-live-source-datalake: open the lake's folder: stat /nowhere: no such file or directory\n",
		},
		{
			[]string{"STORAGE_TYPE=FS", "BUCKET_NAME=" + newLake(t, 1), "LEDGERS_PER_FILE=64"},
			"is cut in another way than configured: ledgersPerFile: local=64, datastore=1\n",
		},
		{
			[]string{"STORAGE_TYPE=FS", "BUCKET_NAME=" + newLake(t, 1), "GRPC_PORT=" + taken.Addr().String()},
			"stellar-live-source-datalake: open the gRPC port: listen tcp " + taken.Addr().String() + ": bind: address already in use\n",
		},
		{
			[]string{"STORAGE_TYPE=S3", "BUCKET_NAME=b", "AWS_REGION=x", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s", "S3_ENDPOINT_URL=http://127.0.0.1:1"},
			"stellar-live-source-datalake: open S3 bucket b: ",
		},
		{
			[]string{"STORAGE_TYPE=S3", "BUCKET_NAME=b", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s"},
			"stellar-live-source-datalake: open S3 bucket b: the bucket's region is not known: set AWS_REGION\n",
		},
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			command := exec.CommandContext(ctx, os.Args[0])
			command.Env = append(c.env, "PLAY_COMPONENT=yes")
			command.Stderr = &stderr
			command.Run()
			if code := command.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), c.want) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("%v: exit code %d, %q, want 1 and %q", c.env, code, stderr.String(), c.want)
			}
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(body)
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

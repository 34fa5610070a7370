package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/flowctl/components/ttpapi/tokentransfer"
)

// process is a component in a process of its own.
type process struct {
	*exec.Cmd
	address string // where it serves gRPC
	stderr  bytes.Buffer
}

// start starts a program with nothing in its environment but env, and waits
// until it says that it serves.
func start(t *testing.T, path string, env ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(path)}
	p.Env = env
	p.Stderr = &p.stderr
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	lines := bufio.NewReader(stdout)
	for p.address == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%s ended before it served: %v\n%s%s", path, err, line, p.stderr.String())
		}
		if found := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(line); found != nil {
			p.address = found[1]
		}
	}
	go io.Copy(io.Discard, lines)
	return p
}

// startProcessor starts the processor, which this test binary plays.
func startProcessor(t *testing.T, source string) *process {
	t.Helper()
	return start(t, os.Args[0], "PLAY_COMPONENT=yes", "GRPC_PORT=127.0.0.1:0", "STELLAR_NETWORK=public", "LIVE_SOURCE_ENDPOINT="+source)
}

// buildSource builds the real source.
func buildSource(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "../stellar-live-source-datalake"
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the source: %v\n%s", err, output)
	}
	return path
}

// terminate sends SIGTERM and expects exit code 0.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("%s ended with %v\n%s", p.Path, err, p.stderr.String())
	}
}

func dialProcessor(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A lake, the real source, which is killed on the way, and the real processor.
func TestWithTheRealSource(t *testing.T) {
	dir, err := lakeDir()
	if err != nil {
		t.Fatal(err)
	}
	path := buildSource(t)
	env := []string{"STORAGE_TYPE=FS", "BUCKET_NAME=" + dir}
	source := start(t, path, append(env, "GRPC_PORT=127.0.0.1:0")...)
	processor := startProcessor(t, source.address)
	client := tokentransfer.NewEventServiceClient(dialProcessor(t, processor.address))

	bounded, err := client.GetTTPEvents(t.Context(), &tokentransfer.GetEventsRequest{StartLedger: first, EndLedger: first})
	if err != nil {
		t.Fatal(err)
	}
	got, err := receive(bounded, forever)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batches(first, 1), got); diff != "" {
		t.Errorf("one ledger (-want +got):\n%s", diff)
	}

	live, err := client.GetTTPEvents(t.Context(), &tokentransfer.GetEventsRequest{StartLedger: 1})
	if err != nil {
		t.Fatal(err)
	}
	before, err := receive(live, eventsPerLedger)
	if err != nil {
		t.Fatal(err)
	}
	source.Process.Kill()
	source.Wait()
	start(t, path, append(env, "GRPC_PORT="+source.address)...)
	after, err := receive(live, (ledgersPerLake-1)*eventsPerLedger)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batches(first, ledgersPerLake), append(before, after...)); diff != "" {
		t.Errorf("all ledgers (-want +got):\n%s", diff)
	}
	processor.terminate(t)
	if _, err := live.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the live stream ended with %v", err)
	}
}

// Without its source the processor serves, says that it is not ready, lets
// clients wait, and still ends when it is told to.
func TestWaitsForTheSource(t *testing.T) {
	source := newSource(t, everything(t))
	source.serve()() // for its address
	processor := startProcessor(t, source.address)
	conn := dialProcessor(t, processor.address)
	health := healthpb.NewHealthClient(conn)
	answer, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("without a source: %v, %v; want NOT_SERVING", answer, err)
	}
	stream, err := tokentransfer.NewEventServiceClient(conn).GetTTPEvents(t.Context(), &tokentransfer.GetEventsRequest{StartLedger: first, EndLedger: first})
	if err != nil {
		t.Fatal(err)
	}
	source.serve()
	got, err := receive(stream, forever)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(batches(first, 1), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	answer, err = health.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("with its source: %v, %v; want SERVING", answer, err)
	}
	processor.terminate(t)

	startProcessor(t, "127.0.0.1:1").terminate(t)
}

func TestErrorsAreOneSentence(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ env, want string }{
		{"A=b", "ttp-processor: LIVE_SOURCE_ENDPOINT is not set: expected the source's host:port, such as localhost:50051\n"},
		{
			"GRPC_PORT=" + taken.Addr().String() + " LIVE_SOURCE_ENDPOINT=localhost:1",
			"ttp-processor: open the gRPC port: listen tcp " + taken.Addr().String() + ": bind: address already in use\n",
		},
	} {
		var stderr bytes.Buffer
		command := exec.Command(os.Args[0])
		command.Env = append(strings.Fields(c.env), "PLAY_COMPONENT=yes")
		command.Stderr = &stderr
		command.Run()
		if code := command.ProcessState.ExitCode(); code != 1 || stderr.String() != c.want {
			t.Errorf("%s: exit code %d, %q, want 1 and %q", c.env, code, stderr.String(), c.want)
		}
	}
}

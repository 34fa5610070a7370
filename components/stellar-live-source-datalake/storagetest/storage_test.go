// Package storagetest runs the source against servers that speak the protocols
// of S3 and GCS. It is a module of its own, because these servers bring many
// others along.
package storagetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/flowctl/components/ledger-lake/lake"
	"github.com/withobsrvr/flowctl/components/ttpapi/rawledger"
)

const (
	accessKey = "access"
	secretKey = "secret-of-some-length"
)

// newLake writes a lake of six ledgers, two in a file, and returns its folder.
func newLake(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := lake.Write(t.Context(), lake.Options{
		Dir:    dir,
		Schema: datastore.DataStoreSchema{LedgersPerFile: 2, FilesPerPartition: 2},
		Start:  lake.RealLedger,
		Count:  6,
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// files returns a lake's files, by their keys, the last ledgers' in last.
func files(t *testing.T, dir string) (all map[string][]byte, last string) {
	t.Helper()
	all = make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[key], err = os.ReadFile(path)
		if strings.Contains(key, strconv.Itoa(int(lake.RealLedger+4))+"-"+strconv.Itoa(int(lake.RealLedger+5))+".xdr") {
			last = key
		}
		return err
	})
	if err != nil || last == "" {
		t.Fatalf("read the lake %s: %v, last file %q", dir, err, last)
	}
	return all, last
}

// build builds a program; the folder "" is this one.
func build(t *testing.T, folder, what string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	command := exec.Command("go", "build", "-o", path, what)
	command.Dir = folder
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", what, err, output)
	}
	return path
}

// run starts a program with nothing in its environment but env, and ends it
// after the test. It returns its output.
func run(t *testing.T, env []string, path string, args ...string) *bufio.Reader {
	t.Helper()
	command := exec.Command(path, args...)
	command.Env = env
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		if err := command.Wait(); err != nil && strings.HasSuffix(path, "source") {
			t.Errorf("%s ended with %v", path, err)
		}
	})
	return bufio.NewReader(output)
}

// checkSource runs the source on the bucket, which lacks the last two of the
// six ledgers until upload is called.
func checkSource(t *testing.T, env []string, upload func()) {
	t.Helper()
	path := build(t, "..", ".")
	named := path + "-source"
	if err := os.Rename(path, named); err != nil {
		t.Fatal(err)
	}
	lines := run(t, append(env, "GRPC_PORT=127.0.0.1:0"), named)
	address := ""
	for address == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the source ended before it served: %v\n%s", err, line)
		}
		if found := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(line); found != nil {
			address = found[1]
		}
	}
	go io.Copy(io.Discard, lines)

	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := rawledger.NewRawLedgerServiceClient(conn).StreamRawLedgers(ctx, &rawledger.StreamLedgersRequest{StartLedger: 1})
	if err != nil {
		t.Fatal(err)
	}
	for want := lake.RealLedger; want < lake.RealLedger+6; want++ {
		if want == lake.RealLedger+4 {
			upload()
		}
		ledger, err := stream.Recv()
		if err != nil {
			t.Fatalf("ledger %d: %v", want, err)
		}
		if ledger.GetSequence() != want || len(ledger.GetLedgerCloseMetaXdr()) < 300_000 {
			t.Fatalf("got ledger %d with %d bytes, want ledger %d", ledger.GetSequence(), len(ledger.GetLedgerCloseMetaXdr()), want)
		}
	}
}

func TestGCS(t *testing.T) {
	all, last := files(t, newLake(t))
	port := freePort(t)
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		Scheme: "http", Host: "127.0.0.1", Port: port, PublicHost: fmt.Sprintf("127.0.0.1:%d", port),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "ledgers"})
	put := func(key string) {
		server.CreateObject(fakestorage.Object{
			ObjectAttrs: fakestorage.ObjectAttrs{BucketName: "ledgers", Name: "pubnet/" + key},
			Content:     all[key],
		})
	}
	for key := range all {
		if key != last {
			put(key)
		}
	}
	checkSource(t, []string{
		"STORAGE_TYPE=GCS", "BUCKET_NAME=ledgers/pubnet", "LEDGERS_PER_FILE=2", "FILES_PER_PARTITION=2",
		"STORAGE_EMULATOR_HOST=" + strings.TrimPrefix(server.URL(), "http://"),
	}, func() { put(last) })
}

func TestS3(t *testing.T) {
	gateway := build(t, "", "github.com/versity/versitygw/cmd/versitygw")
	for _, style := range []struct {
		name     string
		env      []string
		wantHost string // that requests are sent to
	}{
		{name: "path", wantHost: "s3.test"},
		{name: "virtual host", env: []string{"S3_FORCE_PATH_STYLE=false"}, wantHost: "ledgers.s3.test"},
	} {
		t.Run(style.name, func(t *testing.T) {
			root, metadata := t.TempDir(), t.TempDir()
			bucket := filepath.Join(root, "ledgers")
			all, last := files(t, newLake(t))
			put := func(key string) {
				path := filepath.Join(bucket, "pubnet", key)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path+".part", all[key], 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".part", path); err != nil {
					t.Fatal(err)
				}
			}
			for key := range all {
				if key != last {
					put(key)
				}
			}
			port := freePort(t)
			args := []string{"--access", accessKey, "--secret", secretKey, "--port", fmt.Sprintf("127.0.0.1:%d", port), "--virtual-domain", "s3.test"}
			output := run(t, []string{"HOME=" + metadata}, gateway, append(args, "posix", "--sidecar", metadata, root)...)
			go io.Copy(io.Discard, output)
			waitFor(t, port)
			proxy := newProxy(t, port, style.wantHost)
			checkSource(t, append([]string{
				"STORAGE_TYPE=S3", "BUCKET_NAME=ledgers/pubnet", "LEDGERS_PER_FILE=2", "FILES_PER_PARTITION=2",
				"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
				"S3_ENDPOINT_URL=http://s3.test", "HTTP_PROXY=" + proxy,
			}, style.env...), func() { put(last) })
		})
	}
}

// newProxy starts an HTTP proxy that leads every host to the gateway, so that
// the test needs no DNS, and expects requests for one host only.
func newProxy(t *testing.T, gateway uint16, wantHost string) string {
	t.Helper()
	target := fmt.Sprintf("127.0.0.1:%d", gateway)
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if r.In.Host != wantHost {
			t.Errorf("a request went to host %s, want %s", r.In.Host, wantHost)
		}
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", target, r.In.Host
	}})
	t.Cleanup(server.Close)
	return server.URL
}

// waitFor waits until a server answers.
func waitFor(t *testing.T, port uint16) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for range 1000 {
		var response *http.Response
		if response, err = http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
			response.Body.Close()
			return
		}
		<-tick.C
	}
	t.Fatal(err)
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

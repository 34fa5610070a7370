package cli

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestProbe(t *testing.T) {
	hang := make(chan struct{})
	asked := atomic.Int32{}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ill":
			fmt.Fprint(w, `{"status":"unhealthy","reason":"no disk"}`)
		case "/slow":
			fmt.Fprint(w, `{"status":"degraded","reason":"behind"}`)
		case "/gone":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/hangs":
			<-hang
		case "/soon":
			if asked.Add(1) < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}
	}))
	t.Cleanup(site.Close)
	t.Cleanup(func() { close(hang) })
	address := grpcHealth(t)
	nobody := closedPort(t)
	web := strings.TrimPrefix(site.URL, "http://")
	for _, test := range []struct {
		line string
		code int
		out  string
		err  string
	}{
		{"probe http " + site.URL, 0, "healthy\n", ""},
		{"probe http " + site.URL + "/slow", 0, "degraded: behind\n", ""},
		{"probe http " + site.URL + "/ill", 1, "", "/ill is not healthy: it says it is unhealthy: no disk"},
		{"probe http " + site.URL + "/gone", 1, "", "503"},
		{"probe http " + site.URL + "/hangs --timeout 10ms", 1, "", "no answer within 10ms"},
		{"probe http " + site.URL + "/soon --wait 1m", 0, "healthy\n", ""},
		{"probe http " + site.URL + "/gone --wait 20ms", 4, "", "/gone is not healthy after 20ms: GET"},
		{"probe grpc " + address, 0, "healthy\n", ""},
		{"probe grpc " + address + " known", 1, "", "NOT_SERVING"},
		{"probe grpc " + address + " stranger", 1, "", "unknown service"},
		{"probe tcp " + web, 0, "healthy\n", ""},
		{"probe tcp " + nobody, 1, "", "connection refused"},
		{"probe tcp " + nobody + " --wait 20ms", 4, "", "is not healthy after 20ms: " + nobody + ": connection refused"},
		{"probe", 2, "", "what to ask: http, grpc or tcp"},
		{"probe udp x", 2, "", `there is no question "udp"`},
		{"probe http", 2, "", "takes a URL, not 0 arguments\nSee 'flowctl probe --help'"},
		{"probe http a b", 2, "", "takes a URL, not 2 arguments"},
		{"probe http localhost:80", 2, "", `"localhost:80" is no URL such as`},
		{"probe grpc a:1 b c", 2, "", "takes an address and perhaps a service, not 3 arguments"},
		{"probe tcp a:1 b", 2, "", "takes an address, not 2 arguments"},
		{"probe tcp localhost", 2, "", `"localhost" is no address such as`},
		{"probe tcp a:1 --timeout 0s", 2, "", "--timeout must be longer than 0"},
		{"probe tcp a:1 --wait -1s", 2, "", "--wait must not be shorter"},
	} {
		t.Run(test.line, func(t *testing.T) {
			got := call(t, strings.Fields(test.line)...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			check(t, "stdout", got.out, test.out)
			check(t, "stderr", got.err, test.err)
		})
	}
}

// grpcHealth serves the standard health service, of a server that is well and of
// a service that is not.
func grpcHealth(t *testing.T) (address string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers, server := grpchealth.NewServer(), grpc.NewServer()
	answers.SetServingStatus("known", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(server, answers)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return lis.Addr().String()
}

// TestCopyProgram: the copy is complete, can be run, and takes the place of an older one.
func TestCopyProgram(t *testing.T) {
	dir := t.TempDir()
	a := &app{Program: filepath.Join(dir, "own")}
	if err := a.copyProgram(dir); err == nil || !strings.Contains(err.Error(), "copy this program to "+dir) {
		t.Errorf("without a program: %v", err)
	}
	to := filepath.Join(dir, "to")
	for _, content := range []string{"old and longer", "new"} {
		if err := os.WriteFile(a.Program, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := a.copyProgram(to); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(to, "flowctl"))
		if err != nil || string(got) != content {
			t.Errorf("the copy is %q (%v), want %q", got, err, content)
		}
	}
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are in the folder (%v)", len(entries), err)
	}
	if info, err := os.Stat(filepath.Join(to, "flowctl")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the copy's mode is %v (%v)", info.Mode(), err)
	}
}

package docker

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver/drivertest"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// write writes files of a folder, by their names.
func write(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// homeContext is where the store keeps the context named home.
const homeContext = "contexts/meta/4ea140588150773ce3aace786aeef7f4049ce100fa649c94fbbddb960f1da942/meta.json"

func TestLocate(t *testing.T) {
	store, broken := t.TempDir(), t.TempDir()
	write(t, store, map[string]string{
		"config.json": `{"currentContext": "home", "auths": {}}`,
		homeContext:   `{"Name": "home", "Metadata": {}, "Endpoints": {"docker": {"Host": "unix:///home.sock", "SkipTLSVerify": false}}}`,
	})
	write(t, broken, map[string]string{"config.json": `{"currentContext": `})
	for _, test := range []struct {
		name string
		env  map[string]string
		want string // of the host, or of the error
	}{
		{"DOCKER_HOST", map[string]string{"DOCKER_HOST": "unix:///env.sock", "DOCKER_CONFIG": store, "DOCKER_CONTEXT": "home"}, "unix:///env.sock"},
		{"tcp", map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2375"}, "tcp://10.0.0.1:2375"},
		{"the current context", map[string]string{"DOCKER_CONFIG": store}, "unix:///home.sock"},
		{"the current context of the home folder", map[string]string{"HOME": filepath.Join(store, "none")}, "cannot be reached"},
		{"a context by name", map[string]string{"DOCKER_CONFIG": store, "DOCKER_CONTEXT": "home"}, "unix:///home.sock"},
		{"a context that is not there", map[string]string{"DOCKER_CONFIG": store, "DOCKER_CONTEXT": "work"}, `no docker context "work"`},
		{"settings that cannot be read", map[string]string{"DOCKER_CONFIG": broken}, "config.json"},
		{"ssh", map[string]string{"DOCKER_HOST": "ssh://me@there"}, "which flowctl does not speak; forward its socket"},
		{"nonsense", map[string]string{"DOCKER_HOST": "there:2375"}, `is at "there:2375"`},
		{"no certificates", map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2376", "DOCKER_CERT_PATH": store}, "tcp://10.0.0.1:2376"},
		{"bad certificates", map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": broken}, "ca.pem has none"},
	} {
		write(t, broken, map[string]string{"ca.pem": "nothing"})
		t.Run(test.name, func(t *testing.T) {
			at, err := locate(environment(test.env))
			if err == nil && at.host != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
				// an engine of this machine is found where the environment says nothing
				if test.want == "cannot be reached" && strings.HasPrefix(at.host, "unix:///") {
					return
				}
				t.Errorf("got %q, %v; want %q", at.host, err, test.want)
			}
		})
	}
}

func TestSocketsInOrder(t *testing.T) {
	folder, err := os.MkdirTemp("", "flowctl-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	rootless, podman := filepath.Join(folder, "docker.sock"), filepath.Join(folder, "podman/podman.sock")
	found := sockets(environment(map[string]string{"XDG_RUNTIME_DIR": folder, "HOME": folder}))
	if found[0] != "/var/run/docker.sock" || found[1] != rootless || found[3] != podman {
		t.Errorf("sockets are %v", found)
	}
	_, err = answering(found[1:4])
	if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), rootless) {
		t.Errorf("nobody listens: %v", err)
	}
	write(t, folder, map[string]string{"podman/none": ""})
	for _, path := range []string{podman, rootless} { // the second is before the first
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		if at, err := answering(found[1:4]); err != nil || at.host != "unix://"+path {
			t.Errorf("got %+v, %v; want %s", at, err, path)
		}
	}
}

// An engine at tcp is spoken to by TLS when the environment says so, and must prove
// who it is unless the environment says otherwise.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that turn away
	server.StartTLS()
	defer server.Close()
	known, unknown := t.TempDir(), t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	write(t, known, map[string]string{"ca.pem": string(authority)})
	host := "tcp://" + server.Listener.Addr().String()
	for _, test := range []struct {
		name   string
		folder string
		verify string
		want   bool
	}{
		{"known authority", known, "1", true},
		{"unknown authority", unknown, "1", false},
		{"unknown authority, not verified", unknown, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := Connect(environment(map[string]string{"DOCKER_HOST": host, "DOCKER_CERT_PATH": test.folder, "DOCKER_TLS_VERIFY": test.verify}))
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if _, err := e.client.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true}); (err == nil) != test.want {
				t.Errorf("ping: %v", err)
			} else if err != nil && !lost(err) {
				t.Errorf("%v is taken for an answer", err)
			}
		})
	}
	config, err := readTLS(known, true)
	if err != nil || config.MinVersion < tls.VersionTLS12 {
		t.Errorf("got %+v, %v", config, err)
	}
}

// The whole of an attempt, its attachment too, goes over TLS.
func TestRunOverTLS(t *testing.T) {
	t.Parallel()
	_, p := through(t, nil)
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: borrowed.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: borrowed.Certificate().Raw})
	write(t, folder, map[string]string{"ca.pem": string(authority)})
	p.cut()
	p.listen(listener)
	e, err := Connect(environment(map[string]string{
		"DOCKER_HOST": "tcp://" + listener.Addr().String(), "DOCKER_CERT_PATH": folder, "DOCKER_TLS_VERIFY": "1",
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	a := drivertest.Start(t, openOn(t, e), component(t, "both", "1000"))
	a.Wait(t, soon)
	if out := a.Stdout.String(); strings.Count(out, "\n") != 1000 || !strings.HasSuffix(out, "out 999\n") {
		t.Errorf("%d bytes came", len(out))
	}
}

func TestAPIVersion(t *testing.T) {
	for version, want := range map[string]string{"": client.MaxAPIVersion, "1.43": "1.43"} {
		e, err := Connect(environment(map[string]string{"DOCKER_HOST": "unix:///no/such.sock", "DOCKER_API_VERSION": version}))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if got := e.client.ClientVersion(); got != want {
			t.Errorf("DOCKER_API_VERSION=%s: it speaks %s, want %s", version, got, want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	e, err := Connect(environment(map[string]string{"DOCKER_HOST": "unix:///no/such.sock"}))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := New(Options{Engine: e, Pipeline: "p", Run: "p-1"})
	_, err = d.Open(t.Context())
	if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "unix:///no/such.sock") {
		t.Errorf("Open: %v", err)
	}
	want := "look for the components' images: the Docker Engine at unix:///no/such.sock cannot be reached: " +
		"nobody answers there; start it, or say with DOCKER_HOST where it is"
	if problems := d.Preflight(t.Context(), nil); len(problems) != 1 || problems[0] != want {
		t.Errorf("Preflight: %q, want %q", problems, want)
	}
}

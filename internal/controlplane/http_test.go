package controlplane

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// fetch makes a request and returns the answer's status and text.
func fetch(t *testing.T, client *http.Client, r *http.Request) (int, string) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// httpClient is one that leaves nothing behind.
func httpClient(t *testing.T, transport *http.Transport) *http.Client {
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// A page of somebody else's, which a browser has been led to, learns nothing: not
// under a name that was made to mean this machine, and not from another origin.
func TestHostAndOrigin(t *testing.T) {
	o := open(t, Options{Hosts: []string{"flow.example.org"}, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "numbers") })})
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	port := o.endpoint[strings.LastIndex(o.endpoint, ":"):]
	client := httpClient(t, &http.Transport{})
	for _, test := range []struct {
		host, origin string
		want         int
	}{
		{"localhost", "", 200}, {"localhost" + port, "", 200}, {"LocalHost.", "", 200}, {"127.0.0.1" + port, "", 200},
		{"[::1]" + port, "", 200}, {"[::1]", "", 200}, {"10.1.2.3", "", 200}, {hostname, "", 200},
		{"flow.example.org", "", 200}, {"FLOW.example.org:443", "", 200}, {"host.docker.internal", "", 200},
		{"evil.example.org", "", 421}, {"evil.example.org" + port, "", 421}, {"localhost.evil.org", "", 421},
		{"127.0.0.1.evil.org" + port, "", 421}, {"flow.example.org.evil.org", "", 421}, {"xlocalhost", "", 421}, {"0x7f000001", "", 421}, {"2130706433", "", 421},
		{"localhost" + port, "http://localhost" + port, 200}, {"127.0.0.1" + port, "http://127.0.0.1" + port, 200},
		{"localhost" + port, "http://evil.example.org", 403}, {"localhost" + port, "null", 403}, {"localhost" + port, "http://localhost", 403},
		{"localhost" + port, "http://localhost" + port + ".evil.org", 403}, {"localhost" + port, "http://evil.org#localhost" + port, 403},
		{"localhost" + port, "http://localhost" + port + "@evil.org", 403}, {"localhost" + port, "file://", 403}, {"localhost" + port, "http://[", 403},
	} {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+o.endpoint+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = test.host
			if test.origin != "" {
				r.Header.Set("Origin", test.origin)
			}
			if code, text := fetch(t, client, r); code != test.want || test.want != 200 && strings.Contains(text, "numbers") {
				t.Errorf("%s for host %q of origin %q: %d, want %d: %s", path, test.host, test.origin, code, test.want, text)
			}
		}
	}
}

// What is not served is not found, and nothing can be changed.
func TestHTTPServesFewThings(t *testing.T) {
	o := open(t, Options{})
	client := httpClient(t, &http.Transport{})
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/healthz", 200}, {"HEAD", "/healthz", 200}, {"GET", "/readyz", 200},
		{"POST", "/healthz", 405}, {"DELETE", "/readyz", 405}, {"OPTIONS", "/healthz", 405},
		{"GET", "/", 404}, {"GET", "/metrics", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/healthz/../etc/passwd", 404},
		{"POST", "/flowctl.ControlPlane/Register", 404}, {"GET", "//", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+o.endpoint+test.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		if code, text := fetch(t, client, r); code != test.want {
			t.Errorf("%s %s: %d, want %d: %s", test.method, test.path, code, test.want, text)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+o.endpoint+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Long", strings.Repeat("x", 2*maxHeaders))
	if code, _ := fetch(t, client, r); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("long headers: %d", code)
	}
}

// failingStore is a store whose disk can be full.
type failingStore struct{ full atomic.Bool }

func (s *failingStore) Save(registry.Batch) error {
	if s.full.Load() {
		return errors.New("no space left on device")
	}
	return nil
}

// It is ready as long as it can keep what it is told.
func TestReadiness(t *testing.T) {
	store := &failingStore{}
	o := open(t, Options{Registry: registry.New(registry.Options{Store: store})})
	client := httpClient(t, &http.Transport{})
	for _, full := range []bool{false, true, false} {
		store.full.Store(full)
		if _, err := o.registry.Register(registry.Registration{ServiceID: "x"}); (err != nil) != full {
			t.Error(err)
		}
		for path, want := range map[string]int{"/healthz": 200, "/readyz": map[bool]int{false: 200, true: 503}[full]} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+o.endpoint+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if code, text := fetch(t, client, r); code != want || want == 503 && !strings.Contains(text, "no space left on device") {
				t.Errorf("with the disk full %v, %s: %d: %s", full, path, code, text)
			}
		}
	}
}

// Metrics are for those who may call; that it lives, and is ready, for all.
func TestMetricsNeedAToken(t *testing.T) {
	ca := newCA(t)
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "numbers") })
	for name, files := range map[string]TLSFiles{"plain": {}, "mutual TLS": ca.trusting(ca.server())} {
		t.Run(name, func(t *testing.T) {
			o := open(t, Options{TLS: files, Metrics: metrics, Access: Access{Token: rightToken, Required: true}})
			for _, caller := range []struct {
				name, token string
				cert        TLSFiles
				want        int
			}{
				{"nobody", "", ca.issue("nobody", certified{}), 401},
				{"a wrong token", "Bearer wrong", ca.issue("nobody", certified{}), 401},
				{"a token without its scheme's blank", "Bearer" + rightToken, ca.issue("nobody", certified{}), 401},
				{"the operator", "Bearer " + rightToken, ca.issue("nobody", certified{}), 200},
				{"a component", "Bearer " + ComponentToken(rightToken, "src"), ca.issue("nobody", certified{}), 200},
				{"another plane's component", "Bearer " + ComponentToken("another", "src"), ca.issue("nobody", certified{}), 401},
				{"a component's certificate", "", ca.issue("src", certified{identity: ComponentURI("src")}), map[bool]int{true: 200, false: 401}[files.Set()]},
			} {
				transport, scheme := &http.Transport{DisableKeepAlives: true}, "http://"
				if files.Set() {
					config, err := clientTLS(ca.trusting(caller.cert), "", "127.0.0.1")
					if err != nil {
						t.Fatal(err)
					}
					config.NextProtos = nil
					transport.TLSClientConfig, scheme = config, "https://"
				}
				client := httpClient(t, transport)
				for path, want := range map[string]int{"/metrics": caller.want, "/healthz": 200, "/readyz": 200} {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+o.endpoint+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					if caller.token != "" {
						r.Header.Set("Authorization", caller.token)
					}
					if code, text := fetch(t, client, r); code != want || code != 200 && strings.Contains(text, "numbers") {
						t.Errorf("%s asks for %s: %d, want %d: %s", caller.name, path, code, want, text)
					}
				}
			}
		})
	}
}

// HTTP without TLS, where there is TLS, is told what to do.
func TestHTTPToTLS(t *testing.T) {
	ca := newCA(t)
	o := open(t, Options{TLS: ca.server()})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+o.endpoint+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, text := fetch(t, httpClient(t, &http.Transport{}), r); code != http.StatusBadRequest || !strings.Contains(text, "use https://") {
		t.Errorf("%d: %s", code, text)
	}
	o.notices.await(t, "it does not speak TLS, and this control plane does")
}

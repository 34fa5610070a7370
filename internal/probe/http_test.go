package probe_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/probe"
)

// serve serves one answer and returns its URL.
func serve(t *testing.T, code int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestHTTPVerdicts(t *testing.T) {
	long := strings.Repeat(" ", 70_000)
	for _, test := range []struct {
		name, body string
		code       int
		want       string // "": healthy
	}{
		{"nothing said", "", 200, ""},
		{"no content", "", 204, ""},
		{"plain text", "unhealthy", 200, ""},
		{"no object", `["unhealthy"]`, 200, ""},
		{"another kind of status", `{"status": 7}`, 200, ""},
		{"no status", `{"ok": false}`, 200, ""},
		{"healthy", `{"status":"healthy"}`, 200, ""},
		{"ok", `{"status":"ok"}`, 200, ""},
		{"beyond what is read", long + `{"status":"unhealthy"}`, 200, ""},
		{"unhealthy", `{"status":"unhealthy","uptime":"3s"}`, 200, "it says it is unhealthy"},
		{"unhealthy, with a reason", `{"status":"unhealthy","reason":"no lake"}`, 200, "it says it is unhealthy: no lake"},
		{"unhealthy, with a message", `{"status":"unhealthy","message":"no lake"}`, 200, "it says it is unhealthy: no lake"},
		{"starting", `{"status":"starting"}`, 200, "it says it is starting"},
		{"degraded", `{"status":"degraded"}`, 200, "degraded: it says so"},
		{"degraded, with a reason", `{"status":"degraded","reason":"slow lake"}`, 200, "degraded: slow lake"},
		{"not there", "", 404, "answered 404 Not Found"},
		{"broken, whatever it says", `{"status":"healthy"}`, 500, "answered 500 Internal Server Error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := probe.HTTP(serve(t, test.code, test.body))(t.Context())
			switch {
			case test.want == "" && err != nil:
				t.Errorf("%v, want healthy", err)
			case test.want != "" && (err == nil || !strings.HasSuffix(err.Error(), test.want)):
				t.Errorf("%v, want %q", err, test.want)
			case probe.IsDegraded(err) != strings.HasPrefix(test.want, "degraded"):
				t.Errorf("IsDegraded(%v) = %v", err, probe.IsDegraded(err))
			}
		})
	}
}

func TestHTTPDoesNotFollowRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the redirect was followed")
	}))
	defer elsewhere.Close()
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer here.Close()
	err := probe.HTTP(here.URL)(t.Context())
	if want := "GET " + here.URL + " answered 302 Found"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestHTTPWhereNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	addr := server.Listener.Addr().String()
	server.Close()
	err := probe.HTTP("http://" + addr)(t.Context())
	if want := addr + ": connection refused"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestHTTPThatNeverAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := probe.HTTP(server.URL)(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that the deadline is over", err)
	}
}

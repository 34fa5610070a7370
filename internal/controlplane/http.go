package controlplane

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// assembleHTTP builds the HTTP server: /healthz and /readyz for whoever asks,
// /metrics.
func (s *Server) assembleHTTP() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.registry.SaveError(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	if s.opts.Metrics != nil {
		mux.Handle("GET /metrics", s.restricted(s.opts.Metrics))
	}
	return &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: manners, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHeaders, ErrorLog: nil,
	}
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n"))
}

// guard turns away requests that a browser was led to make by somebody else's
// page: under a name that has been made to mean this machine, or from another
// origin. With TLS wanted, it turns away those without.
func (s *Server) guard(next http.Handler) http.Handler {
	hostname, _ := os.Hostname()
	ours := append([]string{"localhost", hostname, driver.HostName}, s.opts.Hosts...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		switch {
		case s.tls != nil && r.TLS == nil:
			answer(w, http.StatusBadRequest, "this control plane speaks TLS only: use https://")
		case !ownHost(r.Host, ours):
			answer(w, http.StatusMisdirectedRequest, "this control plane does not answer under the name "+r.Host+": use its address, or allow the name with --allow-host")
		case origin != "" && !sameOrigin(origin, r.Host):
			answer(w, http.StatusForbidden, "requests of pages of another origin are not answered")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether a Host header names this machine: by an address, which
// nobody can make mean something else, or by one of the names.
func ownHost(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	_, err := netip.ParseAddr(host)
	return err == nil || slices.ContainsFunc(names, func(n string) bool { return n != "" && strings.ToLower(n) == host })
}

// sameOrigin reports whether an Origin header is of the host that is asked.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// restricted lets only those through that may make calls.
func (s *Server) restricted(next http.Handler) http.Handler {
	if !s.access.Required {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), accessScheme)
		who, err := s.access.bearer(token)
		if err != nil && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			who = certifiedCaller(r.TLS.PeerCertificates[0])
		}
		if !who.named() {
			w.Header().Set("WWW-Authenticate", "Bearer")
			answer(w, http.StatusUnauthorized, "this control plane wants to know who asks: show the operators' token")
			return
		}
		next.ServeHTTP(w, r)
	})
}

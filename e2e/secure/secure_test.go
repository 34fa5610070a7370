//go:build linux

// Package secure_test runs the real flowctl with TLS, tokens, sockets and shared
// control planes, and looks who is let in and what is told.
package secure_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	flowctlpb "github.com/withobsrvr/flowctl/api/flowctl"
	"github.com/withobsrvr/flowctl/e2e/site"
)

// bin is the folder of flowctl and testcomponent.
var bin string

func TestMain(m *testing.M) { site.Main(m, &bin, "../../cmd/flowctl", "../testcomponent") }

// The lines that say where a server listens, and where a run's control plane does.
const (
	listening = `control plane listening.* address=(\S+)`
	running   = `^control plane (\S+) `
)

// tiny is a pipeline of two components with the Go SDK.
func tiny(s *site.Site, name string) string {
	return s.Pipeline(name, "  sources:\n  - {id: src, command: [testcomponent, --role, source]}\n  sinks:\n  - {id: snk, command: [testcomponent, --role, sink]}\n")
}

// run runs a pipeline until both components are ready.
func run(s *site.Site, file string, args ...string) (p *site.Process, endpoint string) {
	s.T.Helper()
	name := strings.TrimSuffix(filepath.Base(file), ".yml")
	args = append([]string{"run", file, "--control-plane-port", "0", "--log-dir", filepath.Join(s.Dir, "logs-"+name)}, args...)
	p = s.Start(args...)
	endpoint = p.Await(running)[1]
	p.Await(`^\S+ +snk +\* ready: `)
	return p, endpoint
}

// component is what status says of one.
type component struct {
	ID, State     string
	PID, Restarts int
}

// components asks how a pipeline's components are.
func components(s *site.Site, pipeline string) map[string]component {
	s.T.Helper()
	var status struct{ Components []component }
	s.JSON(&status, "status", "--run", pipeline)
	byID := map[string]component{}
	for _, c := range status.Components {
		byID[c.ID] = c
	}
	return byID
}

// service is what list says of one.
type service struct {
	ID, Pipeline, Tier string
	Healthy            bool
	LastHeartbeat      time.Time `json:"last_heartbeat"`
}

// healthy lists who is healthy, with when each was last heard.
func healthy(s *site.Site, args ...string) map[string]time.Time {
	var all []service
	code, out, _ := s.Try(append([]string{"list", "-o", "json"}, args...)...)
	if code != 0 || json.Unmarshal([]byte(out), &all) != nil {
		return nil
	}
	heard := map[string]time.Time{}
	for _, one := range all {
		if one.Healthy {
			heard[one.ID] = one.LastHeartbeat
		}
	}
	return heard
}

// environment is a variable of a process's environment.
func environment(s *site.Site, pid int, name string) string {
	s.T.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		s.T.Fatal(err)
	}
	for kv := range strings.SplitSeq(string(environ), "\x00") {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// files are those below a folder, with their modes.
func files(s *site.Site, dir string) map[string]fs.FileMode {
	s.T.Helper()
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			found[path] = info.Mode().Perm()
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		s.T.Fatal(err)
	}
	return found
}

// mutual are the credentials of a component, as its environment gives them.
func mutual(s *site.Site, ca, cert, key string) credentials.TransportCredentials {
	s.T.Helper()
	authorities, err := os.ReadFile(ca)
	if err != nil {
		s.T.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(authorities)
	if cert != "" {
		own, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			s.T.Fatal(err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return credentials.NewTLS(config)
}

// beat sends a heartbeat for a service, with a token if it is not empty.
func beat(s *site.Site, endpoint, id, token string, creds credentials.TransportCredentials) error {
	s.T.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		s.T.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.T.Context(), site.Patience)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	_, err = flowctlpb.NewControlPlaneClient(conn).Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: id})
	return err
}

// wantRefused wants a refusal of a code that says something.
func wantRefused(t *testing.T, what string, err error, code codes.Code, say string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), say) {
		t.Errorf("%s: %v; want %s and %q", what, err, code, say)
	}
}

// With --tls auto the components are let in by certificates of their own, nobody
// else is, none speaks for another, and nothing of it is left.
func TestAutoTLS(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	p, endpoint := run(s, tiny(s, "tiny"), "--tls", "auto")
	for path, mode := range files(s, s.State("flowctl/runs")) {
		if mode != 0o600 {
			t.Errorf("%s: mode %o", path, mode)
		}
	}
	if all := healthy(s); len(all) != 2 {
		t.Errorf("healthy are %v", all)
	}
	s.Want(0, "registered as source", "describe", "src")
	src := components(s, "tiny")["src"].PID
	ca, cert, key := environment(s, src, "FLOWCTL_TLS_CA"), environment(s, src, "FLOWCTL_TLS_CERT"), environment(s, src, "FLOWCTL_TLS_KEY")
	own := mutual(s, ca, cert, key)
	if err := beat(s, endpoint, "src", "", own); err != nil {
		t.Errorf("its own heartbeat: %v", err)
	}
	wantRefused(t, "another one's heartbeat", beat(s, endpoint, "snk", "", own), codes.PermissionDenied, `src cannot speak for "snk"`)
	wantRefused(t, "without a certificate", beat(s, endpoint, "src", "", mutual(s, ca, "", "")), codes.Unavailable, "certificate required")
	wantRefused(t, "without TLS", beat(s, endpoint, "src", "", insecure.NewCredentials()), codes.FailedPrecondition, "speaks TLS only")
	p.Await(`^\S+ +flowctl +\* a client at \S+ was turned away: it showed no certificate`)
	s.Want(3, "", "list", "--endpoint", endpoint)
	s.Want(0, "", "restart", "src")
	p.Stop()
	if left := files(s, s.State("flowctl/runs")); len(left) > 0 {
		t.Errorf("after the end there is %v", left)
	}
}

// When flowctl is killed its components and its certificates go all the same.
func TestKilledWithTLS(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	p, _ := run(s, tiny(s, "tiny"), "--tls", "auto")
	p.Kill()
	s.Until("the end of everything", func() bool {
		for path := range files(s, s.State("flowctl/runs")) {
			if strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".pem") {
				return false
			}
		}
		return len(s.Processes()) == 0
	})
}

// With --auth required every component has a token of its own; who has none, or
// another one, is turned away and told why.
func TestAuthRequired(t *testing.T) {
	t.Parallel()
	s := site.New(t, bin)
	p, endpoint := run(s, s.Pipeline("tiny", `  sources:
  - {id: src, command: [testcomponent, --role, source]}
  sinks:
  - {id: snk, command: [testcomponent, --role, sink]}
  - {id: old, command: [sh, -c, testcomponent --role sink --join unnamed; exec sleep 600], registration: optional}
`), "--auth", "required")
	token := environment(s, components(s, "tiny")["src"].PID, "FLOWCTL_TOKEN")
	if token == "" {
		t.Fatal("src has no token")
	}
	plain := insecure.NewCredentials()
	if err := beat(s, endpoint, "src", token, plain); err != nil {
		t.Errorf("its own heartbeat: %v", err)
	}
	wantRefused(t, "another one's heartbeat", beat(s, endpoint, "snk", token, plain), codes.PermissionDenied, `src cannot speak for "snk"`)
	wantRefused(t, "without a token", beat(s, endpoint, "src", "", plain), codes.Unauthenticated, "show a token")
	wantRefused(t, "a wrong token", beat(s, endpoint, "src", token+"x", plain), codes.Unauthenticated, "not one of this control plane's")
	p.Await(`\* a client at \S+ was turned away: .*show a token`)
	if all := healthy(s); len(all) != 2 {
		t.Errorf("healthy are %v", all)
	}
	s.Want(3, "show a token", "list", "--endpoint", endpoint)
	s.Want(0, "snk", "list", "--endpoint", endpoint, "--token-file", s.Write("component.token", token))
	p.Stop()
}

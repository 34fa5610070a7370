package operate_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// cause is what flowctl explain says.
type cause struct {
	Component string
	State     string
	Text      string
	LastLines []string `json:"last_lines"`
	Root      bool
	Next      []string
	Causes    []cause
}

// roots are the causes that nothing else is behind.
func (c cause) roots() []cause {
	if c.Root {
		return []cause{c}
	}
	var found []cause
	for _, deeper := range c.Causes {
		found = append(found, deeper.roots()...)
	}
	return found
}

// sink waits for src, which is what is wrong in every situation.
const sink = "  sinks: [{id: out, command: [sleep, '1000'], registration: none, depends_on: [src]}]\n"

// Six things that really go wrong: the root of why the sink is not ready is
// always the source, for the reason that is true.
func TestExplainSixSituations(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, source string
		args         []string
		provoke      func(*site, int)
		state, text  string // of the root
		line, next   string
	}{
		{
			name:   "a crash loop",
			source: "{id: src, command: [sh, -c, 'echo no such table; exit 7'], registration: none, probe: {exec: ['false']}, restart: {initial: 1h, max: 1h, jitter: 0}}",
			state:  "backoff", text: "exited with code 7", line: "no such table", next: "flowctl logs src --tail 100",
		},
		{
			name:   "it never registers",
			source: "{id: src, command: [sh, -c, 'echo no SDK; exec sleep 1000'], probe: {exec: ['true'], start_timeout: 1h}}",
			state:  "registering", text: "has not registered with the control plane", line: "no SDK", next: "registration: none",
		},
		{
			name:   "its health port answers 500",
			source: "{id: src, command: [sleep, '1000'], registration: none, probe: {http: {port: $PORT}, start_timeout: 1h}}",
			provoke: func(s *site, port int) {
				s.await("src", state("starting"))
				serve500(s.t, port)
			},
			state: "starting", text: "500", next: "flowctl restart src",
		},
		{
			name:   "its heartbeats do not come",
			source: "{id: src, binary: testcomponent, env: {FLOWCTL_HEARTBEAT_INTERVAL: 100ms}, restart: {unhealthy_timeout: 1h}}",
			args:   []string{"--heartbeat-ttl", "1s", "--janitor-interval", "100ms"},
			provoke: func(s *site, _ int) {
				src := s.await("src", state("ready"))
				s.await("out", state("ready"))
				if err := syscall.Kill(src.PID, syscall.SIGSTOP); err != nil {
					s.t.Fatal(err)
				}
				s.await("src", state("degraded"))
				s.want(0, "", "stop", "out") // a new start of it goes on: degraded is enough
			},
			state: "degraded", text: "no heartbeat for ", next: "kill -CONT ",
		},
		{
			name:   "somebody has stopped it",
			source: "{id: src, command: [sleep, '1000'], registration: none}",
			provoke: func(s *site, _ int) {
				s.await("out", state("ready"))
				s.want(0, "", "stop", "src")
				s.want(0, "", "restart", "out", "--no-wait")
				s.await("out", state("waiting"))
			},
			state: "stopped", text: "a stop was asked for", next: "flowctl start src",
		},
		{
			name:   "it has failed for good",
			source: "{id: src, command: [sh, -c, 'echo bad key; exit 3'], registration: none, probe: {exec: ['false']}, restart: {policy: no}}",
			state:  "failed", text: "exited with code 3", line: "bad key", next: "flowctl restart src",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			port := freePort(t)
			source := strings.ReplaceAll(test.source, "$PORT", fmt.Sprint(port))
			file := s.file("sick", "  on_failure: keep\n  sources: ["+source+"]\n"+sink)
			s.detach(file, "1ms", test.args...)
			if test.provoke != nil {
				test.provoke(s, port)
			}
			s.await("src", state(test.state))
			asked := "out"
			if test.state == "degraded" {
				asked = "src"
			}
			var causes []cause
			if err := json.Unmarshal([]byte(s.want(0, "", "explain", asked, "-o", "json")), &causes); err != nil || len(causes) != 1 {
				t.Fatalf("%+v, %v", causes, err)
			}
			roots := causes[0].roots()
			if len(roots) != 1 {
				t.Fatalf("roots: %+v", roots)
			}
			root := roots[0]
			if root.Component != "src" || root.State != test.state || !strings.Contains(root.Text, test.text) ||
				test.line != "" && !slices.Contains(root.LastLines, test.line) ||
				!slices.ContainsFunc(root.Next, func(n string) bool { return strings.Contains(n, test.next) }) {
				t.Errorf("the root cause is %+v", root)
			}
			text := s.want(0, "root cause: src. Next:\n  ", "explain", asked)
			t.Logf("\n%s", text)
		})
	}
}

// serve500 answers every request on a port with 500 until the test ends.
func serve500(t *testing.T, port int) {
	t.Helper()
	lis, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(lis)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
}

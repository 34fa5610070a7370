//go:build linux

package e2e_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Clients that came before the SDK do not say which component they are: one
// lets the control plane choose its id, one makes its own up.
func TestOldClients(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("unnamed", freePort(t), "", "-join, unnamed")+component("made-up", freePort(t), "", "-join, made-up")+
		"  sinks:\n"+component("sink", freePort(t), "", "-join, made-up, -role, sink")))
	f.await(`\ssink +\* ready: `)
	for _, id := range []string{"unnamed", "made-up", "sink"} {
		f.await(fmt.Sprintf(`\s%s +\| registered as %s$`, id, id))
	}
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// What flowctl tells a component by its environment, and what it keeps to itself.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.env = append(s.env, "PORT=1", "GRPC_PORT=2", "HEALTH_PORT=3", "HEALTH_ENDPOINT=http://leak", "FLOWCTL_ENDPOINT=leak:1", "FLOWCTL_LEAK=1",
		"COMPONENT_ID=leak", "SERVICE_ID=leak", "ENABLE_FLOWCTL=false", "http_proxy=http://proxy.invalid:3128", "NO_PROXY=example.com", "INHERITED=yes")
	health, serving := freePort(t), freePort(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+
		component("plain", health, fmt.Sprintf(", ports: [%d]", serving), "-env")+
		component("own", freePort(t), ", env: {PORT: 7777, FLOWCTL_HEARTBEAT_INTERVAL: 5s, EXTRA: x y}", "-env")+
		"  sinks:\n"+bare("unhealthy", "", "-env, -after, 1ms")))
	f.wantExit(0)
	endpoint, _ := f.await(`^control plane (\S+) `)
	id, _ := f.await(`\srun (\S+)$`)

	plain := f.environment("plain")
	want := map[string]string{
		"ENABLE_FLOWCTL": "true", "FLOWCTL_ENABLED": "true", "FLOWCTL_ENDPOINT": endpoint[1], "FLOWCTL_HEARTBEAT_INTERVAL": "10000ms",
		"COMPONENT_ID": "plain", "FLOWCTL_COMPONENT_ID": "plain", "FLOWCTL_SERVICE_ID": "plain", "SERVICE_ID": "plain",
		"HEALTH_PORT": fmt.Sprint(health), "HEALTH_ENDPOINT": fmt.Sprintf("http://localhost:%d/health", health),
		"PORT": fmt.Sprint(serving), "GRPC_PORT": fmt.Sprint(serving), "FLOWCTL_RUN_ID": id[1], "FLOWCTL_ATTEMPT": "1", "INHERITED": "yes",
		"NO_PROXY": "example.com,127.0.0.1,localhost,::1", "no_proxy": "example.com,127.0.0.1,localhost,::1",
	}
	got := map[string]string{}
	for name, value := range plain {
		if _, wanted := want[name]; wanted || strings.Contains(value, "leak") || strings.HasPrefix(name, "FLOWCTL_") {
			got[name] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment of plain (-want +got):\n%s", diff)
	}

	own := f.environment("own")
	for name, want := range map[string]string{"PORT": "7777", "FLOWCTL_HEARTBEAT_INTERVAL": "5s", "EXTRA": "x y", "COMPONENT_ID": "own"} {
		if own[name] != want {
			t.Errorf("own has %s=%q, want %q: the file wins", name, own[name], want)
		}
	}
	last := f.environment("unhealthy")
	if last["HEALTH_PORT"] == "" || last["HEALTH_PORT"] == "3" || last["PORT"] != "" {
		t.Errorf("unhealthy has HEALTH_PORT=%q and PORT=%q, want an allocated port and none", last["HEALTH_PORT"], last["PORT"])
	}
}

// environment is what a component with -env has printed.
func (f *flowctl) environment(id string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(f.out.String()) {
		before, kv, found := strings.Cut(strings.TrimSuffix(line, "\n"), " | ENV ")
		if name, value, _ := strings.Cut(kv, "="); found && strings.HasSuffix(strings.TrimRight(before, " "), " "+id) {
			env[name] = value
		}
	}
	return env
}

// Ports that the file leaves open are found, told, and named to others.
func TestAllocatedPorts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+
		"    - {id: source, binary: testcomponent, args: [-env], ports: [{name: grpc, containerPort: 50051, hostPort: 0}]}\n"+
		"  sinks:\n    - {id: sink, binary: testcomponent, args: [-env, -role, sink, -after, 1ms], env: {UPSTREAM: '${source.grpc}'}}\n"))
	f.wantExit(0)
	port := f.environment("source")["PORT"]
	if port == "" || port == "50051" || port == "0" {
		t.Errorf("source has PORT=%q, want an allocated one", port)
	}
	if got := f.environment("sink")["UPSTREAM"]; got != "localhost:"+port {
		t.Errorf("sink has UPSTREAM=%q, want localhost:%s", got, port)
	}
}

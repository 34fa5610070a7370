package compose_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// chain is a pipeline with every kind of probe and condition, in images that have
// neither a shell nor curl.
const chain = `apiVersion: flowctl/v1
kind: Pipeline
metadata: {name: chain}
spec:
  driver: container
  sources:
    - id: prepare
      image: testcomponent
      pull_policy: never
      command: ["-join", none, "-after", 500ms]
      registration: none
    - id: read.er
      image: testcomponent
      pull_policy: never
      command: ["-role", source, "-delay", 1s, "-env"]
      depends_on: {prepare: {condition: completed}}
      probe: {http: {path: /health}}
      volumes: [{name: state, mountPath: /state}]
      env: {API_TOKEN: canary-secret, PRICE: "5$$ and $${HOME}"}
      resources: {limits: {memory: 128Mi, cpu: "0.5"}}
  processors:
    - id: shape
      image: testcomponent
      pull_policy: never
      command: ["-join", none, "-grpc"]
      registration: none
      inputs: [read.er]
      ports: [{name: grpc, containerPort: 50051, hostPort: 0}]
      probe: {grpc: {port: grpc}}
      stop: {signal: INT, grace: 3s}
  sinks:
    - id: write
      image: testcomponent
      pull_policy: never
      command: ["-role", sink]
      inputs: [shape]
      probe: {exec: [/usr/local/bin/testcomponent, "-join", none, "-after", 1ms]}
    - id: last
      image: testcomponent
      pull_policy: never
      command: ["-role", sink, "-after", 1ms]
      depends_on: {write: {condition: healthy}}
`

// inspect is what the engine knows of a component's container.
func (s *site) inspect(id string) container.InspectResponse {
	s.t.Helper()
	name := s.prefix + "-chain-" + id + "-1"
	found, err := s.engine.ContainerInspect(s.t.Context(), name, client.ContainerInspectOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return found.Container
}

// at is a time as the engine writes it.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// TestUp brings a translated pipeline up with the Compose program: nobody starts
// before those it waits for are healthy or have completed, health is asked in
// images from scratch, components find the control plane, and nothing is left.
func TestUp(t *testing.T) {
	s := newSite(t)
	s.translate(chain)
	if out, err := s.compose(t.Context(), "config", "--quiet"); err == nil || !strings.Contains(out, "set API_TOKEN, a secret that is not in this file") {
		t.Errorf("without the secret: %v\n%s", err, out)
	}
	s.env = []string{"API_TOKEN=from$outside"}
	s.must("config", "--quiet")
	s.must("up", "--detach")

	for _, edge := range [][2]string{{"flowctl", "prepare"}, {"flowctl", "read.er"}, {"read.er", "shape"}, {"shape", "write"}, {"write", "last"}} {
		on, then := s.inspect(edge[0]), s.inspect(edge[1])
		if on.State.Health == nil {
			t.Fatalf("%s has no health check", edge[0])
		}
		// The log has the last five answers, so it may begin with a good one.
		first := on.State.Health.Log[0]
		for _, answer := range on.State.Health.Log {
			if answer.ExitCode == 0 {
				first = answer
				break
			}
		}
		if first.ExitCode != 0 || at(t, then.State.StartedAt).Before(first.End) && len(on.State.Health.Log) < 5 {
			t.Errorf("%s started at %s; the first good answer of %s came at %s, of %+v", edge[1], then.State.StartedAt, edge[0], first.End, on.State.Health.Log)
		}
		if at(t, then.State.StartedAt).Before(at(t, on.State.StartedAt)) {
			t.Errorf("%s started before %s", edge[1], edge[0])
		}
	}
	if done, then := s.inspect("prepare"), s.inspect("read.er"); at(t, then.State.StartedAt).Before(at(t, done.State.FinishedAt)) || done.State.ExitCode != 0 {
		t.Errorf("read.er started at %s, before prepare had completed at %s with code %d", then.State.StartedAt, done.State.FinishedAt, done.State.ExitCode)
	}
	s.wantAsPlanned(t)
	s.wantRegistered(t)
}

// wantAsPlanned checks what the engine was told of two components.
func (s *site) wantAsPlanned(t *testing.T) {
	t.Helper()
	reader, shape := s.inspect("read.er"), s.inspect("shape")
	printed := s.must("logs", "--no-log-prefix", "read.er")
	for _, want := range []string{"ENV API_TOKEN=from$outside\n", "ENV PRICE=5$ and ${HOME}\n", "ENV FLOWCTL_ENDPOINT=flowctl:8080\n", "ENV COMPONENT_ID=read.er\n"} {
		if !strings.Contains(printed, want) {
			t.Errorf("read.er was not told %s", want)
		}
	}
	if h := reader.HostConfig; h.Memory != 128<<20 || h.NanoCPUs != 5e8 || h.RestartPolicy.Name != "on-failure" || h.RestartPolicy.MaximumRetryCount != 5 || h.Init == nil || !*h.Init {
		t.Errorf("read.er: memory %d, CPUs %d, restart %+v, init %v", h.Memory, h.NanoCPUs, h.RestartPolicy, h.Init)
	}
	if c := shape.Config; c.StopSignal != "SIGINT" || c.StopTimeout == nil || *c.StopTimeout != 3 {
		t.Errorf("shape: stop signal %s, grace %v", c.StopSignal, c.StopTimeout)
	}
	if out := s.must("port", "shape", "50051"); !strings.HasPrefix(out, "127.0.0.1:") || strings.HasSuffix(strings.TrimSpace(out), ":50051") {
		t.Errorf("shape's open port is at %s", out)
	}
	volumes, err := s.engine.VolumeInspect(t.Context(), s.prefix+"-chain_state", client.VolumeInspectOptions{})
	if err != nil {
		t.Errorf("the volume %s: %v", volumes.Volume.Name, err)
	}
}

// wantRegistered checks that components have found the control plane. They may do so
// after they are healthy, and this one has to be asked.
func (s *site) wantRegistered(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		ids := s.registered(t)
		if slices.Contains(ids, "read.er") && slices.Contains(ids, "write") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("read.er and write have not both registered: %v", ids)
		}
	}
}

// registered are the ids that the control plane knows.
func (s *site) registered(t *testing.T) []string {
	t.Helper()
	out := s.must("exec", "-T", "flowctl", "/opt/flowctl/flowctl", "list", "--endpoint", "localhost:8080", "--wait=false", "--output", "json")
	var services []struct{ ID string }
	if err := json.Unmarshal([]byte(out), &services); err != nil {
		t.Fatalf("flowctl list: %v\n%s", err, out)
	}
	var ids []string
	for _, service := range services {
		ids = append(ids, service.ID)
	}
	return ids
}

// TestUpWithASickComponent: who waits for a component that does not become healthy
// does not start.
func TestUpWithASickComponent(t *testing.T) {
	s := newSite(t)
	s.translate(`apiVersion: flowctl/v1
kind: Pipeline
metadata: {name: chain}
spec:
  driver: container
  sources:
    - id: sick
      image: testcomponent
      pull_policy: never
      command: ["-health", unhealthy]
      probe: {http: {path: /health}, interval: 500ms, failure_threshold: 2, start_timeout: 1s}
  sinks:
    - {id: never, image: testcomponent, pull_policy: never, command: ["-role", sink]}
`)
	out, err := s.compose(t.Context(), "up", "--detach")
	if err == nil || !strings.Contains(out, "unhealthy") {
		t.Errorf("docker compose up: %v\n%s", err, out)
	}
	if state := s.inspect("sick").State; state.Health == nil || !strings.Contains(state.Health.Log[len(state.Health.Log)-1].Output, "it says it is unhealthy: told to be") {
		t.Errorf("the health of sick is %+v", state.Health)
	}
	if state := s.inspect("never").State; state.Status != container.StateCreated {
		t.Errorf("never is %s, and should not have been started", state.Status)
	}
}

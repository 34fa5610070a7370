package plan

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

var update = flag.Bool("update", false, "write what comes out to the golden files")

// environ is an environment with everything that must not leak.
var environ = []string{
	"PATH=/nowhere", "HOME=/home/u", "PORT=1", "GRPC_PORT=2", "HEALTH_PORT=3", "HEALTH_ENDPOINT=x", "ENABLE_FLOWCTL=false",
	"FLOWCTL_ENDPOINT=outer", "FLOWCTL_ANYTHING=x", "COMPONENT_ID=outer", "SERVICE_ID=outer", "OUTER_SECRET=canary-outer", "=C:=x", "odd",
}

// load reads one of the files of testdata.
func load(t *testing.T, path string) *pipeline.Pipeline {
	t.Helper()
	p, _, err := pipeline.Load(path, pipeline.Options{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parse reads a pipeline whose spec is given.
func parse(t *testing.T, spec string) *pipeline.Pipeline {
	t.Helper()
	source := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: p}\nspec:\n" + spec
	p, _, err := pipeline.Parse("flow.yml", "/pipe", []byte(source), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// make1 plans a pipeline that must be fine.
func make1(t *testing.T, p *pipeline.Pipeline, opts Options) *Plan {
	t.Helper()
	plan, err := New(p, opts)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestPlans compares plans, as they are printed and as JSON, with golden files.
func TestPlans(t *testing.T) {
	const ttp = "../pipeline/testdata/ttp-pipeline.yaml"
	for name, from := range map[string]struct{ path, orchestrator string }{
		"graph": {"testdata/graph.yaml", ""}, "ttp": {ttp, ""}, "mixed": {"testdata/mixed.yaml", ""}, "ttp-container": {ttp, "docker"},
	} {
		t.Run(name, func(t *testing.T) {
			p := load(t, from.path)
			dir := p.Dir
			p.File, p.Dir = filepath.Base(from.path), "/pipe"
			plan := make1(t, p, Options{Orchestrator: from.orchestrator, Endpoint: "127.0.0.1:8080", Environ: environ})
			var b strings.Builder
			if err := plan.Print(&b, PrintOptions{All: true}); err != nil {
				t.Fatal(err)
			}
			text, err := json.MarshalIndent(plan.View(false), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := b.String() + "\n" + string(text) + "\n"
			if strings.Contains(got, dir) {
				t.Errorf("the plan knows %s, not only the pipeline's folder", dir)
			}
			file := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestSecretsAreMasked: no way to show a plan shows a secret, and a driver gets it all the same.
func TestSecretsAreMasked(t *testing.T) {
	plan := make1(t, load(t, "testdata/graph.yaml"), Options{Environ: environ})
	var b strings.Builder
	if err := plan.Print(&b, PrintOptions{All: true, Color: true}); err != nil {
		t.Fatal(err)
	}
	all, err := json.Marshal(plan.View(true))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"canary", "hunter22", "s3cr3t-value"} {
		for _, shown := range []string{b.String(), string(all), string(whole)} {
			if i := strings.Index(shown, secret); i >= 0 {
				t.Errorf("%s is shown: …%.80s", secret, shown[max(0, i-40):])
			}
		}
	}
	if !strings.Contains(b.String(), "Test SDF Network") {
		t.Error("the network's name is no secret")
	}
	left, _ := plan.Component("left")
	spec := left.Spec()
	if !slices.Contains(spec.Env, "API_TOKEN=canary-token") || !slices.Contains(spec.Args, "s3cr3t-value") {
		t.Errorf("the driver does not get the secrets: %v %v", spec.Args, spec.Env)
	}
}

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"PASSWORD": true, "db_password": true, "PGPASSWORD": true, "API_KEY": true, "APIKEY": true, "AWS_ACCESS_KEY_ID": true, "--api-key": true,
		"GITHUB_TOKEN": true, "TOKENS": true, "TOKEN_A": true, "SECRET_SEED": true, "GOOGLE_APPLICATION_CREDENTIALS": true, "DB_PWD": true, "WALLET_PASSPHRASE": true,
		"KEYBOARD": false, "PWD": false, "OLDPWD": false, "NETWORK_PASSPHRASE": false, "STELLAR_NETWORK_PASSPHRASE": false, "TOKEN_TRANSFER_TOPIC": false,
		"PUBLIC_KEY": false, "MONKEY": false, "BUCKET_NAME": false, "": false, "PASSENGER": false,
	} {
		if got := secretName(name); got != want {
			t.Errorf("secretName(%q) = %v", name, got)
		}
	}
	for value, want := range map[string]bool{
		"postgres://u:p@h/d": true, "u:p@tcp(h:1)/d": true, "host=x password=y": true, "http://h:80/a@b": false, "localhost:50051": false, "a@b.c": false,
	} {
		if got := secretValue(value); got != want {
			t.Errorf("secretValue(%q) = %v", value, got)
		}
	}
}

// TestEnvironment: what a component gets, exactly.
func TestEnvironment(t *testing.T) {
	p := parse(t, `
  sources:
    - id: live
      binary: ./a
      ports: [8088, {containerPort: 50051, hostPort: 50051}]
      health_port: 8088
      config: {page-size: 10, win: config}
      env: {WIN: env, SERVICE_ID: mine, HOME: /elsewhere}
`)
	plan := make1(t, p, Options{Endpoint: "127.0.0.1:8080", Environ: environ, RunID: "r1", HeartbeatInterval: 2500 * time.Millisecond})
	want := []string{
		"COMPONENT_ID=live", "ENABLE_FLOWCTL=true", "FLOWCTL_COMPONENT_ID=live", "FLOWCTL_ENABLED=true", "FLOWCTL_ENDPOINT=127.0.0.1:8080",
		"FLOWCTL_HEARTBEAT_INTERVAL=2500ms", "FLOWCTL_RUN_ID=r1", "FLOWCTL_SERVICE_ID=live", "GRPC_PORT=50051",
		"HEALTH_ENDPOINT=http://localhost:8088/health", "HEALTH_PORT=8088", "HOME=/elsewhere", "OUTER_SECRET=canary-outer", "PAGE_SIZE=10",
		"PATH=/nowhere", "PORT=50051", "SERVICE_ID=mine", "WIN=env",
	}
	if diff := cmp.Diff(want, plan.Components[0].Spec().Env); diff != "" {
		t.Error(diff)
	}
}

func TestProxies(t *testing.T) {
	const both = "127.0.0.1,localhost,::1"
	for _, c := range []struct {
		name, env    string
		outer        []string
		lower, upper string
	}{
		{name: "none"},
		{name: "outer proxy", outer: []string{"https_proxy=http://p"}, lower: both, upper: both},
		{name: "own proxy", env: "HTTP_PROXY: http://p", lower: both, upper: both},
		{name: "empty proxy", outer: []string{"http_proxy="}},
		{name: "outer list", outer: []string{"ALL_PROXY=x", "NO_PROXY=corp, localhost"}, lower: "corp,localhost,127.0.0.1,::1", upper: "corp,localhost,127.0.0.1,::1"},
		{name: "own list wins", env: "no_proxy: corp", outer: []string{"grpc_proxy=x"}, lower: "corp", upper: "corp," + both},
		{name: "all", outer: []string{"http_proxy=x", "no_proxy=*"}, lower: "*", upper: "*"},
	} {
		p := parse(t, "  sinks: [{id: a, binary: ./a, env: {"+c.env+"}}]\n")
		got := map[string]string{}
		for _, v := range make1(t, p, Options{Environ: c.outer}).Components[0].Env {
			got[v.Name] = v.Value
		}
		if got["no_proxy"] != c.lower || got["NO_PROXY"] != c.upper {
			t.Errorf("%s: no_proxy %q, NO_PROXY %q", c.name, got["no_proxy"], got["NO_PROXY"])
		}
	}
}

// TestPorts: allocated ports are those nobody has, and everything that names a port means the same one.
func TestPorts(t *testing.T) {
	p := parse(t, `
  sources:
    - {id: a, binary: ./a, ports: [{name: grpc, containerPort: 50051, hostPort: 0}], probe: {grpc: {port: grpc}}}
    - {id: b, binary: ./b, ports: [7001], health_port: 7002, env: {A: "${a.grpc} ${a.50051}"}, args: ["${a.grpc}"]}
    - {id: c, binary: ./c, env: {HEALTH_PORT: 7003}, ports: [{containerPort: 90, hostPort: 9090}], probe: {http: {port: 90}}}
    - {id: d, binary: ./d, health_check: /h}
`)
	next := 7000
	plan := make1(t, p, Options{AllocatePort: func() (int, error) { next++; return next, nil }})
	a, b, c, d := plan.Components[0], plan.Components[1], plan.Components[2], plan.Components[3]
	if a.Ports[0].HostPort != 7004 || a.Probe.GRPC.Port != 7004 || a.HealthPort != 7005 {
		t.Errorf("a: %+v %+v %d", a.Ports, a.Probe.GRPC, a.HealthPort)
	}
	if b.HealthPort != 7002 || b.Probe.HTTP.Port != 7002 || b.Command[1] != "localhost:7004" {
		t.Errorf("b: %d %+v %v", b.HealthPort, b.Probe.HTTP, b.Command)
	}
	if i := slices.IndexFunc(b.Env, func(v EnvVar) bool { return v.Name == "A" }); b.Env[i].Value != "localhost:7004 localhost:7004" {
		t.Errorf("b: A=%s", b.Env[i].Value)
	}
	if c.HealthPort != 7003 || c.Probe.HTTP.Port != 9090 {
		t.Errorf("c: %d %+v", c.HealthPort, c.Probe.HTTP)
	}
	if d.HealthPort != 7006 || d.Probe.HTTP.Port != 7006 {
		t.Errorf("d: %d %+v", d.HealthPort, d.Probe.HTTP)
	}
	if p.Components[0].Ports[0].HostPort != 0 || p.Components[0].Probe.GRPC.Port != 0 {
		t.Error("planning has changed the pipeline")
	}
	broken := errors.New("no port left")
	if _, err := New(p, Options{AllocatePort: func() (int, error) { return 0, broken }}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := New(p, Options{AllocatePort: func() (int, error) { return 7001, nil }}); err == nil {
		t.Error("a port of the file was allocated")
	}
}

// TestPrograms: where a component's program is looked for.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"path/tool", "one/bin/one", "bin/two", "path/plain"} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o755)
		if path == "path/plain" {
			mode = 0o644
		}
		if err := os.WriteFile(full, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for written, want := range map[string]string{
		"binary: ./x/y": dir + "/x/y", "binary: /abs/../x": "/x", "binary: tool": dir + "/path/tool", "binary: plain": "plain", "binary: none": "none",
		"binary: ../up": filepath.Dir(dir) + "/up", "command: [tool]": dir + "/path/tool", "command: [./tool]": dir + "/tool",
		"type: one": dir + "/one/bin/one", "type: two": dir + "/bin/two", "type: tool": dir + "/path/tool", "type: three": "three",
		"{type: one, binary: ./mine}": dir + "/mine", "{type: one, image: x}": dir + "/one/bin/one",
	} {
		p := parse(t, "  sinks:\n    - "+"{id: a, working_dir: sub, env: {PATH: \"rel::"+dir+"/none:"+dir+"/path\"}, "+strings.Trim(written, "{}")+"}\n")
		p.Dir = dir
		c := make1(t, p, Options{Environ: []string{"PATH=/outer"}}).Components[0]
		if c.Command[0] != want || c.Dir != dir+"/sub" {
			t.Errorf("%s: %s in %s, want %s", written, c.Command[0], c.Dir, want)
		}
	}
}

func TestSpec(t *testing.T) {
	p := parse(t, "  sinks: [{id: a, binary: ./a, args: [x, 1], stop: {signal: SIGINT, grace: 1s}}]\n")
	got := make1(t, p, Options{}).Components[0].Spec()
	got.Env = nil
	want := driver.Spec{Component: "a", Args: []string{"/pipe/a", "x", "1"}, Dir: "/pipe", StopSignal: syscall.SIGINT, StopGrace: time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestProblems: what a plan refuses that a file may say.
func TestProblems(t *testing.T) {
	for spec, want := range map[string]string{
		"  sinks: [{id: a, image: x}]\n":                                             "flow.yml:5:11: spec.sinks[0]: \"a\" cannot run as a process: it has an image, but no binary, command or type (write `driver: container` for it, or use --orchestrator container for all)",
		"  sinks: [{id: a, type: a/b}, {id: b, type: ..}]\n":                         "flow.yml:5:19: spec.sinks[0].type: \"a/b\" cannot be the name of a program, and there is no binary or command\nflow.yml:5:39: spec.sinks[1].type: \"..\" cannot be the name of a program, and there is no binary or command",
		"  driver: docker\n  sinks: [{id: a, binary: x}]\n":                          "flow.yml:6:11: spec.sinks[0]: \"a\" cannot run in a container: it has no image (write its image, or `driver: process` for it)",
		"  driver: kubernetes\n  sinks: [{id: a, binary: x}]\n":                      "flow.yml:5:3: spec.driver: the orchestrator kubernetes comes with a later version of flowctl (use --orchestrator process to run it with local processes, or --orchestrator container)",
		"  sinks: [{id: a, image: x, driver: docker, volumes: [{mountPath: /a}]}]\n": "flow.yml:5:55: spec.sinks[0].volumes[0]: has neither a hostPath nor a name (write hostPath for a folder of this machine, or name for one that the engine keeps)",
	} {
		_, err := New(parse(t, spec), Options{})
		var problems pipeline.Problems
		if !errors.As(err, &problems) || problems.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	p := parse(t, "  driver: docker\n  sinks: [{id: a, binary: x}]\n")
	if plan, err := New(p, Options{Orchestrator: "process"}); err != nil || plan.Orchestrator != "process" {
		t.Errorf("--orchestrator process does not win over the file: %v", err)
	}
	for _, orchestrator := range []string{"kubernetes", "nomad"} {
		if _, err := New(p, Options{Orchestrator: orchestrator}); err == nil {
			t.Errorf("%s is planned", orchestrator)
		}
	}
}

// TestContainersAreFoundAtRunTime: what is known when a pipeline runs is in its plan.
func TestContainersAreFoundAtRunTime(t *testing.T) {
	p := load(t, "testdata/mixed.yaml")
	next := 20000
	opts := Options{
		Endpoint: "127.0.0.1:8080", ContainerEndpoint: "172.20.0.1:8080", Gateway: "172.20.0.1",
		AllocatePort: func() (int, error) { next++; return next, nil },
		Credentials: func(id string) map[string]string {
			return map[string]string{"FLOWCTL_TLS_CA": "/state/ca", "FLOWCTL_TLS_KEY": "/state/" + id, "FLOWCTL_TOKEN": "t"}
		},
	}
	plan := make1(t, p, opts)
	join, _ := plan.Component("join")
	env := map[string]string{}
	for _, v := range join.Env {
		env[v.Name] = v.Value
	}
	for name, want := range map[string]string{
		"FLOWCTL_ENDPOINT": "172.20.0.1:8080", "PLANE": "172.20.0.1:8080", "FEED": "172.20.0.1:7000", "LIST": "live:50051,172.20.0.1:7000",
		"FLOWCTL_TLS_CA": "/run/flowctl/ca.pem", "FLOWCTL_TLS_KEY": "/run/flowctl/key.pem", "FLOWCTL_TOKEN": "t",
	} {
		if env[name] != want {
			t.Errorf("%s=%s, want %s", name, env[name], want)
		}
	}
	want := &driver.Container{
		Image: "example/join:1", Pull: driver.PullMissing, Names: []string{"join"},
		Ports: []driver.Port{{Host: 20001, Container: 9000, Protocol: "tcp"}},
		Volumes: []driver.Volume{{Source: "/state/ca", Target: "/run/flowctl/ca.pem", ReadOnly: true},
			{Source: "/state/join", Target: "/run/flowctl/key.pem", ReadOnly: true}},
	}
	if diff := cmp.Diff(want, join.Spec().Container); diff != "" {
		t.Error(diff)
	}
	opts.Previous = plan
	again := make1(t, p, opts)
	if changes := Diff(plan, again); len(changes) != 0 {
		t.Errorf("planned again, it changes: %v", changes)
	}
}

func TestEndpoint(t *testing.T) {
	for want, in := range map[string]struct {
		address string
		port    int
	}{
		"127.0.0.1:8080": {"127.0.0.1", 8080}, "127.0.0.1:1": {"0.0.0.0", 1}, "127.0.0.1:2": {"", 2}, "127.0.0.1:3": {"::", 3},
		"[::1]:4": {"::1", 4}, "host:5": {"host", 5}, "": {"127.0.0.1", 0},
	} {
		if got := Endpoint(in.address, in.port); got != want {
			t.Errorf("Endpoint(%v) = %q, want %q", in, got, want)
		}
	}
}

// TestRandomGraphs: in any graph without a cycle every component stands after all
// it waits for, one step below the last of them; the same file gives the same plan.
func TestRandomGraphs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		n := 1 + r.IntN(20)
		names := r.Perm(n)
		rank := map[string]int{}
		var b strings.Builder
		b.WriteString("  processors:\n")
		for i, name := range names {
			rank[fmt.Sprintf("c%d", name)] = i
		}
		for _, i := range r.Perm(n) {
			var deps []string
			for j := range i {
				if r.IntN(4) == 0 {
					deps = append(deps, fmt.Sprintf("c%d", names[j]))
				}
			}
			fmt.Fprintf(&b, "    - {id: c%d, binary: x, depends_on: [%s]}\n", names[i], strings.Join(deps, ", "))
		}
		p := parse(t, b.String())
		plan := make1(t, p, Options{})
		level := map[string]int{}
		for _, c := range plan.Components {
			want := 0
			for _, e := range c.After {
				at, known := level[e.ID]
				if !known {
					t.Fatalf("%s stands before %s, which it waits for", c.ID, e.ID)
				}
				want = max(want, at+1)
			}
			if c.Level != want {
				t.Fatalf("%s is on level %d, want %d", c.ID, c.Level, want)
			}
			level[c.ID] = c.Level
		}
		if len(level) != n {
			t.Fatalf("%d of %d components", len(level), n)
		}
		if again := make1(t, parse(t, b.String()), Options{}); !reflect.DeepEqual(plan, again) {
			t.Fatal("the same file gives two plans")
		}
	}
}

// What a process finds at a port of this host a container finds in the sandbox's network.
func TestBesideASandbox(t *testing.T) {
	p := parse(t, `
  sources:
    - {id: a, image: x, driver: container, registration: none, env: {CACHE: "redis://localhost:6379/0"}}
  sinks:
    - {id: b, command: [x], registration: none, env: {CACHE: "redis://localhost:6379/0"}}
`)
	plan := make1(t, p, Options{Environ: []string{"REDIS_URL=redis://localhost:6379"}, Services: []Service{{
		ID: "redis", Ports: []ServicePort{{Host: 6379, Container: 6380}}, Variables: map[string]string{"REDIS_URL": "redis://redis:6380"},
	}}})
	for id, want := range map[string]string{"a": "redis://redis:6380", "b": "redis://localhost:6379"} {
		c, _ := plan.Component(id)
		got := map[string]string{}
		for _, v := range c.Env {
			got[v.Name] = v.Value
		}
		if got["REDIS_URL"] != want || got["CACHE"] != want+"/0" {
			t.Errorf("%s is told REDIS_URL=%s and CACHE=%s, want %s", id, got["REDIS_URL"], got["CACHE"], want)
		}
	}
}

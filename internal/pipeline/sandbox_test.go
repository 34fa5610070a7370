package pipeline

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var redisEntry = Service{
	ID: "redis", Image: "redis:7", PullPolicy: PullMissing, Variable: "REDIS_URL", Env: []EnvVar{{Name: "A", Value: "1"}},
	Ports: []Port{{ContainerPort: 6379, HostPort: 6379, Protocol: "tcp"}}, Stop: defaultServiceStop(), Restart: RestartNo,
}

func parseSandbox(t *testing.T, source string) (*SandboxFile, error) {
	t.Helper()
	return ParseSandbox("sandbox.yaml", "/dir", []byte(source), Options{Environ: []string{"TAG=9"}}, []Service{redisEntry})
}

func TestSandboxServiceIsReadOnTopOfTheCatalogue(t *testing.T) {
	f, err := parseSandbox(t, `
services:
  redis:
    env: {B: "2"}
    ports: [{containerPort: 6379, hostPort: 0}]
  other: {image: "other:${TAG}", depends_on: [redis]}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := redisEntry.Clone()
	want.Env = []EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
	want.Ports[0].HostPort = 0
	other := Service{
		ID: "other", Image: "other:9", PullPolicy: PullMissing, Variable: "OTHER_URL", DependsOn: []string{"redis"},
		Stop: defaultServiceStop(), Restart: RestartNo,
	}
	if diff := cmp.Diff([]Service{want, other}, f.Services); diff != "" {
		t.Error(diff)
	}
	if redisEntry.Ports[0].HostPort != 6379 || len(redisEntry.Env) != 1 {
		t.Errorf("the catalogue was written to: %+v", redisEntry)
	}
}

func TestSandboxEntryAsItIsSaysSo(t *testing.T) {
	for source, want := range map[string]bool{"redis:": true, "redis: {}": true, "redis: {user: '1'}": false} {
		f, err := parseSandbox(t, "services:\n  "+source+"\n")
		if err != nil || f.Services[0].FromCatalogue != want {
			t.Errorf("%s: %+v, %v, want from the catalogue: %t", source, f, err, want)
		}
	}
}

func TestRefer(t *testing.T) {
	f, err := parseSandbox(t, `
services:
  db:
    image: db
    env: {USER: me, URL: "${env.USER}@${host}", SELF: "${env.SELF}", COST: "$${port}"}
    ports: [5432, {name: admin, containerPort: 80, hostPort: 8000}]
    connection: "db://${env.USER}@${host}:${port}?admin=${port.admin}&same=${port.80}"
    health_check: {exec: [ready, "${port}"]}
`)
	if err != nil {
		t.Fatal(err)
	}
	db := f.Services[0]
	outside := func(p Port) string { return strconv.Itoa(p.HostPort) }
	for value, want := range map[string]string{
		db.Connection:          "db://me@here:5432?admin=8000&same=8000",
		db.HealthCheck.Exec[1]: "5432",
		db.Env[1].Value:        "me@here",
		db.Env[2].Value:        "",
		db.Env[3].Value:        "${port}",
	} {
		if got := db.Refer(value, "here", outside); got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	}
}

// Every problem of a file is told at once, where it is and with the way out.
func TestSandboxProblems(t *testing.T) {
	for name, test := range map[string]struct{ source, want string }{
		"an unknown service": {"services:\n  rediss:\n",
			`sandbox.yaml:2:3: services.rediss: is not in the catalogue (redis), so it needs at least an image (did you mean "redis"?)`},
		"no image":         {"services:\n  db: {user: x}\n", "sandbox.yaml:2:7: services.db.image: is missing"},
		"an unknown field": {"services:\n  redis: {imag: x}\n", `sandbox.yaml:2:11: services.redis.imag: unknown field (did you mean "image"?)`},
		"a bad id":         {"services:\n  Redis_:\n", `sandbox.yaml:2:3: services.Redis_: "Redis_" cannot be an id: it ` + SandboxName("_")},
		"a bad name":       {"name: A B\nservices: {redis: }\n", `sandbox.yaml:1:7: name: "A B" cannot be a sandbox's name: it ` + SandboxName("_")},
		"nothing":          {"services: {}\n", "sandbox.yaml:1:11: services: has no service: write at least one"},
		"no such port":     {"services:\n  redis: {connection: \"x:${port.admin}\"}\n", `sandbox.yaml:2:26: services.redis.connection: "admin" is none of its ports`},
		"no such variable": {"services:\n  redis: {connection: \"${env.C}\"}\n", "sandbox.yaml:2:24: services.redis.connection: C is none of its variables: write it under env"},
		"another reference": {"services:\n  redis: {connection: \"${db.1}\"}\n",
			`sandbox.yaml:2:24: services.redis.connection: "${db.1}" is unknown here: there are ${host}, ${port}, ${port.NAME} and ${env.NAME}`},
		"a missing variable": {"services:\n  redis: {image: \"r:${NO_SUCH}\"}\n",
			"sandbox.yaml:2:21: services.redis.image: the variable NO_SUCH is not set (set it, or write ${NO_SUCH:-default})"},
		"a dependency that is not there": {"services:\n  redis: {depends_on: [rediz]}\n",
			`sandbox.yaml:2:24: services.redis.depends_on[0]: there is no service "rediz" in this file (did you mean "redis"?)`},
		"a circle": {"services:\n  redis: {depends_on: [a]}\n  a: {image: a, depends_on: [redis]}\n",
			"sandbox.yaml:2:24: services.redis.depends_on[0]: redis waits for a, and that one for redis: nothing can be first\n" +
				"sandbox.yaml:3:30: services.a.depends_on[0]: a waits for redis, and that one for a: nothing can be first"},
		"one port for two": {"services:\n  redis:\n  a: {image: a, ports: [6379]}\n",
			"sandbox.yaml:3:25: services.a.ports[0]: port 6379 of this host is redis's already (give one another hostPort, 0 for a free one)"},
		"one variable for two": {"services:\n  redis:\n  a: {image: a, variable: REDIS_URL}\n",
			"sandbox.yaml:3:17: services.a.variable: REDIS_URL is the variable of redis already"},
		"a volume of nothing": {"services:\n  redis: {volumes: [{mountPath: /x}]}\n",
			"sandbox.yaml:2:21: services.redis.volumes[0]: has neither a hostPath nor a name (write hostPath for a folder of this machine, or name for a volume of the sandbox)"},
		"a check that nobody repeats": {"services:\n  a: {image: a, health_check: {exec: [x], interval: 1s}}\n",
			"sandbox.yaml:2:43: services.a.health_check.interval: unknown field"},
		"a check of no port": {"services:\n  a: {image: a, health_check: {http: {path: /x}}}\n",
			"sandbox.yaml:2:32: services.a.health_check.http: names no port, and the service has none"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseSandbox(t, test.source)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("the error is %v, want problems", err)
			}
			if diff := cmp.Diff(test.want, problems.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSandboxTellsAllProblemsAtOnce(t *testing.T) {
	_, err := parseSandbox(t, "nam: x\nservices:\n  a: {ports: [0]}\n  redis: {stop: {signal: NOPE}}\n")
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("want four problems:\n%v", err)
	}
}

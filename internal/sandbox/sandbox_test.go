package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/docker"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is a sandbox on an engine that is somewhere else, and is asked nothing.
func far(t *testing.T) *Sandbox {
	t.Helper()
	e, err := Connect(func(name string) string { return map[string]string{"DOCKER_HOST": "tcp://far:2375"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return New(e, "box", nil)
}

func entry(t *testing.T, id string) pipeline.Service {
	t.Helper()
	entries, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := Choose(entries, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return chosen[0]
}

// Every entry of the catalogue can be used as it is, and all of them together.
func TestCatalogue(t *testing.T) {
	entries, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	s := far(t)
	for _, e := range entries {
		if !e.FromCatalogue || e.Description == "" || e.Connection == "" || len(e.Ports) == 0 || len(e.Volumes) == 0 || e.HealthCheck == nil {
			t.Errorf("%s is not complete: %+v", e.ID, e)
		}
		if _, tag, _ := strings.Cut(e.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s: image %s has no version", e.ID, e.Image)
		}
		for _, v := range e.Volumes {
			if v.HostPath != "" || !strings.HasPrefix(v.Name, e.ID) {
				t.Errorf("%s: volume %+v is not its own", e.ID, v)
			}
		}
		made, err := s.container(e, e.Ports, nil)
		if err != nil {
			t.Errorf("%s: %v", e.ID, err)
		}
		r := &resident{Resident: docker.Resident{Ports: made.Ports}, service: e}
		end := s.endpoint(r)
		text := strings.Join(append(slices.Concat(made.Env, made.Command), end.Connection, end.Inside), " ")
		if strings.ContainsAny(text, "\x00\x01") || strings.Contains(text, "${") || !strings.Contains(end.Connection, "far:") || !strings.Contains(end.Inside, e.ID+":") {
			t.Errorf("%s is reached at %q and %q, and told %q", e.ID, end.Connection, end.Inside, text)
		}
		if s.question(r) == nil {
			t.Errorf("%s is not asked how it is", e.ID)
		}
	}
}

func TestKafkaAdvertisesWhereItIsOffered(t *testing.T) {
	kafka := entry(t, "kafka")
	ports := slices.Clone(kafka.Ports)
	ports[0].HostPort = 1234
	made, err := far(t).container(kafka, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "KAFKA_ADVERTISED_LISTENERS=INSIDE://kafka:9092,OUTSIDE://far:1234"; !slices.Contains(made.Env, want) {
		t.Errorf("its environment has no %s:\n%s", want, strings.Join(made.Env, "\n"))
	}
}

func TestChoose(t *testing.T) {
	all := []pipeline.Service{{ID: "a", DependsOn: []string{"b", "c"}}, {ID: "b", DependsOn: []string{"c"}}, {ID: "c"}, {ID: "d"}}
	for name, test := range map[string]struct {
		ids  []string
		want []string
	}{
		"all, each after what it depends on": {nil, []string{"c", "b", "a", "d"}},
		"one with its dependencies":          {[]string{"b"}, []string{"c", "b"}},
		"one twice":                          {[]string{"d", "d"}, []string{"d"}},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, err := Choose(all, test.ids)
			if diff := cmp.Diff(test.want, known(chosen)); diff != "" || err != nil {
				t.Errorf("%s (%v)", diff, err)
			}
		})
	}
	_, err := Choose(all, []string{"a", "x"})
	var unknown *UnknownError
	if !errors.As(err, &unknown) || err.Error() != `there is no service "x"; there are a, b, c, d` {
		t.Errorf("the error is %v", err)
	}
}

func TestLevels(t *testing.T) {
	for name, test := range map[string]struct {
		all  []pipeline.Service
		want [][]string
	}{
		"what depends on what has gone is free": {[]pipeline.Service{{ID: "a", DependsOn: []string{"gone"}}}, [][]string{{"a"}}},
		"two at once":                           {[]pipeline.Service{{ID: "a", DependsOn: []string{"c"}}, {ID: "b", DependsOn: []string{"c"}}, {ID: "c"}}, [][]string{{"c"}, {"a", "b"}}},
		"a circle ends":                         {[]pipeline.Service{{ID: "a", DependsOn: []string{"b"}}, {ID: "b", DependsOn: []string{"a"}}, {ID: "c"}}, [][]string{{"c"}, {"a", "b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, levels(test.all)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a container is made of is what the definition says, and labels tell the rest.
func TestContainer(t *testing.T) {
	s := far(t)
	service := pipeline.Service{
		ID: "db", Image: "db:1", PullPolicy: pipeline.PullNever, User: "7", Variable: "DB_URL",
		Env:       []pipeline.EnvVar{{Name: "A", Value: "old"}, {Name: "B", Value: "b"}, {Name: "A", Value: "new"}},
		Volumes:   []pipeline.Volume{{Name: "data", ContainerPath: "/data/"}, {HostPath: "/etc", ContainerPath: "/conf", ReadOnly: true}},
		Resources: pipeline.Resources{Limits: pipeline.Quantities{CPU: "500m", Memory: "1Ki"}},
		Stop:      pipeline.Stop{Signal: "INT", Grace: time.Second}, Restart: pipeline.RestartAlways,
	}
	text, hash, err := definition(service)
	if err != nil {
		t.Fatal(err)
	}
	want := docker.Service{
		Name:   "flowctl-sandbox-box-db",
		Labels: map[string]string{"flowctl.sandbox": "box", "flowctl.service": "db", "flowctl.definition": text, "flowctl.hash": hash},
		Container: driver.Container{
			Image: "db:1", Pull: driver.PullNever, User: "7", Names: []string{"db"},
			Ports: []driver.Port{{Host: 8, Container: 9, Protocol: "tcp"}},
			Volumes: []driver.Volume{
				{Source: "flowctl-sandbox-box-data", Target: "/data/"}, {Source: "/etc", Target: "/conf", ReadOnly: true},
				{Source: "flowctl-sandbox-box_db.var-lib-x-y", Target: "/var/lib/x y"},
				{Source: "flowctl-sandbox-box_db.var-lib-x-y-", Target: "/var/lib/x-y"},
			},
			CPUs: 0.5, Memory: 1024,
		},
		Env: []string{"B=b", "A=new"}, StopSignal: 2, StopGrace: time.Second, Restart: "always",
	}
	got, err := s.container(service, []pipeline.Port{{HostPort: 8, ContainerPort: 9, Protocol: "tcp"}}, []string{"/data", "/var/lib/x y", "/var/lib/x-y"})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s (%v)", diff, err)
	}
}

// A folder that only the image names has a volume of its own, whatever the file calls others.
func TestVolumesOfTheImageAreNobodyElses(t *testing.T) {
	prometheus := entry(t, "prometheus")
	volumes := far(t).volumes(prometheus, []string{"/data", "/prometheus"}) // -prometheus-data is the entry's
	if len(volumes) != 2 || volumes[0].Source == volumes[1].Source || volumes[1].Target != "/data" {
		t.Errorf("%+v", volumes)
	}
}

// A definition is the same after it has been a label, whatever it says.
func TestDefinitionSurvivesItsLabel(t *testing.T) {
	entries, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, hash, err := definition(e)
		if err != nil {
			t.Fatal(err)
		}
		made, err := fromLabel(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, again, err := definition(made); again != hash || err != nil {
			t.Errorf("%s has another hash after its label (%v)", e.ID, err)
		}
		made.Image += "x"
		if _, again, _ := definition(made); again == hash {
			t.Errorf("%s with another image has the same hash", e.ID)
		}
	}
}

func TestSettleKeepsThePortOfBefore(t *testing.T) {
	s := far(t)
	service := pipeline.Service{ID: "a", Ports: []pipeline.Port{{ContainerPort: 1}, {ContainerPort: 2, HostPort: 7}}}
	fresh, err := s.settle(service, nil)
	if err != nil || fresh[0].HostPort == 0 || fresh[1].HostPort != 7 {
		t.Errorf("ports %+v, %v", fresh, err)
	}
	before := &resident{service: pipeline.Service{Ports: []pipeline.Port{{ContainerPort: 1, HostPort: 5}}}}
	kept, err := s.settle(service, before)
	if err != nil || kept[0].HostPort != 5 || kept[1].HostPort != 7 {
		t.Errorf("ports %+v, %v; want 5 and 7", kept, err)
	}
	if service.Ports[0].HostPort != 0 {
		t.Error("the definition was written to")
	}
}

func TestCurrent(t *testing.T) {
	old, now, file := pipeline.Service{ID: "a", Image: "old"}, pipeline.Service{ID: "a", Image: "now"}, pipeline.Service{ID: "a", Image: "file"}
	fromCatalogue := old
	fromCatalogue.FromCatalogue = true
	for name, test := range map[string]struct {
		made  pipeline.Service
		given []pipeline.Service
		want  string
	}{
		"the file's":                       {old, []pipeline.Service{file}, "file"},
		"the catalogue's as it was":        {fromCatalogue, nil, "now"},
		"its own, though it has that name": {old, nil, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &resident{service: test.made, made: test.made}
			if got := current(r, test.given, []pipeline.Service{now}).Image; got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	bad := errors.New("no")
	for name, test := range map[string]struct {
		err   error
		young bool
		ok    bool
		text  string
	}{
		"well":           {nil, false, true, "healthy"},
		"degraded":       {probe.Degraded{Reason: "slow"}, false, true, "degraded: slow"},
		"not yet well":   {bad, true, false, "starting: no"},
		"not well":       {bad, false, false, "unhealthy: no"},
		"well at once":   {nil, true, true, "healthy"},
		"degraded early": {probe.Degraded{Reason: "x"}, true, true, "degraded: x"},
	} {
		t.Run(name, func(t *testing.T) {
			if ok, text := verdict(test.err, test.young); ok != test.ok || text != test.text {
				t.Errorf("%t, %q; want %t, %q", ok, text, test.ok, test.text)
			}
		})
	}
}

// An engine's proxy accepts connections for a service that does not listen.
func TestStays(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan bool, 2)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			if !<-hold {
				conn.Close()
				continue
			}
			defer conn.Close()
		}
	}()
	t.Cleanup(func() { lis.Close(); <-served })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	hold <- false
	if err := stays(lis.Addr().String())(ctx); err == nil {
		t.Error("a connection that was closed at once counts")
	}
	hold <- true
	if err := stays(lis.Addr().String())(ctx); err != nil {
		t.Errorf("a connection that stays does not count: %v", err)
	}
}

// Where this machine is in the sandbox's network, it asks the service itself; else
// through the port of the host, be it the engine's proxy that accepts.
func TestReach(t *testing.T) {
	s := far(t)
	service := pipeline.Service{Ports: []pipeline.Port{{ContainerPort: 80, HostPort: 8000}, {Name: "admin", ContainerPort: 81, HostPort: 8001}}}
	near := docker.Resident{Address: netip.MustParseAddr("10.0.0.7")}
	for name, test := range map[string]struct {
		resident docker.Resident
		port     string
		number   int
		want     string
		direct   bool
	}{
		"the first port, directly":             {near, "", 0, "10.0.0.7:80", true},
		"a name, directly":                     {near, "admin", 0, "10.0.0.7:81", true},
		"a port that is not offered, directly": {near, "", 99, "10.0.0.7:99", true},
		"the first port of the host":           {docker.Resident{}, "", 0, "far:8000", false},
		"a number":                             {docker.Resident{}, "", 81, "far:8001", false},
		"a port that is not offered":           {docker.Resident{}, "", 99, "far:99", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, direct := s.reach(&resident{Resident: test.resident, service: service}, test.port, test.number)
			if got != test.want || direct != test.direct {
				t.Errorf("%s, %t; want %s, %t", got, direct, test.want, test.direct)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	redis := entry(t, "redis")
	redis.Ports[0].HostPort = 1234
	got := far(t).endpoint(&resident{service: redis, Resident: docker.Resident{Ports: []driver.Port{{Address: "127.0.0.1", Host: 1234, Container: 6379, Protocol: "tcp"}}}})
	want := Endpoint{
		Connection: "redis://far:1234", Inside: "redis://redis:6379", Variable: "REDIS_URL",
		Ports:   []EndpointPort{{Name: "redis", Address: "127.0.0.1", Host: 1234, Container: 6379, Protocol: "tcp"}},
		Outside: map[string]string{"REDIS_URL": "redis://far:1234", "REDIS_HOST": "far", "REDIS_PORT": "1234"},
		Within:  map[string]string{"REDIS_URL": "redis://redis:6379", "REDIS_HOST": "redis", "REDIS_PORT": "6379"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadFindsFoldersBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sandbox.yaml")
	content := "services:\n  a:\n    image: a\n    volumes: [{hostPath: conf, mountPath: /conf}, {hostPath: /etc, mountPath: /e}]\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v := f.Services[0].Volumes; v[0].HostPath != filepath.Join(dir, "conf") || v[1].HostPath != "/etc" {
		t.Errorf("volumes are %+v", v)
	}
}

// yamlBlock is a whole sandbox file in a document.
var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n((?:name|services):.*?)^```")

// What documents and examples show can be used.
func TestDocumentedFilesAreValid(t *testing.T) {
	if _, err := Load("../../examples/sandbox/sandbox.yaml", pipeline.Options{}); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Error("docs/sandbox.md shows no sandbox file")
	}
	for _, block := range blocks {
		path := filepath.Join(t.TempDir(), "sandbox.yaml")
		if err := os.WriteFile(path, block[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, pipeline.Options{}); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
	}
	entries, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	ids := known(entries)
	slices.Sort(ids)
	if list := strings.Join(ids[:len(ids)-1], ", ") + " and " + ids[len(ids)-1]; !strings.Contains(string(text), list) {
		t.Errorf("docs/sandbox.md does not list %s", list)
	}
}

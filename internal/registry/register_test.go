package registry

import (
	"fmt"
	"regexp"
	"testing"
)

// TestAttribution goes through the rules in their order: every registration
// also fits the next rules, with another component.
func TestAttribution(t *testing.T) {
	for _, test := range []struct {
		name string
		reg  Registration
		want string
	}{
		{"component id", Registration{
			ComponentID: "c1", Metadata: map[string]string{"component_id": "c2"}, V1IDs: []string{"c3"},
			ServiceID: "c4", HealthEndpoint: "http://localhost:8005/health", Role: Sink,
		}, "c1"},
		{"metadata", Registration{
			ComponentID: "other", Metadata: map[string]string{"component_id": "c2"}, V1IDs: []string{"c3"},
			ServiceID: "c4", HealthEndpoint: "http://localhost:8005/health", Role: Sink,
		}, "c2"},
		{"v1 id", Registration{
			V1IDs: []string{"other", "c3"}, ServiceID: "c4", HealthEndpoint: "http://localhost:8005/health", Role: Sink,
		}, "c3"},
		{"service id", Registration{
			ServiceID: "c4", HealthEndpoint: "http://localhost:8005/health", Role: Sink,
		}, "c4"},
		{"health port", Registration{
			ServiceID: "uuid", HealthEndpoint: "http://localhost:8005/health", Role: Sink,
		}, "c5"},
		{"health port without a scheme", Registration{HealthEndpoint: "localhost:8005", Role: Sink}, "c5"},
		{"health port alone", Registration{HealthEndpoint: ":8005"}, "c5"},
		{"health port, v6", Registration{HealthEndpoint: "http://[::1]:8005/health"}, "c5"},
		{"the only one of its role", Registration{
			ServiceID: "uuid", HealthEndpoint: "http://localhost:9999/health", Role: Sink,
		}, "c6"},
		{"two of that role", Registration{ServiceID: "uuid", Role: Source}, "uuid"},
		{"nothing fits", Registration{ServiceID: "uuid", HealthEndpoint: "nonsense:port:x"}, "uuid"},
		{"a component of nobody's", Registration{ComponentID: "other"}, "other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := New(Options{})
			for i, role := range []Role{Source, Source, Source, Processor, Processor, Sink} {
				r.Expect(Expected{ID: fmt.Sprint("c", i+1), Role: role, HealthPort: 8001 + i})
			}
			got := register(t, r, test.reg)
			if got.ID != test.want {
				t.Errorf("attributed to %s, want %s", got.ID, test.want)
			}
			same(t, "list", ids(r.List(Filter{})), []string{test.want})
		})
	}
}

func TestMadeUpIDs(t *testing.T) {
	r := New(Options{})
	seen := map[string]bool{}
	for range 100 {
		id := register(t, r, Registration{Role: Source}).ID
		if !regexp.MustCompile(`^source-[a-z2-7]{6}$`).MatchString(id) || seen[id] {
			t.Fatalf("made up %q", id)
		}
		seen[id] = true
	}
	if id := register(t, r, Registration{}).ID; !regexp.MustCompile(`^service-`).MatchString(id) {
		t.Errorf("made up %q", id)
	}
}

func TestReregistrationReplaces(t *testing.T) {
	r := New(Options{})
	first := register(t, r, Registration{ServiceID: "a", Role: Source, Outputs: []string{"x"}, MaxInflight: 5, Name: "A"})
	beat(t, r, "a", Beat{Metrics: map[string]float64{"n": 1}})
	second := register(t, r, Registration{ServiceID: "a", Role: Processor})
	if second.Role != Processor || second.Outputs != nil || second.MaxInflight != 0 || second.Name != "" || second.Metrics != nil {
		t.Errorf("left over: %+v", second)
	}
	if second.Revision <= first.Revision || !second.FirstSeen.Equal(first.FirstSeen) {
		t.Errorf("first %+v, second %+v", first, second)
	}
	same(t, "list", ids(r.List(Filter{})), []string{"a"})
}

// A client may ignore the id it is given and go on under its own.
func TestAliases(t *testing.T) {
	r := New(Options{})
	r.Expect(Expected{ID: "sink", Role: Sink})
	beat(t, r, "uuid", Beat{}) // before it registers: adopted
	if got := register(t, r, Registration{ServiceID: "uuid", Role: Sink}); got.ID != "sink" {
		t.Fatalf("attributed to %s", got.ID)
	}
	same(t, "the adopted one is the same service", ids(r.List(Filter{})), []string{"sink"})
	if !beat(t, r, "uuid", Beat{Metrics: map[string]float64{"n": 1}}) {
		t.Error("uuid is not known")
	}
	if got := get(t, r, "uuid"); got.ID != "sink" || got.Metrics["n"] != 1 {
		t.Errorf("uuid leads to %+v", got)
	}
	if got := register(t, r, Registration{ServiceID: "uuid", Role: Sink}); got.ID != "sink" {
		t.Errorf("registered again as %s", got.ID)
	}
	r.Expect(Expected{ID: "other", Role: Sink})
	if got := register(t, r, Registration{ServiceID: "uuid", Role: Sink}); got.ID != "other" {
		t.Errorf("with two of a kind that share a name, the second is %s", got.ID)
	}
	beat(t, r, "other", Beat{})
	same(t, "list", ids(r.List(Filter{})), []string{"other", "sink"})
}

func TestAliasNeverShadowsAComponent(t *testing.T) {
	r := New(Options{})
	r.Expect(Expected{ID: "a"})
	r.Expect(Expected{ID: "b"})
	register(t, r, Registration{ComponentID: "b", ServiceID: "a"})
	beat(t, r, "a", Beat{Metrics: map[string]float64{"n": 1}})
	if got := get(t, r, "a"); got.ID != "a" || !got.Adopted {
		t.Errorf("a's heartbeat went to %+v", got)
	}
}

func TestAliasesAreBounded(t *testing.T) {
	r := New(Options{})
	for i := range 100 {
		r.Expect(Expected{ID: "s", Role: Sink})
		register(t, r, Registration{ServiceID: fmt.Sprint("uuid-", i), Role: Sink})
	}
	if len(r.aliases) != maxAliases || len(r.records) != 1 {
		t.Errorf("%d aliases, %d records", len(r.aliases), len(r.records))
	}
	if _, ok := r.Get("uuid-99"); !ok {
		t.Error("the newest alias is forgotten")
	}
}

// In containers several may use one number for their ports: then the number says nothing.
func TestOnePortOfSeveral(t *testing.T) {
	r := New(Options{})
	for id, role := range map[string]Role{"a": Source, "b": Processor, "c": Sink, "d": Sink} {
		if _, err := r.Expect(Expected{ID: id, Role: role, HealthPort: 8088}); err != nil {
			t.Fatal(err)
		}
	}
	for role, want := range map[Role]string{Source: "a", Processor: "b"} {
		got, err := r.Register(Registration{HealthEndpoint: "http://localhost:8088/health", Role: role})
		if err != nil || got.ID != want {
			t.Errorf("the %s was attributed to %s, %v; want %s", role, got.ID, err, want)
		}
	}
	got, err := r.Register(Registration{HealthEndpoint: "http://localhost:8088/health", Role: Sink})
	if err != nil || got.ID == "c" || got.ID == "d" {
		t.Errorf("a sink that may be either was attributed to %s, %v", got.ID, err)
	}
}

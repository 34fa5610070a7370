package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse: whatever a file holds, reading it ends, without a panic, in either
// a pipeline or problems that say something, and twice in the same.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"testdata/ttp-pipeline.yaml", "testdata/full.yaml"} {
		source, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source)
	}
	cases, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		read := func() (*Pipeline, Problems, error) {
			return Parse("flow.yml", "/nonexistent", source, Options{Environ: []string{"A=b"}})
		}
		p, warnings, err := read()
		q, again, err2 := read()
		if !reflect.DeepEqual(p, q) || !reflect.DeepEqual(warnings, again) || !reflect.DeepEqual(err, err2) {
			t.Fatal("the same file was read in two ways")
		}
		if (p == nil) != (err != nil) {
			t.Fatalf("pipeline %v with error %v", p, err)
		}
		if err == nil {
			checkUsable(t, p)
			return
		}
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%T is not Problems", err)
		}
		for _, problem := range problems {
			if problem.Text == "" || problem.Line < 0 || problem.Warning {
				t.Errorf("%+v", problem)
			}
		}
	})
}

// checkUsable checks what the rest of flowctl relies on.
func checkUsable(t *testing.T, p *Pipeline) {
	seen := map[string]bool{}
	for i := range p.Components {
		c := &p.Components[i]
		if !safeName.MatchString(c.ID) || seen[c.ID] {
			t.Errorf("id %q", c.ID)
		}
		seen[c.ID] = true
		for _, v := range c.Env {
			Expand(v.Value, func(id, port string) string {
				target, known := p.Component(id)
				if !known {
					t.Fatalf("reference to %q", id)
				}
				if _, known := target.Port(port); !known {
					t.Fatalf("reference to port %q of %q", port, id)
				}
				return ""
			})
		}
	}
	if len(p.Components) == 0 || len(p.cycles()) > 0 || !safeName.MatchString(p.Name) {
		t.Errorf("%d components, cycles %v, name %q", len(p.Components), p.cycles(), p.Name)
	}
}

// FuzzParseSandbox is the same for sandbox files; what they refer to can be replaced.
func FuzzParseSandbox(f *testing.F) {
	f.Add([]byte("name: x\nservices:\n  redis:\n  a: {image: a, ports: [1, {name: p, containerPort: 2, hostPort: 0}], env: {A: '${host}:${port.p}'}, connection: 'x${env.A}', depends_on: [redis]}\n"))
	f.Add([]byte("services: {a: {image: a, env: {A: '${env.A}${env.A}${env.A}${env.A}${env.A}${env.A}${env.A}${env.A}'}, connection: '${env.A}'}}\n"))
	f.Add([]byte("services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b, depends_on: [a], stop: {grace: 1}, health_check: {tcp: {}}}\n"))
	f.Fuzz(func(t *testing.T, source []byte) {
		s, err := ParseSandbox("sandbox.yaml", "/", source, Options{Environ: []string{"A=b"}}, []Service{redisEntry})
		var problems Problems
		switch {
		case err != nil && (!errors.As(err, &problems) || problems.Error() == ""):
			t.Errorf("%q: the error is %v", source, err)
		case err == nil:
			for _, v := range s.Services {
				v.Refer(v.Connection, "h", func(Port) string { return "1" })
			}
		}
	})
}

package compose

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// parse reads a pipeline in /pipe that must be fine.
func parse(t *testing.T, spec string) *pipeline.Pipeline {
	t.Helper()
	source := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: p}\nspec:\n" + spec
	p, _, err := pipeline.Parse("flow.yml", "/pipe", []byte(source), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// write translates a pipeline that can be, and returns the file with its text.
func write(t *testing.T, p *pipeline.Pipeline, opts Options) (*File, string) {
	t.Helper()
	f, err := New(p, opts)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := f.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return f, b.String()
}

// TestFiles compares translations with golden files. No secret is in any of them,
// and the same pipeline gives the same bytes.
func TestFiles(t *testing.T) {
	for name, test := range map[string]struct {
		path string
		opts Options
	}{
		"mixed": {"../plan/testdata/mixed.yaml", Options{}},
		"ttp":   {"../pipeline/testdata/ttp-pipeline.yaml", Options{Prefix: "Blue", Registry: "registry.example:5000/team/", Version: "v1.2.3", StartInterval: 500 * time.Millisecond}},
		"words": {"testdata/words.yaml", Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := pipeline.Load(test.path, pipeline.Options{})
			if err != nil {
				t.Fatal(err)
			}
			dir := p.Dir
			p.File, p.Dir = filepath.Base(test.path), "/pipe"
			f, got := write(t, p, test.opts)
			for range 20 {
				if _, again := write(t, p, test.opts); again != got {
					t.Fatalf("the same pipeline gives another file:\n%s", cmp.Diff(got, again))
				}
			}
			for _, l := range f.Losses {
				got += l.String() + "\n"
			}
			for _, hidden := range []string{"canary", dir} {
				if i := strings.Index(got, hidden); i >= 0 {
					t.Errorf("%s is in the file: …%.80s", hidden, got[max(0, i-40):])
				}
			}
			golden := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOnlyProcesses(t *testing.T) {
	_, err := New(parse(t, "  sinks: [{id: a, binary: ./a, driver: process}]\n"), Options{})
	if want := "spec: no component runs in a container"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestWithoutImage: what a plan refuses is the file's problem.
func TestWithoutImage(t *testing.T) {
	_, err := New(parse(t, "  sinks: [{id: a, binary: ./a}]\n"), Options{})
	var problems pipeline.Problems
	if !errors.As(err, &problems) || !strings.Contains(problems.Error(), `"a" cannot run in a container: it has no image`) {
		t.Errorf("error %v", err)
	}
}

func TestRegistry(t *testing.T) {
	for name, want := range map[string]string{
		"redis":               "r.example/x/redis",
		"team/redis:7":        "r.example/x/team/redis:7",
		"localhost/redis":     "localhost/redis",
		"localhost:5000/a":    "localhost:5000/a",
		"quay.io/team/redis":  "quay.io/team/redis",
		"redis:7.2":           "r.example/x/redis:7.2",
		"redis@sha256:abc":    "r.example/x/redis@sha256:abc",
		"localhosts/redis":    "r.example/x/localhosts/redis",
		"docker.io/library/a": "docker.io/library/a",
	} {
		tr := translator{opts: Options{Registry: "r.example/x"}}
		if got := tr.image(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
}

// TestOneLine: what is told of a file stays in its comment.
func TestOneLine(t *testing.T) {
	p := parse(t, "  sinks: [{id: a, image: x, driver: container, probe: {tcp: {port: 1}}, volumes: [{name: mine, mountPath: /opt/flowctl/}]}]\n")
	p.File = "a\nname: other\x01\u2028.yml"
	f, text := write(t, p, Options{})
	if !strings.HasPrefix(text, "# A Compose file that `flowctl translate` has made of a name: other .yml.\n") {
		t.Errorf("%.200q", text)
	}
	if !slices.ContainsFunc(f.Losses, func(l Loss) bool {
		return l.Component == "a" && strings.Contains(l.Text, "its own volume at /opt/flowctl")
	}) {
		t.Errorf("nothing is told of the volume that cannot be seen: %v", f.Losses)
	}
}

// TestPrefix: two copies have nothing in common but their images and folders.
func TestPrefix(t *testing.T) {
	p := parse(t, "  driver: container\n  sinks: [{id: a, image: x, ports: [80], volumes: [{name: d, mountPath: /d}]}]\n")
	f, text := write(t, p, Options{Prefix: "Blue.1"})
	if f.Project != "blue-1-p" || !strings.Contains(text, "\nname: blue-1-p\n") || !strings.Contains(text, "    name: Blue.1-p_d\n") {
		t.Errorf("project %s\n%s", f.Project, text)
	}
	told := func(f *File) bool {
		return slices.ContainsFunc(f.Losses, func(l Loss) bool { return strings.Contains(l.Text, "of two copies only one") })
	}
	plain, _ := write(t, p, Options{})
	if !told(f) || told(plain) {
		t.Errorf("the ports that two copies cannot both have: told %v with a prefix, %v without", told(f), told(plain))
	}
}

// TestPace: however often is asked, it takes as long until somebody is unhealthy.
func TestPace(t *testing.T) {
	for _, test := range []struct {
		interval, start time.Duration
		threshold       int
		want            time.Duration
		retries         int
	}{
		{10 * time.Second, 0, 3, 2 * time.Second, 15},
		{7 * time.Second, 0, 1, 2 * time.Second, 4},
		{time.Second, 0, 3, time.Second, 3},
		{10 * time.Second, time.Second, 3, 10 * time.Second, 3},
	} {
		tr := translator{opts: Options{StartInterval: test.start}}
		interval, retries := tr.pace(&pipeline.Probe{Interval: test.interval, FailureThreshold: test.threshold})
		if interval != test.want || retries != test.retries {
			t.Errorf("%+v: every %v, %d times", test, interval, retries)
		}
	}
}

func TestNotUTF8(t *testing.T) {
	p := parse(t, "  sinks: [{id: a, image: x, driver: container, env: {A: b}}]\n")
	p.Components[0].Env[0].Value = "\xff"
	f, err := New(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := f.WriteTo(&b); err == nil || !strings.Contains(err.Error(), "UTF-8") || b.Len() > 0 {
		t.Errorf("error %v after %d bytes", err, b.Len())
	}
}

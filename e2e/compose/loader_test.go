package compose_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/compose"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// load reads a Compose file as the Compose program does. Variables are set as the
// file wants them.
func load(t *testing.T, f *compose.File) *types.Project {
	t.Helper()
	var text bytes.Buffer
	if _, err := f.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	env := types.Mapping{}
	for _, s := range f.Secrets {
		env[s.Variable] = "the value of " + s.Variable
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: t.TempDir(), Environment: env,
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text.Bytes()}},
	}, func(o *loader.Options) { o.SetProjectName(f.Project, false) })
	if err != nil {
		t.Fatalf("Compose's loader: %v\n%s", err, text.String())
	}
	return project
}

// head begins a pipeline of containers.
const head = "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: p}\nspec:\n  driver: container\n"

// TestLoaderReadsWhatWasMeant: no value means something else to Compose.
func TestLoaderReadsWhatWasMeant(t *testing.T) {
	values := map[string]string{
		"DOLLAR": "$HOME ${x} $$ $", "LINES": "a\n  b\n\tc\n", "QUOTES": `"it's" \n \`, "UNICODE": "grüße → 🚀 \u2028\u00a0\ufeff", "NUMBER": "0x10",
		"TRUTH": "yes", "NOTHING": "null", "EMPTY": "", "SPACES": "  x  ", "COMMENT": "a # b", "COLON": "a: b", "TIME": "12:30:45", "CONTROL": "\x01\x7f\u0085",
		"LIST": "[a, b]", "STAR": "*x &y !z", "DASH": "- a", "PERCENT": "%d @a `b`", "TILDE": "~", "INF": ".inf",
	}
	c := pipeline.Component{ID: "a.b_c-1", Role: pipeline.Sink, Image: "x", Driver: plan.Containers, Command: []string{"sh", "-c", "echo $$HOME \"${x}\""}}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		c.Env = append(c.Env, pipeline.EnvVar{Name: name, Value: values[name], Origin: "env"})
	}
	f, err := compose.New(&pipeline.Pipeline{Name: "p", File: "flow.yml", Dir: "/pipe", Components: []pipeline.Component{c}}, compose.Options{})
	if err != nil {
		t.Fatal(err)
	}
	service := load(t, f).Services["a.b_c-1"]
	got := map[string]string{}
	for name := range values {
		if value := service.Environment[name]; value != nil {
			got[name] = *value
		}
	}
	if diff := cmp.Diff(values, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(c.Command, []string(service.Command)); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
}

// TestLoaderReadsEveryFile: each pipeline file of the repository that can be
// translated is accepted, with all there is to say.
func TestLoaderReadsEveryFile(t *testing.T) {
	seen := 0
	for _, pattern := range []string{"../../examples/*.yaml", "../../internal/plan/testdata/*.yaml", "../../internal/pipeline/testdata/*.yaml", "../../internal/compose/testdata/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			p, _, err := pipeline.Load(path, pipeline.Options{Environ: []string{"TOKEN=canary-token", "SEED=canary-seed", "BUCKET=b"}})
			if err != nil {
				continue // what is wrong with them is the concern of others
			}
			for _, opts := range []compose.Options{{}, {Prefix: "Blue.1", Registry: "r.example:5000/x", StartInterval: 1e9, Version: "v1.2.3"}} {
				f, err := compose.New(p, opts)
				if err != nil {
					continue
				}
				seen++
				load(t, f)
			}
		}
	}
	if seen < 6 {
		t.Errorf("only %d files were translated", seen)
	}
}

// FuzzLoader: whatever pipeline can be translated, Compose's loader accepts.
func FuzzLoader(f *testing.F) {
	for _, path := range []string{"../../internal/plan/testdata/mixed.yaml", "../../internal/pipeline/testdata/ttp-pipeline.yaml", "../../internal/compose/testdata/words.yaml"} {
		source, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source)
	}
	f.Add([]byte(head + "  sinks: [{id: 'no', image: 'a b', ports: [{containerPort: 1, hostPort: 0, hostIP: '::1'}, 2], volumes: [{name: x, mountPath: /x}]}, {id: '1.5', image: y}]\n"))
	f.Fuzz(func(t *testing.T, source []byte) {
		p, _, err := pipeline.Parse("flow.yml", "/pipe", source, pipeline.Options{})
		if err != nil {
			return
		}
		file, err := compose.New(p, compose.Options{})
		var problems pipeline.Problems
		if errors.As(err, &problems) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		load(t, file)
	})
}

// FuzzValues: whatever a value is, Compose reads exactly that, wherever it stands.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"", "$HOME ${x:-y} $$", "a\n  b\n", "yes", "0x10", "~", "# no", "\u2028\ufeff\u0085", "[a, b]: *c", `"\'`, "😀", "<<", "="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return
		}
		c := pipeline.Component{ID: "a", Role: pipeline.Sink, Image: "x", Driver: plan.Containers, Command: []string{"run", s, "-" + s},
			Env:   []pipeline.EnvVar{{Name: "VALUE", Value: s, Origin: "env"}},
			Probe: &pipeline.Probe{Exec: []string{"check", s}, Interval: 1e9, Timeout: 1e9, FailureThreshold: 1, StartTimeout: 1e9},
		}
		file, err := compose.New(&pipeline.Pipeline{Name: "p", File: "flow.yml", Dir: "/pipe", Components: []pipeline.Component{c}}, compose.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(file.Secrets) > 0 {
			return // the value is not in the file
		}
		service := load(t, file).Services["a"]
		if got := service.Environment["VALUE"]; got == nil || *got != s {
			t.Errorf("variable %q", s)
		}
		if diff := cmp.Diff(c.Command, []string(service.Command)); diff != "" {
			t.Errorf("command of %q (-want +got):\n%s", s, diff)
		}
		if diff := cmp.Diff([]string{"CMD", "check", s}, []string(service.HealthCheck.Test)); diff != "" {
			t.Errorf("health check of %q (-want +got):\n%s", s, diff)
		}
	})
}

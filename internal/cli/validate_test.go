package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

const goodFile = `apiVersion: flowctl/v1
kind: Pipeline
metadata: {name: p}
spec:
  sources: [{id: a, binary: ./a, env: {API_KEY: canary, N: "10"}}]
  sinks: [{id: b, binary: ./b}]
`

// invocation is one command line in a folder of its own: file name to content.
type invocation struct {
	files map[string]string
	args  []string
	tty   bool
	env   []string
}

// run returns what the command printed and its exit code; the folder is shown as DIR.
func (i invocation) run(t *testing.T) (out, errs string, code int) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range i.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := make([]string, len(i.args))
	for n, arg := range i.args {
		args[n] = strings.ReplaceAll(arg, "DIR", dir)
	}
	var stdout, stderr bytes.Buffer
	a := &app{In: strings.NewReader(""), Out: &stdout, Err: &stderr, OutTTY: i.tty, Env: i.env}
	code = a.main(context.Background(), args)
	return strings.ReplaceAll(stdout.String(), dir, "DIR"), strings.ReplaceAll(stderr.String(), dir, "DIR"), code
}

func TestValidate(t *testing.T) {
	bad := strings.Replace(goodFile, "binary: ./b", "binray: ./b", 1)
	image := strings.Replace(goodFile, "binary: ./b", "image: b", 1)
	old := strings.Replace(goodFile, "flowctl/v1", "v1", 1)
	files := map[string]string{"good.yml": goodFile, "bad.yml": bad, "image.yml": image, "old.yml": old}
	unknown := "DIR/bad.yml:6:19: spec.sinks[0].binray: unknown field (did you mean \"binary\"?)\n"
	for _, c := range []struct {
		name, out, errs string
		args            []string
		code            int
	}{
		{name: "good", args: []string{"DIR/good.yml"}, out: "DIR/good.yml: ok (2 components)\n"},
		{name: "bad", args: []string{"DIR/bad.yml"}, errs: unknown, code: 2},
		{name: "both", args: []string{"DIR/bad.yml", "DIR/good.yml"}, out: "DIR/good.yml: ok (2 components)\n", errs: unknown, code: 2},
		{name: "warning", args: []string{"DIR/old.yml"}, out: "DIR/old.yml: ok (2 components)\n",
			errs: "DIR/old.yml:1:13: warning: apiVersion: \"v1\" is an older spelling of \"flowctl/v1\" (write \"flowctl/v1\")\n"},
		{name: "not for processes", args: []string{"DIR/image.yml"}, code: 2,
			errs: "DIR/image.yml:6:11: spec.sinks[0]: \"b\" cannot run as a process: it has an image, but no binary, command or type (write `driver: container` for it, or use --orchestrator container for all)\n"},
		{name: "missing", args: []string{"DIR/none.yml"}, errs: "DIR/none.yml: there is no such file\n", code: 2},
		{name: "default file", errs: "flow.yml: there is no such file\n", code: 2},
	} {
		out, errs, code := invocation{files: files, args: append([]string{"validate"}, c.args...)}.run(t)
		// How problems look beyond their first line is the terminal's affair.
		if out != c.out || !containsLines(errs, c.errs) || code != c.code {
			t.Errorf("%s: exit code %d\nstdout %s\nstderr %s", c.name, code, out, errs)
		}
	}
}

// containsLines reports whether text has each line of want.
func containsLines(text, want string) bool {
	for line := range strings.Lines(want) {
		if !strings.Contains(text, line) {
			return false
		}
	}
	return want != "" || text == ""
}

func TestValidateAsData(t *testing.T) {
	files := map[string]string{"good.yml": goodFile, "bad.yml": strings.ReplaceAll(goodFile, "binary", "binray")}
	out, _, code := invocation{files: files, args: []string{"validate", "DIR/good.yml", "DIR/bad.yml", "-o", "json"}}.run(t)
	var problems []pipeline.Problem
	if err := json.Unmarshal([]byte(out), &problems); err != nil || code != 2 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	if len(problems) != 2 || problems[0].Field != "spec.sources[0].binray" || problems[0].Line != 5 || problems[0].Fix == "" {
		t.Errorf("%+v", problems)
	}
	out, _, code = invocation{files: files, args: []string{"validate", "DIR/good.yml", "-o", "json"}}.run(t)
	if out != "[]\n" || code != 0 {
		t.Errorf("no problems are %q with exit code %d", out, code)
	}
	if _, _, code = (invocation{files: files, args: []string{"validate", "DIR/good.yml", "-o", "xml"}}).run(t); code != 2 {
		t.Errorf("exit code %d for an unknown format", code)
	}
	if _, _, code = (invocation{files: files, args: []string{"validate", "DIR/good.yml", "--orchestrator", "docker"}}).run(t); code != 2 {
		t.Errorf("exit code %d for an unknown orchestrator", code)
	}
}

func TestWarningsOnATerminal(t *testing.T) {
	files := map[string]string{"old.yml": strings.Replace(goodFile, "flowctl/v1", "v1", 1)}
	_, errs, _ := invocation{files: files, args: []string{"validate", "DIR/old.yml"}, tty: true}.run(t)
	if want := "    1 | apiVersion: v1\n      |             ^\n"; !strings.HasSuffix(errs, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", errs, want)
	}
}

func TestPlan(t *testing.T) {
	files := map[string]string{"flow.yml": goodFile}
	run := func(args ...string) (string, int) {
		out, errs, code := invocation{files: files, args: append([]string{"plan", "DIR/flow.yml"}, args...), env: []string{"OUTER=o"}}.run(t)
		if code == 0 && errs != "" {
			t.Errorf("%v: %s", args, errs)
		}
		return out, code
	}
	out, code := run()
	for _, want := range []string{"control plane 127.0.0.1:8080", "Step 2\n  b (sink), waits until a is ready (sinks wait for all sources)\n", "API_KEY=****"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, out)
		}
	}
	if strings.Contains(out, "OUTER") || strings.Contains(out, "canary") {
		t.Errorf("too much in\n%s", out)
	}
	if out, _ = run("--all", "--control-plane-port", "0"); !strings.Contains(out, "OUTER=o") || !strings.Contains(out, "FLOWCTL_ENDPOINT=<control plane>") {
		t.Errorf("not enough in\n%s", out)
	}
	if _, code = run("--orchestrator", "docker"); code != 2 {
		t.Errorf("exit code %d for docker", code)
	}
	if _, code = run("more"); code != 2 {
		t.Errorf("exit code %d for two files", code)
	}
}

// TestPlanFormats: JSON and YAML say the same, text stays text.
func TestPlanFormats(t *testing.T) {
	files := map[string]string{"flow.yml": goodFile}
	asJSON, _, _ := invocation{files: files, args: []string{"plan", "DIR/flow.yml", "-o", "json"}}.run(t)
	asYAML, _, code := invocation{files: files, args: []string{"plan", "DIR/flow.yml", "-o", "yaml"}}.run(t)
	if code != 0 || strings.Contains(asJSON+asYAML, "canary") {
		t.Fatalf("exit code %d\n%s", code, asYAML)
	}
	type shape struct {
		Components []struct {
			ID         string
			WorkingDir string `json:"working_dir" yaml:"working_dir"`
			Env        []struct{ Name, Value, Origin string }
		}
	}
	var a, b shape
	if err := json.Unmarshal([]byte(asJSON), &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(asYAML), &b); err != nil {
		t.Fatal(err)
	}
	one, _ := json.Marshal(a)
	other, _ := json.Marshal(b)
	if string(one) != string(other) || a.Components[0].WorkingDir != "DIR" || len(a.Components[0].Env) < 10 {
		t.Errorf("JSON %s\nYAML %s", one, other)
	}
	if !strings.Contains(asYAML, `value: "10"`) {
		t.Errorf("text has become a number in\n%s", asYAML)
	}
}

func TestSchema(t *testing.T) {
	out, _, code := invocation{args: []string{"schema"}}.run(t)
	if code != 0 || !json.Valid([]byte(out)) || out != string(pipeline.Schema()) {
		t.Errorf("exit code %d, %.100s", code, out)
	}
	if _, _, code = (invocation{args: []string{"schema", "x"}}).run(t); code != 2 {
		t.Errorf("exit code %d for an argument", code)
	}
}

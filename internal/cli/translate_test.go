package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const boxes = `  driver: container
  sources: [{id: a, image: x, env: {API_KEY: canary}, probe: {tcp: {port: 80}}}]
  sinks: [{id: b, image: y, driver: process, binary: ./b}]
`

func TestTranslate(t *testing.T) {
	good, bad := file(t, boxes), file(t, "  driver: container\n  sinks: [{id: a, binary: ./a}]\n")
	processes := file(t, "  sinks: [{id: a, command: [echo, hello], registration: none}]\n")
	none := filepath.Join(t.TempDir(), "none", "compose.yaml")
	for _, test := range []struct {
		line string
		code int
		out  string
		err  string
	}{
		{"translate " + good, 0, "\nname: tiny\nservices:\n  flowctl:\n", "  - b: is a process, and not in this file\n"},
		{"translate -o docker-compose " + good, 0, `image: "withobsrvr/flowctl:latest"`, "  API_KEY: variable API_KEY of a\n"},
		{"translate --prefix blue --registry r.example:5000/team " + good, 0, "\nname: blue-tiny\n", "flowctl: what the translation does not say:\n"},
		{"translate --registry r.example:5000/team " + good, 0, `image: "r.example:5000/team/x"`, "API_KEY"},
		{"translate --start-interval 200ms " + good, 0, `start_interval: "200ms"`, "API_KEY"},
		{"translate -o local " + processes, 0, "#!/usr/bin/env bash\n", "there is no control plane"},
		{"translate " + bad, 2, "", `"a" cannot run in a container: it has no image`},
		{"translate " + processes, 2, "", `"a" cannot run in a container: it has no image`},
		{"translate -o local " + file(t, "  driver: process\n  sinks: [{id: a, image: x, driver: container}]\n"), 2, "", "no component runs as a process"},
		{"translate not-there.yaml", 2, "", "not-there.yaml: there is no such file"},
		{"translate a b", 2, "", "takes at most 1 argument"},
		{"translate -o nomad " + good, 2, "", `there is no translation to "nomad"; use compose, docker-compose or local`},
		{"translate -o local --prefix x " + processes, 2, "", "-o local has none"},
		{"translate --prefix -x " + good, 2, "", `--prefix "-x" cannot begin a name`},
		{"translate --registry https://x " + good, 2, "", `--registry "https://x" is no registry`},
		{"translate --start-interval 1ns " + good, 2, "", "--start-interval must be at least 1ms"},
		{"translate --to-file " + none + " " + good, 3, "", "flowctl: write " + none + ": "},
	} {
		t.Run(test.line, func(t *testing.T) {
			got := call(t, strings.Fields(test.line)...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			check(t, "stdout", got.out, test.out)
			check(t, "stderr", got.err, test.err)
			if strings.Contains(got.out+got.err, "canary") {
				t.Errorf("a secret is told:\n%s%s", got.out, got.err)
			}
		})
	}
}

// TestTranslateToFile: the file is replaced as a whole, or stays as it was.
func TestTranslateToFile(t *testing.T) {
	dir := t.TempDir()
	good := file(t, boxes)
	want := call(t, "translate", good).out
	for _, test := range []struct {
		name, output, source, begins string
		mode                         os.FileMode
	}{
		{"compose.yaml", "compose", good, want, 0o644},
		{"p.sh", "local", file(t, "  sinks: [{id: a, command: [echo], registration: none}]\n"), "#!/usr/bin/env bash\n", 0o755},
	} {
		path := filepath.Join(dir, test.name)
		if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := call(t, "translate", "-o", test.output, "--to-file", path, file(t, "  sinks: [{id: a}]\n")); got.code != 2 || read(t, path) != "before" {
			t.Errorf("%s: exit code %d for a wrong pipeline, and the file has %q", test.name, got.code, read(t, path))
		}
		got := call(t, "translate", "-o", test.output, "--to-file", path, test.source)
		if got.code != 0 || got.out != "" || !strings.HasPrefix(read(t, path), test.begins) {
			t.Errorf("%s: exit code %d, stdout %q, and the file has %.60q", test.name, got.code, got.out, read(t, path))
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != test.mode {
			t.Errorf("%s: mode %v, want %v (%v)", test.name, info.Mode(), test.mode, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files are in the folder, want 2 (%v)", len(entries), err)
	}
}

// read returns a file's content.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

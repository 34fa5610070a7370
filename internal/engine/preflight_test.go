package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hold listens on a free port of this machine until the test ends.
func hold(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis.Addr().(*net.TCPAddr).Port
}

// me is how this test's process is named to people.
func me(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("pid %d (%s)", os.Getpid(), filepath.Base(self))
}

func TestPreflightTellsEverythingAtOnce(t *testing.T) {
	component, health, control := hold(t), hold(t), hold(t)
	p := load(t, fmt.Sprintf(`
  sources:
    - {id: a, command: [no-such-program-anywhere], registration: none}
    - {id: b, binary: ./not-built, registration: none}
    - {id: c, binary: ./pipeline.yaml, registration: none}
    - {id: d, command: [sh], working_dir: ./nowhere, registration: none}
    - {id: e, command: [sh], working_dir: ./pipeline.yaml, registration: none}
    - {id: f, binary: ./folder, registration: none}
    - {id: g, command: [sh], registration: none, health_port: %d, ports: [{containerPort: %d}]}
`, health, component))
	dir := filepath.Dir(p.File)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	opts := options(t, p)
	opts.ControlPlane.Port = control
	_, err := New(t.Context(), opts)
	var preflight *PreflightError
	if !errors.As(err, &preflight) {
		t.Fatalf("New = %v, want a PreflightError", err)
	}
	want := []string{
		fmt.Sprintf("the control plane cannot listen on port %d: it is held by %s; stop it, or choose another with --control-plane-port (0 takes a free one)", control, me(t)),
		`a: its program "no-such-program-anywhere" is not on the PATH`,
		"b: its program " + dir + "/not-built does not exist; has it been built?",
		"c: its program " + dir + "/pipeline.yaml is not executable (chmod +x makes it so)",
		"d: its working directory " + dir + "/nowhere does not exist",
		"e: its working directory " + dir + "/pipeline.yaml is a file",
		"f: its program " + dir + "/folder is a folder",
		fmt.Sprintf("g: port %d is held by %s; stop that program or give g another port", component, me(t)),
		fmt.Sprintf("g: port %d is held by %s; stop that program or give g another port", health, me(t)),
	}
	if diff := cmp.Diff(want, preflight.Problems); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Stat(opts.LogDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a log folder was made for a run that cannot be: %v", err)
	}
}

func TestPreflightErrorOfOneProblemIsOneSentence(t *testing.T) {
	one := &PreflightError{Problems: []string{"a: no"}}
	two := &PreflightError{Problems: []string{"a: no", "b: no"}}
	if got, want := one.Error(), "a: no"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := two.Error(), "2 things stand in the way, nothing was started:\n  - a: no\n  - b: no"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestALogFolderThatCannotBeMade(t *testing.T) {
	opts := options(t, load(t, "  sinks: [{id: say, command: [echo, hi], registration: none}]\n"))
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts.LogDir = filepath.Join(blocked, "logs")
	_, err := New(t.Context(), opts)
	var preflight *PreflightError
	if !errors.As(err, &preflight) || len(preflight.Problems) != 1 {
		t.Fatalf("New = %v, want a PreflightError about the log folder", err)
	}
}

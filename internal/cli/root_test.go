package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/supervisor"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guardian" { // flowctl's own program is this one here
		os.Exit(Main())
	}
	goleak.VerifyTestMain(m)
}

// called is how one command line ended.
type called struct {
	code     int
	out, err string
}

// call runs one command line with a state folder of its own.
func call(t *testing.T, args ...string) called {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{
		In: strings.NewReader(""), Out: &out, Err: &err,
		Env: []string{"PATH=" + os.Getenv("PATH"), "XDG_STATE_HOME=" + t.TempDir()},
	}
	code := a.main(t.Context(), args)
	return called{code, out.String(), err.String()}
}

// file writes a pipeline file and returns its path.
func file(t *testing.T, spec string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipeline.yaml")
	text := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: tiny}\nspec:\n" + spec
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	failed := &supervisor.FailedError{Component: "src", Reason: "exited with code 7"}
	for _, test := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing wrong", nil, 0},
		{"a component failed", &runFailedError{FailedError: failed}, 1},
		{"something else", errors.New("else"), 1},
		{"usage", usageError{errors.New("no such flag")}, 2},
		{"the file", pipeline.Problems{{Text: "wrong"}}, 2},
		{"the environment", environmentError{errors.New("nobody answers")}, 3},
		{"preflight", &engine.PreflightError{Problems: []string{"port taken"}}, 3},
		{"too late", timeoutError{errors.New("not within 1s")}, 4},
		{"Ctrl-C before ready", &interruptedError{signal: os.Interrupt}, 130},
		{"SIGTERM before ready", &interruptedError{signal: syscall.SIGTERM}, 143},
		{"a second SIGTERM", &interruptedError{signal: syscall.SIGTERM, forced: true}, 143},
		{"the terminal is gone", &interruptedError{signal: syscall.SIGHUP}, 129},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := exitCode(test.err); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
			if test.err == nil {
				return
			}
			if got := exitCode(fmt.Errorf("run it: %w", test.err)); got != test.want {
				t.Errorf("exit code %d when wrapped, want %d", got, test.want)
			}
		})
	}
}

// TestCommandLines is what people type: exit code, and a part of what is said
// to them on stdout and on stderr ("" there: nothing at all).
func TestCommandLines(t *testing.T) {
	good := file(t, "  sinks: [{id: hello, command: [echo, hello], registration: none}]\n")
	bad := file(t, "  sinks: [{id: hello, comand: [echo]}]\n")
	missing := file(t, "  sinks: [{id: hello, binary: ./not-built, registration: none}]\n")
	nobody := closedPort(t)
	for _, test := range []struct {
		line string
		code int
		out  string
		err  string
	}{
		{"version", 0, "flowctl dev (go", ""},
		{"version -o yaml", 0, "version: dev\ngo: go", ""},
		{"version -o xml", 2, "", `there is no output format "xml"; use table, json or yaml`},
		{"version now", 2, "", "See 'flowctl version --help'"},
		{"run --nope", 2, "", "unknown flag: --nope\nSee 'flowctl run --help'"},
		{"run --status-interval soon", 2, "", "See 'flowctl run --help'"},
		{"run " + good + " --status-interval 0s", 2, "", "must be longer than 0"},
		{"run " + good + " --orchestrator docker", 2, "", "it has no image"},
		{"run " + good + " --orchestrator dokcer", 2, "", `there is no orchestrator "dokcer"`},
		{"run not-there.yaml", 2, "", "not-there.yaml"},
		{"run " + bad, 2, "", `unknown field (did you mean "command"?)`},
		{"run " + missing + " --control-plane-port 0", 3, "", "not-built does not exist; has it been built?"},
		{"validate " + good, 0, good + ": ok (1 component)\n", ""},
		{"validate " + good + " " + bad, 2, good + ": ok", `spec.sinks[0].comand: unknown field`},
		{"validate " + bad + " -o json", 2, `"field": "spec.sinks[0].comand"`, "unknown field"},
		{"validate " + good + " -o json", 0, "[]\n", ""},
		{"plan " + good, 0, "hello (sink), waits for nothing", ""},
		{"plan " + good + " -o yaml --control-plane-port 0", 0, "control_plane: \"\"\n", ""},
		{"plan " + bad, 2, "", "unknown field"},
		{"schema", 0, `"$schema"`, ""},
		{"list -e " + nobody + " --wait=false", 3, "", nobody},
		{"help run", 0, "flowctl run [FILE] [flags]", ""},
		{"--help", 0, "Available Commands:", ""},
	} {
		t.Run(test.line, func(t *testing.T) {
			got := call(t, strings.Fields(test.line)...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			check(t, "stdout", got.out, test.out)
			check(t, "stderr", got.err, test.err)
		})
	}
}

// check wants text to contain part, and to be empty when part is.
func check(t *testing.T, where, text, part string) {
	t.Helper()
	if part == "" && text != "" || !strings.Contains(text, part) {
		t.Errorf("%s: %q, want %q in it", where, text, part)
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// TestEveryCommandHasExamplesThatExist keeps the help useful: each command says
// what it does, and its examples use flags that it has.
func TestEveryCommandHasExamplesThatExist(t *testing.T) {
	root := newRoot(&app{})
	for _, cmd := range root.Commands() {
		if cmd.Short == "" || cmd.Example == "" && !cmd.Hidden {
			t.Errorf("%s has no description or no example", cmd.Name())
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			if err := checkCommandLine(line); err != nil {
				t.Errorf("example of %s: %v", cmd.Name(), err)
			}
		}
	}
}

func TestOutputFormatsSayTheSame(t *testing.T) {
	path := file(t, "  sinks: [{id: hello, command: [echo, hello], registration: none}]\n")
	for _, line := range []string{"version", "plan " + path, "validate " + path} {
		var fromJSON, fromYAML any
		args := strings.Fields(line)
		if err := json.Unmarshal([]byte(call(t, append(args, "-o", "json")...).out), &fromJSON); err != nil {
			t.Errorf("%s -o json: %v", line, err)
		}
		if err := unmarshalYAML(call(t, append(args, "-o", "yaml")...).out, &fromYAML); err != nil {
			t.Errorf("%s -o yaml: %v", line, err)
		}
		if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
			t.Errorf("%s (-json +yaml):\n%s", line, diff)
		}
	}
}

//go:build linux

package e2e_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what comes out to the scripts")

// TestScripts runs testdata/*.txtar. Beside the usual commands there are
//
//	exits CODE PROGRAM ARG...  run a program that must end with this exit code
//	hold NAME                  listen on a free port until the script ends; its number becomes $NAME
//	connect NAME               the same with a port that a connection to somebody else goes out from
//
// and the variables FREE1, FREE2 and FREE3, free ports, and HOLDER, how flowctl
// names the one who holds a port.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		ContinueOnError:     true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			for i := range 3 {
				env.Setenv(fmt.Sprintf("FREE%d", i+1), strconv.Itoa(freePort(t)))
			}
			name, err := os.ReadFile("/proc/self/comm")
			if err != nil {
				return err
			}
			env.Setenv("HOLDER", fmt.Sprintf("pid %d (%s)", os.Getpid(), strings.TrimSpace(string(name))))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "hold": hold, "connect": connect},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("the exit code is %d, want %s", got, args[0])
	}
}

func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold NAME")
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { lis.Close() })
	ts.Setenv(args[0], strconv.Itoa(lis.Addr().(*net.TCPAddr).Port))
}

func connect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: connect NAME")
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { lis.Close() })
	conn, err := net.Dial("tcp", lis.Addr().String())
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	ts.Setenv(args[0], strconv.Itoa(conn.LocalAddr().(*net.TCPAddr).Port))
}

// Every command tells how it is used, by example.
func TestHelp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	out, _, code := s.command(t, "--help")
	_, list, found := strings.Cut(out, "Available Commands:\n")
	if code != 0 || !found {
		t.Fatalf("flowctl --help: exit code %d\n%s", code, out)
	}
	list, _, _ = strings.Cut(list, "\n\n")
	commands := []string{"server"} // hidden
	for line := range strings.Lines(list) {
		commands = append(commands, strings.Fields(line)[0])
	}
	for _, required := range []string{"list", "plan", "run", "schema", "validate", "version"} {
		if !strings.Contains("\n"+list, "\n  "+required+" ") {
			t.Errorf("flowctl --help does not list %s:\n%s", required, list)
		}
	}
	if strings.Contains(list, "server") {
		t.Errorf("flowctl --help lists the hidden server:\n%s", list)
	}
	for _, name := range commands {
		if name == "help" || name == "completion" {
			continue
		}
		out, _, code := s.command(t, name, "--help")
		if code != 0 || !strings.Contains(out, "\nExamples:\n") || !strings.Contains(out, "  flowctl "+name) {
			t.Errorf("flowctl %s --help: exit code %d, it must have examples:\n%s", name, code, out)
		}
	}
}

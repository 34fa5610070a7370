// Package operate_test operates real runs from outside, as people do from
// another terminal.
package operate_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 60 * time.Second

// bin is the folder of the binaries under test: flowctl and testcomponent.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "flowctl-operate-")
	if err == nil {
		bin = dir
		cmd := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "../../cmd/flowctl", "../testcomponent")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build what is to be tested: %v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bin)
		os.Exit(code)
	}))
}

// site is a user of flowctl, with folders of its own and a mark that every
// process of the test carries.
type site struct {
	t         *testing.T
	dir, mark string
	env       []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), mark: "FLOWCTLTEST_MARK=" + rand.Text()}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "FLOWCTL_") && name != "NO_COLOR" {
			s.env = append(s.env, kv)
		}
	}
	s.env = append(s.env, s.mark, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"HOME="+s.dir, "XDG_STATE_HOME="+filepath.Join(s.dir, "state"), "GORACE=atexit_sleep_ms=0")
	t.Cleanup(s.sweep)
	return s
}

// sweep stops what the test left running; nothing is to be left after that.
func (s *site) sweep() {
	var runs []struct {
		Run   string
		State string
	}
	if _, out, _ := s.try("ps", "-o", "json"); json.Unmarshal([]byte(out), &runs) == nil {
		for _, r := range runs {
			if r.State != "killed" {
				_, _, _ = s.try("stop", "--run", r.Run)
			}
		}
	}
	deadline := time.After(10 * time.Second)
	for {
		left := s.processes()
		if len(left) == 0 {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			for _, pid := range left {
				s.t.Errorf("process %d is left", pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
	}
}

// processes are the living processes that carry the mark.
func (s *site) processes() []int {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	var pids []int
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte(s.mark)) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		pids = append(pids, pid)
	}
	return pids
}

// file writes a pipeline file.
func (s *site) file(name, spec string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name+".yml")
	text := fmt.Sprintf("apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: %s}\nspec:\n%s", name, spec)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// try runs one command line to its end.
func (s *site) try(args ...string) (code int, out, errout string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "flowctl"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("flowctl %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// want runs a command line that must end with a code and say something.
func (s *site) want(code int, say string, args ...string) string {
	s.t.Helper()
	got, out, errout := s.try(args...)
	if got != code || !strings.Contains(out+errout, say) {
		s.t.Fatalf("flowctl %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, say, out, errout)
	}
	return out
}

// detach starts a run in the background, for as long as the test; wait is how
// long it is given to become ready.
func (s *site) detach(file string, wait string, args ...string) (code int, out, errout string) {
	s.t.Helper()
	return s.try(append([]string{"run", file, "-d", "--wait-timeout", wait, "--control-plane-port", "0",
		"--log-dir", filepath.Join(s.dir, "logs-"+filepath.Base(file))}, args...)...)
}

// component is one component as flowctl status shows it.
type component struct {
	ID, State, Reason string
	PID, Attempt      int
}

// await waits until a component is as wanted.
func (s *site) await(id string, wanted func(component) bool) component {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		var status struct{ Components []component }
		_, out, errout := s.try("status", id, "-o", "json")
		if json.Unmarshal([]byte(out), &status) == nil && len(status.Components) == 1 && wanted(status.Components[0]) {
			return status.Components[0]
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("%s is not as it should be: %s%s", id, out, errout)
		}
	}
}

func state(want string) func(component) bool {
	return func(c component) bool { return c.State == want }
}

// freePort is a port that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

// missing skips a test that needs what this machine has not; where everything
// is required, that fails it.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

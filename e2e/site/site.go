// Package site is where an end-to-end test runs the real flowctl: folders and
// ports of its own, and a mark that every process of the test carries, so that
// none is overlooked when it is left behind.
package site

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

// Patience bounds every wait: far beyond what a loaded machine needs.
const Patience = 60 * time.Second

// Main builds the packages into a folder, which it tells in bin, runs the tests
// and ends this process.
func Main(m *testing.M, bin *string, packages ...string) {
	dir, err := os.MkdirTemp("", "flowctl-test-")
	if err == nil {
		*bin = dir
		cmd := exec.Command("go", append([]string{"build", "-o", dir + string(filepath.Separator)}, packages...)...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		fmt.Fprintf(os.Stderr, "build what is to be tested: %v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// Site is one user of flowctl.
type Site struct {
	T testing.TB
	// Dir is its home and working directory.
	Dir string
	// Env is the environment of all that it starts, as KEY=value.
	Env       []string
	bin, mark string
}

// New returns a site whose programs are in bin. At the end of the test no process
// that was started there may live.
func New(t testing.TB, bin string) *Site {
	t.Helper()
	s := &Site{T: t, Dir: t.TempDir(), bin: bin, mark: "FLOWCTLTEST_MARK=" + rand.Text()}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "FLOWCTL_") && name != "NO_COLOR" {
			s.Env = append(s.Env, kv)
		}
	}
	s.Env = append(s.Env, s.mark, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"HOME="+s.Dir, "TMPDIR="+s.Dir, "XDG_STATE_HOME="+s.State(""), "GORACE=atexit_sleep_ms=0")
	t.Cleanup(s.sweep)
	return s
}

// State is a path in the state folder of its user; "" is that of the XDG variable.
func (s *Site) State(path string) string { return filepath.Join(s.Dir, "state", path) }

// sweep reports what is left, and kills it. What is about to end may end.
func (s *Site) sweep() {
	deadline := time.After(10 * time.Second)
	for {
		left := s.Processes()
		if len(left) == 0 {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond): // nobody tells of the end of other processes' children
		case <-deadline:
			for pid, command := range left {
				s.T.Errorf("left over: process %d: %s", pid, command)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
	}
}

// Processes are the living processes that were started here: their command lines by pid.
func (s *Site) Processes() map[int]string {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	found := make(map[int]string)
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte(s.mark)) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		found[pid] = string(bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
	}
	return found
}

// Write writes a file and returns its path.
func (s *Site) Write(name, content string) string {
	s.T.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.T.Fatal(err)
	}
	return path
}

// Pipeline writes the file of a pipeline with these components, which are YAML lists.
func (s *Site) Pipeline(name, spec string) string {
	s.T.Helper()
	return s.Write(name+".yml", fmt.Sprintf("apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: %s}\nspec:\n%s", name, spec))
}

// Command is a command line of flowctl's.
func (s *Site) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "flowctl"), args...)
	cmd.Dir, cmd.Env = s.Dir, s.Env
	return cmd
}

// Try runs one command line to its end.
func (s *Site) Try(args ...string) (code int, out, errout string) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "flowctl"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.Env, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.T.Fatalf("flowctl %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// Want runs a command line that must end with a code and say something, and returns all it says.
func (s *Site) Want(code int, say string, args ...string) string {
	s.T.Helper()
	got, out, errout := s.Try(args...)
	if got != code || !strings.Contains(out+errout, say) {
		s.T.Fatalf("flowctl %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, say, out, errout)
	}
	return out + errout
}

// JSON runs a command line with -o json that must succeed, and reads what it prints.
func (s *Site) JSON(into any, args ...string) {
	s.T.Helper()
	code, out, errout := s.Try(append(args, "-o", "json")...)
	if code != 0 || json.Unmarshal([]byte(out), into) != nil {
		s.T.Fatalf("flowctl %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errout)
	}
}

// Until asks again and again until something is so: nobody tells.
func (s *Site) Until(what string, so func() bool) {
	s.T.Helper()
	for deadline := time.After(Patience); !so(); {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			s.T.Fatalf("it never came: %s", what)
		}
	}
}

// FreePort is a port of the loopback that nobody listens on now.
func FreePort(t testing.TB) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

// Missing skips a test that needs what this machine has not; where everything is
// required, that fails it.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Package sandbox_test starts real services on a real Docker Engine, through the
// program that users have.
package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 2 * time.Minute

// The images, built of Debian packages.
const (
	redisImage    = "flowctl-test/redis:local"
	postgresImage = "flowctl-test/postgres:local"
)

// bin is the folder of the binary under test.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "flowctl-sandbox-")
	if err == nil {
		bin = dir
		cmd := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "../../cmd/flowctl")
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

// needs skips a test for lack of something, or fails it where nothing may lack.
func needs(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf("this test needs %s", what)
	}
	t.Skipf("this test needs %s", what)
}

// images is held while an image is looked for and built.
var images sync.Mutex

// image returns an image, and builds it when it is not there.
func image(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		needs(t, "the docker program")
	}
	if out, err := exec.Command("docker", "version").CombinedOutput(); err != nil {
		needs(t, "a Docker Engine: "+string(out))
	}
	images.Lock()
	defer images.Unlock()
	if exec.Command("docker", "image", "inspect", name).Run() == nil {
		return name
	}
	service, _, _ := strings.Cut(filepath.Base(name), ":")
	script := "../../scripts/build-sandbox-image.sh"
	if _, err := os.Stat(script); err != nil {
		needs(t, "the image "+name+" or "+script)
	}
	if out, err := exec.Command(script, service).CombinedOutput(); err != nil {
		needs(t, fmt.Sprintf("the image %s, which cannot be built here: %v\n%s", name, err, out))
	}
	return name
}

// site is a user of flowctl with a folder and a sandbox of the test's own, of which
// nothing may be left in the end.
type site struct {
	t         *testing.T
	dir, name string
	env       []string
	// images are removed in the end, when no container needs them any more.
	images []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), name: "test-" + strings.ToLower(rand.Text()[:8])}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "FLOWCTL_") && name != "NO_COLOR" {
			s.env = append(s.env, kv)
		}
	}
	s.env = append(s.env, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"HOME="+s.dir, "XDG_STATE_HOME="+filepath.Join(s.dir, "state"), "GORACE=atexit_sleep_ms=0")
	t.Cleanup(func() {
		s.run("sandbox", "stop", "--name", s.name, "--volumes")
		for kind, left := range map[string][]string{"containers": s.containers(), "networks": s.networks(), "volumes": s.volumes()} {
			if len(left) > 0 {
				t.Errorf("%s are left: %v", kind, left)
			}
		}
		for _, name := range s.images {
			_ = exec.Command("docker", "rmi", "--force", name).Run() // one may stand for two of them
		}
	})
	return s
}

// file writes the sandbox file, which names the site's sandbox.
func (s *site) file(services string) {
	s.t.Helper()
	content := "name: " + s.name + "\nservices:\n" + services
	if err := os.WriteFile(filepath.Join(s.dir, "sandbox.yaml"), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// redis is a service of the file: the catalogue's, of our image, at a free port.
const redis = "  redis:\n    image: " + redisImage + "\n    pull_policy: never\n    ports: [{containerPort: 6379, hostPort: 0}]\n"

// command is flowctl in the site's folder.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "flowctl"), args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

func (r result) String() string { return fmt.Sprintf("exit code %d\n%s%s", r.code, r.out, r.err) }

// run runs flowctl.
func (s *site) run(args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := s.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("flowctl %s: %v", strings.Join(args, " "), err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// want runs flowctl, which must end with code and print all of these.
func (s *site) want(code int, printed []string, args ...string) result {
	s.t.Helper()
	r := s.run(args...)
	if r.code != code {
		s.t.Fatalf("flowctl %s: want exit code %d: %v", strings.Join(args, " "), code, r)
	}
	said := strings.Join(strings.Fields(r.out+r.err), " ") // columns are as wide as they need
	for _, text := range printed {
		if !strings.Contains(said, text) {
			s.t.Errorf("flowctl %s does not say %q: %v", strings.Join(args, " "), text, r)
		}
	}
	return r
}

// service is what status tells of one.
type service struct {
	ID, State, Health, Connection, Container string
	OK                                       bool
}

// status is what flowctl says, whatever its exit code.
func (s *site) status() map[string]service {
	s.t.Helper()
	r := s.run("sandbox", "status", "--name", s.name, "-o", "json")
	var all []service
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		s.t.Fatalf("%v: %v", err, r)
	}
	byID := make(map[string]service)
	for _, v := range all {
		byID[v.ID] = v
	}
	return byID
}

// docker runs the docker program and returns the lines it printed.
func docker(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// containers, networks and volumes are what the engine has of the sandbox, by label or name.
func (s *site) containers() []string {
	s.t.Helper()
	return s.both("ps", "-a", "-q", "--no-trunc")
}

func (s *site) networks() []string {
	s.t.Helper()
	return s.both("network", "ls", "-q", "--no-trunc")
}

func (s *site) volumes() []string {
	s.t.Helper()
	return s.both("volume", "ls", "-q")
}

func (s *site) both(list ...string) []string {
	s.t.Helper()
	found := docker(s.t, append(list, "--filter", "label=flowctl.sandbox="+s.name)...)
	found = append(found, docker(s.t, append(list, "--filter", "name=flowctl-sandbox-"+s.name)...)...)
	slices.Sort(found)
	return slices.Compact(found)
}

// ask sends a command to the Redis of a connection string and returns its one answer.
func ask(t *testing.T, connection, command string) string {
	t.Helper()
	at, err := url.Parse(connection)
	if err != nil || at.Scheme != "redis" {
		t.Fatalf("%q is no connection string of Redis: %v", connection, err)
	}
	conn, err := net.DialTimeout("tcp", at.Host, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if strings.HasPrefix(line, "$") && line != "$-1\r\n" {
		line, err = reader.ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// interrupt runs flowctl until it has printed text, and sends it what Ctrl-C sends. It
// must end with 130 and say what becomes of what it has begun.
func (s *site) interrupt(text string, args ...string) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	told, buf := "", make([]byte, 4096)
	for !strings.Contains(told, text) {
		n, err := out.Read(buf)
		if err != nil {
			s.t.Fatalf("%v after %q", err, told)
		}
		told += string(buf[:n])
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(errs.String(), "What has been begun goes on") {
		s.t.Errorf("exit code %d: %s", code, errs.String())
	}
}

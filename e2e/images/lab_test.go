//go:build linux

package images_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 5 * time.Minute

// lab is what a test has on the engine: images under a prefix of its own,
// containers, volumes and networks with a label of its own. None of it is left.
type lab struct {
	t      *testing.T
	engine string // the engine's program, as for the scripts
	prefix string
	label  string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	prefix := "flowctl-e2e-" + strings.ToLower(rand.Text()[:10])
	l := &lab{t: t, engine: cmp.Or(os.Getenv("DOCKER"), "docker"), prefix: prefix, label: "flowctl.test=" + prefix}
	if out, err := l.try("version"); err != nil {
		missing(t, "nobody answers '%s version': %v\n%s", l.engine, err, out)
	}
	t.Cleanup(l.sweep)
	return l
}

// missing skips a test that needs what this machine has not; where everything
// is required, that fails it.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// script runs one of scripts/ so that its images get the lab's prefix.
func (l *lab) script(name, tag string, args ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "scripts", name), args...)
	cmd.Env = append(os.Environ(), "PREFIX="+l.prefix, "TAG="+tag)
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	l.t.Logf("%s:\n%s", name, out)
	return string(out)
}

func (l *lab) image(name, tag string) string { return l.prefix + "/" + name + ":" + tag }

// try calls the engine's program.
func (l *lab) try(args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	said, err := exec.CommandContext(ctx, l.engine, args...).CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

func (l *lab) do(args ...string) string {
	l.t.Helper()
	out, err := l.try(args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", l.engine, strings.Join(args, " "), err, out)
	}
	return out
}

// once runs a container to its end.
func (l *lab) once(args ...string) (out string, err error) {
	return l.try(append([]string{"run", "--rm", "--label", l.label}, args...)...)
}

// sweep removes everything and sees to it that it is gone.
func (l *lab) sweep() {
	kinds := []struct{ name, list, remove string }{
		{"containers", "ps --all --quiet --filter label=" + l.label, "rm --force --volumes"},
		{"volumes", "volume ls --quiet --filter label=" + l.label, "volume rm"},
		{"networks", "network ls --quiet --filter label=" + l.label, "network rm"},
		{"images", "image ls --format {{.Repository}}:{{.Tag}} --filter reference=" + l.prefix + "/*", "image rm --force"},
		{"layers of images", "image ls --all --quiet --filter label=" + l.label, "image rm --force"},
	}
	for _, kind := range kinds {
		if there := strings.Fields(l.do(strings.Fields(kind.list)...)); len(there) > 0 && kind.name != "layers of images" {
			l.do(append(strings.Fields(kind.remove), there...)...)
		}
	}
	for _, kind := range kinds {
		if left := l.do(strings.Fields(kind.list)...); left != "" {
			l.t.Errorf("%s are left: %s", kind.name, left)
		}
	}
}

// container is one that runs in the background.
type container struct {
	*lab
	id string
}

// start starts a container.
func (l *lab) start(args ...string) *container {
	l.t.Helper()
	return &container{l, l.do(append([]string{"run", "--detach", "--label", l.label}, args...)...)}
}

// strict starts a container as a strict cluster would: nothing of its root file
// system can be written, and it has no capabilities.
func (l *lab) strict(args ...string) *container {
	l.t.Helper()
	return l.start(append([]string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}, args...)...)
}

// await waits until the container has printed a line that matches.
func (c *container) await(pattern string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.engine, "logs", "--follow", c.id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	line := regexp.MustCompile(pattern)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if line.Match(lines.Bytes()) {
			return
		}
	}
	c.t.Fatalf("no line matches %q in\n%s", pattern, c.do("logs", c.id))
}

// get asks the published port.
func (c *container) get(port, path string) string {
	c.t.Helper()
	address, _, _ := strings.Cut(c.do("port", c.id, port), "\n")
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

// healthy asks a component for its own verdict.
func (c *container) healthy(port string) {
	c.t.Helper()
	var report struct{ Status string }
	answer := c.get(port, "/health")
	if err := json.Unmarshal([]byte(answer), &report); err != nil || report.Status != "healthy" {
		c.t.Errorf("health on port %s is %s, want healthy", port, answer)
	}
}

// stop asks the container to end. The engine kills it after two seconds, which
// its exit code tells.
func (c *container) stop() {
	c.t.Helper()
	c.do("stop", "-t", "2", c.id)
	c.exited("0")
}

// exited waits for the container's end.
func (c *container) exited(want string) {
	c.t.Helper()
	if code := c.do("wait", c.id); code != want {
		c.t.Errorf("exit code %s, want %s; it printed\n%s", code, want, c.do("logs", "--tail", "20", c.id))
	}
}

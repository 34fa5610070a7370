package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

func TestMain(m *testing.M) {
	runVictim()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := cleanUp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

func TestDriver(t *testing.T) {
	d := open(t)
	drivertest.Run(t, drivertest.Host{
		Driver: d, Soon: soon,
		Spec: func(t *testing.T, env []string) driver.Spec {
			spec := component(t)
			spec.Env = env
			return spec
		},
		Alive: func(ref driver.Ref, pid int) bool {
			for _, p := range processes(t, ref) {
				if p.inside == pid {
					return true
				}
			}
			return false
		},
		Freeze: func(t *testing.T, ref driver.Ref) {
			found := processes(t, ref)
			if len(found) == 0 {
				needs(t, "an engine on this machine: its processes are not to be seen")
			}
			for _, p := range found {
				if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
					t.Error(err)
				}
			}
		},
	})
}

// soon is a bound for what an engine does at once; only a test that fails waits so long.
const soon = 30 * time.Second

// process is one of a container: its number on this machine, and inside.
type process struct{ pid, inside int }

// processes returns those of a container that live. Their groups bear its name.
func processes(t *testing.T, ref driver.Ref) []process {
	t.Helper()
	var found []process
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, path := range groups {
		group, _ := os.ReadFile(path)
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
		if !bytes.Contains(group, []byte(ref.Container)) {
			continue
		}
		var p process
		_, _ = fmt.Sscan(filepath.Base(filepath.Dir(path)), &p.pid)
		for line := range strings.Lines(string(status)) {
			if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
				fields := strings.Fields(numbers)
				_, _ = fmt.Sscan(fields[len(fields)-1], &p.inside)
			}
		}
		found = append(found, p)
	}
	return found
}

// needs skips a test for lack of something, or fails it where nothing may lack.
func needs(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf("this test needs %s", what)
	}
	t.Skipf("this test needs %s", what)
}

// engine connects to the engine of this machine.
func engine(t *testing.T) *Engine {
	t.Helper()
	e, err := Connect(os.Getenv)
	if err == nil {
		_, err = e.client.Ping(t.Context(), client.PingOptions{})
	}
	if err != nil {
		needs(t, "a Docker Engine: "+err.Error())
	}
	t.Cleanup(e.Close)
	return e
}

// open returns a driver with a run of its own. Nothing of it may be left in the end.
func open(t *testing.T) *Driver {
	t.Helper()
	return openOn(t, engine(t))
}

// newRun is the id of a run that never was.
func newRun() string { return "test-" + strings.ToLower(rand.Text()[:8]) }

func openOn(t *testing.T, e *Engine) *Driver {
	t.Helper()
	d := New(Options{Engine: e, Pipeline: "test", Run: newRun()})
	if _, err := d.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		containers, _, err := d.find(ctx, labelRun+"="+d.opts.Run)
		if err != nil || len(containers) > len(d.owed) && !d.doubt {
			t.Errorf("%d containers are left of %s (%v)", len(containers), d.opts.Run, err)
		}
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
		if containers, networks, err := d.find(ctx, labelRun+"="+d.opts.Run); err != nil || len(containers)+len(networks) > 0 {
			t.Errorf("after Close %v and %v are left of %s (%v)", containers, networks, d.opts.Run, err)
		}
	})
	return d
}

// component is a spec that runs the test program, with args for it.
func component(t *testing.T, args ...string) driver.Spec {
	t.Helper()
	return driver.Spec{
		Component: valid(t.Name()) + rand.Text()[:4], Args: append([]string{"/component"}, args...), StopGrace: 10 * time.Second,
		Container: &driver.Container{Image: image(t)},
	}
}

// built is the image of the test program, one for all tests.
var built struct {
	once sync.Once
	name string
	err  error
}

// image returns the name of the test program's image.
func image(t *testing.T) string {
	t.Helper()
	e := engine(t)
	built.once.Do(func() {
		name := "flowctl-drivertest:" + strings.ToLower(rand.Text()[:8])
		if built.err = build(t.Context(), e, name, t.TempDir()); built.err == nil {
			built.name = name
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.name
}

// build makes an image that holds nothing but the test program, and a file that is
// not executable.
func build(ctx context.Context, e *Engine, name, dir string) error {
	info, err := e.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return err
	}
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[info.Info.Architecture]
	program := filepath.Join(dir, "component")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, "./testdata/component")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the test program: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{{"component", 0o755, content}, {"plain", 0o644, []byte("no program\n")}, {"data/", 0o777, nil}} {
		if err := files.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content))}); err != nil {
			return err
		}
		if _, err := files.Write(f.content); err != nil {
			return err
		}
	}
	if err := files.Close(); err != nil {
		return err
	}
	imported, err := e.client.ImageImport(ctx, client.ImageImportSource{Source: &archive, SourceName: "-"}, name,
		client.ImageImportOptions{Changes: []string{"VOLUME /anonymous"}})
	if err != nil {
		return err
	}
	defer imported.Close()
	_, err = io.Copy(io.Discard, imported)
	return err
}

// cleanUp removes the image, and fails if a run of these tests has left something.
func cleanUp() error {
	if built.name == "" {
		return nil
	}
	e, err := Connect(os.Getenv)
	if err != nil {
		return err
	}
	defer e.Close()
	_, err = e.client.ImageRemove(context.Background(), built.name, client.ImageRemoveOptions{Force: true, PruneChildren: true})
	return err
}

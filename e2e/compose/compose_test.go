// Package compose_test holds translated pipelines to Compose's own loader, and to
// the Compose program on a real engine.
package compose_test

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
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// needs skips a test for lack of something, or fails it where nothing may lack.
func needs(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf("this test needs %s", what)
	}
	t.Skipf("this test needs %s", what)
}

// built are the programs of these tests, in one folder; a machine without an engine
// builds none.
var built struct {
	once   sync.Once
	folder string
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(built.folder)
	os.Exit(code)
}

// program is the path of flowctl, of testcomponent, or of the Compose program (cmd).
func program(t *testing.T, name string) string {
	t.Helper()
	built.once.Do(func() {
		if built.folder, built.err = os.MkdirTemp("", "flowctl-compose-"); built.err != nil {
			return
		}
		for _, what := range []struct{ folder, pkg string }{
			{"../..", "./cmd/flowctl"}, {"../..", "./e2e/testcomponent"}, {"program", "github.com/docker/compose/v5/cmd"},
		} {
			cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", built.folder+string(filepath.Separator), what.pkg)
			cmd.Dir, cmd.Env = what.folder, append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				built.err = fmt.Errorf("build %s: %w\n%s", what.pkg, err, out)
				return
			}
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.folder, name)
}

// site is a folder with a pipeline, and images of its own on the engine.
type site struct {
	t        *testing.T
	engine   *client.Client
	dir      string
	registry string // that nobody can reach: its images are here
	prefix   string
	env      []string
}

// newSite builds the images. Nothing of them, and of the project, is left in the end.
func newSite(t *testing.T) *site {
	t.Helper()
	engine, err := client.New(client.FromEnv)
	if err == nil {
		_, err = engine.Ping(t.Context(), client.PingOptions{})
	}
	if err != nil {
		needs(t, "a Docker Engine: "+err.Error())
	}
	t.Cleanup(func() { _ = engine.Close() })
	id := "t" + strings.ToLower(rand.Text()[:8])
	s := &site{t: t, engine: engine, dir: t.TempDir(), registry: "registry.invalid/" + id, prefix: id}
	// As flowctl's own image: no shell, and nobody of importance.
	s.image("withobsrvr/flowctl:latest", "flowctl", "USER 65532:65532")
	s.image("testcomponent", "testcomponent", "USER 1000:1000")
	return s
}

// image makes an image of one static program, which is its entrypoint.
func (s *site) image(name, programName string, changes ...string) {
	s.t.Helper()
	content, err := os.ReadFile(program(s.t, programName))
	if err != nil {
		s.t.Fatal(err)
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	path := "usr/local/bin/" + programName
	if err := files.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(content))}); err != nil {
		s.t.Fatal(err)
	}
	_, err = files.Write(content)
	if err == nil {
		err = files.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	name = s.registry + "/" + name
	imported, err := s.engine.ImageImport(s.t.Context(), client.ImageImportSource{Source: &archive, SourceName: "-"}, name,
		client.ImageImportOptions{Changes: append(changes, `ENTRYPOINT ["/`+path+`"]`)})
	if err != nil {
		s.t.Fatal(err)
	}
	defer imported.Close()
	if _, err := io.Copy(io.Discard, imported); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if _, err := s.engine.ImageRemove(context.Background(), name, client.ImageRemoveOptions{PruneChildren: true}); err != nil {
			s.t.Errorf("remove %s: %v", name, err)
		}
	})
}

// translate writes compose.yaml with the real program, and takes it down in the end.
func (s *site) translate(source string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "flow.yml"), []byte(source), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(program(s.t, "flowctl"), "translate", "-o", "compose", "--registry", s.registry, "--prefix", s.prefix, "--to-file", "compose.yaml")
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("flowctl translate: %v\n%s", err, out)
	}
	s.t.Cleanup(s.down)
}

// compose runs the Compose program.
func (s *site) compose(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // only a test that fails waits so long
	defer cancel()
	cmd := exec.CommandContext(ctx, program(s.t, "cmd"), append([]string{"--ansi", "never", "-f", "compose.yaml"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is compose, and must work.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, err := s.compose(s.t.Context(), args...)
	if err != nil {
		s.t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// down takes the project down, and checks that nothing is left of it.
func (s *site) down() {
	ctx := context.Background()
	if out, err := s.compose(ctx, "down", "--volumes", "--timeout", "5"); err != nil {
		s.t.Errorf("docker compose down: %v\n%s", err, out)
	}
	containers, err := s.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("name", s.prefix)})
	if err != nil || len(containers.Items) > 0 {
		s.t.Errorf("%d containers are left (%v)", len(containers.Items), err)
	}
	networks, err := s.engine.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("name", s.prefix)})
	if err != nil || len(networks.Items) > 0 {
		s.t.Errorf("%d networks are left (%v)", len(networks.Items), err)
	}
	volumes, err := s.engine.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("name", s.prefix)})
	if err != nil || len(volumes.Items) > 0 {
		s.t.Errorf("%d volumes are left (%v)", len(volumes.Items), err)
	}
}

//go:build linux

// Package containers_test runs pipelines in containers of a real Docker Engine,
// through the real flowctl.
package containers_test

import (
	"archive/tar"
	"bytes"
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

	"github.com/withobsrvr/flowctl/e2e/site"
)

// bin is the folder of flowctl.
var bin string

func TestMain(m *testing.M) { site.Main(m, &bin, "../../cmd/flowctl") }

// place is a site with an engine.
type place struct {
	*site.Site
	// pipeline is a name that nobody else has: what is of it is found by it.
	pipeline string
	// host is the engine's address, "" for the one that is found.
	host string
}

// newPlace returns a place on the machine's engine. At the end of the test nothing of
// its pipeline may be left there.
func newPlace(t *testing.T) *place {
	t.Helper()
	if out, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		site.Missing(t, "this test needs a Docker Engine and the docker program: %s (%v)", bytes.TrimSpace(out), err)
	}
	return newPlaceAt(t, "")
}

// newPlaceAt is newPlace on another engine.
func newPlaceAt(t *testing.T, host string) *place {
	t.Helper()
	p := &place{Site: site.New(t, bin), pipeline: "e2e-" + strings.ToLower(rand.Text()[:8]), host: host}
	if host != "" {
		p.Env = append(p.Env, "DOCKER_HOST="+host)
	}
	t.Cleanup(func() { p.wantNothing() })
	return p
}

// docker runs the docker program and returns what it prints.
func (p *place) docker(args ...string) string {
	p.T.Helper()
	return p.dockerWith(nil, args...)
}

func (p *place) dockerWith(in io.Reader, args ...string) string {
	p.T.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Stdin = in
	if p.host != "" {
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+p.host)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.T.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// things are the containers and networks of the pipeline, and its containers' volumes.
func (p *place) things() []string {
	p.T.Helper()
	filter := "label=flowctl.pipeline=" + p.pipeline
	return strings.Fields(p.docker("ps", "-aq", "--filter", filter) + " " + p.docker("network", "ls", "-q", "--filter", filter))
}

// wantNothing waits until nothing of the pipeline is on the engine: who removes it may
// be the guardian.
func (p *place) wantNothing() {
	p.T.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := p.things()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.T.Errorf("%v is left on the engine", left)
			p.docker("rm", "-f", left[0])
			return
		}
	}
}

// flow writes the pipeline's file. IMAGE in it is the test component's image.
func (p *place) flow(spec string) string {
	p.T.Helper()
	return p.Pipeline(p.pipeline, "  driver: container\n"+strings.ReplaceAll(spec, "IMAGE", image(p)))
}

// run starts a run of the pipeline.
func (p *place) run(file string, args ...string) *site.Process {
	p.T.Helper()
	return p.Start(append([]string{"run", file, "--control-plane-port", "0", "--log-dir", filepath.Join(p.Dir, "logs")}, args...)...)
}

// built are the images of the test component, by engine.
var built sync.Map

// image returns the name of an image that has nothing but the test component. It
// stays on the engine for the next time: it always has the same name and content.
func image(p *place) string {
	p.T.Helper()
	const name = "flowctl-e2e/component:local"
	once, _ := built.LoadOrStore(p.host, &sync.Once{})
	once.(*sync.Once).Do(func() {
		program := filepath.Join(p.T.TempDir(), "testcomponent")
		cmd := exec.Command("go", "build", "-trimpath", "-o", program, "../testcomponent")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.T.Fatalf("build the test component: %v\n%s", err, out)
		}
		content, err := os.ReadFile(program)
		if err != nil {
			p.T.Fatal(err)
		}
		var archive bytes.Buffer
		files := tar.NewWriter(&archive)
		_ = files.WriteHeader(&tar.Header{Name: "testcomponent", Mode: 0o755, Size: int64(len(content))})
		_, _ = files.Write(content)
		_ = files.WriteHeader(&tar.Header{Name: "data/", Mode: 0o777, Typeflag: tar.TypeDir})
		if err := files.Close(); err != nil {
			p.T.Fatal(err)
		}
		p.dockerWith(&archive, "import", "--change", `ENTRYPOINT ["/testcomponent"]`, "-", name)
	})
	return name
}

// status is what flowctl status tells of one component.
type status struct {
	ID, State, Reason, Container, Image, Digest string
	Attempt                                     int
}

func (p *place) status(id string) status {
	p.T.Helper()
	var told struct{ Components []status }
	p.JSON(&told, "status", id)
	return told.Components[0]
}

// component is one of the test component in a list of the file.
func component(id, extra string, args ...string) string {
	return fmt.Sprintf("    - {id: %s, image: IMAGE, pull_policy: never, args: [%s]%s}\n", id, strings.Join(args, ", "), extra)
}

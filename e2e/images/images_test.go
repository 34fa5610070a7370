//go:build linux

// Package images_test builds the container images with the scripts that users
// run, and runs them on a real engine.
package images_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// facts is what an image says of itself.
type facts struct {
	User       string
	Entrypoint []string
	Ports      []string
	Title      string
}

// images are those of docs/images.md, with bounds of their sizes in bytes.
var images = map[string]struct {
	facts
	limit int
}{
	"flowctl": {facts{"65532:65532", []string{"/usr/bin/flowctl"}, []string{"8080/tcp"}, "flowctl"}, 30e6},
	"stellar-live-source-datalake": {
		facts{"65532:65532", []string{"/usr/bin/stellar-live-source-datalake"}, []string{"50051/tcp", "8088/tcp"}, "stellar-live-source-datalake"}, 40e6,
	},
	"ttp-processor": {facts{"65532:65532", []string{"/usr/bin/ttp-processor"}, []string{"50052/tcp", "8089/tcp"}, "ttp-processor"}, 40e6},
	"consumer-app":  {facts{"65532:65532", []string{"node", "/app/dist/src/main.js"}, []string{"3000/tcp"}, "consumer-app"}, 280e6},
}

func TestImages(t *testing.T) {
	l := newLab(t)
	l.script("build-docker-images.sh", "first", "--label", l.label)
	l.script("build-docker-images.sh", "second", "--label", l.label, "--no-cache")

	for name, want := range images {
		t.Run(name, func(t *testing.T) {
			first, second := l.inspect(t, name, "first"), l.inspect(t, name, "second")
			if diff := cmp.Diff(want.facts, first.facts()); diff != "" {
				t.Errorf("the image (-want +got):\n%s", diff)
			}
			if first.Size > want.limit {
				t.Errorf("%d bytes are more than %d", first.Size, want.limit)
			}
			if diff := cmp.Diff(first.RootFS.Layers, second.RootFS.Layers); diff != "" {
				t.Errorf("built again, without a cache, the layers differ (-first +second):\n%s", diff)
			}
			if head := commit(t); !strings.HasPrefix(first.label("revision"), head) {
				t.Errorf("revision %q, want commit %s", first.label("revision"), head)
			}
		})
	}
	t.Run("flowctl tells its version", func(t *testing.T) { l.with(t).version() })
	t.Run("flowctl server", func(t *testing.T) { l.with(t).server() })
	t.Run("pipeline", func(t *testing.T) { l.with(t).pipeline("--init=false") })
	t.Run("pipeline below an init", func(t *testing.T) { l.with(t).pipeline("--init") })
}

// with is the lab for a subtest.
func (l *lab) with(t *testing.T) *lab {
	own := *l
	own.t = t
	return &own
}

func (l *lab) version() {
	want := l.inspect(l.t, "flowctl", "first").label("version")
	out, err := l.once("--network", "none", l.image("flowctl", "first"), "version")
	if err != nil || !strings.HasPrefix(out, "flowctl "+want+" (") {
		l.t.Errorf("got %q, %v, want version %s", out, err, want)
	}
}

// A server can be asked from outside, and a second one on its volume finds its
// database.
func (l *lab) server() {
	volume, network := l.prefix, l.prefix+"-server"
	l.do("network", "create", "--label", l.label, network)
	l.do("volume", "create", "--label", l.label, volume)
	for range 2 {
		c := l.strict("--network", network, "--publish-all", "--volume", volume+":/var/lib/flowctl", l.image("flowctl", "first"), "server", "--address", "0.0.0.0")
		c.await(`control plane listening.* database=/var/lib/flowctl/control-plane\.db`)
		if got := c.get("8080", "/readyz"); got != "ok\n" {
			l.t.Errorf("/readyz answers %q, want ok", got)
		}
		c.stop()
		l.do("rm", "--volumes", c.id)
	}
	out, err := l.once("--network", "none", "--volume", volume+":/var/lib/flowctl", l.image("flowctl", "first"), "server", "--check-db")
	if err != nil {
		l.t.Errorf("the database that the servers left: %v\n%s", err, out)
	}
}

// inspection is what the engine knows of an image.
type inspection struct {
	Size   int
	RootFS struct{ Layers []string }
	Config struct {
		User         string
		Entrypoint   []string
		ExposedPorts map[string]struct{}
		Labels       map[string]string
	}
}

func (l *lab) inspect(t *testing.T, name, tag string) inspection {
	t.Helper()
	var found []inspection
	if err := json.Unmarshal([]byte(l.with(t).do("image", "inspect", l.image(name, tag))), &found); err != nil || len(found) != 1 {
		t.Fatalf("inspect %s: %d images, %v", l.image(name, tag), len(found), err)
	}
	return found[0]
}

func (i inspection) label(name string) string {
	return i.Config.Labels["org.opencontainers.image."+name]
}

func (i inspection) facts() facts {
	var ports []string
	for port := range i.Config.ExposedPorts {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return facts{User: i.Config.User, Entrypoint: i.Config.Entrypoint, Ports: ports, Title: i.label("title")}
}

// commit is the one that is checked out.
func commit(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatalf("git rev-parse: %v", err)
	}
	return strings.TrimSpace(string(out))
}

package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

// fakeRegistry is an image registry with images of one random layer. Engines of this
// machine may use one on loopback without TLS.
type fakeRegistry struct {
	*httptest.Server
	// user, if set, is who may pull: user:password.
	user string
	// layer, if set, is called before a layer is sent; slow ones come in pieces.
	layer func()
	slow  bool

	mu     sync.Mutex // guards all below
	blobs  map[string][]byte
	pulled int
}

func newRegistry(t *testing.T, d *Driver) *fakeRegistry {
	t.Helper()
	if !d.network.Gateway.IsValid() {
		needs(t, "an engine on this machine")
	}
	r := &fakeRegistry{blobs: make(map[string][]byte)}
	r.Server = httptest.NewServer(http.HandlerFunc(r.answer))
	t.Cleanup(r.Close)
	return r
}

// image puts an image into the registry and returns its name. It is removed from
// the engine when the test ends.
func (r *fakeRegistry) image(t *testing.T, d *Driver) string {
	t.Helper()
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	var layer bytes.Buffer
	files := tar.NewWriter(&layer)
	_ = files.WriteHeader(&tar.Header{Name: "random", Mode: 0o644, Size: int64(len(content))})
	_, _ = files.Write(content)
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	layerDigest := r.put(layer.Bytes())
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Cmd":["/random"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`, layerDigest)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":%q},`+
		`"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","size":%d,"digest":%q}]}`,
		manifestType, len(config), r.put([]byte(config)), layer.Len(), layerDigest)
	tag := strings.ToLower(rand.Text()[:8])
	r.mu.Lock()
	r.blobs[tag] = []byte(manifest)
	r.mu.Unlock()
	r.put([]byte(manifest))
	name := strings.TrimPrefix(r.URL, "http://") + "/flowctl-test:" + tag
	t.Cleanup(func() {
		_, _ = d.client.ImageRemove(context.Background(), name, client.ImageRemoveOptions{Force: true, PruneChildren: true})
	})
	return name
}

const manifestType = "application/vnd.docker.distribution.manifest.v2+json"

func digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

func (r *fakeRegistry) put(content []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[digest(content)] = content
	return digest(content)
}

func (r *fakeRegistry) answer(w http.ResponseWriter, request *http.Request) {
	if user, password, _ := request.BasicAuth(); r.user != "" && user+":"+password != r.user {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	path := request.URL.Path
	r.mu.Lock()
	content, found := r.blobs[path[strings.LastIndex(path, "/")+1:]]
	isManifest := strings.Contains(path, "/manifests/")
	if found && isManifest && request.Method == http.MethodHead { // each pull asks so what is new
		r.pulled++
	}
	r.mu.Unlock()
	switch {
	case path == "/v2/":
	case !found:
		w.WriteHeader(http.StatusNotFound)
	case isManifest:
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", digest(content))
		_, _ = w.Write(content)
	default:
		if r.layer != nil && len(content) > 1<<20 {
			r.layer()
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		for r.slow && len(content) > 200_000 {
			_, _ = w.Write(content[:200_000])
			_ = http.NewResponseController(w).Flush()
			content = content[200_000:]
			<-time.After(100 * time.Millisecond)
		}
		_, _ = w.Write(content)
	}
}

// pulls is how often an image was pulled.
func (r *fakeRegistry) pulls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pulled
}

// told notes down what a driver tells about its pulls.
type told struct {
	mu    sync.Mutex // guards texts
	texts []string
}

func (p *told) tell(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts = append(p.texts, text)
}

func (p *told) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.texts, "\n")
}

// of is a component with an image and a policy.
func of(id, image string, policy driver.PullPolicy) driver.Spec {
	return driver.Spec{Component: id, Container: &driver.Container{Image: image, Pull: policy}}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	d := open(t)
	said := &told{}
	d.opts.Notice = said.tell
	r := newRegistry(t, d)
	r.slow = true
	here, missing, always := image(t), r.image(t, d), r.image(t, d)
	nowhere := strings.TrimPrefix(r.URL, "http://") + "/flowctl-test:nowhere"
	withVolume := of("folder", here, driver.PullMissing)
	withVolume.Container.Volumes = []driver.Volume{{Source: "/no/such/folder", Target: "/x"}, {Source: t.TempDir(), Target: "/y"}, {Source: "named", Target: "/z"}}
	problems := d.Preflight(t.Context(), []driver.Spec{
		of("present", here, driver.PullMissing), of("quiet", here, driver.PullNever),
		of("one", missing, driver.PullMissing), of("two", missing, driver.PullMissing), of("eager", always, driver.PullAlways),
		of("lost", nowhere, driver.PullMissing), of("never", nowhere+"1", driver.PullNever), of("odd", "UPPER case", driver.PullMissing), withVolume,
		{Component: "process"},
	})
	text := strings.Join(problems, "\n")
	for _, want := range []string{
		"folder: its volume /no/such/folder does not exist", "lost: image " + nowhere + " cannot be pulled",
		"never: image " + nowhere + "1 is not on the Docker Engine", "scripts/build-docker-images.sh", "docker login", `odd: look for image UPPER case: `,
		"process: it has no image",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not among the problems:\n%s", want, text)
		}
	}
	if len(problems) != 5 {
		t.Errorf("%d problems, want 5:\n%s", len(problems), text)
	}
	for _, image := range []string{missing, always} {
		if _, err := d.client.ImageInspect(t.Context(), image); err != nil {
			t.Errorf("%s was not pulled: %v", image, err)
		}
		if want := "image " + image + ": pulled in"; strings.Count(said.String(), want) != 1 {
			t.Errorf("%q is not told once:\n%s", want, said)
		}
	}
	if !strings.Contains(said.String(), "of 3.1 MB") {
		t.Errorf("no progress is told:\n%s", said)
	}
	if r.pulls() != 2 {
		t.Errorf("%d pulls, want 2", r.pulls())
	}
}

func TestProgressWithoutSizes(t *testing.T) {
	if got := sum(map[string]layer{"a": {2_000_000, 0}, "b": {100_000, 300_000}}); got != "2.1 MB" {
		t.Errorf("got %q", got)
	}
}

// An image is pulled when its component is started, if nobody has done it before;
// one that is always to be pulled once in a run.
func TestRunPulls(t *testing.T) {
	t.Parallel()
	for _, policy := range []driver.PullPolicy{driver.PullMissing, driver.PullAlways} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			d := open(t)
			r := newRegistry(t, d)
			spec := of("random", r.image(t, d), policy)
			for range 2 {
				a := drivertest.Start(t, d, spec)
				<-a.Done
				if !errors.Is(a.Err, os.ErrPermission) { // it has no program, which is not the point
					t.Errorf("got %+v, %v", a.Exit, a.Err)
				}
			}
			if r.pulls() != 1 {
				t.Errorf("%d pulls, want 1", r.pulls())
			}
		})
	}
}

func TestStopDuringPull(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := newRegistry(t, d)
	pulling, given := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.layer = func() {
		once.Do(func() { close(pulling) })
		<-given // up: engines go on with what nobody wants any more
		panic(http.ErrAbortHandler)
	}
	a := drivertest.Start(t, d, of("random", r.image(t, d), driver.PullMissing))
	<-pulling
	a.Cancel()
	<-a.Done
	close(given)
	if !errors.Is(a.Err, context.Canceled) {
		t.Errorf("got %+v, %v", a.Exit, a.Err)
	}
}

func TestLogins(t *testing.T) {
	d := open(t)
	r := newRegistry(t, d)
	r.user = "me:secret"
	host := strings.TrimPrefix(r.URL, "http://")
	helpers := t.TempDir()
	for name, script := range map[string]string{
		"good": `grep -q '^` + host + `$' && echo '{"ServerURL": "x", "Username": "me", "Secret": "secret"}'`,
		"none": `echo credentials not found in native keychain; exit 1`,
		"bad":  `exit 2`,
	} {
		if err := os.WriteFile(filepath.Join(helpers, "docker-credential-flowctl-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", helpers+":"+os.Getenv("PATH"))
	for _, test := range []struct{ name, settings, problem string }{
		{"without", `{}`, "docker login"},
		{"stored", `{"auths": {"` + host + `": {"auth": "` + base64.StdEncoding.EncodeToString([]byte(r.user)) + `"}}}`, ""},
		{"stored wrongly", `{"auths": {"` + host + `": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("me:wrong")) + `"}}}`, "docker login"},
		{"by a helper", `{"credsStore": "flowctl-good"}`, ""},
		{"by a helper for the host", `{"credsStore": "flowctl-bad", "credHelpers": {"` + host + `": "flowctl-good"}}`, ""},
		{"a helper that knows none", `{"credsStore": "flowctl-none"}`, "docker login"},
		{"a helper that fails", `{"credsStore": "flowctl-bad"}`, "for a login: exit status 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			write(t, folder, map[string]string{"config.json": test.settings})
			logged := *d.Engine
			logged.config = folder
			other := New(Options{Engine: &logged, Pipeline: d.opts.Pipeline, Run: d.opts.Run})
			err := other.pull(t.Context(), r.image(t, d))
			if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
				t.Errorf("got %v, want %q", err, test.problem)
			}
		})
	}
}

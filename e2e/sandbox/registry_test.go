package sandbox_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// registry is an image registry in memory, for engines of this machine: they need no
// TLS to talk to a loopback address.
type registry struct {
	mu sync.Mutex // guards all below
	// blobs are by digest, manifests by name and by digest, uploads by number.
	blobs     map[string][]byte
	manifests map[string]manifest
	uploads   map[string][]byte
}

type manifest struct {
	kind    string
	content []byte
}

// newRegistry starts a registry and returns its address.
func newRegistry(t *testing.T) string {
	r := &registry{blobs: map[string][]byte{}, manifests: map[string]manifest{}, uploads: map[string][]byte{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

func (r *registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	path := request.URL.Path
	name := path[strings.LastIndex(path, "/")+1:]
	switch {
	case path == "/v2/":
	case strings.Contains(path, "/blobs/uploads/"):
		r.upload(w, request, name, body)
	case strings.Contains(path, "/blobs/"):
		content, ok := r.blobs[name]
		answer(w, request, "application/octet-stream", content, ok)
	case request.Method == http.MethodPut:
		m := manifest{request.Header.Get("Content-Type"), body}
		r.manifests[name], r.manifests[digest(body)] = m, m
		w.Header().Set("Docker-Content-Digest", digest(body))
		w.WriteHeader(http.StatusCreated)
	default:
		m, ok := r.manifests[name]
		answer(w, request, m.kind, m.content, ok)
	}
}

// upload takes a blob in pieces, or whole with its last request.
func (r *registry) upload(w http.ResponseWriter, request *http.Request, name string, body []byte) {
	code := http.StatusAccepted
	if request.Method == http.MethodPost {
		name = fmt.Sprint(len(r.uploads))
	}
	r.uploads[name] = append(r.uploads[name], body...)
	if request.Method == http.MethodPut {
		r.blobs[request.URL.Query().Get("digest")] = r.uploads[name]
		code = http.StatusCreated
	}
	base := request.URL.Path[:strings.LastIndex(request.URL.Path, "/")+1]
	w.Header().Set("Location", base+name)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(r.uploads[name])-1, 0)))
	w.WriteHeader(code)
}

func answer(w http.ResponseWriter, request *http.Request, kind string, content []byte, ok bool) {
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", digest(content))
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if request.Method == http.MethodGet {
		_, _ = w.Write(content)
	}
}

// What is missing is pulled by a start, and what is newer in the registry by an upgrade.
func TestPulls(t *testing.T) {
	t.Parallel()
	image(t, redisImage)
	s := newSite(t)
	repository := newRegistry(t) + "/redis"
	name := repository + ":7"
	s.images = append(s.images, name)
	remember := func() { // what the engine knows by its digest alone, too
		s.images = append(s.images, docker(t, "images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", repository)...)
	}
	docker(t, "tag", redisImage, name)
	docker(t, "push", "--quiet", name)
	remember()
	docker(t, "rmi", name)
	s.file("  redis: {image: '" + name + "', ports: [{containerPort: 6379, hostPort: 0}]}\n")
	s.want(0, []string{"image " + name + ": pulling", "image " + name + ": pulled in", "redis * healthy"}, "sandbox", "start")
	s.want(0, []string{"redis * unchanged"}, "sandbox", "upgrade")

	build := exec.Command("docker", "build", "--quiet", "--tag", name, "-")
	build.Stdin = strings.NewReader("FROM " + redisImage + "\nLABEL changed=" + s.name + "\n")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	docker(t, "push", "--quiet", name)
	s.images = append(s.images, docker(t, "images", "--quiet", "--no-trunc", name)...)
	remember()
	docker(t, "tag", redisImage, name) // this machine knows nothing of it
	before := s.containers()
	if r := s.want(0, []string{"redis * healthy: runs since"}, "sandbox", "start"); strings.Contains(r.out, "pulling") {
		t.Errorf("a start pulls what is there: %v", r)
	}
	s.want(0, []string{"redis * replacing: image " + name + " is another one now", "redis * healthy: after"}, "sandbox", "upgrade")
	remember()
	if after := s.containers(); len(after) != 1 || after[0] == before[0] {
		t.Errorf("containers were %v and are %v", before, after)
	}
	if label := docker(t, "inspect", "--format", `{{index .Config.Labels "changed"}}`, s.containers()[0]); label[0] != s.name {
		t.Errorf("the container is of another image than the one pushed: %v", label)
	}
}

// Ctrl-C ends a pull that never would.
func TestInterruptDuringPull(t *testing.T) {
	t.Parallel()
	image(t, redisImage) // there is an engine
	s := newSite(t)
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		select {
		case <-ended:
		case <-request.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	s.file("  slow: {image: '" + strings.TrimPrefix(server.URL, "http://") + "/slow:1'}\n")
	s.interrupt("pulling", "sandbox", "start")
	if c, n := s.containers(), s.networks(); len(c)+len(n) > 0 {
		t.Errorf("it has made %v %v", c, n)
	}
}

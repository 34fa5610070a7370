//go:build linux

// Package durable_test takes the real flowctl server its process, its disk and
// its database away, and looks whether anything is lost that was acknowledged.
//
// FLOWCTL_KILLS is how often it is killed.
package durable_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	flowctlv1 "github.com/withobsrvr/flowctl/api/flowctl/v1"
	"github.com/withobsrvr/flowctl/e2e/site"
)

// bin is the folder of flowctl.
var bin string

func TestMain(m *testing.M) { site.Main(m, &bin, "../../cmd/flowctl") }

// listening is the line that says where a server listens.
const listening = `control plane listening.* address=(\S+)`

// plane is a server with a database, and a client's connection to it.
type plane struct {
	process  *site.Process
	endpoint string
	conn     *grpc.ClientConn
}

// serve starts a server and waits until it listens.
func serve(s *site.Site, database string) *plane {
	s.T.Helper()
	p := &plane{process: s.Start("server", "--port", "0", "--db-path", database)}
	p.reach(s)
	return p
}

// reach waits until it listens.
func (p *plane) reach(s *site.Site) {
	s.T.Helper()
	p.endpoint = p.process.Await(listening)[1]
	var err error
	if p.conn, err = grpc.NewClient(p.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()); err != nil {
		s.T.Fatal(err)
	}
}

// kill ends it as a loss of power would.
func (p *plane) kill() {
	p.process.Kill()
	_ = p.conn.Close()
}

// register registers a service in a version.
func (p *plane) register(ctx context.Context, id, version, description string) error {
	_, err := flowctlv1.NewControlPlaneServiceClient(p.conn).RegisterComponent(ctx, &flowctlv1.RegisterRequest{
		Component: &flowctlv1.ComponentInfo{Id: id, Version: version, Description: description, Type: flowctlv1.ComponentType_COMPONENT_TYPE_SOURCE},
	})
	return err
}

// ready asks whether it can keep what it is told, and returns what it says.
func (p *plane) ready(s *site.Site) (code int, text string) {
	s.T.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + p.endpoint + "/readyz")
	if err != nil {
		s.T.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		s.T.Fatal(err)
	}
	return answer.StatusCode, string(said)
}

// disk mounts one in memory that has no room for much.
func disk(s *site.Site, options string) string {
	s.T.Helper()
	dir := filepath.Join(s.Dir, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.T.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "flowctl-test", dir).CombinedOutput(); err != nil {
		site.Missing(s.T, "a disk in memory cannot be mounted here: %v: %s", err, out)
	}
	s.T.Cleanup(func() { _ = exec.Command("umount", "--lazy", dir).Run() })
	return dir
}

func remount(s *site.Site, dir, options string) {
	s.T.Helper()
	if out, err := exec.Command("mount", "-o", "remount,"+options, dir).CombinedOutput(); err != nil {
		s.T.Fatalf("remount %s: %v: %s", dir, err, out)
	}
}

// A server whose disk is full says so, takes in nothing new, loses nothing, and
// goes on by itself when there is room again.
func TestFullDisk(t *testing.T) {
	s := site.New(t, bin)
	dir := disk(s, "size=512k")
	database := filepath.Join(dir, "control-plane.db")
	p := serve(s, database)
	var err error
	acknowledged := 0
	for ; err == nil && acknowledged < 10_000; acknowledged++ {
		err = p.register(t.Context(), fmt.Sprint("service-", acknowledged), "1", strings.Repeat("x", 1000))
	}
	acknowledged--
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), database) {
		t.Errorf("on a full disk, after %d registrations: %v", acknowledged, err)
	}
	if code, text := p.ready(s); code != http.StatusServiceUnavailable || !strings.Contains(text, "no space left on device") {
		t.Errorf("/readyz: %d %s", code, text)
	}
	p.kill()
	p = serve(s, database) // on the full disk
	wantServices(s, p.endpoint, acknowledged)
	remount(s, dir, "size=16m")
	s.Until("a registration with room on the disk", func() bool {
		return p.register(t.Context(), fmt.Sprint("service-", acknowledged), "1", "") == nil
	})
	s.Until("a server that is ready again", func() bool { code, _ := p.ready(s); return code == http.StatusOK })
	p.kill()
	p = serve(s, database)
	wantServices(s, p.endpoint, acknowledged+1)
	t.Logf("%d registrations on a disk of 512 KiB", acknowledged)
	_ = p.conn.Close()
	p.process.Stop()
}

// wantServices wants so many of the services of TestFullDisk; one more may have
// been kept whose registration was not acknowledged.
func wantServices(s *site.Site, endpoint string, n int) {
	s.T.Helper()
	listed := list(s, endpoint)
	for i := range n {
		if _, known := listed[fmt.Sprint("service-", i)]; !known {
			s.T.Errorf("service-%d was acknowledged, and is lost", i)
		}
	}
	if len(listed) > n+1 {
		s.T.Errorf("%d services are listed, %d were acknowledged", len(listed), n)
	}
}

// told is what list says of a service.
type told struct {
	ID      string `json:"id"`
	Healthy bool   `json:"healthy"`
	Tier    string `json:"tier"`
}

// list asks as a user does.
func list(s *site.Site, endpoint string) map[string]told {
	s.T.Helper()
	var all []told
	s.JSON(&all, "list", "--endpoint", endpoint)
	byID := make(map[string]told, len(all))
	for _, one := range all {
		byID[one.ID] = one
	}
	return byID
}

// A disk that cannot be written is told at once.
func TestReadOnlyDisk(t *testing.T) {
	s := site.New(t, bin)
	dir := disk(s, "size=16m")
	database := filepath.Join(dir, "control-plane.db")
	p := serve(s, database)
	if err := p.register(t.Context(), "service", "1", ""); err != nil {
		t.Fatal(err)
	}
	_ = p.conn.Close()
	p.process.Stop()
	remount(s, dir, "ro")
	refused(s, "read-only file system", "server", "--port", "0", "--db-path", database)
	s.Want(0, "is sound: schema 1, 1 service,", "server", "--check-db", "--db-path", database)
}

// refused wants one sentence, exit code 3, and both soon.
func refused(s *site.Site, why string, args ...string) {
	s.T.Helper()
	bound := 10 * time.Second
	if os.Getenv("FLOWCTL_STRICT") != "" {
		bound = time.Second
	}
	began := time.Now()
	said := s.Want(3, why, args...)
	if took := time.Since(began); took > bound {
		s.T.Errorf("flowctl %s: it took %s to say so", strings.Join(args, " "), took)
	}
	if strings.Count(said, "\n") != 1 {
		s.T.Errorf("flowctl %s: this is not one line: %s", strings.Join(args, " "), said)
	}
}

// A database that cannot be used is told in a sentence, by server and by run, and
// left as it is.
func TestUnusableDatabases(t *testing.T) {
	s := site.New(t, bin)
	sound := filepath.Join(s.Dir, "sound.db")
	p := serve(s, sound)
	for i := range 100 {
		if err := p.register(t.Context(), fmt.Sprint("service-", i), "1", strings.Repeat("x", 500)); err != nil {
			t.Fatal(err)
		}
	}
	pipeline := s.Pipeline("tiny", "  sources:\n  - {id: src, command: [sleep, '1000'], registration: none}\n  sinks:\n  - {id: snk, command: [sleep, '1000'], registration: none}\n")
	everywhere := func(database, why string) {
		t.Helper()
		before, errBefore := os.ReadFile(database)
		refused(s, why, "server", "--port", "0", "--db-path", database)
		refused(s, why, "server", "--check-db", "--db-path", database)
		refused(s, why, "run", pipeline, "--control-plane-port", "0", "--db-path", database)
		if after, err := os.ReadFile(database); string(after) != string(before) || (err == nil) != (errBefore == nil) {
			t.Errorf("%s has changed", database)
		}
	}
	everywhere(sound, fmt.Sprintf("it is in use by pid %d (flowctl)", p.process.Cmd.Process.Pid))
	_ = p.conn.Close()
	p.process.Stop()

	content, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	everywhere(s.Write("torn.db", string(content[:len(content)/2])), "move it away to begin with an empty one")
	everywhere(s.Write("zeros.db", string(content[:8192])+strings.Repeat("\x00", len(content)-8192)), "move it away to begin with an empty one")
	everywhere(s.Write("text.db", strings.Repeat("this is a letter\n", 1000)), "it is no bbolt database")
	everywhere(changed(t, s.Write("foreign.db", ""), func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("recipes"))
		return err
	}), "it is a bbolt database, but not flowctl's")
	everywhere(changed(t, s.Write("newer.db", string(content)), func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte("7"))
	}), "it was written by a newer flowctl (schema 7, this one knows 1)")
	everywhere(s.Dir, "it is a folder")
}

// changed changes a database behind flowctl's back, and returns its path.
func changed(t *testing.T, path string, change func(*bbolt.Tx) error) string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
	return path
}

// report is what --check-db says.
type report struct{ Services, Gone int }

func check(s *site.Site, database string) (r report) {
	s.T.Helper()
	code, out, errout := s.Try("server", "--check-db", "--db-path", database, "-o", "json")
	if code != 0 || json.Unmarshal([]byte(out), &r) != nil {
		s.T.Fatalf("the database is not sound: exit code %d\n%s%s", code, out, errout)
	}
	return r
}

//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// command runs flowctl to its end and returns its output and exit code.
func (s *site) command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errout bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "flowctl"), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &out, &errout
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errout.String(), cmd.ProcessState.ExitCode()
}

// list finds a run of this user by itself, whatever its port, and only while it runs.
func TestListFindsTheRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("source", freePort(t), "", "")+"  sinks:\n"+component("sink", freePort(t), "", "-role, sink")))
	f.await(`\ssink +\* ready: `)
	out, errout, code := s.command(t, "list", "-o", "json")
	var services []struct {
		Pipeline, ID, Role string
		Healthy            bool
	}
	if err := json.Unmarshal([]byte(out), &services); code != 0 || err != nil {
		t.Fatalf("flowctl list: exit code %d, %v\n%s%s", code, err, out, errout)
	}
	var got []string
	for _, s := range services {
		got = append(got, fmt.Sprintf("%s/%s %s %v", s.Pipeline, s.ID, s.Role, s.Healthy))
	}
	if text := strings.Join(got, ", "); text != "test/sink sink true, test/source source true" {
		t.Errorf("list shows %s", text)
	}
	if out, _, _ := s.command(t, "list"); !strings.HasPrefix(out, "PIPELINE") || strings.Count(out, " healthy ") != 2 {
		t.Errorf("list shows\n%s", out)
	}
	runFiles, err := filepath.Glob(filepath.Join(s.dir, "state/flowctl/runs/*.json"))
	if err != nil || len(runFiles) != 1 {
		t.Fatalf("the run files are %v (%v), want one", runFiles, err)
	}
	if info, err := os.Stat(runFiles[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the run file: %v %v, want nobody else to read it", info, err)
	}
	f.signal(syscall.SIGINT)
	f.wantExit(0)
	if _, err := os.Stat(runFiles[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the run its run file is left (%v)", err)
	}
	out, errout, code = s.command(t, "list", "--wait=false")
	if code != 3 || !strings.Contains(errout, "no pipeline of yours is running on this machine") {
		t.Errorf("after the run: exit code %d\n%s%s", code, out, errout)
	}
}

// Two pipelines side by side do not disturb each other.
func TestTwoPipelines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := func(name string) string {
		return s.write(t, name+".yml", "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: "+name+"}\nspec:\n  sinks:\n"+component("sink", freePort(t), "", "-role, sink"))
	}
	one, two := s.run(t, file("one"), "--log-dir", "one"), s.run(t, file("two"), "--log-dir", "two")
	one.await(`\ssink +\* ready: `)
	two.await(`\ssink +\* ready: `)
	out, errout, code := s.command(t, "list")
	if code != 0 || !strings.Contains(out, "one ") || !strings.Contains(out, "two ") {
		t.Errorf("flowctl list: exit code %d\n%s%s", code, out, errout)
	}
	one.signal(syscall.SIGINT)
	<-one.ended
	if out, _, _ := s.command(t, "list"); strings.Contains(out, "one ") || !strings.Contains(out, "two ") {
		t.Errorf("after the end of one, list shows\n%s", out)
	}
	two.signal(syscall.SIGINT)
	two.wantExit(0)
}

// What a killed flowctl leaves in the state folder deceives nobody.
func TestListAfterKill(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+bare("sink", "", "")))
	pid := f.pid("sink")
	f.await(`\ssink +\* ready: `)
	f.signal(syscall.SIGKILL)
	<-f.ended
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, errout, code := s.command(t, "list", "--wait=false")
	if code != 3 || !strings.Contains(errout, "no pipeline of yours is running on this machine") {
		t.Errorf("flowctl list: exit code %d, %s", code, errout)
	}
}

// The hidden server is a control plane without a pipeline.
func TestServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	server := s.start(t, []string{"server", "--address", "127.0.0.1", "--port", fmt.Sprint(port)})
	server.await(`control plane listening`)
	endpoint := fmt.Sprintf("127.0.0.1:%d", port)
	if out, errout, code := s.command(t, "list", "-e", endpoint); code != 0 || !strings.Contains(out, "No services have registered yet.") {
		t.Errorf("flowctl list: exit code %d\n%s%s", code, out, errout)
	}
	component := exec.Command(filepath.Join(bin, "testcomponent"), "-role", "processor")
	component.Env = append(s.env, "ENABLE_FLOWCTL=true", "FLOWCTL_ENDPOINT=http://"+endpoint, "COMPONENT_ID=lonely")
	if err := component.Start(); err != nil {
		t.Fatal(err)
	}
	server.await(`msg="registered as processor" component=lonely`)
	if out, errout, code := s.command(t, "list", "-e", endpoint); code != 0 || !strings.Contains(out, "lonely") || !strings.Contains(out, "processor") {
		t.Errorf("flowctl list: exit code %d\n%s%s", code, out, errout)
	}
	if err := component.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := component.Wait(); err != nil {
		t.Errorf("the component ended with %v", err)
	}
	server.await(`msg=left component=lonely`)
	server.signal(syscall.SIGTERM)
	server.wantExit(0)
	wantFree(t, port)
}

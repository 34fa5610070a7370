//go:build linux

package e2e_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Who is killed by the system for lack of memory is told from who is killed by somebody.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	group := newMemoryGroup(t, 256<<20)
	s := newSite(t)
	// The kernel takes the largest: dd's one block.
	f := s.start(t, []string{"run", s.pipelineFile(t, "  sinks:\n    - {id: glutton, command: [dd, if=/dev/zero, of=/dev/null, bs=512M, count=1], registration: none, probe: {exec: ['false']}}\n"),
		"--control-plane-port", "0"}, group.join)
	f.wantExit(1)
	f.await(`\sglutton +\* failed: was killed: out of memory \S+ after its start`)
	f.awaitIn(f.errout, `^flowctl: glutton was killed: out of memory`)
}

// memoryGroup is a control group with a limit of its own.
type memoryGroup struct{ procs string }

// newMemoryGroup makes one in the hierarchy of old or in the unified one, or skips the test.
func newMemoryGroup(t *testing.T, limit int) memoryGroup {
	t.Helper()
	name := "flowctl-test-" + rand.Text()
	var reasons []error
	for _, h := range []struct{ dir, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(h.dir, name)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			err = os.WriteFile(filepath.Join(dir, h.limit), fmt.Append(nil, limit), 0o644)
		}
		if err == nil {
			return memoryGroup{filepath.Join(dir, "cgroup.procs")}
		}
		reasons = append(reasons, err)
	}
	missing(t, "a control group with a memory limit cannot be made here: %v", reasons)
	return memoryGroup{}
}

// join makes a flowctl, and so its components, members of the group.
func (g memoryGroup) join(f *flowctl) {
	f.cmd.Args = append([]string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, g.procs, f.cmd.Path}, f.cmd.Args[1:]...)
	f.cmd.Path = "/bin/sh"
}

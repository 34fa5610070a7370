package process

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOOMCounters(t *testing.T) {
	unified := counter{"/sys/fs/cgroup/user.slice/memory.events", "oom_kill"}
	old := counter{"/sys/fs/cgroup/memory/a:b/memory.oom_control", "oom_kill"}
	for text, want := range map[string][]counter{
		"0::/user.slice\n": {unified},
		"9:name=systemd:/\n4:memory:/a:b\n3:cpuset:/\n0::/user.slice\n": {old, unified},
		"4:cpu,cpuacct:/x\n": nil,
		"":                   nil,
		"nonsense":           nil,
	} {
		if diff := cmp.Diff(want, oomCounters(text), cmp.AllowUnexported(counter{})); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

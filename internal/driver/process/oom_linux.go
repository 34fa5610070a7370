package process

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// oomKills is how many processes the system has killed so far for lack of
// memory: those of this process's control group, in which its components are
// too, or all there were where groups do not count them.
func oomKills() uint64 {
	where := oomCounter()
	text, err := os.ReadFile(where.file)
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name == where.name {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}
	return 0
}

// counter is a file of "name value" lines, and one of its names.
type counter struct{ file, name string }

// oomCounter is where oomKills are counted. It does not change while this process lives.
var oomCounter = sync.OnceValue(func() counter {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err == nil {
		for _, c := range oomCounters(string(text)) {
			if _, err := os.Stat(c.file); err == nil {
				return c
			}
		}
	}
	return counter{"/proc/vmstat", "oom_kill"}
})

// oomCounters are the counters that may exist, by what /proc/self/cgroup says: in
// the unified hierarchy, and in the memory hierarchy of old.
func oomCounters(cgroups string) []counter {
	var found []counter
	for line := range strings.Lines(cgroups) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(parts) < 3:
		case parts[1] == "":
			found = append(found, counter{filepath.Join("/sys/fs/cgroup", parts[2], "memory.events"), "oom_kill"})
		case parts[1] == "memory":
			found = append(found, counter{filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.oom_control"), "oom_kill"})
		}
	}
	return found
}

package store

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// holder names who has the file locked, as far as the system tells.
func holder(path string) string {
	const somebody = "another flowctl"
	info, err := os.Stat(path)
	if err != nil {
		return somebody
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	locks, err := os.ReadFile("/proc/locks")
	if !ok || err != nil {
		return somebody
	}
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK ADVISORY WRITE 812 fe:00:4711 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || !strings.HasSuffix(fields[5], fmt.Sprintf(":%d", stat.Ino)) {
			continue
		}
		name, err := os.ReadFile("/proc/" + fields[4] + "/comm")
		if err == nil {
			return fmt.Sprintf("pid %s (%s)", fields[4], strings.TrimSpace(string(name)))
		}
	}
	return somebody
}

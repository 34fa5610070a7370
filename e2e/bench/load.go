package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuTick is the unit in which Linux tells CPU time, on every architecture Go knows.
const cpuTick = 10 * time.Millisecond

// cpuTime is the CPU time process pid has used itself, without its children, as
// far as the system tells: Linux does.
func cpuTime(pid int) (time.Duration, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * cpuTick, err1 == nil && err2 == nil
}

// loadAverage is how many tasks wanted a CPU in the last minute, or 0 where the
// system does not tell.
func loadAverage() float64 {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

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

// residentMiB is the memory of process pid that is in RAM, as far as the system tells.
func residentMiB(pid int) (float64, bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib / 1024, err == nil
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

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// idlers is how many components are looked after while nothing happens.
const idlers = 50

// measureIdle measures what flowctl takes while nothing happens. Only Linux tells.
func measureIdle(ctx context.Context, h *host, s scale) ([]row, error) {
	file, err := h.writePipeline("idle", chains(h, idlers, nil))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := h.launch(ctx, h.run(ctx, file), idlers, " * ready: ", idlers)
	if err != nil {
		return nil, err
	}
	<-time.After(min(time.Second, s.idle)) // the start is over
	pid := r.cmd.Process.Pid
	guardian := guardianOf(pid)
	begin := time.Now()
	before, told := cpuTime(pid)
	guardianBefore, _ := cpuTime(guardian)
	<-time.After(s.idle)
	after, _ := cpuTime(pid)
	guardianAfter, _ := cpuTime(guardian)
	lasted := time.Since(begin)
	memory, _ := residentMiB(pid)
	guardianMemory, _ := residentMiB(guardian)
	if _, err := r.stop(); err != nil || !told {
		return nil, err
	}
	share := func(used time.Duration) []float64 { return []float64{100 * used.Seconds() / lasted.Seconds()} }
	of := fmt.Sprintf("idle, %d components: ", idlers)
	return []row{
		compare(of+"memory", "MiB", nil, []float64{memory}, upTo(40)),
		compare(of+"CPU", "% of one", nil, share(after-before), upTo(1)),
		compare(of+"the guardian's memory", "MiB", nil, []float64{guardianMemory}, recorded),
		compare(of+"the guardian's CPU", "% of one", nil, share(guardianAfter-guardianBefore), recorded),
	}, nil
}

// guardianOf is the child of process pid that is a guardian, or 0.
func guardianOf(pid int) int {
	paths, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range paths {
		status, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			continue
		}
		words, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if args := strings.Split(string(words), "\x00"); len(args) > 1 && args[1] == "guardian" {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return child
		}
	}
	return 0
}

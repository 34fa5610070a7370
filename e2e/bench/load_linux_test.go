package main

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func TestCPUTime(t *testing.T) {
	for used, ok := time.Duration(0), true; used == 0; used, ok = cpuTime(os.Getpid()) {
		if !ok {
			t.Fatal("this process's CPU time is not told")
		}
		_ = bytes.Repeat([]byte("x"), 4096)
	}
	if _, ok := cpuTime(1 << 30); ok {
		t.Error("a process that is not there has used CPU time")
	}
}

func TestLoadAverage(t *testing.T) {
	if load := loadAverage(); load < 0 || load > 10_000 {
		t.Errorf("the load average is %v", load)
	}
}

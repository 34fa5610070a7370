//go:build linux

// Package e2e_test runs the real flowctl binary, as a user does: components are
// real processes, the pipeline on real ledgers included.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bin is the folder of the binaries under test: flowctl and testcomponent.
var bin string

// TestMain builds the binaries once.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "flowctl-e2e-")
	if err == nil {
		bin = dir
		err = build()
	}
	if err != nil {
		_ = os.RemoveAll(bin)
		fmt.Fprintf(os.Stderr, "build what is to be tested: %v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bin)
		os.Exit(code)
	}))
}

func build() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "../cmd/flowctl", "./testcomponent")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// root is the folder of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// missing skips a test that needs what this machine has not; where everything
// is required, that fails it.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("FLOWCTL_REQUIRE_ALL") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

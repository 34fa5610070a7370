package process

import (
	"context"
	"os"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/driver/drivertest"
)

func TestMain(m *testing.M) {
	drivertest.Main()
	goleak.VerifyTestMain(m)
}

// newDriver returns a driver whose orphans are cared for during the test.
func newDriver(t *testing.T) Driver {
	o := NewOrphans()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return Driver{Orphans: o}
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Host{
		Driver: newDriver(t),
		Spec: func(t *testing.T, env []string) driver.Spec {
			return driver.Spec{
				Component: t.Name(), Args: []string{os.Args[0]},
				Env: append(append(os.Environ(), env...), "FLOWCTL_RUN_ID=test", "FLOWCTL_COMPONENT_ID="+t.Name()), Dir: t.TempDir(),
			}
		},
		Alive: func(pid int) bool { return syscall.Kill(pid, 0) == nil },
	})
}

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

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Host{
		Driver: Driver{Orphans: care(t, NewOrphans())},
		Spec: func(t *testing.T, env []string) driver.Spec {
			return driver.Spec{
				Component: t.Name(), Args: []string{os.Args[0]},
				Env: append(append(os.Environ(), env...), "FLOWCTL_RUN_ID=test", "FLOWCTL_COMPONENT_ID="+t.Name()), Dir: t.TempDir(),
			}
		},
		Alive: func(_ driver.Ref, pid int) bool { return syscall.Kill(pid, 0) == nil },
		Freeze: func(t *testing.T, ref driver.Ref) {
			if err := syscall.Kill(ref.PID, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		},
	})
}

// care runs o during the test.
func care(t *testing.T, o *Orphans) *Orphans {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return o
}

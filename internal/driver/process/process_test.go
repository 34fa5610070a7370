package process

import (
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
		Driver: Driver{},
		Spec: func(t *testing.T, env []string) driver.Spec {
			return driver.Spec{
				Component: "test", Args: []string{os.Args[0]},
				Env: append(os.Environ(), env...), Dir: t.TempDir(),
			}
		},
		Alive: func(pid int) bool { return syscall.Kill(pid, 0) == nil },
	})
}

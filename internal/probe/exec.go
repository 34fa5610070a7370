package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// maxOutput is how much of a failed command's output is told.
const maxOutput = 4 << 10

// Exec runs a command and wants exit code 0. When ctx is done the command is
// killed with everything it started.
func Exec(args, env []string, dir string) Probe {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env, cmd.Dir = env, dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = 100 * time.Millisecond // a runaway may hold the pipe
		out, err := cmd.CombinedOutput()
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, exec.ErrWaitDelay) { // it has succeeded; what it left behind held the pipe
			return nil
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			text := fmt.Sprintf("%s: %v", args[0], err)
			if said := bytes.TrimSpace(out[max(0, len(out)-maxOutput):]); len(said) > 0 {
				text += ": " + string(said)
			}
			return errors.New(text)
		}
		return err
	}
}

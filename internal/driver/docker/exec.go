package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// maxOutput is how much of a failed command's output is told.
const maxOutput = 4 << 10

// Exec implements driver.Executor. The command gets the container's user, folder and
// environment. Engines cannot end one: after the end of ctx it goes on in its container.
func (e *Engine) Exec(ctx context.Context, ref driver.Ref, command []string) error {
	said, code, err := e.exec(ctx, ref.Container, command)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return e.failed("run "+command[0], err)
	case code == 0:
		return nil
	}
	text := fmt.Sprintf("%s: exit status %d", command[0], code)
	if len(said) > 0 {
		text += ": " + string(said)
	}
	return errors.New(text)
}

// exec runs a command and returns the end of what it printed, and its exit code.
func (e *Engine) exec(ctx context.Context, container string, command []string) (said []byte, code int, err error) {
	made, err := e.client.ExecCreate(ctx, container, client.ExecCreateOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return nil, 0, err
	}
	attached, err := e.client.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, 0, err
	}
	defer attached.Close()
	defer context.AfterFunc(ctx, attached.Close)()
	var output tail
	if _, err := stdcopy.StdCopy(&output, &output, attached.Reader); err != nil {
		return nil, 0, err
	}
	ended, err := e.client.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	return bytes.TrimSpace(output), ended.ExitCode, err
}

// tail keeps the last of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if over := len(*t) - maxOutput; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(p), nil
}

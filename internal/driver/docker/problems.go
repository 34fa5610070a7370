package docker

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// startProblem explains why the engine could not start the container.
func (a *attempt) startProblem(ctx context.Context, err error) error {
	if lost(err) {
		return a.failed("start "+a.spec.Component, err)
	}
	if port, why := a.takenPort(ctx, err.Error()); port != nil {
		return fmt.Errorf("port %s: %w: %s; stop it, or give %s another port",
			net.JoinHostPort(hostAddress(*port), strconv.Itoa(port.Host)), syscall.EADDRINUSE, why, a.spec.Component)
	}
	if found, failed := a.inspect(ctx); failed == nil {
		if problem := a.programProblem(ctx, found); problem != nil {
			return problem
		}
	}
	return a.failed("start "+a.spec.Component, err)
}

// takenPort finds in the engine's words the port that cannot be published, and who has it.
func (a *attempt) takenPort(ctx context.Context, said string) (*driver.Port, string) {
	byContainer := strings.Contains(said, "port is already allocated")
	if !byContainer && !strings.Contains(said, "address already in use") {
		return nil, ""
	}
	for _, p := range a.spec.Container.Ports {
		if !regexp.MustCompile(fmt.Sprintf(`:%d([^0-9/]|$)`, p.Host)).MatchString(said) { // with a / it is the container's
			continue
		}
		if !byContainer {
			return &p, "a program on the engine's machine listens on it"
		}
		return &p, cmp.Or(a.Publisher(ctx, p.Host), "another container") + " publishes it"
	}
	return nil, ""
}

// Publisher names the container that publishes a port: "container redis"; "" if none does.
func (e *Engine) Publisher(ctx context.Context, port int) string {
	filter := make(client.Filters).Add("publish", strconv.Itoa(port))
	found, err := e.client.ContainerList(ctx, client.ContainerListOptions{Filters: filter})
	if err != nil || len(found.Items) == 0 || len(found.Items[0].Names) == 0 {
		return ""
	}
	return "container " + strings.TrimPrefix(found.Items[0].Names[0], "/")
}

// programProblem looks whether the container has the program it was to run. Nil says
// that nothing is wrong with it as far as can be seen.
func (a *attempt) programProblem(ctx context.Context, c container.InspectResponse) error {
	if c.Config == nil || c.Path == "" {
		return nil
	}
	problem := os.ErrNotExist
	for _, candidate := range candidates(c) {
		mode, err := a.stat(ctx, candidate)
		switch {
		case cerrdefs.IsNotFound(err):
		case err != nil:
			return nil
		case mode.IsRegular() && mode&0o111 != 0:
			return nil
		default:
			problem = os.ErrPermission
		}
	}
	return fmt.Errorf("program %s of image %s: %w", c.Path, a.spec.Container.Image, problem)
}

// candidates are where the program of a container may be.
func candidates(c container.InspectResponse) []string {
	if strings.Contains(c.Path, "/") {
		return []string{path.Join("/", inside(c), c.Path)}
	}
	folders := defaultPath
	for _, kv := range c.Config.Env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok { // the last one counts
			folders = value
		}
	}
	var found []string
	for folder := range strings.SplitSeq(folders, ":") {
		found = append(found, path.Join("/", folder, c.Path))
	}
	return found
}

// defaultPath is where engines look for a program when neither image nor spec say it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inside is the folder that the program's path is relative to.
func inside(c container.InspectResponse) string {
	if path.IsAbs(c.Path) {
		return ""
	}
	return c.Config.WorkingDir
}

// stat looks at a file of the container, at its target if it is a link.
func (a *attempt) stat(ctx context.Context, name string) (os.FileMode, error) {
	var mode os.FileMode
	err := a.ask(ctx, func(ctx context.Context) error {
		found, err := a.client.ContainerStatPath(ctx, a.id, client.ContainerStatPathOptions{Path: name})
		if err == nil && found.Stat.Mode&os.ModeSymlink != 0 {
			found, err = a.client.ContainerStatPath(ctx, a.id, client.ContainerStatPathOptions{Path: found.Stat.LinkTarget})
		}
		mode = found.Stat.Mode
		return err
	})
	return mode, err
}

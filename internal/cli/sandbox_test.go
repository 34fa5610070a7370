package cli

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/withobsrvr/flowctl/internal/driver"
	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/sandbox"
)

// Of several things that are wrong the one that is worst says the exit code.
func TestSandboxExitCodes(t *testing.T) {
	failed := &sandbox.FailedError{Service: "a", Text: "exited"}
	late := &sandbox.LateError{Service: "b", Timeout: time.Second, Last: errors.New("no")}
	away := fmt.Errorf("look: %w", driver.ErrUnavailable)
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"nothing":                     {nil, 0},
		"one has failed":              {failed, 1},
		"one has failed, one is late": {errors.Join(nil, late, failed), 1},
		"one is late":                 {errors.Join(late, nil), 4},
		"the engine is away":          {away, 3},
		"a late answer is that the engine is away": {&sandbox.LateError{Last: away}, 3},
		"what is in the way":                       {&sandbox.PreflightError{Problems: []string{"x"}}, 3},
		"a port was taken meanwhile":               {fmt.Errorf("x: %w", syscall.EADDRINUSE), 3},
		"nobody knows it":                          {&sandbox.UnknownError{ID: "x"}, 2},
		"Ctrl-C":                                   {&interruptedError{signal: os.Interrupt}, 130},
		"SIGTERM":                                  {&interruptedError{signal: syscall.SIGTERM}, 143},
		"something else":                           {errors.New("x"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exitCode(sandboxError(test.err)); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}

func TestChooseServices(t *testing.T) {
	file := &pipeline.SandboxFile{Services: []pipeline.Service{
		{ID: "redis", Image: "mine"}, {ID: "app", Image: "app", DependsOn: []string{"redis"}}, {ID: "other", Image: "other"},
	}}
	for name, test := range map[string]struct {
		file *pipeline.SandboxFile
		ids  []string
		want []string // id and image
	}{
		"all of the file":                         {file, nil, []string{"redis mine", "app app", "other other"}},
		"one of the file with its dependencies":   {file, []string{"app"}, []string{"redis mine", "app app"}},
		"one of the catalogue beside the file":    {file, []string{"nats"}, []string{"nats nats:2.10"}},
		"one of the catalogue where there is one": {nil, []string{"redis"}, []string{"redis redis:7.4"}},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, err := chooseServices(test.file, sandboxStartOptions{sandboxOptions: sandboxOptions{ids: test.ids}})
			var got []string
			for _, s := range chosen {
				got = append(got, s.ID+" "+s.Image)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%s (%v)", diff, err)
			}
		})
	}
}

func TestMovePorts(t *testing.T) {
	services := func() []pipeline.Service {
		return []pipeline.Service{{ID: "a", FromCatalogue: true, Ports: []pipeline.Port{{ContainerPort: 1, HostPort: 1}}}, {ID: "b"}}
	}
	moved := services()
	if err := movePorts(moved, []string{"a=0"}); err != nil || moved[0].Ports[0].HostPort != 0 || moved[0].FromCatalogue {
		t.Errorf("%+v, %v", moved[0], err)
	}
	for _, wrong := range []string{"a", "a=", "a=x", "a=65536", "a=-1", "c=1", "b=1"} {
		if err := movePorts(services(), []string{wrong}); exitCode(err) != 2 {
			t.Errorf("--port %s: %v", wrong, err)
		}
	}
}

package docker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// victim is the variable that makes this program one that a test kills: run, image.
const victim = "DOCKER_TEST_VICTIM"

// runVictim runs components until it is killed, and says what it has come to.
func runVictim() {
	words := strings.Fields(os.Getenv(victim))
	if len(words) == 0 {
		return
	}
	e, err := Connect(os.Getenv)
	if err == nil {
		d := New(Options{Engine: e, Pipeline: "test", Run: words[0]})
		_, err = d.Open(context.Background())
		fmt.Println("opened", err)
		var all sync.WaitGroup
		for i, args := range [][]string{{"untouched"}, {"burst", "1000000000000"}, {"burst", "1000000000000"}, {"serve", "7000"}} {
			all.Go(func() {
				_, err := d.Run(context.Background(), driver.Spec{
					Component: fmt.Sprint("c", i), Args: append([]string{"/component"}, args...), Container: &driver.Container{Image: words[1]},
				}, driver.Attempt{Number: 1, Stdout: io.Discard, Stderr: io.Discard, Started: func(driver.Ref) { fmt.Println("started") }})
				fmt.Println("ended", err)
			})
		}
		all.Wait()
	}
	fmt.Println(err)
	os.Exit(1)
}

// Whenever flowctl is killed, Sweep by another process leaves nothing.
func TestSweepAfterKill(t *testing.T) {
	t.Parallel()
	e, program := engine(t), image(t)
	for milestones := 1; milestones <= 5; milestones++ {
		t.Run(fmt.Sprint("after ", milestones), func(t *testing.T) {
			t.Parallel()
			run := newRun()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s", victim, run, program))
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := bufio.NewScanner(stdout)
			for i := 0; i < milestones && said.Scan(); i++ {
				if text := said.Text(); text != "opened <nil>" && text != "started" {
					t.Error(text)
				}
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if err := e.Sweep(t.Context(), run); err != nil {
				t.Error(err)
			}
			if containers, networks, err := e.find(t.Context(), labelRun+"="+run); err != nil || len(containers)+len(networks) > 0 {
				t.Errorf("%v and %v are left (%v)", containers, networks, err)
			}
		})
	}
}

package flowctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/withobsrvr/flowctl/internal/registry"
)

// componentMode, in the environment, makes the test binary a component.
const componentMode = "SDK_TEST_COMPONENT"

// runAsComponent is a component that ends on a signal, or, in the mode
// "stubborn", takes one and works on.
func runAsComponent() bool {
	mode := os.Getenv(componentMode)
	if mode == "" {
		return false
	}
	m, err := Join(context.Background(), Component{Role: Source})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("joined")
	<-m.Context().Done()
	m.Count("drained", 1)
	fmt.Println("told to end:", context.Cause(m.Context()))
	if mode == "stubborn" {
		select {}
	}
	if err := m.Leave(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

// startComponent starts one and returns what it prints, line by line.
func startComponent(t *testing.T, mode string) (*exec.Cmd, func() string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), componentMode+"="+mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	return cmd, func() string {
		lines.Scan()
		return lines.Text()
	}
}

func TestSignalEndsInGoodOrder(t *testing.T) {
	for sig, told := range map[syscall.Signal]string{
		syscall.SIGTERM: "told to end: received signal: terminated",
		syscall.SIGINT:  "told to end: received signal: interrupt",
	} {
		p := startPlane(t, "")
		p.registry.Expect(registry.Expected{ID: "a"})
		setEnvironment(t, p.addr, "a", "10s")
		cmd, line := startComponent(t, "plain")
		if got := line(); got != "joined" {
			t.Fatalf("it says %q", got)
		}
		p.await(t, "a", registered)
		cmd.Process.Signal(sig)
		if got := line(); got != told {
			t.Errorf("it says %q", got)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %s: %v", sig, err)
		}
		left := p.await(t, "a", func(s registry.Service) bool { return s.Left })
		if left.Metrics["drained"] != 1 {
			t.Errorf("left as %+v", left)
		}
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	setEnvironment(t, "localhost:1", "a", "10s")
	cmd, line := startComponent(t, "stubborn")
	for _, want := range []string{"joined", "told to end: received signal: terminated"} {
		if got := line(); got != want {
			t.Fatalf("it says %q, want %q", got, want)
		}
		cmd.Process.Signal(syscall.SIGTERM)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", err)
	}
}

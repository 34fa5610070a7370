package probe_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/probe"
)

// sh is an exec probe of a shell script.
func sh(t *testing.T, script string) probe.Probe {
	t.Helper()
	return probe.Exec([]string{"/bin/sh", "-c", script}, []string{"PATH=" + os.Getenv("PATH"), "ANSWER=42"}, t.TempDir())
}

func TestExec(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"code 0", "exit 0", ""},
		{"another code, with what it printed", "echo one; echo two >&2; exit 3", "/bin/sh: exit status 3: one\ntwo"},
		{"another code, nothing printed", "exit 1", "/bin/sh: exit status 1"},
		{"the environment is the component's", `test "$ANSWER" = 42 && test -z "$HOME"`, ""},
		{"the folder is the component's", `test -z "$(ls)"`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := text(sh(t, test.script)(t.Context())); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestExecKeepsTheEndOfLongOutput(t *testing.T) {
	err := sh(t, "seq 1 100000; echo the end; exit 1")(t.Context())
	if got := text(err); !strings.HasSuffix(got, "\n100000\nthe end") || len(got) > 5000 {
		t.Errorf("%d bytes that end with %q", len(got), got[max(0, len(got)-30):])
	}
}

func TestExecOfAProgramThatIsNotThere(t *testing.T) {
	err := probe.Exec([]string{"/no/such/program"}, nil, "")(t.Context())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that it does not exist", err)
	}
}

// TestExecKillsTheWholeGroup has a child of the command hold a FIFO open: its
// reader sees the end when, and only when, that child is gone.
func TestExecKillsTheWholeGroup(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var asking sync.WaitGroup
	var answer error
	ask := sh(t, "(exec 3>"+fifo+"; sleep 1000) & wait")
	asking.Go(func() { answer = ask(ctx) })

	held, err := os.Open(fifo) // when the child has opened its end
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cancel(enough)
	asking.Wait()
	if answer != enough {
		t.Errorf("%v, want the context's cause", answer)
	}
	if err := held.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := held.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v: the command's child is still alive", n, err)
	}
}

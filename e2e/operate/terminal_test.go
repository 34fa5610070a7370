package operate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// terminal is a real one, of 160 by 20 characters.
type terminal struct {
	t      *testing.T
	socket string
}

func (s *site) terminal(command string) *terminal {
	s.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		missing(s.t, "a terminal needs tmux, which is not here")
	}
	term := &terminal{s.t, filepath.Join(s.dir, "tmux")}
	cmd := term.tmux("new-session", "-d", "-x", "160", "-y", "20", "-c", s.dir, command)
	cmd.Env = append(s.env, "TERM=xterm-256color")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("tmux: %v: %s", err, out)
	}
	s.t.Cleanup(func() { _ = term.tmux("kill-server").Run() })
	return term
}

func (term *terminal) tmux(args ...string) *exec.Cmd {
	return exec.Command("tmux", append([]string{"-S", term.socket, "-f", os.DevNull}, args...)...)
}

// await waits until what is seen is as wanted, and returns it.
func (term *terminal) await(what string, wanted func(string) bool) string {
	term.t.Helper()
	deadline := time.After(patience)
	for {
		out, _ := term.tmux("capture-pane", "-p").Output()
		if wanted(string(out)) {
			return string(out)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			term.t.Fatalf("%s is never seen:\n%s", what, out)
		}
	}
}

// A terminal shows one table, whatever happens.
func TestWatchInATerminal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.detach(s.file("steady", steady), "30s")
	term := s.terminal("flowctl status -w; echo over; sleep 1000")
	first := term.await("the table", func(seen string) bool { return strings.Contains(seen, "1 of 1 ready") })
	t.Logf("\n%s", first)
	s.want(0, "", "stop", "out")
	term.await("the stop", func(seen string) bool {
		return strings.Contains(seen, "0 of 1 ready") && strings.Contains(seen, "stopped")
	})
	s.want(0, "", "start", "out")
	seen := term.await("the start", func(seen string) bool { return strings.Contains(seen, "1 of 1 ready") })
	if strings.Count(seen, "LAST EXIT") != 1 || strings.Count(seen, " of 1 ready") != 1 {
		t.Errorf("more than one table is seen:\n%s", seen)
	}
	s.want(0, "", "stop")
	seen = term.await("the end", func(seen string) bool { return strings.Contains(seen, "over") })
	if !strings.Contains(seen, "was stopped after") {
		t.Errorf("the end is not told:\n%s", seen)
	}
}

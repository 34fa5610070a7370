//go:build linux

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// documented are the commands that docs/control-plane.md has in the first block
// under a heading, without their comments, as words.
func documented(t *testing.T, heading string) (commands [][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "control-plane.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	_, block, opened := strings.Cut(section, "```sh\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !opened || !closed {
		t.Fatalf("docs/control-plane.md has no commands under %q", heading)
	}
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, "#")
		words := strings.Fields(command)
		if len(words) < 2 || words[0] != "flowctl" {
			t.Fatalf("docs/control-plane.md: %q is no command of flowctl", line)
		}
		commands = append(commands, words[1:])
	}
	return commands
}

// here is a documented command as it can be run beside others: on free ports, with
// copies of the examples.
func (s *site) here(t *testing.T, words []string, port string) (args []string) {
	t.Helper()
	for _, word := range words {
		if name, ok := strings.CutPrefix(word, "examples/"); ok {
			word, _ = s.example(t, name)
		}
		args = append(args, strings.ReplaceAll(word, ":8080", ":"+port))
	}
	switch {
	case words[0] == "server":
		args = append(args, "--port", port)
	case words[0] == "run" && !slices.Contains(words, "--control-plane"):
		args = append(args, "--control-plane-port", "0")
	}
	return args
}

// registered runs a documented list until the components of the live example are
// healthy there; a name in front of each is the pipeline's.
func (s *site) registered(t *testing.T, args []string, prefix string) {
	t.Helper()
	out, errout, code := s.command(t, append(args, "-o", "json")...)
	var services []struct {
		ID      string
		Healthy bool
	}
	if err := json.Unmarshal([]byte(out), &services); code != 0 || err != nil {
		t.Fatalf("flowctl %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errout)
	}
	healthy := map[string]bool{}
	for _, service := range services {
		healthy[service.ID] = service.Healthy
	}
	for _, id := range []string{"stellar-live-source-datalake", "ttp-processor", "consumer-app"} {
		if !healthy[prefix+id] {
			t.Errorf("%s is not healthy in\n%s", prefix+id, out)
		}
	}
}

// live runs a documented run of the live example until ledgers come through it.
func (s *site) live(t *testing.T, args []string) *flowctl {
	t.Helper()
	requireComponents(t)
	s.env = append(s.env, "LAKE="+filepath.Join(s.dir, "lake"), "EVERY=200ms")
	f := s.start(t, args)
	f.await(`\sconsumer-app +\* ready: `)
	f.await(`\sconsumer-app +\| .*53312002`)
	return f
}

// The commands that the guide shows for a control plane of its own work.
func TestDocumentedSharedPlane(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	commands, port := documented(t, "A control plane of its own"), strconv.Itoa(freePort(t))
	if len(commands) != 4 {
		t.Fatalf("the guide shows %q", commands)
	}
	server := s.start(t, s.here(t, commands[0], port))
	server.await(regexp.QuoteMeta("address=127.0.0.1:" + port))
	first := s.live(t, s.here(t, commands[1], port))
	second := s.start(t, s.here(t, commands[2], port))
	second.await(`\ssink +\| all three are there$`)
	s.registered(t, s.here(t, commands[3], port), "ttp-live/")
	first.signal(syscall.SIGINT)
	for _, f := range []*flowctl{first, second, server} {
		if f == server {
			server.signal(syscall.SIGINT)
		}
		<-f.ended
		if code := f.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s has ended with exit code %d", f.cmd.Args, code)
		}
	}
}

// The real components, in Go and in Node, speak TLS without a line of their code.
func TestDocumentedTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	commands := documented(t, "Who may call")
	if len(commands) != 2 {
		t.Fatalf("the guide shows %q", commands)
	}
	f := s.live(t, s.here(t, commands[0], ""))
	s.registered(t, s.here(t, commands[1], ""), "")
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

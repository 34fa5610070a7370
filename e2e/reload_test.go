//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// want runs flowctl to its end; it must end with a code and say something,
// which is an expression for a part of its output.
func (s *site) want(t *testing.T, code int, say string, args ...string) string {
	t.Helper()
	out, errout, got := s.command(t, args...)
	if got != code || !regexp.MustCompile(say).MatchString(out+errout) {
		t.Errorf("flowctl %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, say, out, errout)
	}
	return out
}

// pids are the processes of the components that have one.
func (s *site) pids(t *testing.T) map[string]int {
	t.Helper()
	var status struct {
		Components []struct {
			ID  string
			PID int
		}
	}
	if err := json.Unmarshal([]byte(s.want(t, 0, "", "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	pids := make(map[string]int)
	for _, c := range status.Components {
		if c.PID != 0 {
			pids[c.ID] = c.PID
		}
	}
	return pids
}

// wantSamePids checks that these components, and only these, have the processes they had.
func wantSamePids(t *testing.T, before, now map[string]int, ids ...string) {
	t.Helper()
	for id, pid := range now {
		if same := before[id] == pid; same != slices.Contains(ids, id) {
			t.Errorf("%s: pid %d before, %d now; it should be the same: %v", id, before[id], pid, !same)
		}
	}
	for _, id := range ids {
		if now[id] == 0 {
			t.Errorf("%s has no process any more", id)
		}
	}
}

// nthPid waits for an attempt of a component and returns its process.
func (f *flowctl) nthPid(component string, attempt int) int {
	f.t.Helper()
	match, _ := f.await(fmt.Sprintf(`\s%s +\* starting: pid (\d+), attempt %d$`, regexp.QuoteMeta(component), attempt))
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return pid
}

// awaitEnd waits for flowctl's end, whatever else of the test goes on.
func (f *flowctl) awaitEnd() {
	f.t.Helper()
	select {
	case <-f.ended:
	case <-time.After(patience):
		f.t.Fatalf("flowctl has not ended after %v", patience)
	}
}

// telling prints what its variable LEVEL says, and stays.
func telling(id, level, more string) string {
	return fmt.Sprintf("    - {id: %s, command: [sh, -c, 'echo level $$LEVEL; exec sleep 3600'], registration: none, env: {LEVEL: %s, API_TOKEN: %s-secret}%s}\n", id, level, level, more)
}

// Applying a changed file starts what is new, ends what is gone, starts anew
// what has changed, and touches nothing else.
func TestApply(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	left, moved := freePort(t), freePort(t)
	before := "  sources:\n" + component("steady", freePort(t), "", "") + telling("changing", "one", "") +
		component("leaving", left, ", stop: {grace: 300ms}", "-fork")
	f := s.run(t, s.pipelineFile(t, before+"  sinks:\n"+bare("out", ", depends_on: [steady, changing]", "")))
	f.await(`\sout +\* ready: `)
	f.await(`\sleaving +\* ready: `)
	was := s.pids(t)

	s.pipelineFile(t, "  sources:\n"+strings.Join(strings.SplitAfter(before, "\n")[1:2], "")+telling("changing", "two", "")+
		component("coming", left, "", "")+component("late", moved, ", depends_on: [coming]", "")+
		"  sinks:\n"+bare("out", ", depends_on: [steady, changing]", ""))
	const diff = `(?s)~ changing\n +env\.API_TOKEN: \*{4} → \*{4}\n +env\.LEVEL: one → two\n\+ coming\n\+ late\n- leaving\n`
	dry := s.want(t, 0, diff+`Nothing was done: this was a dry run`, "apply", "-f", "flow.yml", "--dry-run")
	if strings.Contains(dry, "secret") {
		t.Errorf("a secret is shown:\n%s", dry)
	}
	if now := s.pids(t); !maps.Equal(was, now) {
		t.Errorf("a dry run has changed the processes from %v to %v", was, now)
	}

	s.want(t, 0, diff, "apply", "-f", "flow.yml")
	f.await(`\sleaving +\* stopped: removed from the pipeline; `)
	f.await(`\schanging +\| level two$`)
	f.await(`\slate +\* ready: `)
	now := s.pids(t)
	wantSamePids(t, was, now, "steady", "out")
	if len(now) != 5 {
		t.Errorf("the components with a process are %v", now)
	}
	// What the removed one had left in its group is gone, or its port would not be the new one's.
	wantOrder(t, f.out.String(), "leaving * stopped: ", "coming * starting: ")

	s.want(t, 0, `^Nothing changes: the pipeline runs as the file says\.`, "apply", "-f", "flow.yml")
	if again := s.pids(t); !maps.Equal(now, again) {
		t.Errorf("a file that changes nothing has changed the processes from %v to %v", now, again)
	}
	f.signal(syscall.SIGINT)
	f.wantExit(0)
	wantFree(t, left, moved)
}

// A port that moves from one component to another is free when the other starts,
// however long its holder takes to end.
func TestApplyMovesAPort(t *testing.T) {
	t.Parallel()
	for _, test := range []string{"to a new one", "to a changed one"} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			first, second, third := freePort(t), freePort(t), freePort(t)
			slow := func(port int) string {
				return component("holder", port, ", stop: {grace: 500ms}", "-ignore-term")
			}
			f := s.run(t, s.pipelineFile(t, "  sources:\n"+slow(first)+component("other", second, "", "")))
			f.await(`\sholder +\* ready: `)
			f.await(`\sother +\* ready: `)
			next, taker := "  sources:\n"+slow(third)+component("other", first, "", ""), "other"
			if test == "to a new one" {
				next, taker = "  sources:\n"+slow(third)+component("other", second, "", "")+component("new", first, "", ""), "new"
			}
			s.pipelineFile(t, next)
			s.want(t, 0, "~ holder", "apply", "-f", "flow.yml")
			s.want(t, 0, "ready", "wait", "--for", "ready")
			if regexp.MustCompile(taker + ` +\* (backoff|failed)`).MatchString(f.out.String()) {
				t.Errorf("%s was started before its port was free", taker)
			}
			f.signal(syscall.SIGINT)
			f.wantExit(0)
		})
	}
}

// A file that is wrong, or that this machine cannot run, touches nothing.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	strangers := freePort(t)
	held := s.start(t, []string{"server", "--port", strconv.Itoa(strangers)})
	held.await(`:` + strconv.Itoa(strangers))
	good := "  sources:\n" + bare("src", "", "") + "  sinks:\n" + bare("out", ", depends_on: [src]", "")
	f := s.run(t, s.pipelineFile(t, good))
	f.await(`\sout +\* ready: `)
	was := s.pids(t)
	for _, test := range []struct {
		name, spec string
		code       int
		say        string
	}{
		{"no YAML", "  sources: [\n", 2, `flow\.yml:\d+:\d+: is no YAML: `},
		{"an unknown key", good + "  sinkz: []\n", 2, `flow\.yml:9:3: spec\.sinkz: unknown field \(did you mean "sinks"\?\)`},
		{"a cycle", strings.Replace(good, "registration: none", "registration: none, depends_on: [out]", 1), 2, `flow\.yml:\d+:\d+: .*the components wait for each other: `},
		{"an unknown dependency", strings.Replace(good, "[src]", "[scr]", 1), 2, `flow\.yml:8:\d+: .*did you mean "src"\?`},
		{"a missing program", good + "    - {id: new, binary: ./nonesuch, registration: none}\n", 3, `new: its program .*/nonesuch does not exist`},
		{"a missing folder", good + bare("new", ", working_dir: ./nowhere", ""), 3, `new: its working directory .*/nowhere does not exist`},
		{"a taken port", good + component("new", strangers, "", ""), 3, fmt.Sprintf(`new: port %d is held by pid %d`, strangers, held.cmd.Process.Pid)},
	} {
		s.pipelineFile(t, test.spec)
		for _, more := range [][]string{nil, {"--dry-run"}} {
			if out, errout, code := s.command(t, append([]string{"apply", "-f", "flow.yml"}, more...)...); code != test.code || !regexp.MustCompile(test.say).MatchString(errout) {
				t.Errorf("%s %v: exit code %d, want %d and %q\n%s%s", test.name, more, code, test.code, test.say, out, errout)
			}
		}
	}
	if now := s.pids(t); !maps.Equal(was, now) {
		t.Errorf("wrong files have changed the processes from %v to %v", was, now)
	}
	f.signal(syscall.SIGINT)
	f.awaitEnd()
	held.signal(syscall.SIGINT)
	held.awaitEnd()
	f.wantExit(0)
}

// Another pipeline's file is not applied, even to the run that is named.
func TestApplyRefusesAnotherPipeline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+bare("out", "", "")))
	f.await(`\sout +\* ready: `)
	was := s.pids(t)
	other := s.write(t, "other.yml", "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: other}\nspec:\n  sinks:\n"+bare("else", "", ""))
	s.want(t, 3, `there is no run or pipeline "other"`, "apply", "-f", other)
	s.want(t, 1, `it is the pipeline other, and test is running`, "apply", "-f", other, "--run", "test")
	if now := s.pids(t); !maps.Equal(was, now) {
		t.Errorf("the processes have changed from %v to %v", was, now)
	}
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// A hang-up makes a detached run read its file again. (A run in a terminal
// ends: TestSignalsStopGracefully.)
func TestReloadByHangUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := func(level, more string) {
		s.pipelineFile(t, "  sources:\n"+telling("changing", level, "")+bare("steady", "", "")+more)
	}
	file("one", "")
	s.want(t, 0, `is ready, in the background`, "run", "-d", "--control-plane-port", "0")
	t.Cleanup(func() { s.command(t, "stop") })
	var runs []struct{ PID int }
	if err := json.Unmarshal([]byte(s.want(t, 0, "", "ps", "-o", "json")), &runs); err != nil || len(runs) != 1 {
		t.Fatalf("the runs are %v (%v)", runs, err)
	}
	hangUp := func() {
		if err := syscall.Kill(runs[0].PID, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	was := s.pids(t)
	attached := s.start(t, []string{"logs", "-f", "--events"})

	file("two", bare("coming", "", ""))
	hangUp()
	attached.await(`\sflowctl +\* applying flow\.yml: 1 added, 1 changed$`)
	attached.await(`\schanging +\| level two$`)
	attached.await(`\scoming +\* ready: `)
	now := s.pids(t)
	wantSamePids(t, was, now, "steady")

	file("three", "    - {id: wrong, bin: x}\n")
	hangUp()
	s.awaitDetached(t, `reload of flow\.yml refused, nothing has changed: (?s:.*)flow\.yml:\d+:\d+: .*bin: unknown field`)
	file("two", bare("coming", "", ""))
	hangUp()
	s.awaitDetached(t, `reload of flow\.yml: nothing changes`)
	if again := s.pids(t); !maps.Equal(now, again) {
		t.Errorf("reloads that change nothing have changed the processes from %v to %v", now, again)
	}
	s.want(t, 0, `has stopped after`, "stop")
	attached.awaitEnd()
}

// awaitDetached waits until a detached run has said something in its output
// file, where nobody can be told of it.
func (s *site) awaitDetached(t *testing.T, expr string) {
	t.Helper()
	for begin := time.Now(); ; <-time.After(10 * time.Millisecond) {
		paths, _ := filepath.Glob(filepath.Join(s.dir, "state/flowctl/detached/*.out"))
		text := ""
		for _, path := range paths {
			content, _ := os.ReadFile(path)
			text += string(content)
		}
		if regexp.MustCompile(expr).MatchString(text) {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("%v does not say %q:\n%s", paths, expr, text)
		}
	}
}

// A component that waits for its next attempt is started at once when its file
// is mended, and is not started when it is removed.
func TestApplyDuringBackoff(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const never = ", restart: {initial: 1h, max: 1h}"
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+bare("mended", never, "-exit, 1, -after, 1ms")+bare("removed", never, "-exit, 1, -after, 1ms")+bare("steady", "", "")))
	f.await(`\smended +\* backoff: .*; restart 2 of 5 in \S+$`)
	f.await(`\sremoved +\* backoff: .*; restart 2 of 5 in \S+$`)
	f.await(`\ssteady +\* ready: `)
	s.pipelineFile(t, "  sources:\n"+bare("mended", never, "")+bare("steady", "", ""))
	s.want(t, 0, `(?s)~ mended\n.*- removed\n`, "apply", "-f", "flow.yml")
	f.nthPid("mended", 3)
	f.await(`\sremoved +\* stopped: removed from the pipeline$`)
	f.signal(syscall.SIGINT)
	f.wantExit(0)
	if n := strings.Count(strings.Join(strings.Fields(f.out.String()), " "), "removed * starting: "); n != 2 {
		t.Errorf("the removed component was started %d times, want 2", n)
	}
}

// What a user asks for while a changed component is still ending does not undo
// the change, and who was stopped by hand stays so.
func TestApplyAndCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	slow := func(id, level string) string {
		return fmt.Sprintf("    - {id: %s, command: [sh, -c, \"trap '' TERM; echo level $$LEVEL; while :; do sleep 0.1; done\"], registration: none, env: {LEVEL: %s}, stop: {grace: 1s}}\n", id, level)
	}
	all := func(level string) string {
		return "  sources:\n" + slow("restarted", level) + slow("stopped", level) + telling("parked", level, "")
	}
	f := s.run(t, s.pipelineFile(t, all("one")))
	for _, id := range []string{"restarted", "stopped", "parked"} {
		f.await(`\s` + id + ` +\| level one$`)
	}
	s.want(t, 0, "", "stop", "parked")
	s.pipelineFile(t, all("two"))
	s.want(t, 0, "~ restarted", "apply", "-f", "flow.yml")
	s.want(t, 0, "", "restart", "restarted", "--no-wait")
	s.want(t, 0, "", "stop", "stopped")
	s.want(t, 0, "", "wait", "restarted")
	if now := s.pids(t); len(now) != 1 || now["restarted"] == 0 {
		t.Errorf("the components with a process are %v, want restarted alone", now)
	}
	f.await(`\srestarted +\| level two$`)
	s.want(t, 0, "", "start", "stopped", "parked")
	f.await(`\sstopped +\| level two$`)
	f.await(`\sparked +\| level two$`)
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// Whoever asked may go away: a change that has begun is carried out.
func TestApplyInterrupted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ids := []string{"a", "b", "c", "d", "e", "f"}
	all := func(level string) string {
		spec := "  sources:\n"
		for _, id := range ids {
			spec += telling(id, level, "")
		}
		return spec
	}
	f := s.run(t, s.pipelineFile(t, all("one")+component("slow", freePort(t), ", stop: {grace: 1s}", "-ignore-term")))
	for _, id := range ids {
		f.await(`\s` + id + ` +\| level one$`)
	}
	f.await(`\sslow +\* ready: `)
	s.pipelineFile(t, all("two"))
	apply := s.start(t, []string{"apply", "-f", "flow.yml"})
	f.await(`\sslow +\* stopping: removed from the pipeline$`)
	apply.signal(syscall.SIGINT)
	apply.awaitEnd()
	for _, id := range ids {
		f.await(`\s` + id + ` +\| level two$`)
	}
	s.want(t, 0, `^Nothing changes: `, "apply", "-f", "flow.yml")
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// What is said of the pipeline as a whole can be changed, too.
func TestApplyOnFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	spec := "  sources:\n" + bare("fragile", ", restart: {policy: no}", "") + bare("steady", "", "")
	f := s.run(t, s.pipelineFile(t, spec))
	pid := f.pid("fragile")
	f.await(`\ssteady +\* ready: `)
	s.pipelineFile(t, "  on_failure: keep\n"+spec)
	was := s.pids(t)
	s.want(t, 0, "on_failure", "apply", "-f", "flow.yml")
	wantSamePids(t, was, s.pids(t), "fragile", "steady")
	kill(t, pid)
	f.await(`\sfragile +\* failed: was killed by SIGKILL `)
	wantSamePids(t, was, s.pids(t), "steady")
	f.signal(syscall.SIGINT)
	f.wantExit(1)
}

//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kill ends a process as the out-of-memory killer would.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// component is one component that runs testcomponent, as a list item of a pipeline file.
func component(id string, healthPort int, more, args string) string {
	return fmt.Sprintf("    - {id: %s, binary: testcomponent, health_port: %d%s, args: [%s]}\n", id, healthPort, more, args)
}

// bare is one that neither registers nor serves health.
func bare(id, more, args string) string {
	if args != "" {
		args = ", " + args
	}
	return fmt.Sprintf("    - {id: %s, binary: testcomponent, registration: none%s, args: [-join, none%s]}\n", id, more, args)
}

// Ctrl-C at any moment of a start leaves nothing behind.
func TestInterruptAtAnyMoment(t *testing.T) {
	t.Parallel()
	const moments, last = 20, 1200 * time.Millisecond
	requireComponents(t)
	codes := make(chan int, moments)
	t.Run("after", func(t *testing.T) {
		for i := range moments {
			after := last * time.Duration(i) / (moments - 1)
			t.Run(after.Round(time.Millisecond).String(), func(t *testing.T) {
				t.Parallel()
				p := newTTP(t)
				p.site.env = append(p.site.env, "END_LEDGER=0") // without end
				f := p.site.run(t, p.file)
				<-time.After(after)
				f.signal(syscall.SIGINT)
				code := f.exit()
				if code != 130 && code != 0 {
					t.Errorf("flowctl's exit code is %d, want 130, or 0 once everything was ready", code)
				}
				if ready := strings.Count(f.out.String(), "* ready: ") == 3; code == 0 != ready {
					t.Errorf("flowctl's exit code is %d, all components had been ready: %v", code, ready)
				}
				wantFree(t, p.ports...)
				codes <- code
			})
		}
	})
	close(codes)
	count := map[int]int{}
	for code := range codes {
		count[code]++
	}
	t.Logf("exit codes of %d interrupted starts: %v", moments, count)
}

// Signals after everything was ready are the usual end of a pipeline.
func TestSignalsStopGracefully(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		signal syscall.Signal
		name   string
	}{{syscall.SIGINT, "Ctrl-C"}, {syscall.SIGTERM, "SIGTERM"}, {syscall.SIGHUP, "SIGHUP"}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			ports := []int{freePort(t), freePort(t), freePort(t)}
			f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("up", ports[0], "", "-role, source")+
				"  processors:\n"+component("middle", ports[1], ", stop: {grace: 500ms}", "-role, processor, -fork")+
				"  sinks:\n"+component("down", ports[2], "", "-role, sink")))
			f.await(`\sdown +\* ready: `)
			f.signal(test.signal)
			f.await(`\* ` + test.name + `: stopping, dependents first; once more kills at once`)
			f.wantExit(0)
			wantFree(t, ports...)
			wantOrder(t, f.out.String(), "down * stopping: asked to", "down * left", "down * stopped: ", "middle * stopping: ", "middle * stopped: ", "up * stopping: ", "up * left", "up * stopped: ")
		})
	}
}

// wantOrder checks that these occur in text one after the other; runs of blanks count as one.
func wantOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), " ")
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("%q does not come, or comes too early", part)
			continue
		}
		rest = after
	}
}

// The codes before everything is ready are the shell's.
func TestSignalsDuringStart(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGHUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			port := freePort(t)
			f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("slow", port, "", "-delay, 1h")))
			f.pid("slow")
			f.signal(sig)
			f.wantExit(128 + int(sig))
			f.awaitIn(f.errout, `^flowctl: interrupted by .* before everything was ready$`)
		})
	}
}

// A signal may come before flowctl has done anything at all.
func TestSignalsBeforeAnything(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := s.pipelineFile(t, "  sources:\n"+bare("source", "", "")+"  sinks:\n"+bare("sink", "", ""))
	for i := range 20 {
		f := s.run(t, file)
		<-time.After(time.Duration(i) * time.Millisecond)
		f.signal(syscall.SIGTERM)
		if code := f.exit(); code != 143 && code != 0 {
			t.Errorf("SIGTERM %d ms after the start: exit code %d, want 143, or 0 once everything was ready", i, code)
		}
	}
}

// Ctrl-C ends flowctl while it reads its file, too: from a pipe, that may take for ever.
func TestInterruptWhileReadingTheFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	fifo := filepath.Join(s.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f := s.run(t, fifo)
	var writer *os.File
	for begin := time.Now(); writer == nil; <-time.After(time.Millisecond) { // it can be opened once flowctl reads
		var err error
		if writer, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err != nil && time.Since(begin) > patience {
			t.Fatal(err)
		}
	}
	defer writer.Close()
	f.signal(syscall.SIGINT)
	select {
	case <-f.ended:
		f.wantExit(130)
	case <-time.After(5 * time.Second):
		t.Error("flowctl has not ended 5s after SIGINT")
	}
}

// anotherKeystroke is how soon after Ctrl-C a person can press it again: signals
// that are closer than 20 ms are taken for one that was delivered twice.
const anotherKeystroke = 100 * time.Millisecond

// A component that ignores SIGTERM has its grace and no more; its children,
// which ignore it too, go with it.
func TestStubbornComponent(t *testing.T) {
	t.Parallel()
	// As npm does: a program that starts a shell that starts the component.
	const stubborn = `    - {id: stubborn, command: [sh, -c, "sh -c 'testcomponent -join none -ignore-term -fork -lines 1; :'; :"],` +
		` registration: none, probe: {exec: [test, -s, logs/stubborn.log]}, stop: {grace: %s}}` + "\n"

	t.Run("one Ctrl-C", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		f := s.run(t, s.pipelineFile(t, "  sinks:\n"+fmt.Sprintf(stubborn, "1s")))
		f.await(`\sstubborn +\* ready: `)
		begin := time.Now()
		f.signal(syscall.SIGINT)
		f.wantExit(0)
		if took := time.Since(begin); took < time.Second || took > 5*time.Second {
			t.Errorf("the stop took %v, want a second of grace and little more", took)
		}
		f.await(`\sstubborn +\* stopped: was killed by SIG(TERM|KILL): it had not ended in time$`)
	})
	t.Run("two Ctrl-C", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		f := s.run(t, s.pipelineFile(t, "  sinks:\n"+fmt.Sprintf(stubborn, "1h")))
		f.await(`\sstubborn +\* ready: `)
		f.signal(syscall.SIGINT)
		f.await(`\sstubborn +\* stopping: asked to$`)
		<-time.After(anotherKeystroke)
		begin := time.Now()
		f.signal(syscall.SIGINT)
		f.await(`Ctrl-C again: killing what is left$`)
		f.wantExit(130)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("after the second Ctrl-C it took %v", took)
		}
		f.awaitIn(f.errout, `^flowctl: killed by a second Ctrl-C$`)
	})
	t.Run("says who", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		f := s.run(t, s.pipelineFile(t, "  sinks:\n"+fmt.Sprintf(stubborn, "3s")))
		pid := f.pid("stubborn")
		f.await(`\sstubborn +\* ready: `)
		f.signal(syscall.SIGTERM)
		f.await(fmt.Sprintf(`still waiting for stubborn \(pid %d, SIGTERM sent [12]s ago, killed in [12]s\)`, pid))
		f.wantExit(0)
	})
}

// A terminal sends Ctrl-C to everyone in its foreground; components are not among them.
func TestComponentsAreNotInTheForegroundGroup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+bare("sink", "", "")))
	pid := f.pid("sink")
	f.await(`\ssink +\* ready: `)
	group, err := syscall.Getpgid(pid)
	if err != nil || group != pid {
		t.Errorf("the component's process group is %d (%v), want its own, %d", group, err, pid)
	}
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// The death of a ready component is reported at once and ends the run.
func TestKilledComponent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ports := []int{freePort(t), freePort(t)}
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("source", ports[0], ", restart: {policy: no}", "")+
		"  sinks:\n"+component("sink", ports[1], "", "-role, sink, -text, working")))
	pid := f.pid("source")
	f.await(`\ssink +\* ready: `)
	killed := time.Now()
	kill(t, pid)
	_, reported := f.await(`\ssource +\* failed: was killed by SIGKILL after`)
	took := reported.Sub(killed)
	t.Logf("reported %v after kill -9", took)
	if took > 500*time.Millisecond { // 100 ms is the promise; this machine may be busy
		t.Errorf("reported %v after kill -9", took)
	}
	f.wantExit(1)
	f.awaitIn(f.errout, `^flowctl: source was killed by SIGKILL after \S+$`)
	wantFree(t, ports...)
}

// A failure of a start says why and ends everything else.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, component, want string }{
		{"exits with a code", bare("bad", "", "-text, no such table, -after, 1ms, -exit, 7"), `^flowctl: bad exited with code 7 after .*; its last lines \(all of them: logs/bad.log\):$`},
		{"cannot be executed", "    - {id: bad, binary: ./broken, registration: none}\n", `^flowctl: bad could not be started: .*: exec format error$`},
		{"never registers", "    - {id: bad, binary: testcomponent, args: [-join, none], probe: {exec: ['true'], start_timeout: 300ms}}\n",
			"^flowctl: bad did not register within 300ms \\(a program without an SDK needs `registration: none`\\)$"},
		{"is never healthy", "    - {id: bad, binary: testcomponent, args: [-join, none], registration: none, probe: {exec: ['false'], start_timeout: 300ms}}\n",
			`^flowctl: bad was not healthy 300ms after its start: .*`},
		{"has the wrong health port", "    - {id: bad, binary: testcomponent, args: [-join, none], registration: none, health_port: " + fmt.Sprint(freePort(t)) + ", probe: {http: {}, start_timeout: 300ms}}\n",
			`^flowctl: bad was not healthy 300ms after its start: .*connection refused`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			port := freePort(t)
			if err := os.WriteFile(filepath.Join(s.dir, "broken"), []byte("\x7fELF, but broken"), 0o755); err != nil {
				t.Fatal(err)
			}
			f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("steady", port, "", "")+"  sinks:\n"+test.component))
			f.awaitIn(f.errout, test.want)
			f.wantExit(1)
			f.await(`^steady +stopped `)
			f.await(`^bad +failed `)
			wantFree(t, port)
		})
	}
}

// A frozen component is unhealthy after the TTL and healthy when it goes on.
func TestFrozenComponent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := s.pipelineFile(t, "  sinks:\n"+component("frozen", freePort(t), ", env: {FLOWCTL_HEARTBEAT_INTERVAL: 200ms}", "-role, sink"))
	f := s.run(t, file, "--heartbeat-ttl", "1s", "--janitor-interval", "200ms")
	pid := f.pid("frozen")
	f.await(`\sfrozen +\* ready: after`)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	_, at := f.await(`\sfrozen +\* degraded: no heartbeat for 1`)
	if took := at.Sub(frozen); took < 700*time.Millisecond {
		t.Errorf("unhealthy %v after it was frozen, before the TTL of 1s", took)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.await(`\sfrozen +\* ready: healthy again`)
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// A frozen component is stopped like any other.
func TestStopOfAFrozenComponent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+component("frozen", freePort(t), "", "-role, sink")))
	pid := f.pid("frozen")
	f.await(`\sfrozen +\* ready: after`)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.signal(syscall.SIGTERM)
	f.wantExit(0)
	f.await(`\sfrozen +\* stopped: exited with code 0$`)
}

// What a component says of its own health is heard.
func TestIllComponent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+component("ill", freePort(t), ", probe: {http: {}, interval: 50ms}, env: {FLOWCTL_HEARTBEAT_INTERVAL: 50ms}", "-role, sink")))
	pid := f.pid("ill")
	f.await(`\sill +\* ready: after`)
	for _, step := range []struct {
		signal syscall.Signal
		want   string
	}{{syscall.SIGUSR1, `\sill +\* degraded: (reports itself unhealthy|probe: it says it is unhealthy: told to be ill)`}, {syscall.SIGUSR2, `\sill +\* ready: healthy again`}} {
		if err := syscall.Kill(pid, step.signal); err != nil {
			t.Fatal(err)
		}
		f.await(step.want)
	}
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// A run ends by itself when all sinks have completed, and shows their last metrics.
func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("source", freePort(t), ", stop: {grace: 100ms}", "-fork")+
		"  sinks:\n"+component("first", freePort(t), "", "-role, sink, -count, 3")+component("second", freePort(t), "", "-role, sink, -count, 4, -delay, 100ms")))
	f.wantExit(0)
	f.await(`^first +completed +\S+ +0 +things=3$`)
	f.await(`^second +completed +\S+ +0 +things=4$`)
	f.await(`^source +stopped `)
}

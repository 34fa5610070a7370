//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A component that is killed is started again at once; its dependents go on, or
// are restarted with it where the file says so.
func TestRestartAfterKill(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	health := freePort(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("src", health, "", "-env")+
		"  sinks:\n"+bare("reconnects", ", depends_on: [src]", "")+bare("follows", ", depends_on: {src: {restart: true}}", "")))
	pid := f.pid("src")
	f.await(`\sreconnects +\* ready: `)
	f.await(`\sfollows +\* ready: `)
	was := s.pids(t)
	kill(t, pid)
	f.await(`\ssrc +\* backoff: was killed by SIGKILL after \S+; restart 1 of 5 at once$`)
	f.await(`\sfollows +\* stopping: src is restarted$`)
	f.nthPid("src", 2)
	f.await(`\ssrc +\| ENV FLOWCTL_ATTEMPT=2$`)
	f.nthPid("follows", 2)
	s.want(t, 0, "ready", "wait", "--for", "ready")
	wantSamePids(t, was, s.pids(t), "reconnects")
	wantOrder(t, afterKill(f.out.String()), "src * ready: ", "follows * starting: ")
	s.want(t, 0, `src +source +ready +\S+ +2 +1 `, "status")
	f.signal(syscall.SIGINT)
	f.wantExit(0)
	wantFree(t, health)
}

// afterKill is what came after the first component had been killed.
func afterKill(text string) string {
	_, after, _ := strings.Cut(text, "was killed by SIGKILL")
	return after
}

// A component that fails again and again is given up, in one sentence, with its
// last lines.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+bare("steady", "", "")+
		"  sinks:\n    - {id: bad, command: [sh, -c, 'echo attempt $$FLOWCTL_ATTEMPT; exit 7'], registration: none, restart: {initial: 20ms, jitter: 0, attempts: 3}}\n"))
	f.wantExit(1)
	for _, when := range []string{"1 of 3 at once", "2 of 3 in 20ms", "3 of 3 in 40ms"} {
		f.await(`\sbad +\* backoff: exited with code 7 after \S+; restart ` + when + `$`)
	}
	f.awaitIn(f.errout, `^flowctl: bad has failed for good after 3 restarts within 10m: it exited with code 7 after \S+; its last lines \(all of them: logs/bad\.log\):$`)
	for attempt := 1; attempt <= 4; attempt++ {
		f.awaitIn(f.errout, fmt.Sprintf(`^  \| attempt %d$`, attempt))
	}
	if strings.Contains(f.errout.String(), "attempt 5") {
		t.Error("there was a fifth attempt")
	}
	f.await(`\ssteady +\* stopping: bad failed$`)
}

// What no restart can mend is not restarted.
func TestPermanentFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, component, want string }{
		{"not found", "{id: bad, command: [sh, -c, nonesuch], registration: none, restart: {initial: 1ms}}", `^flowctl: bad exited with code 127 after \S+, which no restart can mend; its last lines`},
		{"not executable", "{id: bad, command: [sh, -c, exit 126], registration: none, restart: {initial: 1ms}}", `^flowctl: bad exited with code 126 after \S+, which no restart can mend$`},
		{"policy no", "{id: bad, command: [sh, -c, exit 7], registration: none, restart: {policy: no}}", `^flowctl: bad exited with code 7 after \S+$`},
		{"never ready, no restart in the file", "{id: bad, command: [sh, -c, exit 7], registration: none}", `^flowctl: bad exited with code 7 after \S+$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			f := s.run(t, s.pipelineFile(t, "  sinks:\n    - "+test.component+"\n"))
			f.wantExit(1)
			f.awaitIn(f.errout, test.want)
			if strings.Contains(f.out.String(), "backoff") {
				t.Error("it was restarted")
			}
		})
	}
}

// Whoever is to be restarted always is, after code 0 as well.
func TestRestartAlways(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+bare("again", ", restart: {policy: always, initial: 1ms, jitter: 0, attempts: 1000}", "-after, 1ms")))
	f.await(`\sagain +\* backoff: exited with code 0 after \S+; restart 1 of 1000 at once$`)
	f.nthPid("again", 3)
	f.signal(syscall.SIGINT)
	f.exit() // its code depends on whether it was ready at that moment
}

// With on_failure: keep the others go on, and the one that failed can be started
// again.
func TestOnFailureKeep(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	broken := s.write(t, "broken", "")
	f := s.run(t, s.pipelineFile(t, "  on_failure: keep\n  sources:\n"+bare("steady", "", "")+
		"  sinks:\n    - {id: bad, command: [sh, -c, 'test -e mended || exit 7; exec sleep 3600'], registration: none, probe: {exec: [test, -e, mended]}, restart: {initial: 1ms, attempts: 2}}\n"))
	f.await(`\sbad +\* failed: has failed for good after 2 restarts within 10m: it exited with code 7 `)
	was := s.pids(t)
	if len(was) != 1 || was["steady"] == 0 {
		t.Errorf("the components with a process are %v", was)
	}
	s.want(t, 1, `bad is failed: has failed for good`, "wait", "--for", "completed")
	if err := os.Rename(broken, filepath.Join(s.dir, "mended")); err != nil {
		t.Fatal(err)
	}
	s.want(t, 0, "bad started", "start", "bad")
	now := s.pids(t)
	wantSamePids(t, was, now, "steady")
	if now["bad"] == 0 {
		t.Error("bad was not started")
	}
	f.signal(syscall.SIGINT)
	f.exit()
}

// A restart that a user asks for counts nothing, and dependents keep running.
func TestRestartCommandCountsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+bare("src", ", restart: {attempts: 1, initial: 1ms}", "")+"  sinks:\n"+bare("out", ", depends_on: [src]", "")))
	f.await(`\sout +\* ready: `)
	was := s.pids(t)
	for range 3 {
		s.want(t, 0, "src restarted", "restart", "src")
	}
	wantSamePids(t, was, s.pids(t), "out")
	s.want(t, 0, `src +source +ready +\S+ +4 +0 `, "status")
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// A component whose metric stands still while its source's moves is restarted.
func TestStalledComponent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const beat = ", env: {FLOWCTL_HEARTBEAT_INTERVAL: 20ms}"
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("src", freePort(t), beat, "-work, 20ms")+
		"  sinks:\n"+component("stuck", freePort(t), beat+", progress: {metric: things, stall: 1s}, depends_on: [src]", "-role, sink, -work, 20ms, -most, 3")+
		component("calm", freePort(t), beat+", progress: {metric: things, stall: 5s}, depends_on: [src]", "-role, sink, -work, 20ms")))
	f.await(`\sstuck +\* backoff: made no progress for 1s: its metric things stands at 3; restart 1 of 5 at once$`)
	f.nthPid("stuck", 2)
	f.signal(syscall.SIGINT)
	f.wantExit(0)
	if regexp.MustCompile(`calm +\* backoff`).MatchString(f.out.String()) {
		t.Error("the one that makes progress was restarted")
	}
}

// Who stays unhealthy is restarted: a frozen component sends no heartbeats.
func TestUnhealthyTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sinks:\n"+component("frozen", freePort(t), ", env: {FLOWCTL_HEARTBEAT_INTERVAL: 100ms}, restart: {unhealthy_timeout: 300ms}", "-role, sink")),
		"--heartbeat-ttl", "1s", "--janitor-interval", "100ms")
	pid := f.pid("frozen")
	f.await(`\sfrozen +\* ready: after`)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.await(`\sfrozen +\* stopping: was unhealthy for 300ms: no heartbeat for `)
	ill, gone := f.printedAt(`frozen +\* degraded: no heartbeat for `), f.printedAt(`frozen +\* stopping: was unhealthy`)
	if took := gone.Sub(ill); took < 250*time.Millisecond && took > -12*time.Hour {
		t.Errorf("it was given up %v after it had become unhealthy", took)
	}
	f.nthPid("frozen", 2)
	s.want(t, 0, "ready", "wait", "--for", "ready")
	f.signal(syscall.SIGINT)
	f.wantExit(0)
}

// printedAt is the time of day that flowctl printed before text: when this
// process came to read the line says little on a busy machine.
func (f *flowctl) printedAt(text string) time.Time {
	f.t.Helper()
	m := regexp.MustCompile(`(?m)^(\d\d:\d\d:\d\d\.\d{3})  ` + text).FindStringSubmatch(f.out.String())
	if m == nil {
		f.t.Fatalf("%q was not printed with a time", text)
	}
	at, err := time.Parse("15:04:05.000", m[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return at
}

// Each kind of probe says when a component is ready, and when it no longer is well.
func TestProbes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	serving, connecting := freePort(t), freePort(t)
	const often = ", interval: 50ms, failure_threshold: 2}"
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+
		bare("grpc", fmt.Sprintf(", ports: [{name: api, containerPort: %d}], probe: {grpc: {port: api}%s", serving, often), "-delay, 200ms, -grpc")+
		component("tcp", connecting, fmt.Sprintf(", registration: none, probe: {tcp: {port: %d}%s", connecting, often), "-delay, 200ms")+
		"    - {id: exec, command: [sleep, '3600'], registration: none, probe: {exec: [test, -e, healthy]"+often+"}\n"+
		"    - {id: hanging, command: [sleep, '3600'], registration: none, probe: {exec: [sh, -c, 'sleep 3600 & echo $$! > probe; test -e healthy || wait'], timeout: 400ms"+often+"}\n"))
	f.await(`\sgrpc +\* ready: after `)
	f.await(`\stcp +\* ready: after `)
	if regexp.MustCompile(`(exec|hanging) +\* ready`).MatchString(f.out.String()) {
		t.Error("exec or hanging is ready, its probe does not pass")
	}
	path := s.write(t, "healthy", "")
	f.await(`\sexec +\* ready: after `)
	f.await(`\shanging +\* ready: after `)

	grpcPid := f.pid("grpc")
	if err := syscall.Kill(grpcPid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	f.await(`\sgrpc +\* degraded: probe: .*NOT_SERVING`)
	if err := syscall.Kill(grpcPid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	f.await(`\sgrpc +\* ready: healthy again$`)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.await(`\sexec +\* degraded: probe: `)
	f.await(`\shanging +\* degraded: probe: no answer within 400ms$`)
	f.signal(syscall.SIGINT)
	f.wantExit(0) // and nothing is left of the probes
	wantFree(t, serving, connecting)
}

// Each condition holds when it should and not before; an optional dependency may fail.
func TestConditions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  on_failure: keep\n  sources:\n"+
		"    - {id: migration, command: [sh, -c, 'until test -e go; do sleep 0.01; done; echo migrated'], registration: none}\n"+
		"    - {id: optional, command: [sh, -c, 'exit 3'], registration: none}\n"+
		component("weak", freePort(t), ", probe: {http: {}, interval: 50ms}, env: {FLOWCTL_HEARTBEAT_INTERVAL: 50ms}", "-health, degraded")+
		"    - {id: slow, command: [sleep, '3600'], registration: none, probe: {exec: [test, -e, go]}}\n"+
		"  sinks:\n"+
		bare("after-start", ", depends_on: {slow: {condition: started}}", "")+
		bare("after-ready", ", depends_on: {weak: {condition: ready}, optional: {required: false}}", "")+
		bare("after-healthy", ", depends_on: {weak: {condition: healthy}, migration: {condition: completed}}", "")+
		bare("after-completion", ", depends_on: {migration: {condition: service_completed_successfully}, slow: {}}", "")))
	f.await(`\safter-start +\* ready: `)
	f.await(`\soptional +\* failed: exited with code 3`)
	f.await(`\safter-ready +\* ready: `)
	f.await(`\sweak +\* degraded: `)
	if now := s.pids(t); now["after-healthy"] != 0 || now["after-completion"] != 0 {
		t.Errorf("these were started too early: %v", now)
	}
	s.want(t, 0, `(?s)after-completion .*migration.*`, "explain", "after-completion")
	s.write(t, "go", "")
	f.await(`\safter-completion +\* ready: `)
	wantOrder(t, f.out.String(), "migration | migrated", "migration * completed: ", "after-completion * starting: ")
	if now := s.pids(t); now["after-healthy"] != 0 {
		t.Error("after-healthy was started, weak is degraded")
	}
	if err := syscall.Kill(f.pid("weak"), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	f.await(`\safter-healthy +\* ready: `)
	f.signal(syscall.SIGINT)
	f.exit()
}

// A component that answers degraded from the start is up, but not healthy.
func TestDegradedFromTheStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("weak", freePort(t), "", "-join, unnamed, -health, degraded")+
		"  sinks:\n"+bare("content", ", depends_on: [weak]", "")+bare("demanding", ", depends_on: {weak: {condition: healthy}}", "")))
	f.await(`\sweak +\* degraded: `)
	f.await(`\scontent +\* ready: `)
	if now := s.pids(t); now["demanding"] != 0 {
		t.Error("demanding was started, weak is degraded")
	}
	f.signal(syscall.SIGINT)
	f.exit()
}

// --shutdown-timeout bounds the whole stop, whatever grace components have.
func TestShutdownTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const stubborn = ", stop: {grace: 1h}"
	f := s.run(t, s.pipelineFile(t, "  sources:\n"+component("first", freePort(t), stubborn, "-ignore-term")+
		"  sinks:\n"+component("second", freePort(t), stubborn, "-role, sink, -ignore-term")), "--shutdown-timeout", "500ms")
	f.await(`\ssecond +\* ready: `)
	begin := time.Now()
	f.signal(syscall.SIGTERM)
	f.wantExit(0)
	if took := time.Since(begin); took < 500*time.Millisecond || took > 5*time.Second {
		t.Errorf("the stop took %v, want 500ms and little more", took)
	}
	for _, id := range []string{"first", "second"} {
		f.await(`\s` + id + ` +\* stopped: was killed by SIGKILL: it had not ended in time$`)
	}
}

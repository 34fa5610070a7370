package operate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	shared "github.com/withobsrvr/flowctl/e2e/site"
)

const steady = "  sinks: [{id: out, command: [sh, -c, 'echo hello; exec sleep 1000'], registration: none}]\n"

func TestDetach(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	code, out, errout := s.detach(s.file("steady", steady), "30s")
	match := regexp.MustCompile(`(?m)^run (steady-[a-z0-9]{8}) is ready, in the background$`).FindStringSubmatch(out)
	if code != 0 || match == nil || errout != "" {
		t.Fatalf("exit code %d\n%s%s", code, out, errout)
	}
	id := match[1]
	var runs []struct {
		Run string
		PID int
	}
	if err := json.Unmarshal([]byte(s.want(0, "", "ps", "-o", "json")), &runs); err != nil || len(runs) != 1 || runs[0].Run != id {
		t.Fatalf("ps: %+v, %v", runs, err)
	}
	pid := runs[0].PID
	if session, err := unix.Getsid(pid); err != nil || session != pid {
		t.Errorf("its session is %d (%v), want one of its own, %d", session, err, pid)
	}
	wantNoDescriptor(t, s.await("out", state("ready")).PID)
	s.want(0, "hello\n", "logs", "out")
	begin := time.Now()
	s.want(0, "1 of 1 ready", "status")
	t.Logf("flowctl status took %v", time.Since(begin))
	s.want(0, "steady has stopped after ", "stop")
	if left := s.processes(); len(left) > 0 {
		t.Errorf("after the stop %v are left", left)
	}
	output, err := os.ReadFile(filepath.Join(s.dir, "state", "flowctl", "detached", id+".out"))
	if err != nil || !bytes.Contains(output, []byte("* stopped: ")) || bytes.Contains(output, []byte("| hello")) {
		t.Errorf("its own output: %v\n%s", err, output)
	}
	s.want(0, "stopped", "runs", "show", id)
}

// wantNoDescriptor checks that a component has inherited nothing from flowctl but
// its three streams; what this test itself hands down is another matter.
func wantNoDescriptor(t *testing.T, pid int) {
	t.Helper()
	ours := descriptors(t, os.Getpid())
	for fd, target := range descriptors(t, pid) {
		if len(fd) == 1 && fd <= "2" || !strings.HasPrefix(target, "pipe:") && !strings.HasPrefix(target, "socket:") {
			continue // its own streams, and files it has opened itself
		}
		if !slices.Contains(slices.Collect(maps.Values(ours)), target) {
			t.Errorf("the component has descriptor %s open: %s", fd, target)
		}
	}
}

// descriptors are what a process has open, by number.
func descriptors(t *testing.T, pid int) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(paths) < 3 {
		t.Fatalf("process %d has %v open, %v", pid, paths, err)
	}
	open := map[string]string{}
	for _, path := range paths {
		if target, err := os.Readlink(path); err == nil {
			open[filepath.Base(path)] = target
		}
	}
	return open
}

func TestDetachThatFails(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	taken := lis.Addr().(*net.TCPAddr).Port
	for _, test := range []struct {
		name, spec string
		args       []string
		code       int
		say        string
	}{
		{"a component fails", "  sinks: [{id: out, command: [sh, -c, 'echo no table; exit 3'], registration: none, probe: {exec: ['false']}}]\n", nil, 1, "  | no table\n"},
		{"the file is wrong", "  sinks: [{id: out, comand: [echo]}]\n", nil, 2, "unknown field"},
		{"the port is taken", steady, []string{"--control-plane-port", fmt.Sprint(taken)}, 3, fmt.Sprint("port ", taken)},
		{"it takes too long", "  sinks: [{id: out, command: [sleep, '1000'], probe: {exec: ['false']}}]\n", []string{"--wait-timeout", "300ms"}, 4, "is not ready after 300ms; it goes on in the background"},
		{"it is done", "  sinks: [{id: out, command: ['true'], registration: none, probe: {exec: ['false']}}]\n", nil, 0, "has completed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			code, out, errout := s.detach(s.file("bad", test.spec), "30s", test.args...)
			if code != test.code || !strings.Contains(out+errout, test.say) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", code, test.code, test.say, out, errout)
			}
		})
	}
}

func TestTwoPipelinesSideBySide(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"first", "second"} {
		if code, out, errout := s.detach(s.file(name, steady), "30s"); code != 0 {
			t.Fatalf("%d\n%s%s", code, out, errout)
		}
	}
	s.want(2, "2 pipelines are running, say which with --run: second-", "status")
	s.want(0, "out restarted: ready", "restart", "out", "--run", "first")
	s.want(0, "first has stopped", "stop", "--run", "first")
	s.want(0, "second", "status")
	s.want(3, "first is not running; the last run, first-", "status", "--run", "first")
	s.want(0, "second has stopped", "stop")
}

// A run whose flowctl was killed is told apart from one that never was.
func TestKilledFlowctl(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.detach(s.file("steady", steady), "30s")
	var runs []struct {
		Run string
		PID int
	}
	if err := json.Unmarshal([]byte(s.want(0, "", "ps", "-o", "json")), &runs); err != nil || len(runs) != 1 {
		t.Fatalf("%+v, %v", runs, err)
	}
	if err := syscall.Kill(runs[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.awaitText("was killed", "status")
	s.want(3, runs[0].Run, "status")
	s.want(0, "killed", "runs")
	s.want(0, "", "clean")
	s.want(3, "the last run, "+runs[0].Run+", was killed", "status")
}

// A flowctl that hangs keeps nobody waiting for ever.
func TestSuspendedFlowctl(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.detach(s.file("steady", steady), "30s")
	var runs []struct{ PID int }
	if err := json.Unmarshal([]byte(s.want(0, "", "ps", "-o", "json")), &runs); err != nil || len(runs) != 1 {
		t.Fatalf("%+v, %v", runs, err)
	}
	shared.Suspend(t, runs[0].PID)
	t.Cleanup(func() { _ = syscall.Kill(runs[0].PID, syscall.SIGCONT) })
	s.want(0, "not answering", "ps")
	for _, command := range []string{"status", "logs", "stop", "wait"} {
		s.want(3, fmt.Sprintf("does not answer, although its flowctl (pid %d) lives", runs[0].PID), command)
	}
	if err := syscall.Kill(runs[0].PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.want(0, "1 of 1 ready", "status")
}

// awaitText waits until a command says something.
func (s *site) awaitText(text string, args ...string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		_, out, errout := s.try(args...)
		if strings.Contains(out+errout, text) {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("flowctl %v never says %q:\n%s%s", args, text, out, errout)
		}
	}
}

// The logs of one component are its log file, byte by byte, also where the
// journal has no room for them any more.
func TestLogsAreTheFile(t *testing.T) {
	t.Parallel()
	const lines = 700_000 // of 120 bytes, more than the journal keeps
	s := newSite(t)
	file := s.file("flood", fmt.Sprintf("  sinks: [{id: writer, binary: testcomponent, args: [-join, none, -lines, '%d', -text, the end], registration: none}]\n", lines))
	s.detach(file, "30s")
	log := filepath.Join(s.dir, "logs-flood.yml", "writer.log")
	deadline := time.After(patience)
	for size := int64(0); size < lines*120; {
		if info, err := os.Stat(log); err == nil {
			size = info.Size()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("the log file has %d bytes", size)
		}
	}
	want, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	wantText := func(got, want []byte, what string) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d; %.130q … %.130q", what, len(got), len(want), got, got[max(len(got)-130, 0):])
		}
	}
	wantText([]byte(s.want(0, "", "logs", "writer")), want, "logs of a run")
	last := want[len(want)-240:]
	wantText([]byte(s.want(0, "", "logs", "writer", "--tail", "2")), last, "its tail")
	id := strings.TrimSpace(s.want(0, "", "ps", "-q"))
	s.want(0, "", "stop")
	whole := append(bytes.Clone(want), "the end"...)
	wantText([]byte(s.want(0, "", "logs", "writer", "--run", id)), whole, "logs of a run that has ended")
	s.detach(file, "30s") // another run in the same folder
	wantText([]byte(s.want(0, "", "logs", "writer", "--run", id)), whole, "logs of the run before")
}

package chaos_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// site is where one run takes place. Its folder is in the arguments of all its processes.
type site struct {
	dir   string
	ports []int
}

// newSite writes a pipeline of all behaviours; the ports are outside of those
// that the system and the other tests give out.
func newSite(t *testing.T, firstPort int) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	var file strings.Builder
	file.WriteString("apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: chaos}\nspec:\n")
	for i, b := range behaviours {
		switch i {
		case 0:
			file.WriteString("  sources:\n")
		case 3:
			file.WriteString("  processors:\n")
		case 6:
			file.WriteString("  sinks:\n")
		}
		port := firstPort + i
		s.ports = append(s.ports, port)
		fmt.Fprintf(&file, "    - {id: %s, command: [%s, %s, '%d', %s], registration: none, stop: {grace: %s}}\n",
			b, filepath.Join(bin, "component"), b, port, s.dir, grace)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "flow.yml"), []byte(file.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// flowctl is one that runs.
type flowctl struct {
	cmd    *exec.Cmd
	out    *os.File
	master *os.File // of its terminal, nil if it has none
	screen chan struct{}
}

// start starts flowctl run, in a session of its own, on a terminal or without.
func (s *site) start(t *testing.T, terminal bool) *flowctl {
	t.Helper()
	out, err := os.Create(filepath.Join(s.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	f := &flowctl{out: out, cmd: s.command("run", filepath.Join(s.dir, "flow.yml"), "--control-plane-port", "0", "--log-dir", filepath.Join(s.dir, "logs"))}
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	f.cmd.Stdout, f.cmd.Stderr = out, out
	if terminal {
		f.attach(t)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if slave, ok := f.cmd.Stdin.(*os.File); ok {
		slave.Close()
	}
	t.Cleanup(func() {
		f.signal(syscall.SIGKILL)
		f.hangUp()
		f.wait()
		out.Close()
	})
	return f
}

// command is a flowctl command line at this site.
func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "flowctl"), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(s.dir, "state"))
	return cmd
}

// attach gives flowctl a terminal, whose other side is read like a screen.
func (f *flowctl) attach(t *testing.T) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var failed error
	err = conn.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stdin, f.cmd.Stdout, f.cmd.Stderr = slave, slave, slave
	f.cmd.SysProcAttr.Setctty = true
	f.master, f.screen = master, make(chan struct{})
	go func() {
		defer close(f.screen)
		_, _ = io.Copy(f.out, master)
	}()
}

// signal sends flowctl a signal and returns when that was.
func (f *flowctl) signal(sig syscall.Signal) time.Time {
	_ = f.cmd.Process.Signal(sig) // it may have ended
	return time.Now()
}

// hangUp closes the terminal, if there is one, and returns when that was.
func (f *flowctl) hangUp() time.Time {
	now := time.Now()
	if f.master != nil {
		_ = f.master.Close()
		<-f.screen
		f.master = nil
	}
	return now
}

// wait waits for flowctl's end.
func (f *flowctl) wait() {
	if f.cmd.ProcessState == nil {
		_ = f.cmd.Wait()
	}
}

func (f *flowctl) output() string {
	text, err := os.ReadFile(f.out.Name())
	if err != nil {
		return err.Error()
	}
	return string(bytes.ToValidUTF8(text, []byte("?")))
}

// living returns the living processes of this site, flowctl's included.
func (s *site) living(t *testing.T) map[procid.ID]string {
	t.Helper()
	found := make(map[procid.ID]string)
	_, err := procid.Each(func(p procid.Process) {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err == nil && !p.Zombie && bytes.Contains(args, []byte(s.dir)) {
			found[p.ID] = string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// awaitNothing waits until no process of this site lives, which must be so
// within limit from begin on, and returns how long it took.
func (s *site) awaitNothing(t *testing.T, begin time.Time, limit time.Duration) time.Duration {
	t.Helper()
	for {
		found, took := s.living(t), time.Since(begin)
		if len(found) == 0 {
			<-time.After(20 * time.Millisecond) // who starts a program just now has no arguments for a moment
			if found = s.living(t); len(found) == 0 {
				if took > limit && limit > 0 {
					t.Errorf("it took %v until nothing was left", took)
				}
				return took
			}
		}
		if took > limit {
			t.Errorf("after %v there still live: %v", took, found)
			for id := range found {
				_ = syscall.Kill(id.PID, syscall.SIGKILL)
			}
			return took
		}
		<-time.After(40 * time.Millisecond) // looking is work too, for the machine under test
	}
}

// wantPortsFree checks that nobody listens on the components' ports.
func (s *site) wantPortsFree(t *testing.T) {
	t.Helper()
	for _, port := range s.ports {
		lis, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Errorf("port %d is held: %v", port, err)
			continue
		}
		lis.Close()
	}
}

// decoy is a process that has nothing to do with any run.
type decoy struct {
	name string
	id   procid.ID
}

func (d decoy) alive() bool { return d.id.Alive() }

// startDecoys starts processes that look like those of runs and are none.
func startDecoys(t *testing.T) (decoys []decoy) {
	t.Helper()
	for name, env := range map[string][]string{
		"one of another run":               {"FLOWCTL_RUN_ID=chaos-aaaaaaaa", "FLOWCTL_COMPONENT_ID=plain", "FLOWCTL_ATTEMPT=1"},
		"one that names no run":            {"FLOWCTL_RUN_ID=", "FLOWCTL_COMPONENT_ID=plain"},
		"one without an environment":       {},
		"one with a component id and more": {"COMPONENT_ID=deaf", "FLOWCTL_COMPONENT_ID=deaf", "RUN=FLOWCTL_RUN_ID=chaos"},
	} {
		cmd := exec.Command(filepath.Join(bin, "component"), "sleep", "0", t.TempDir())
		cmd.Env, cmd.SysProcAttr = env, &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		p, err := procid.Read(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		decoys = append(decoys, decoy{name, p.ID})
	}
	return decoys
}

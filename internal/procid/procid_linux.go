package procid

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootID is the kernel's name for this boot.
var bootID = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
})

// Read returns what the system says of the process pid; ErrGone if there is none.
func Read(pid int) (Process, error) {
	boot, err := bootID()
	if err != nil {
		return Process{}, fmt.Errorf("read which boot this is: %w", err)
	}
	text, err := readProc(pid, "stat")
	if err != nil {
		return Process{}, err
	}
	p, ok := parseStat(text)
	if !ok {
		return Process{}, fmt.Errorf("read process %d: unknown form of its status: %q", pid, text)
	}
	p.Boot = boot
	return p, nil
}

// readProc reads a file of a process in one go, as the kernel makes it anew for
// each; it is called for many processes at a time.
func readProc(pid int, name string) ([]byte, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of process %d: %w", name, pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for buf, n := make([]byte, 4<<10), 0; ; {
		got, err := unix.Read(fd, buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ESRCH):
			return nil, ErrGone
		case err != nil:
			return nil, fmt.Errorf("read %s of process %d: %w", name, pid, err)
		}
		if n += got; got == 0 || n < len(buf) {
			return buf[:n], nil
		}
		buf = append(buf, make([]byte, 3*len(buf))...)
	}
}

// The fields that follow the name in /proc/<pid>/stat, counted from there.
const (
	fieldState, fieldParent, fieldGroup, fieldSession, fieldThreads, fieldStart = 0, 1, 2, 3, 17, 19
)

// parseStat reads /proc/<pid>/stat. The name may contain anything, brackets and
// blanks too: it ends at the last bracket.
func parseStat(text []byte) (Process, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 2 || end < open {
		return Process{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) <= fieldStart {
		return Process{}, false
	}
	p := Process{Name: string(text[open+1 : end])}
	// The first thread may have ended while others have not: they still hold its files.
	dead := fields[fieldState] == "Z" || fields[fieldState] == "X"
	p.Zombie = dead && (fields[fieldThreads] == "0" || fields[fieldThreads] == "1")
	var err error
	for _, field := range []struct {
		text string
		to   *int
	}{
		{string(text[:open-1]), &p.PID}, {fields[fieldParent], &p.Parent},
		{fields[fieldGroup], &p.Group}, {fields[fieldSession], &p.Session},
	} {
		if *field.to, err = strconv.Atoi(field.text); err != nil {
			return Process{}, false
		}
	}
	p.Start, err = strconv.ParseUint(fields[fieldStart], 10, 64)
	return p, err == nil
}

// Each calls visit with every process that this user may see, the youngest
// first as a rule, and returns how many others ended while it looked: what those
// started meanwhile was not visited.
func Each(visit func(Process)) (ended int, err error) {
	pids, err := PIDs()
	if err != nil {
		return 0, err
	}
	for _, pid := range slices.Backward(pids) { // the kernel lists them in order
		p, err := Read(pid)
		switch {
		case err == nil:
			visit(p)
		case errors.Is(err, ErrGone):
			ended++
		case !errors.Is(err, os.ErrPermission):
			return 0, err
		}
	}
	return ended, nil
}

// PIDs returns the pids of all processes.
func PIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Environ returns the environment that a process began with, as KEY=value. A
// process that this user may not look into is an error. While a process starts a
// program it has none.
func Environ(pid int) ([]string, error) {
	text, err := readProc(pid, "environ")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == 0 }), nil
}

// Open takes hold of a process, even of a zombie; ErrGone if it is no more, and
// then the Handle reaches nobody. The Handle must be closed.
func Open(id ID) (Handle, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		fd = -1 // gone, an old kernel, too many open files: Signal looks first
	}
	h := Handle{ID: id, fd: fd}
	if p, err := Read(id.PID); err != nil || p.ID != id { // whom we hold may be another
		h.Close()
		return Handle{ID: id, fd: -1}, ErrGone
	}
	return h, nil
}

func (h Handle) signal(sig syscall.Signal) error {
	if h.fd >= 0 {
		return unix.PidfdSendSignal(h.fd, sig, nil, 0)
	}
	if !h.Alive() {
		return ErrGone
	}
	return syscall.Kill(h.PID, sig)
}

// Reap waits for the process, a child of this one that has ended. One that has
// not ended, or was waited for already, is none of its business.
func (h Handle) Reap() {
	if h.fd >= 0 {
		_ = unix.Waitid(unix.P_PIDFD, h.fd, nil, unix.WEXITED|unix.WNOHANG, nil)
	}
}

// Close gives up the hold.
func (h Handle) Close() {
	if h.fd >= 0 {
		_ = unix.Close(h.fd)
	}
}

// blind is how often processes are looked at that the system gives no handle of.
const blind = 10 * time.Millisecond

// AwaitEnd returns when all processes have ended, and not later than after timeout.
func AwaitEnd(handles []Handle, timeout time.Duration) {
	deadline := time.Now().Add(timeout)
	for len(handles) > 0 {
		rest := time.Until(deadline)
		if rest <= 0 {
			return
		}
		var fds []unix.PollFd
		for _, h := range handles {
			if h.fd < 0 {
				rest = min(rest, blind)
			}
			fds = append(fds, unix.PollFd{Fd: int32(h.fd), Events: unix.POLLIN})
		}
		if _, err := unix.Poll(fds, int(rest.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		var left []Handle
		for i, h := range handles {
			if h.fd >= 0 && fds[i].Revents == 0 || h.fd < 0 && h.Alive() {
				left = append(left, h)
			}
		}
		handles = left
	}
}

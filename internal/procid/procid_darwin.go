package procid

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// zombie is the state of a process that has ended and was not waited for.
const zombie = 5

// Read returns what the system says of the process pid; ErrGone if there is none.
func Read(pid int) (Process, error) {
	boot, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return Process{}, fmt.Errorf("read which boot this is: %w", err)
	}
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if errors.Is(err, unix.EIO) || err == nil && int(info.Proc.P_pid) != pid {
		return Process{}, ErrGone
	}
	if err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	return processOf(info, boot), nil
}

// Each calls visit with every process that this user may see, and returns how
// many others ended while it looked: none, for the system lists all at once.
func Each(visit func(Process)) (ended int, err error) {
	boot, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return 0, fmt.Errorf("read which boot this is: %w", err)
	}
	infos, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for i := range infos {
		visit(processOf(&infos[i], boot))
	}
	return 0, nil
}

func processOf(info *unix.KinfoProc, boot string) Process {
	start := time.Unix(info.Proc.P_starttime.Unix())
	return Process{
		ID:     ID{PID: int(info.Proc.P_pid), Start: uint64(start.UnixMicro()), Boot: boot},
		Name:   unix.ByteSliceToString(info.Proc.P_comm[:]),
		Parent: int(info.Eproc.Ppid), Group: int(info.Eproc.Pgid), Zombie: info.Proc.P_stat == zombie,
	}
}

// Open takes hold of a process, even of a zombie; ErrGone if it is no more, and
// then the Handle reaches nobody. This system has no handles: signals go by pid
// after a look at who has it. The Handle must be closed.
func Open(id ID) (Handle, error) {
	h := Handle{ID: id, fd: -1}
	if p, err := Read(id.PID); err != nil || p.ID != id {
		return h, ErrGone
	}
	return h, nil
}

func (h Handle) signal(sig syscall.Signal) error {
	if !h.Alive() {
		return ErrGone
	}
	return syscall.Kill(h.PID, sig)
}

// Close gives up the hold.
func (h Handle) Close() {}

// blind is how often processes are looked at.
const blind = 10 * time.Millisecond

// AwaitEnd returns when all processes have ended, and not later than after timeout.
func AwaitEnd(handles []Handle, timeout time.Duration) {
	for end := time.Now().Add(timeout); time.Now().Before(end); <-time.After(blind) {
		living := false
		for _, h := range handles {
			living = living || h.Alive()
		}
		if !living {
			return
		}
	}
}

package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// awaitEnd returns when the process pid, a child of ours that nobody has waited
// for, has ended, and leaves it to be waited for. The runtime's poller tells: to
// wait in the kernel would take a thread for each component, and hold up others
// at its start until the scheduler notices. Where the system has no such
// handles it returns at once.
func awaitEnd(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return
	}
	handle := os.NewFile(uintptr(fd), "pidfd") // non-blocking: it is polled
	defer handle.Close()
	conn, err := handle.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n != 0 && !errors.Is(err, unix.EINTR)
	})
}

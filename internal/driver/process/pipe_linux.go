package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is the most that any user may ask for.
const pipeSize = 1 << 20

// enlarge makes room in a pipe, so that a burst does not block the component
// while its last block is being stored. The system may refuse: then it stays as it is.
func enlarge(pipe *os.File) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize)
	})
}

package process

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// interrupt makes copy read what is in the pipe and then return.
func (s *stream) interrupt() { _ = s.read.SetReadDeadline(time.Unix(1, 0)) }

// drain copies what is in the pipe now. Somebody may go on writing: more than a
// full pipe is not taken.
func (s *stream) drain() {
	_ = s.read.SetReadDeadline(time.Time{})
	conn, err := s.read.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for total := 0; total <= pipeSize; {
		var n int
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			n, failed = unix.Read(int(fd), buf)
			return true
		})
		if errors.Is(failed, unix.EINTR) {
			continue
		}
		if err != nil || failed != nil || n <= 0 {
			return
		}
		_, _ = s.to.Write(buf[:n])
		total += n
	}
}

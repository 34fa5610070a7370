package engine

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// isBeingWritten reports whether somebody has the file open for writing: it
// cannot be executed then. The kernel grants a read lease only if nobody has.
// Where it grants none for another reason, nobody can tell: then quiet must do.
func isBeingWritten(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() // and the lease ends
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	return errors.Is(err, unix.EAGAIN)
}

package process

import (
	"sync"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of all descendants that lose
// theirs, so that group.wait is told of their end and no zombie keeps a group alive.
var adoptOrphans = sync.OnceFunc(func() {
	// It fails on kernels before 3.4 only; then group.wait asks instead.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
})

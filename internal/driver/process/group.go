package process

import (
	"errors"
	"syscall"
	"time"
)

// group is a process group, by its id.
type group int

// signal sends sig to every process of the group; a group that is gone is no error.
func (g group) signal(sig syscall.Signal) { _ = syscall.Kill(-int(g), sig) }

// alive reports whether the group has a member, be it one that has ended and was not waited for.
func (g group) alive() bool { return !errors.Is(syscall.Kill(-int(g), 0), syscall.ESRCH) }

// wait returns when the group is empty. Its members that have lost their
// parents are our children (see NewOrphans), so the kernel tells. Members
// that still have a parent elsewhere, and all members on systems that know no
// adoption, have to be asked for.
func (g group) wait() {
	for {
		_, err := syscall.Wait4(-int(g), nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	for pause := time.Millisecond; g.alive(); pause = min(2*pause, 20*time.Millisecond) {
		<-time.After(pause)
	}
}

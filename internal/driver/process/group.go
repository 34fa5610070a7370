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

// wait returns when the group is empty, as it mostly is when its leader has
// ended. Members that have lost their parents are our children (see NewOrphans).
// Nobody tells when the last member goes: it may end, and it may leave for a
// group of its own, which wakes nobody who waits for the group.
func (g group) wait() {
	for pause := time.Millisecond; g.alive(); pause = min(2*pause, 10*time.Millisecond) {
		for {
			pid, err := syscall.Wait4(-int(g), nil, syscall.WNOHANG, nil)
			if !errors.Is(err, syscall.EINTR) && (pid <= 0 || err != nil) {
				break
			}
		}
		if g.alive() {
			<-time.After(pause)
		}
	}
}

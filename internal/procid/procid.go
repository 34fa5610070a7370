// Package procid tells processes apart for good. A pid alone names another
// process as soon as the first one is gone and the system counts round; a pid
// with the time of its start and the boot it belongs to never does.
package procid

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrGone means that the process is no more, or that its pid is another's now.
var ErrGone = errors.New("the process is gone")

// ID names one process, and no other that gets its pid later.
type ID struct {
	PID int `json:"pid"`
	// Start is when it began: on Linux in clock ticks since the boot, which no
	// change of the clock moves, elsewhere in microseconds of Unix time.
	Start uint64 `json:"start"`
	// Boot names the boot of the machine in which it lives.
	Boot string `json:"boot"`
}

// String is the pid: the rest is for comparison only.
func (id ID) String() string { return fmt.Sprintf("pid %d", id.PID) }

// Alive reports whether exactly this process lives. One that has ended and was
// not waited for does not.
func (id ID) Alive() bool {
	p, err := Read(id.PID)
	return err == nil && p.ID == id && !p.Zombie
}

// Process is what the system says of a process.
type Process struct {
	ID
	// Name is the name of its program, cut short by the system.
	Name string
	// Parent, Group and Session are pids; they are 0 where the system does not tell.
	Parent, Group, Session int
	// Zombie is true when it has ended and was not waited for.
	Zombie bool
}

// Self is the identity of this process.
func Self() (ID, error) {
	p, err := Read(os.Getpid())
	return p.ID, err
}

// Handle is a hold on one process: a signal through it can reach no other.
type Handle struct {
	ID
	// fd is the system's own handle, or -1 where there is none.
	fd int
}

// Signal sends sig to the process. It returns ErrGone when the process is no more.
func (h Handle) Signal(sig syscall.Signal) error {
	err := h.signal(sig)
	if errors.Is(err, syscall.ESRCH) {
		return ErrGone
	}
	return err
}

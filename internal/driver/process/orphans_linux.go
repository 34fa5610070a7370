package process

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// Run waits for the adopted processes that have ended, until ctx is done. Those
// that somebody else waits for it leaves alone. It returns nil.
func (o *Orphans) Run(ctx context.Context) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	var due <-chan time.Time
	seen := o.reap(nil)
	for {
		if due == nil && len(seen) > 0 {
			due = time.After(o.idle)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			if due == nil {
				due = time.After(o.idle)
			}
		case <-due:
			due, seen = nil, o.reap(seen)
		}
	}
}

// adopt makes this process a subreaper.
func adopt() {
	// It fails on kernels before 3.4 only; then groups are asked, and orphans are init's.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// reap waits for the ended children that were seen ended before, and returns
// those that it sees for the first time.
func (o *Orphans) reap(seen map[procid.ID]bool) map[procid.ID]bool {
	fresh, due := make(map[procid.ID]bool), make(map[procid.ID]bool)
	for _, p := range o.list() {
		switch {
		case p.Zombie && seen[p.ID]:
			due[p.ID] = true
		case p.Zombie:
			fresh[p.ID] = true
		}
	}
	waitFor(due)
	return fresh
}

// waitFor waits for those of the children that have ended, so that they are gone for good.
func waitFor(ended map[procid.ID]bool) {
	for id := range ended {
		if h, err := procid.Open(id); err == nil {
			h.Reap()
			h.Close()
		}
	}
}

// children returns the pids of all our children, the ended ones too. The kernel
// has a list of them only if it was built so; to ask whether we may wait for a
// pid costs less than to read who its parent is.
func children() []int {
	pids, err := procid.PIDs()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != nil
	})
}

// name is what links to the pipe show in /proc.
func (s *stream) name() string {
	conn, err := s.read.SyscallConn()
	if err != nil {
		return ""
	}
	var stat unix.Stat_t
	_ = conn.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &stat) })
	if err != nil {
		return ""
	}
	return fmt.Sprintf("pipe:[%d]", stat.Ino)
}

// examine reads what there is to know of children.
func examine(pids []int) []orphan {
	var all []orphan
	for _, pid := range pids {
		p, err := procid.Read(pid)
		if err != nil {
			continue // somebody has waited for it
		}
		found := orphan{Process: p}
		if !p.Zombie {
			found.env, _ = procid.Environ(pid)
			for _, fd := range []string{"1", "2"} {
				if target, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + fd); err == nil {
					found.outputs = append(found.outputs, target)
				}
			}
		}
		all = append(all, found)
	}
	return all
}

package guardian

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/internal/procid"
)

const (
	// settle is how long the system may take to remove what was killed.
	settle = 5 * time.Second
	// quiet lies between two looks that must both find nothing: a process that
	// starts a program just now has no environment for a moment. A look during
	// which somebody ended does not count, but so many looks are enough on a
	// machine where somebody always does.
	quiet = 5 * time.Millisecond
	looks = 12
	// round is how long killed processes are waited for before the next look.
	round = 100 * time.Millisecond
	// freezes bounds how often a family that forks is frozen anew.
	freezes = 10
	// crowd is more than any run has: who forks like that is not asked to end.
	crowd = 2000
)

// Remains is what is known of a run whose flowctl is dead.
type Remains struct {
	// RunID is what the processes of the run carry as FLOWCTL_RUN_ID.
	RunID string
	// Groups are those that flowctl started and that lived when it died.
	Groups []Group
	// Fresh is true when flowctl has died just now. Then a group whose leader is
	// gone is still the one that flowctl started; later its id may be another's.
	Fresh bool
	// known are processes that were found before: those whose parent or group
	// leader was killed meanwhile are of the run all the same.
	known map[procid.ID]bool
	// foreign are processes that were found to be none of the run's: the
	// environment of a process changes only when it starts a program, and no
	// stranger starts one with the run's id.
	foreign map[procid.ID]bool
	// dead are the zombies of the look before.
	dead map[procid.ID]bool
	// freeze makes a look stop at once whom it finds: what moves from one process
	// to the next would be gone at the end of the look.
	freeze bool
}

// Sweep stops every process of the run: SIGTERM, and after grace SIGKILL, until
// none is found. It returns those it met. What cannot be stopped is an error.
func Sweep(r Remains, grace time.Duration) ([]procid.Process, error) {
	r.known, r.foreign = make(map[procid.ID]bool), make(map[procid.ID]bool)
	s := sweep{Remains: r, polite: time.Now().Add(grace)}
	err := s.run()
	return s.met, err
}

// sweep is one under way.
type sweep struct {
	Remains
	met    []procid.Process
	polite time.Time // when politeness ends
}

func (s *sweep) run() error {
	empty, all, asked := 0, 0, make(map[procid.ID]bool)
	for {
		found, ended, err := s.find()
		if err != nil {
			return err
		}
		rest := time.Until(s.polite)
		switch {
		case len(found) == 0:
			if ended == 0 {
				empty++
			}
			if all++; empty == 2 || all == looks {
				return nil
			}
			<-time.After(quiet)
			continue
		case rest > 0 && len(found) < crowd:
			s.ask(found, asked, rest)
		case rest > -settle:
			if err := s.kill(found); err != nil {
				return err
			}
		default:
			return fmt.Errorf("stop %s (%s): it is still there %v after SIGKILL", found[0], found[0].Name, settle)
		}
		empty, all = 0, 0
	}
}

// find finds what is left and remembers it.
func (s *sweep) find() (found []procid.Process, ended int, err error) {
	found, ended, err = s.look()
	for _, p := range found {
		if !s.known[p.ID] {
			s.known[p.ID] = true
			s.met = append(s.met, p)
		}
	}
	return found, ended, err
}

// ask asks those to end that were not asked yet, and waits until all have ended
// or rest is over.
func (s *sweep) ask(found []procid.Process, asked map[procid.ID]bool, rest time.Duration) {
	handles := hold(found)
	defer release(handles)
	for _, h := range handles {
		if !asked[h.ID] {
			asked[h.ID] = true
			_ = h.Signal(syscall.SIGTERM)
		}
		_ = h.Signal(syscall.SIGCONT) // a stopped process gets no signal before this one
	}
	procid.AwaitEnd(handles, rest)
}

// kill kills all, frozen first: what forks while it is being killed gets away.
func (s *sweep) kill(found []procid.Process) error {
	var handles []procid.Handle
	defer func() { release(handles) }()
	s.freeze = true
	frozen := make(map[procid.ID]bool)
	for range freezes {
		found = slices.DeleteFunc(found, func(p procid.Process) bool { return frozen[p.ID] })
		if len(found) == 0 {
			break
		}
		held := hold(found)
		for _, h := range held {
			frozen[h.ID] = true
			_ = h.Signal(syscall.SIGSTOP)
		}
		handles = append(handles, held...)
		var err error
		if found, _, err = s.find(); err != nil {
			return err
		}
	}
	for _, h := range handles {
		_ = h.Signal(syscall.SIGKILL)
	}
	procid.AwaitEnd(handles, round)
	return nil
}

// hold takes hold of processes; the handle of one that is gone does nothing.
func hold(found []procid.Process) []procid.Handle {
	handles := make([]procid.Handle, len(found))
	for i, p := range found {
		handles[i], _ = procid.Open(p.ID)
	}
	return handles
}

func release(handles []procid.Handle) {
	for _, h := range handles {
		h.Close()
	}
}

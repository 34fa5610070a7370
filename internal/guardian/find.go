package guardian

import (
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// Find returns the living processes of the run, this process left out:
//
//   - those that carry the run's id in their environment, which only Linux shows;
//   - the members of a recorded group, if its leader lives and is the one
//     recorded, if a member carries the run's id, or, right after flowctl's
//     death, if the leader's pid is nobody's and the members are in flowctl's
//     session and no older than the leader;
//   - the descendants of all these.
func Find(r Remains) ([]procid.Process, error) {
	found, _, err := r.look()
	return found, err
}

// look is Find. It also returns how many processes ended during the look or
// since the one before, and may have been of the run: they may have started
// others that the look has missed.
func (r *Remains) look() (found []procid.Process, ended int, err error) {
	var all []procid.Process
	ours := make(map[int]procid.Process)
	ended, err = procid.Each(func(p procid.Process) {
		if p.PID == os.Getpid() {
			return
		}
		all = append(all, p)
		if r.known[p.ID] || r.carries(p) {
			ours[p.PID] = p
			if r.freeze {
				signal(p.ID, syscall.SIGSTOP)
			}
		}
	})
	if err != nil {
		return nil, 0, err
	}
	for _, g := range r.Groups {
		r.addGroup(ours, all, g)
	}
	addDescendants(ours, all)
	for _, p := range ours {
		if !p.Zombie {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b procid.Process) int { return a.PID - b.PID })
	for _, p := range all {
		if p.Zombie && !r.dead[p.ID] {
			ended++
		}
	}
	r.remember(all)
	return found, ended, nil
}

// carries reports whether a process carries the run's id, as far as we may know.
func (r *Remains) carries(p procid.Process) bool {
	if r.foreign[p.ID] || p.Zombie {
		return false
	}
	env, err := environ(p.PID)
	if err != nil || slices.Contains(env, "FLOWCTL_RUN_ID="+r.RunID) {
		return err == nil
	}
	if r.foreign != nil && len(env) > 0 { // one that starts a program just now shows none
		r.foreign[p.ID] = true
	}
	return false
}

// remember keeps who is a zombie now.
func (r *Remains) remember(all []procid.Process) {
	r.dead = make(map[procid.ID]bool)
	for _, p := range all {
		if p.Zombie {
			r.dead[p.ID] = true
		}
	}
}

// signal sends sig to a process, if it is still there.
func signal(id procid.ID, sig syscall.Signal) {
	h, _ := procid.Open(id)
	_ = h.Signal(sig)
	h.Close()
}

// addDescendants adds the descendants of ours. A child is no older than its
// parent: an older one had another, whose pid was given out again meanwhile.
func addDescendants(ours map[int]procid.Process, all []procid.Process) {
	children := make(map[int][]procid.Process)
	for _, p := range all {
		children[p.Parent] = append(children[p.Parent], p)
	}
	next := slices.Collect(maps.Values(ours))
	for len(next) > 0 {
		parent := next[len(next)-1]
		next = next[:len(next)-1]
		for _, p := range children[parent.PID] {
			if _, in := ours[p.PID]; !in && p.Start >= parent.Start {
				ours[p.PID] = p
				next = append(next, p)
			}
		}
	}
}

// addGroup adds the members of g, if it is the group that flowctl started.
func (r Remains) addGroup(ours map[int]procid.Process, all []procid.Process, g Group) {
	var members []procid.Process
	proven, leader := false, false
	for _, p := range all {
		if p.PID == g.Leader.PID {
			leader = true
			proven = proven || p.ID == g.Leader
		}
		if p.Group != g.Leader.PID || p.Session != g.Session || p.Start < g.Leader.Start {
			continue
		}
		members = append(members, p)
		_, carrier := ours[p.PID]
		proven = proven || carrier
	}
	if !proven && (leader || !r.Fresh) {
		return
	}
	for _, p := range members {
		ours[p.PID] = p
	}
}

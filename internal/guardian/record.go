package guardian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// groupLine tells of a group by its leader, goneLine that it is empty.
func groupLine(leader procid.Process) string {
	return fmt.Sprintf("group %d %d %d\n", leader.PID, leader.Start, leader.Session)
}

func goneLine(pid int) string { return fmt.Sprintf("gone %d\n", pid) }

// Group is a process group that flowctl started.
type Group struct {
	// Leader is its first process; the group's id is the leader's pid.
	Leader procid.ID
	// Session is the session that flowctl and all its groups are in.
	Session int
}

// readGroups reads a record of the given boot: the groups that live. A line cut
// off by flowctl's death is left out.
func readGroups(from io.Reader, boot string) ([]Group, error) {
	living := make(map[int]Group)
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return slices.Collect(maps.Values(living)), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read which groups live: %w", err)
		}
		g := Group{Leader: procid.ID{Boot: boot}}
		if n, _ := fmt.Sscanf(line, "group %d %d %d\n", &g.Leader.PID, &g.Leader.Start, &g.Session); n == 3 {
			living[g.Leader.PID] = g
		}
		var gone int
		if n, _ := fmt.Sscanf(line, "gone %d\n", &gone); n == 1 {
			delete(living, gone)
		}
	}
}

// ReadRecord returns the groups that lived when the run with this run file was
// last heard of, which was in the given boot. Without a record there are none.
func ReadRecord(runFile, boot string) ([]Group, error) {
	f, err := os.Open(RecordPath(runFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readGroups(f, boot)
}

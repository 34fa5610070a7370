package guardian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"time"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// grace is what components get between SIGTERM and SIGKILL when flowctl is dead.
const grace = 250 * time.Millisecond

// bye is what flowctl says at the regular end of a run.
const bye = "bye\n"

// recordFD is the file descriptor that a guardian finds the record at.
const recordFD = 3

// hasContainers is what flowctl says before the run makes anything on a container engine.
const hasContainers = "containers\n"

// Watch is the guardian's side: it waits for the end of pipe. Unless flowctl
// said goodbye it then stops what is left of the run and removes the run file
// and the record; runFile "" means that there is none. If the run has containers
// it calls removeContainers.
func Watch(pipe io.Reader, runID, runFile string, removeContainers func(runID string) error) error {
	standOut()
	said, _ := io.ReadAll(pipe) // whatever ends it, flowctl is not heard any more
	if bytes.HasSuffix(said, []byte(bye)) {
		return nil
	}
	removed := make(chan error, 1)
	if bytes.HasPrefix(said, []byte(hasContainers)) {
		go func() { removed <- removeContainers(runID) }()
	} else {
		removed <- nil
	}
	err := stopProcesses(runID)
	if err = errors.Join(err, <-removed); err != nil {
		return fmt.Errorf("watch over %s: %w", runID, err) // the run file stays, for flowctl clean
	}
	return RemoveFiles(runFile)
}

// stopProcesses stops those of the run, which lost its flowctl just now.
func stopProcesses(runID string) error {
	self, err := procid.Self()
	if err != nil {
		return err
	}
	record := os.NewFile(recordFD, "record")
	groups, err := readGroups(io.NewSectionReader(record, 0, math.MaxInt64), self.Boot)
	_, sweepErr := Sweep(Remains{RunID: runID, Groups: groups, Fresh: true}, grace)
	return errors.Join(err, sweepErr)
}

// RemoveFiles removes a run file and what belongs to it, half-written ones too;
// "" is nothing to remove.
func RemoveFiles(runFile string) error {
	if runFile == "" {
		return nil
	}
	if err := os.RemoveAll(FolderPath(runFile)); err != nil {
		return err
	}
	for _, path := range []string{RecordPath(runFile), runFile + ".new", runFile} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

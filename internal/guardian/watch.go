package guardian

import (
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

// Watch is the guardian's side: it waits for the end of pipe. Unless flowctl
// said goodbye it then stops what is left of the run and removes the run file
// and the record; runFile "" means that there is none.
func Watch(pipe io.Reader, runID, runFile string) error {
	standOut()
	said, _ := io.ReadAll(pipe) // whatever ends it, flowctl is not heard any more
	if string(said) == bye {
		return nil
	}
	self, err := procid.Self()
	if err != nil {
		return fmt.Errorf("watch over %s: %w", runID, err)
	}
	record := os.NewFile(recordFD, "record")
	groups, err := readGroups(io.NewSectionReader(record, 0, math.MaxInt64), self.Boot)
	_, sweepErr := Sweep(Remains{RunID: runID, Groups: groups, Fresh: true}, grace)
	if err = errors.Join(err, sweepErr); err != nil {
		return fmt.Errorf("watch over %s: %w", runID, err) // the run file stays, for flowctl clean
	}
	return RemoveFiles(runFile)
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

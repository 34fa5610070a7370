package guardian

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// grace is what components get between SIGTERM and SIGKILL when flowctl is dead.
const grace = 250 * time.Millisecond

// Watch is the guardian's side: it reads from pipe what flowctl tells until its
// end. Unless flowctl said goodbye it stops what is left of the run and removes
// the run file and the record; runFile "" means that there is none.
func Watch(pipe io.Reader, runID, runFile string) error {
	standOut()
	self, err := procid.Self()
	if err != nil {
		return fmt.Errorf("watch over %s: %w", runID, err)
	}
	groups, bye, err := readLines(pipe, self.Boot)
	if bye {
		return nil
	}
	// Whatever kept us from reading on, flowctl cannot tell us of its end any more.
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
	for _, path := range []string{RecordPath(runFile), runFile + ".new", runFile} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

package guardian

import (
	"os"
	"slices"

	"github.com/withobsrvr/flowctl/internal/procid"
)

// standOut gives this process a name of its own: `pkill flowctl` is meant for
// flowctl, and its end is what the guardian is there for.
func standOut() { _ = os.WriteFile("/proc/self/comm", []byte("guardian"), 0) }

// carries reports whether a process carries the run's id. One that we may not
// look into is another user's.
func carries(pid int, runID string) bool {
	env, err := procid.Environ(pid)
	return err == nil && slices.Contains(env, "FLOWCTL_RUN_ID="+runID)
}

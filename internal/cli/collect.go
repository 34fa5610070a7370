package cli

import (
	runtimedebug "runtime/debug"
	"sync"
)

// startHeap is how much memory a start may take before garbage is collected as
// often as ever.
const startHeap = 256 << 20

// collectSeldom lets garbage lie while a pipeline starts, when the components
// need the CPU; everyday ends that. Whoever has set GOGC or GOMEMLIMIT gets that.
func collectSeldom(getenv func(string) string) (everyday func()) {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	limit, percent := runtimedebug.SetMemoryLimit(startHeap), runtimedebug.SetGCPercent(400)
	return sync.OnceFunc(func() {
		runtimedebug.SetGCPercent(percent)
		runtimedebug.SetMemoryLimit(limit)
	})
}

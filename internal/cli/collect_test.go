package cli

import (
	runtimedebug "runtime/debug"
	"testing"
)

func TestGarbageIsCollectedSeldomUntilEveryday(t *testing.T) {
	defer runtimedebug.SetGCPercent(runtimedebug.SetGCPercent(100))
	percent := func() int { // there is no way to ask but to set
		now := runtimedebug.SetGCPercent(100)
		runtimedebug.SetGCPercent(now)
		return now
	}
	everyday := collectSeldom(func(string) string { return "" })
	if got := percent(); got != 400 {
		t.Errorf("at the start GOGC is %d", got)
	}
	everyday()
	everyday()
	if got := percent(); got != 100 {
		t.Errorf("afterwards GOGC is %d", got)
	}
	collectSeldom(func(name string) string { return map[string]string{"GOGC": "50"}[name] })
	if got := percent(); got != 100 {
		t.Errorf("GOGC is %d although somebody has set it", got)
	}
}

package drivertest

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Fake is a scripted driver: it starts nothing. Without a script a component
// runs until it is asked to stop and then ends with SIGTERM.
type Fake struct {
	// Scripts say what a component does in an attempt, by its id.
	Scripts map[string]func(ctx context.Context, att driver.Attempt) (driver.Exit, error)

	mu      sync.Mutex // guards all below
	living  map[string]bool
	history []string
}

// Run implements driver.Driver. It reports two living attempts of one component
// as an error of the supervisor's.
func (f *Fake) Run(ctx context.Context, spec driver.Spec, att driver.Attempt) (driver.Exit, error) {
	if err := context.Cause(ctx); err != nil {
		return driver.Exit{}, err
	}
	f.mu.Lock()
	if f.living == nil {
		f.living = make(map[string]bool)
	}
	if f.living[spec.Component] {
		f.mu.Unlock()
		panic("two attempts of " + spec.Component + " live at once")
	}
	f.living[spec.Component] = true
	f.history = append(f.history, "start "+spec.Component)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.living[spec.Component] = false
		f.history = append(f.history, "end "+spec.Component)
	}()
	att.Started(driver.Ref{PID: 1000 + att.Number})
	if script := f.Scripts[spec.Component]; script != nil {
		return script(ctx, att)
	}
	return UntilStopped(ctx, att)
}

// History is what happened so far, in order: "start a", "end a".
func (f *Fake) History() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.history...)
}

// UntilStopped is the script of a component that ends when it is asked to.
func UntilStopped(ctx context.Context, _ driver.Attempt) (driver.Exit, error) {
	<-ctx.Done()
	return driver.Exit{Code: -1, Signal: syscall.SIGTERM}, nil
}

// Deaf is the script of a component that ends only when it is killed.
func Deaf(ctx context.Context, att driver.Attempt) (driver.Exit, error) {
	<-ctx.Done()
	<-att.Kill
	return driver.Exit{Code: -1, Signal: syscall.SIGKILL, Forced: true}, nil
}

// ExitWith is the script of a component that prints a line and ends at once.
func ExitWith(code int) func(context.Context, driver.Attempt) (driver.Exit, error) {
	return func(_ context.Context, att driver.Attempt) (driver.Exit, error) {
		fmt.Fprintf(att.Stdout, "exiting with %d\n", code)
		return driver.Exit{Code: code}, nil
	}
}

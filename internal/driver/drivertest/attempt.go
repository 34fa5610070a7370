package drivertest

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Attempt is one under way, as a test sees it.
type Attempt struct {
	// Cancel asks it to end.
	Cancel context.CancelFunc
	// Kill is what the driver has as Attempt.Kill; the test closes it, or not.
	Kill chan struct{}
	// Ref receives what Started was told.
	Ref            chan driver.Ref
	Stdout, Stderr *Output
	// Done is closed when Run has returned Exit and Err.
	Done chan struct{}
	Exit driver.Exit
	Err  error
}

// Start starts an attempt; edit may change what the driver gets. When the test ends
// it is cancelled and waited for.
func Start(t *testing.T, d driver.Driver, spec driver.Spec, edit ...func(*driver.Attempt)) *Attempt {
	ctx, cancel := context.WithCancel(t.Context())
	a := &Attempt{
		Cancel: cancel, Kill: make(chan struct{}), Ref: make(chan driver.Ref, 1),
		Stdout: NewOutput(), Stderr: NewOutput(), Done: make(chan struct{}),
	}
	att := driver.Attempt{
		Number: 1, Stdout: a.Stdout, Stderr: a.Stderr, Kill: a.Kill,
		Started: func(ref driver.Ref) { a.Ref <- ref },
	}
	for _, e := range edit {
		e(&att)
	}
	go func() {
		defer close(a.Done)
		a.Exit, a.Err = d.Run(ctx, spec, att)
	}()
	t.Cleanup(func() { cancel(); <-a.Done })
	return a
}

// Wait returns how the attempt ended, and fails the test if it does not within d.
func (a *Attempt) Wait(t *testing.T, d time.Duration) driver.Exit {
	t.Helper()
	select {
	case <-a.Done:
	case <-time.After(d):
		t.Fatalf("the attempt has not ended after %v; it printed %q", d, a.Stdout.String())
	}
	if a.Err != nil {
		t.Fatalf("Run: %v", a.Err)
	}
	return a.Exit
}

// Output is a writer whose content can be waited for.
type Output struct {
	mu      sync.Mutex // guards all below
	content bytes.Buffer
	changed chan struct{}
}

// NewOutput returns an empty one.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.content.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.content.String()
}

// Changed is closed by the next Write.
func (o *Output) Changed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

// Await waits until text has been written, and fails the test if it is not within d.
func (o *Output) Await(t *testing.T, text string, d time.Duration) {
	t.Helper()
	timeout := time.After(d)
	for {
		o.mu.Lock()
		found, changed := strings.Contains(o.content.String(), text), o.changed
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q was not printed, only %q", text, o.String())
		}
	}
}

package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// backlogSize is how many bytes of output may wait for the writers in flowctl. The
// engine holds a megabyte more, then the component waits.
const backlogSize = 8 << 20

// output carries an attempt's two streams from the engine to its writers.
type output struct {
	conn client.HijackedResponse
	// backlog parts who reads from who writes: an engine does not wait for ever.
	backlog *backlog
	// broken receives the error of a connection that did not simply end.
	broken chan error
	// read is closed when the engine has sent everything.
	read   chan struct{}
	copies sync.WaitGroup
	// garbled is what is wrong with what the engine sent; for who has waited for copies.
	garbled error
}

// attach opens the container's output before it is started, and begins to read. It
// must be closed.
func (a *attempt) attach(ctx context.Context) (*output, error) {
	o := &output{backlog: newBacklog(backlogSize), broken: make(chan error, 1), read: make(chan struct{})}
	err := a.ask(ctx, func(ctx context.Context) error {
		attached, err := a.client.ContainerAttach(ctx, a.id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
		o.conn = attached.HijackedResponse
		return err
	})
	if err != nil {
		return nil, err
	}
	// The backlog has no bound yet: an engine answers no question about a container
	// that has ended before its output has been taken.
	o.copies.Go(func() {
		defer close(o.read)
		defer o.backlog.end()
		if _, err := io.Copy(o.backlog, o.conn.Reader); err != nil && !errors.Is(err, net.ErrClosed) {
			o.broken <- err
		}
	})
	return o, nil
}

// copy begins to write.
func (o *output) copy(att driver.Attempt) {
	o.backlog.bound(true)
	o.copies.Go(func() {
		if _, err := stdcopy.StdCopy(heedless{att.Stdout}, heedless{att.Stderr}, o.backlog); err != nil {
			o.garbled = fmt.Errorf("what the engine sent: %w", err)
			_, _ = io.Copy(io.Discard, o.backlog)
		}
	})
}

// finish returns when everything has been written. The container has ended: the
// engine has patience to send the rest.
func (o *output) finish(patience time.Duration) error {
	o.backlog.bound(false)
	select {
	case <-o.read:
	case <-time.After(patience):
	}
	o.close()
	select {
	case err := <-o.broken:
		return err
	default:
		return o.garbled
	}
}

// close closes the connection and waits until what came has been written.
func (o *output) close() {
	o.conn.Close()
	o.copies.Wait()
}

// heedless is a writer whose errors do not stop what it is given.
type heedless struct{ to io.Writer }

func (h heedless) Write(p []byte) (int, error) {
	_, _ = h.to.Write(p)
	return len(p), nil
}

// backlog is a pipe in which something may wait.
type backlog struct {
	mu      sync.Mutex // guards all below
	changed *sync.Cond
	waiting bytes.Buffer
	room    int  // how many bytes may wait
	bounded bool // or any number
	ended   bool
}

func newBacklog(room int) *backlog {
	b := &backlog{room: room}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// Write waits until there is room. It never fails.
func (b *backlog) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.bounded && b.waiting.Len() >= b.room {
		b.changed.Wait()
	}
	b.changed.Broadcast()
	return b.waiting.Write(p)
}

// Read waits until there is something, or nothing will come any more.
func (b *backlog) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.waiting.Len() == 0 {
		if b.ended {
			return 0, io.EOF
		}
		b.changed.Wait()
	}
	b.changed.Broadcast()
	return b.waiting.Read(p)
}

// bound says whether room counts from now on.
func (b *backlog) bound(bounded bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bounded = bounded
	b.changed.Broadcast()
}

// end says that nothing will be written any more.
func (b *backlog) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Broadcast()
}

package docker

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/withobsrvr/flowctl/internal/driver"
)

// Run implements driver.Driver. Ref has the container's id, its first process as the
// engine's machine numbers it, and its image with the digest. The errors of an
// engine that is gone wrap ErrUnavailable; its container is then removed by the next
// Run or by Close. A program that the image does not have is os.ErrNotExist, one that
// may not be executed os.ErrPermission; under an init that is known after Started.
func (d *Driver) Run(ctx context.Context, spec driver.Spec, att driver.Attempt) (driver.Exit, error) {
	if err := context.Cause(ctx); err != nil {
		return driver.Exit{}, err
	}
	if spec.Container == nil || spec.Container.Image == "" {
		return driver.Exit{}, errNoImage
	}
	if err := d.settle(ctx, spec); err != nil {
		return driver.Exit{}, err
	}
	a := &attempt{Driver: d, spec: spec, Attempt: att}
	if err := a.create(ctx); err != nil {
		return driver.Exit{}, err
	}
	// What cannot be removed now is noted down.
	defer func() { _ = d.remove(ctx, a.id) }()
	if err := context.Cause(ctx); err != nil {
		return driver.Exit{}, err
	}
	if err := a.join(ctx); err != nil {
		return driver.Exit{}, err
	}
	return a.run(ctx)
}

// join puts the container into the networks beside the run's own.
func (a *attempt) join(ctx context.Context) error {
	for _, network := range a.opts.Beside {
		err := a.ask(ctx, func(ctx context.Context) error {
			_, err := a.client.NetworkConnect(ctx, network, client.NetworkConnectOptions{Container: a.id})
			return err
		})
		if err != nil {
			return a.failed(fmt.Sprintf("put %s into network %s", a.spec.Component, network), err)
		}
	}
	return nil
}

// attempt is one attempt under way.
type attempt struct {
	*Driver
	driver.Attempt
	spec driver.Spec
	id   string
	exit driver.Exit
	// sent are the signals it was sent, in order.
	sent []syscall.Signal
	// requests are those for signals that are under way.
	requests sync.WaitGroup

	mu      sync.Mutex // guards unheard
	unheard error      // why a signal could not be sent
}

// stopSignal asks the component to end.
func (a *attempt) stopSignal() syscall.Signal { return cmp.Or(a.spec.StopSignal, syscall.SIGTERM) }

// run starts the container and sees to it until it has ended.
func (a *attempt) run(ctx context.Context) (driver.Exit, error) {
	out, err := a.attach(ctx)
	if err != nil {
		if lost(err) {
			return driver.Exit{}, a.failed("attach to "+a.spec.Component, err)
		}
		if failed := a.start(ctx); failed != nil { // podman prepares the start in an attach, but only a start says what fails
			err = failed
		}
		return driver.Exit{}, a.startProblem(ctx, err)
	}
	defer out.close()
	if err := a.start(ctx); err != nil {
		return driver.Exit{}, a.startProblem(ctx, err)
	}
	if err := a.tell(ctx); err != nil {
		return driver.Exit{}, err
	}
	out.copy(a.Attempt)
	if err := a.supervise(ctx, out); err != nil {
		return driver.Exit{}, err
	}
	if err := out.finish(a.patience); err != nil {
		return driver.Exit{}, a.failed("read the output of "+a.spec.Component, err)
	}
	if err := a.conclude(ctx); err != nil {
		return driver.Exit{}, err
	}
	return a.exit, nil
}

// start starts the container.
func (a *attempt) start(ctx context.Context) error {
	return a.ask(ctx, func(ctx context.Context) error {
		_, err := a.client.ContainerStart(ctx, a.id, client.ContainerStartOptions{})
		return err
	})
}

// tell reports that the attempt lives.
func (a *attempt) tell(ctx context.Context) error {
	c, err := a.inspect(ctx)
	if err != nil {
		return a.failed("look at "+a.spec.Component, err)
	}
	ref := driver.Ref{Container: a.id, Image: a.spec.Container.Image, Digest: c.Image}
	if c.State != nil {
		ref.PID = c.State.Pid // 0 if it has ended already
	}
	if c.NetworkSettings != nil && a.network.Gateway.IsValid() {
		if n := c.NetworkSettings.Networks[a.network.Name]; n != nil {
			ref.Address = n.IPAddress
		}
	}
	if a.Started != nil {
		a.Started(ref)
	}
	return nil
}

// supervise waits for the end of the container and stops it when ctx is done.
func (a *attempt) supervise(ctx context.Context, out *output) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	var waiter sync.WaitGroup
	waiter.Go(func() { ended <- a.await(requests) })
	defer func() { cancel(); waiter.Wait(); a.requests.Wait() }()

	var grace <-chan time.Time
	stop, kill := ctx.Done(), (<-chan struct{})(nil)
	force := func() {
		a.exit.Forced = true
		a.signal(requests, syscall.SIGKILL)
		grace, kill = time.After(a.patience), nil
	}
	for {
		select {
		case <-stop:
			a.signal(requests, a.stopSignal(), syscall.SIGCONT) // a stopped process gets no signal before the second
			grace, stop, kill = time.After(a.spec.StopGrace), nil, a.Kill
		case <-kill:
			force()
		case err := <-ended:
			return err
		case err := <-out.broken:
			return a.failed("read the output of "+a.spec.Component, err)
		case <-grace:
			if a.exit.Forced {
				return a.immortal()
			}
			force()
		}
	}
}

// await returns when the container has ended, with its exit code in exit.
func (a *attempt) await(ctx context.Context) error {
	ended := a.client.ContainerWait(ctx, a.id, client.ContainerWaitOptions{})
	select { // nobody else takes it from the client, and it waits until it is taken
	case result := <-ended.Result:
		a.exit.Code = int(result.StatusCode)
		return nil
	case err := <-ended.Error:
		if cerrdefs.IsNotFound(err) {
			return fmt.Errorf("the container of %s was removed by somebody else", a.spec.Component)
		}
		return a.failed("wait for "+a.spec.Component, err)
	}
}

// signal sends signals, one after the other, and does not wait for it.
func (a *attempt) signal(ctx context.Context, signals ...syscall.Signal) {
	a.sent = append(a.sent, signals...)
	a.requests.Go(func() {
		for _, s := range signals {
			ctx, cancel := context.WithTimeout(ctx, a.patience)
			_, err := a.client.ContainerKill(ctx, a.id, client.ContainerKillOptions{Signal: signalText(s)})
			cancel()
			if err != nil && !cerrdefs.IsConflict(err) && !cerrdefs.IsNotFound(err) { // else it has ended
				a.mu.Lock()
				a.unheard = err
				a.mu.Unlock()
			}
		}
	})
}

// immortal is the error of a container that does not end when it is killed.
func (a *attempt) immortal() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := fmt.Errorf("it is still there %s after SIGKILL", a.patience)
	if a.unheard != nil {
		err = a.unheard
	}
	if !lost(err) { // an engine that cannot end a container is none
		return fmt.Errorf("stop %s: %s %w: %w", a.spec.Component, a.name, driver.ErrUnavailable, answer{err})
	}
	return a.failed("stop "+a.spec.Component, err)
}

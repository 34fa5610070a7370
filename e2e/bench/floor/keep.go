package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"

	"github.com/withobsrvr/flowctl/e2e/bench/shape"
	"github.com/withobsrvr/flowctl/e2e/bench/wire"
)

// keeper starts one component again the moment it has ended.
type keeper struct {
	mu      sync.Mutex // guards all below
	process *os.Process
	stopped bool
}

// keepAll keeps n components running, says "ready" when each has registered once,
// and kills them on SIGINT.
func keepAll(n int, component string) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	registered := make(chan struct{}, n)
	go acceptAll(lis, registered)
	keepers, kept, failed := make([]keeper, n), sync.WaitGroup{}, make(chan error, n)
	for i := range keepers {
		kept.Go(func() { failed <- keepers[i].keep(component, fmt.Sprintf("kept-%d", i+1), lis.Addr().String()) })
	}
	go func() {
		for range n {
			<-registered
		}
		fmt.Println("ready")
	}()
	select {
	case <-interrupted:
	case err = <-failed:
	}
	for i := range keepers {
		keepers[i].stop()
	}
	kept.Wait()
	return err
}

// acceptAll serves registrations and tells of each as long as somebody may want to know.
func acceptAll(lis net.Listener, registered chan<- struct{}) {
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = wire.ServeConn(conn, func(string) {
				select {
				case registered <- struct{}{}:
				default:
				}
			})
		}()
	}
}

// keep runs the component until stop.
func (k *keeper) keep(component, id, endpoint string) error {
	for {
		cmd := exec.Command(component, "serve", "0s", strconv.Itoa(shape.Source))
		cmd.Env = append(os.Environ(), "COMPONENT_ID="+id, "FLOWCTL_ENDPOINT="+endpoint)
		cmd.Stderr = os.Stderr
		if running, err := k.start(cmd); !running {
			return err
		}
		_ = cmd.Wait()
	}
}

// start starts cmd, unless stop was called.
func (k *keeper) start(cmd *exec.Cmd) (running bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return false, nil
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	k.process = cmd.Process
	return true, nil
}

func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.process != nil {
		_ = k.process.Kill()
	}
}

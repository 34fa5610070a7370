package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/flowctl/internal/controlplane"
)

// launch is a server to be started.
type launch struct {
	program string
	args    []string
	tls     controlplane.TLSFiles
	// addr is where it listens, if it does not say so itself.
	addr string
}

// fleet are servers that are compared, by their names.
type fleet map[string]*contender

// contender is one of them.
type contender struct {
	launch
	cmd *exec.Cmd
	// leases are what keeps etcd's alive, as it is sent.
	leases [][]byte
}

// startFleet starts the servers; what it returns must be stopped, even with an error.
func (h *host) startFleet(ctx context.Context, launches map[string]launch) (fleet, error) {
	all := fleet{}
	for name, l := range launches {
		c := &contender{launch: l, cmd: h.command(ctx, l.program, l.args...)}
		all[name] = c
		if err := c.start(); err != nil {
			return all, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return all, nil
}

// address is how servers say where they listen.
var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func (c *contender) start() error {
	if c.addr != "" {
		return c.cmd.Start()
	}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for c.addr == "" && lines.Scan() {
		c.addr = address.FindString(lines.Text())
	}
	if c.addr == "" {
		return errors.New("it does not say where it listens")
	}
	go func() {
		for lines.Scan() { // nobody reads on: it must not be held up
			continue
		}
	}()
	return nil
}

// stop kills the servers.
func (f fleet) stop() {
	for _, c := range f {
		if c.cmd.Process != nil {
			_ = c.cmd.Process.Kill()
			_ = c.cmd.Wait()
		}
	}
}

// dial opens a connection of its own.
func (c *contender) dial() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.tls.Set() {
		pair, err := tls.LoadX509KeyPair(c.tls.Cert, c.tls.Key)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(c.tls.CA)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		creds = credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots})
	}
	return grpc.NewClient("passthrough:///"+c.addr, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

// work is what is asked of a server: prepare is done once on each connection,
// and returns what is done over and over by one worker.
type work func(ctx context.Context, c *contender, conn *grpc.ClientConn, worker, workers int) (call func() error, err error)

// task is work for one of the servers.
type task struct {
	name, server string
	work         work
}

// compare does the tasks in turns, and returns the speeds by the tasks' names.
func (f fleet) compare(ctx context.Context, s scale, connections, calls int, tasks []task) (map[string]*speeds, error) {
	all := map[string]*speeds{}
	var measures []func(context.Context) error
	for _, t := range tasks {
		name, c := t.name, f[t.server]
		all[name] = &speeds{}
		measures = append(measures, func(ctx context.Context) error {
			rate, p99, err := c.burst(ctx, connections, calls, t.work)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			all[name].rate, all[name].p99 = append(all[name].rate, rate), append(all[name].p99, p99)
			return nil
		})
	}
	return all, inTurns(ctx, s.planeRounds, measures...)
}

// burst makes calls for a while and returns how many there were in a second, and
// the 99th percentile of how long they took.
func (c *contender) burst(ctx context.Context, connections, calls int, w work) (rate, p99 float64, err error) {
	var workers []func() error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range connections {
		conn, err := c.dial()
		if err != nil {
			return 0, 0, err
		}
		defer conn.Close()
		for j := range calls {
			call, err := w(ctx, c, conn, i*calls+j, connections*calls)
			if err != nil {
				return 0, 0, err
			}
			workers = append(workers, call)
		}
	}
	var wg sync.WaitGroup
	took, failed := make([][]time.Duration, len(workers)), make([]error, len(workers))
	counted := time.Now().Add(settling)
	until := counted.Add(burst)
	for i, call := range workers {
		wg.Go(func() {
			for begin := time.Now(); begin.Before(until); {
				if failed[i] = call(); failed[i] != nil {
					return
				}
				end := time.Now()
				if begin.After(counted) {
					took[i] = append(took[i], end.Sub(begin))
				}
				begin = end
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return 0, 0, err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return 0, 0, errors.New("no call has ended")
	}
	slices.Sort(all)
	return float64(len(all)) / burst.Seconds(), milliseconds(all[len(all)*99/100]), nil
}

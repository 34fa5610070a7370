// Command testcomponent is a component that behaves as its flags say, for the
// end-to-end tests: it joins late or never, prints a lot or oddly, ignores
// signals, falls ill, works or stands still, exits or
// stays.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	flowctl "github.com/withobsrvr/flowctl/sdk/go"
)

// behaviour is what the flags say, in the order it happens.
type behaviour struct {
	ignoreTerm bool
	fork       bool
	delay      time.Duration
	join       string
	role       string
	env        bool
	lines      int
	length     int
	blob       int
	text       string
	count      int
	work       time.Duration
	most       int
	health     string
	grpc       bool
	after      time.Duration
	exit       int
}

func main() {
	var b behaviour
	flag.BoolVar(&b.ignoreTerm, "ignore-term", false, "ignore SIGTERM")
	flag.BoolVar(&b.fork, "fork", false, "start a child, by way of a shell, that stays as long as this")
	flag.DurationVar(&b.delay, "delay", 0, "time before joining")
	flag.StringVar(&b.join, "join", "sdk", "how to join: sdk, unnamed or made-up (as clients before the SDK do), none")
	flag.StringVar(&b.role, "role", "source", "role to register with")
	flag.BoolVar(&b.env, "env", false, "print the environment, each variable after ENV")
	flag.IntVar(&b.lines, "lines", 0, "numbered lines to print, in writes of 64 KiB")
	flag.IntVar(&b.length, "length", 120, "bytes of each of these lines, its newline included")
	flag.IntVar(&b.blob, "blob", 0, "bytes of one long line to print after them")
	flag.StringVar(&b.text, "text", "", "text to print after that, without a newline")
	flag.IntVar(&b.count, "count", 0, "things to do before completing; they are a metric")
	flag.DurationVar(&b.work, "work", 0, "time between two things it does and counts as a metric; 0 does none")
	flag.IntVar(&b.most, "most", 0, "things after which it does no more, and stays; 0: no bound")
	flag.StringVar(&b.health, "health", "healthy", "what it says of its health; with the SDK, once it has joined")
	flag.BoolVar(&b.grpc, "grpc", false, "serve the standard gRPC health service on PORT; SIGUSR1 makes it ill, SIGUSR2 well")
	flag.DurationVar(&b.after, "after", 0, "time after which to exit; 0 stays until told to end")
	flag.IntVar(&b.exit, "exit", 0, "exit code")
	flag.Parse()
	code, err := b.run()
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

// run behaves, and returns the exit code.
func (b behaviour) run() (int, error) {
	if b.fork {
		if err := fork(); err != nil {
			return 0, fmt.Errorf("fork: %w", err)
		}
	}
	if b.delay > 0 {
		<-time.After(b.delay)
	}
	// Before it joins: whoever sees that it is ready may tell it at once.
	ill, well := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(ill, syscall.SIGUSR1)
	signal.Notify(well, syscall.SIGUSR2)
	ctx, m, err := b.joined()
	if err != nil {
		return 0, err
	}
	if m == nil {
		ill, well = nil, nil // it has nobody to tell
	}
	if m != nil && b.health != "healthy" {
		m.SetHealth(flowctl.Health(b.health), "told to be")
	}
	if b.grpc {
		if err := serveHealth(); err != nil {
			return 0, err
		}
	}
	if b.ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	if err := b.print(); err != nil {
		return 0, fmt.Errorf("print: %w", err)
	}
	b.stay(ctx, m, ill, well)
	if m != nil {
		_ = m.Leave()
	}
	return b.exit, nil
}

// fork starts a child that ignores SIGTERM, has a child of its own, holds the
// output open and is waited for by nobody.
func fork() error {
	cmd := exec.Command("sh", "-c", "trap '' TERM; sleep 3600; :")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Start()
}

// joined joins as told; the Member is nil without the SDK.
func (b behaviour) joined() (context.Context, *flowctl.Member, error) {
	switch b.join {
	case "none":
		ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		return ctx, nil, nil
	case "sdk":
		m, err := flowctl.Join(context.Background(), flowctl.Component{ID: "testcomponent", Role: flowctl.Role(b.role)})
		if err != nil {
			return nil, nil, err
		}
		return m.Context(), m, nil
	default:
		ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		return ctx, nil, joinWithoutSDK(ctx, b.join, b.role, b.health)
	}
}

// stay returns when it is time to exit. SIGUSR1 makes a member ill, SIGUSR2 well.
func (b behaviour) stay(ctx context.Context, m *flowctl.Member, ill, well <-chan os.Signal) {
	if b.count > 0 {
		m.Count("things", float64(b.count))
		for ctx.Err() == nil && m.Beat(ctx) != nil { // it has not been registered yet
			<-time.After(time.Millisecond)
		}
		return
	}
	var over <-chan time.Time
	if b.after > 0 {
		over = time.After(b.after)
	}
	var work <-chan time.Time
	if b.work > 0 {
		work = time.Tick(b.work)
	}
	done := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-work:
			if b.most == 0 || done < b.most {
				done++
				m.Count("things", 1)
			}
		case <-ill:
			m.SetHealth(flowctl.Unhealthy, "told to be ill")
			_ = m.Beat(ctx)
		case <-well:
			m.SetHealth(flowctl.Healthy, "")
			_ = m.Beat(ctx)
		}
	}
}

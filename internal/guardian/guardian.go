// Package guardian keeps the promise that nothing outlives a run, even when
// flowctl can keep none: killed with SIGKILL, out of memory, its terminal gone.
//
// A guardian is a small process of its own, in a session of its own. It reads
// from a pipe whose other end only flowctl has, and which the system closes
// when flowctl ends, however it ends. flowctl tells it of the process groups
// that live, and says goodbye at the regular end of a run. When the pipe ends
// without a goodbye, the guardian stops what is left of the run.
//
// It touches only processes that are of the run: see Find.
package guardian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/withobsrvr/flowctl/internal/procid"
)

const (
	// patience is how long the guardian may take to read a line, and to end.
	patience = time.Second
	// brief is how long a guardian lives at least unless something is very wrong,
	// rounds how often it may live shorter before it is given up.
	brief  = time.Second
	rounds = 3
)

// Options make a Guardian.
type Options struct {
	// Command starts the guardian: a program and its arguments. The run's id and
	// the run file, if there is one, are added.
	Command []string
	// Env is the guardian's environment; it needs none.
	Env []string
	// RunID is what the processes of the run carry as FLOWCTL_RUN_ID.
	RunID string
	// RunFile is what the guardian removes with its own record; "" if there is
	// none. Beside it, at RecordPath, stands which groups live: it is for Sweep,
	// if flowctl and the guardian are killed together.
	RunFile string
	// Notice is called when there is no guardian any more, from Run.
	Notice func(string)
}

// RecordPath is where the living groups of the run with this run file stand.
func RecordPath(runFile string) string { return strings.TrimSuffix(runFile, ".json") + ".groups" }

// Guardian is flowctl's end of the pipe.
type Guardian struct {
	opts Options

	mu      sync.Mutex // guards all below
	process *exec.Cmd
	pipe    *os.File
	record  *os.File // nil if there is none
	groups  map[int]procid.Process
}

// New starts a guardian. Whoever has one must call Run.
func New(opts Options) (*Guardian, error) {
	g := &Guardian{opts: opts, groups: make(map[int]procid.Process)}
	if err := g.start(); err != nil {
		return nil, err
	}
	if opts.RunFile == "" {
		return g, nil
	}
	// Without the record all is well as long as not both are killed.
	_ = os.MkdirAll(filepath.Dir(opts.RunFile), 0o700)
	g.record, _ = os.OpenFile(RecordPath(opts.RunFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return g, nil
}

// start starts the process and tells it what lives; the caller holds mu, or is New.
func (g *Guardian) start() error {
	read, write, err := os.Pipe() // no child inherits them
	if err != nil {
		return fmt.Errorf("start the guardian: %w", err)
	}
	defer read.Close()
	args := append(append([]string(nil), g.opts.Command...), g.opts.RunID)
	if g.opts.RunFile != "" {
		args = append(args, g.opts.RunFile)
	}
	cmd := &exec.Cmd{
		Path: args[0], Args: args, Env: append([]string{"GOMAXPROCS=1", "GOGC=25"}, g.opts.Env...),
		Dir: "/", Stdin: read, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		write.Close()
		return fmt.Errorf("start the guardian: %w", err)
	}
	g.process, g.pipe = cmd, write
	for _, p := range g.groups {
		g.tell(groupLine(p))
	}
	return nil
}

// Add tells the guardian of a process group, by the process that leads it.
func (g *Guardian) Add(leader procid.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.groups[leader.PID] = leader
	g.note(groupLine(leader))
}

// Remove tells the guardian that the group that pid led is empty.
func (g *Guardian) Remove(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.groups, pid)
	g.note(goneLine(pid))
}

// note tells the guardian and writes the record; the caller holds mu.
func (g *Guardian) note(line string) {
	g.tell(line)
	if g.record == nil {
		return
	}
	if info, err := g.record.Stat(); err == nil && info.Size() > maxRecord {
		var all strings.Builder // the lines of those that are gone are dropped
		for _, p := range g.groups {
			all.WriteString(groupLine(p))
		}
		line = all.String()
		_ = g.record.Truncate(0)
	}
	_, _ = g.record.WriteString(line)
}

// maxRecord is how large the record gets before it is written anew.
const maxRecord = 64 << 10

// tell writes one line to the guardian; the caller holds mu. A guardian that
// does not read is none: it is killed, and Run starts another, which is told all.
func (g *Guardian) tell(line string) {
	_ = g.pipe.SetWriteDeadline(time.Now().Add(patience))
	if _, err := g.pipe.WriteString(line); errors.Is(err, os.ErrDeadlineExceeded) {
		_ = g.process.Process.Kill()
	}
}

// Run keeps a guardian alive until ctx is done, and then says goodbye and
// waits for its end. It returns nil.
func (g *Guardian) Run(ctx context.Context) error {
	defer g.close()
	for quick := 0; ; {
		begin, ended := time.Now(), make(chan struct{})
		go func() {
			_ = g.current().Wait()
			close(ended)
		}()
		select {
		case <-ctx.Done():
			g.goodbye(ended)
			return nil
		case <-ended:
		}
		quick++
		if time.Since(begin) > brief {
			quick = 0
		}
		if err := g.restart(quick); err != nil {
			g.opts.Notice(fmt.Sprintf("nothing watches over this run any more, a kill -9 of flowctl would leave its components behind: %v", err))
			<-ctx.Done()
			return nil
		}
	}
}

func (g *Guardian) current() *exec.Cmd {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.process
}

// restart starts another guardian in the place of one that has ended.
func (g *Guardian) restart(quick int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if quick >= rounds {
		return fmt.Errorf("the guardian has ended %d times at once: %s", quick, g.process.ProcessState)
	}
	old := g.pipe
	if err := g.start(); err != nil {
		return err
	}
	return old.Close()
}

// goodbye ends the guardian; ended is closed when it has ended.
func (g *Guardian) goodbye(ended <-chan struct{}) {
	g.mu.Lock()
	g.tell(byeLine)
	_ = g.pipe.Close()
	process := g.process.Process
	g.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C: // stopped, or starved
		_ = process.Kill()
		<-ended
	}
}

// close removes the record.
func (g *Guardian) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.pipe.Close()
	if g.record != nil {
		_ = g.record.Close()
		_ = os.Remove(g.record.Name())
		g.record = nil
	}
}

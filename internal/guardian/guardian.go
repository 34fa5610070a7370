// Package guardian keeps the promise that nothing outlives a run, even when
// flowctl can keep none: killed with SIGKILL, out of memory, its terminal gone.
//
// A guardian is a small process of its own, in a session of its own. It reads
// from a pipe whose other end only flowctl has, and which the system closes
// when flowctl ends, however it ends. At the regular end of a run flowctl says
// goodbye. When the pipe ends without a goodbye, the guardian reads from a file
// which process groups lived, and stops what is left of the run.
//
// It touches only processes that are of the run: see Find.
package guardian

import (
	"context"
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
	// patience is how long the guardian may take to end after a goodbye.
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
	// RunFile is what the guardian removes with its record; "" if there is none.
	// The record stands beside it, at RecordPath: there it is found by Sweep, if
	// flowctl and the guardian are killed together.
	RunFile string
	// Notice is called when there is no guardian any more, from Run.
	Notice func(string)
}

// RecordPath is where the living groups of the run with this run file stand.
func RecordPath(runFile string) string { return strings.TrimSuffix(runFile, ".json") + ".groups" }

// FolderPath is where the run with this run file keeps what only it needs: it goes with the run.
func FolderPath(runFile string) string { return strings.TrimSuffix(runFile, ".json") + ".d" }

// Guardian is flowctl's end of the pipe.
type Guardian struct {
	opts Options

	mu      sync.Mutex // guards all below
	process *exec.Cmd
	pipe    *os.File
	// record says which groups live. Guardians have it open too, and read it when
	// flowctl is dead: to tell them costs flowctl one write, and them nothing.
	record *os.File
	size   int // of the record
	groups map[int]procid.Process
	// containers is true when the run has some; bequeathed when what it could not
	// remove is the guardian's to remove.
	containers, bequeathed bool
}

// New starts a guardian. Whoever has one must call Run.
func New(opts Options) (*Guardian, error) {
	record, err := newRecord(opts.RunFile)
	if err != nil {
		return nil, fmt.Errorf("start the guardian: %w", err)
	}
	g := &Guardian{opts: opts, record: record, groups: make(map[int]procid.Process)}
	if err := g.start(); err != nil {
		g.removeRecord()
		return nil, err
	}
	return g, nil
}

// newRecord makes an empty record, without a name if there is no run file.
func newRecord(runFile string) (*os.File, error) {
	if runFile == "" {
		f, err := os.CreateTemp("", "flowctl-")
		if err == nil {
			err = os.Remove(f.Name())
		}
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(runFile), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(RecordPath(runFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
}

// start starts the process; the caller holds mu, or is New.
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
		Dir: "/", Stdin: read, ExtraFiles: []*os.File{g.record}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		write.Close()
		return fmt.Errorf("start the guardian: %w", err)
	}
	g.process, g.pipe = cmd, write
	if g.containers {
		_, _ = write.WriteString(hasContainers) // there is room in a new pipe
	}
	return nil
}

// Containers tells the guardian that the run has containers from now on.
func (g *Guardian) Containers() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.containers {
		g.containers = true
		_, _ = g.pipe.WriteString(hasContainers) // it fails if the guardian has ended, and the next one is told
	}
}

// Bequeath leaves to the guardian what of the run could not be removed: Run then
// ends without a goodbye, and the guardian goes on alone. The run file stays.
func (g *Guardian) Bequeath() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bequeathed = true
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

// maxRecord is how large the record gets before it is written anew.
const maxRecord = 64 << 10

// note writes a line to the record; the caller holds mu. A full disk keeps
// nobody from anything: what carries the run's id is found without a record.
func (g *Guardian) note(line string) {
	g.size += len(line)
	if g.size > maxRecord {
		var all strings.Builder // the lines of those that are gone are dropped
		for _, p := range g.groups {
			all.WriteString(groupLine(p))
		}
		line = all.String()
		g.size = len(line)
		_ = g.record.Truncate(0)
	}
	_, _ = g.record.WriteString(line)
}

// Run keeps a guardian alive until ctx is done, and then says goodbye and waits
// for its end, or, after Bequeath, does neither. It returns nil.
func (g *Guardian) Run(ctx context.Context) error {
	defer g.removeRecord()
	for quick := 0; ; {
		begin, ended := time.Now(), make(chan struct{})
		go func() {
			_ = g.current().Wait()
			close(ended)
		}()
		select {
		case <-ctx.Done():
			if !g.leave() {
				g.goodbye(ended)
			}
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
	_ = g.pipe.Close() // nobody reads from it
	return g.start()
}

// leave reports whether the guardian is left alone with what is left.
func (g *Guardian) leave() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bequeathed
}

// goodbye ends the guardian; ended is closed when it has ended.
func (g *Guardian) goodbye(ended <-chan struct{}) {
	g.mu.Lock()
	_, _ = g.pipe.WriteString(bye) // it fails if the guardian has ended
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

// removeRecord ends everything that New has made.
func (g *Guardian) removeRecord() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe != nil {
		_ = g.pipe.Close()
	}
	_ = g.record.Close()
	if g.opts.RunFile != "" && !g.bequeathed {
		_ = os.Remove(g.record.Name())
	}
}

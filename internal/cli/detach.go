package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/withobsrvr/flowctl/internal/engine"
)

// What a detached flowctl tells the one that started it, a line each.
const (
	reportRun   = "run "  // and the run's id
	reportReady = "ready" // everything is
)

// statusError is an exit code whose reason has been told already.
type statusError struct{ code int }

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// detach starts this command line again in a session of its own and returns
// when that run is ready, has failed, or takes too long. flags are run's.
func (a *app) detach(file string, flags *pflag.FlagSet, timeout time.Duration) error {
	if a.stateDir() == "" {
		return environmentError{errors.New("a detached run needs a state folder: set XDG_STATE_HOME or HOME")}
	}
	output, err := a.detachedOutput()
	if err != nil {
		return environmentError{err}
	}
	defer output.Close()
	report, cmd, err := a.startDetached(file, flags, output)
	if err != nil {
		return environmentError{fmt.Errorf("start flowctl in the background: %w", err)}
	}
	defer report.Close()
	if timeout > 0 {
		_ = report.SetReadDeadline(time.Now().Add(timeout))
	}

	id, ready := "", false
	lines := bufio.NewScanner(report)
	for !ready && lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), reportRun); ok {
			id = name
			_ = os.Rename(output.Name(), engine.OutputFile(a.stateDir(), id))
		}
		ready = lines.Text() == reportReady
	}
	switch {
	case ready:
		a.detachedNext(id)
		return nil
	case errors.Is(lines.Err(), os.ErrDeadlineExceeded):
		return timeoutError{fmt.Errorf("run %s is not ready after %s; it goes on in the background: see 'flowctl explain', or end it with 'flowctl stop'", id, timeout)}
	}
	return a.detachedEnd(cmd, id, output)
}

// detachedOutput creates the file that a detached run writes to until its id is known.
func (a *app) detachedOutput() (*os.File, error) {
	dir := filepath.Join(a.stateDir(), "detached")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the output of a detached run: %w", err)
	}
	f, err := os.CreateTemp(dir, "starting-*.out")
	if err != nil {
		return nil, fmt.Errorf("keep the output of a detached run: %w", err)
	}
	return f, nil
}

// startDetached starts the run; what it reports can be read from report.
func (a *app) startDetached(file string, flags *pflag.FlagSet, output *os.File) (report *os.File, cmd *exec.Cmd, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer write.Close()
	cmd = exec.Command(self, append([]string{"run", file, "--report-fd=3"}, givenFlags(flags)...)...)
	cmd.Env = a.Env
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		read.Close()
		return nil, nil, err
	}
	return read, cmd, nil
}

// givenFlags are the flags of this command line, but those about detaching.
func givenFlags(flags *pflag.FlagSet) []string {
	var args []string
	flags.Visit(func(f *pflag.Flag) {
		switch list, ok := f.Value.(pflag.SliceValue); {
		case f.Name == "detach" || f.Name == "wait-timeout":
		case ok:
			for _, v := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+v)
			}
		default:
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return args
}

// detachedNext says how to go on with a run in the background.
func (a *app) detachedNext(id string) {
	fmt.Fprintf(a.Out, `run %s is ready, in the background
  see it:    flowctl status --run %[1]s
  attach:    flowctl logs -f --events --run %[1]s
  end it:    flowctl stop --run %[1]s
`, id)
}

// detachedEnd tells how a run ended before it was ready; the exit code is its own.
func (a *app) detachedEnd(cmd *exec.Cmd, id string, output *os.File) error {
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		fmt.Fprintf(a.Out, "run %s has completed\n", id)
		return nil
	case !errors.As(err, &exit):
		return err
	}
	if _, err := output.Seek(0, io.SeekStart); err == nil {
		if text, err := io.ReadAll(io.LimitReader(output, 1<<20)); err == nil {
			fmt.Fprint(a.Err, lastWords(string(text)))
		}
	}
	if id == "" { // it has not begun: nobody will ask for its output
		_ = os.Remove(output.Name())
	}
	if code := exit.ExitCode(); code > 0 {
		return statusError{code}
	}
	return fmt.Errorf("flowctl in the background has ended: %w", err)
}

// lastWords is what a flowctl said when it failed: from its error on, or the end.
func lastWords(text string) string {
	if strings.HasPrefix(text, "flowctl: ") {
		return text
	}
	if i := strings.LastIndex(text, "\nflowctl: "); i >= 0 {
		return text[i+1:]
	}
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(lines[max(len(lines)-40, 0):], "")
}

// serves reports whether any component is ready: a run whose components have
// all completed is over.
func serves(s engine.Snapshot) bool {
	return slices.ContainsFunc(s.Components, func(c engine.Component) bool { return c.State.Up() })
}

// reporter tells the flowctl that started this one in the background how far
// the run has come. Without one it tells nobody.
type reporter struct{ pipe *os.File }

// newReporter opens the descriptor that run was given; 0 is none. No component inherits it.
func newReporter(fd int) *reporter {
	if fd == 0 {
		return &reporter{}
	}
	syscall.CloseOnExec(fd)
	return &reporter{pipe: os.NewFile(uintptr(fd), "report")}
}

// say tells a line. That nobody listens any more is no error.
func (r *reporter) say(line string) {
	if r.pipe != nil {
		_, _ = fmt.Fprintln(r.pipe, line)
	}
}

func (r *reporter) close() {
	if r.pipe != nil {
		_ = r.pipe.Close()
		r.pipe = nil
	}
}

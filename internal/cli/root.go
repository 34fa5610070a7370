// Package cli is the command line of flowctl: one file a command. Commands
// parse into options, call the packages below, and print; they decide nothing
// that another client could not decide too.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/withobsrvr/flowctl/internal/controlplane"
	"github.com/withobsrvr/flowctl/internal/engine"
	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// app is what commands share with the world; tests hand in their own.
type app struct {
	In       io.Reader
	Out, Err io.Writer
	// Program is the path of this program, which starts itself as its guardian;
	// "" starts none.
	Program string
	// Env is the environment, as KEY=value.
	Env []string
	// beside is the sandbox beside which pipelines are run.
	beside engine.Beside
	// OutTTY is true when Out is a terminal; Color when it may be coloured.
	OutTTY, Color bool
}

// Main runs the command line of this process and returns its exit code.
func Main() int {
	tty := term.IsTerminal(int(os.Stdout.Fd()))
	program, err := os.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "flowctl: its own program is not known, so nothing will watch over it: %v\n", err)
	}
	a := &app{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ(), Program: program,
		OutTTY: tty, Color: tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
	return a.main(context.Background(), os.Args[1:])
}

// main runs one command line and returns its exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	a.report(err)
	return exitCode(err)
}

// newRoot assembles the commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:                   "flowctl",
		Short:                 "Bring data pipelines to life",
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := "See 'flowctl --help'"
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				hint = "Did you mean " + strings.Join(similar, " or ") + "? " + hint
			}
			return usageError{fmt.Errorf("there is no command %q\n%s", args[0], hint)}
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(
		newApplyCmd(a),
		newCleanCmd(a),
		newDescribeCmd(a),
		newGuardianCmd(a),
		newEventsCmd(a),
		newExplainCmd(a),
		newListCmd(a),
		newLogsCmd(a),
		newPlanCmd(a),
		newProbeCmd(a),
		newPsCmd(a),
		newRestartCmd(a),
		newRunCmd(a),
		newRunsCmd(a),
		newSandboxCmd(a),
		newSchemaCmd(a),
		newServerCmd(a),
		newStartCmd(a),
		newStatusCmd(a),
		newStopCmd(a),
		newTranslateCmd(a),
		newValidateCmd(a),
		newVersionCmd(a),
		newWaitCmd(a),
	)
	return root
}

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// environmentError is something on this machine that is in the way.
type environmentError struct{ error }

func (e environmentError) Unwrap() error { return e.error }

// getenv looks up a variable of the environment.
func (a *app) getenv(name string) string {
	for _, v := range slices.Backward(a.Env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// report prints err for a person.
func (a *app) report(err error) {
	var problems pipeline.Problems
	switch {
	case err == nil, errors.As(err, new(statusError)):
	case errors.As(err, &problems):
		a.printProblems(problems)
	default:
		fmt.Fprintf(a.Err, "flowctl: %v\n", err)
	}
}

// exitCode is the one place that turns an error into an exit code.
func exitCode(err error) int {
	var usage usageError
	var problems pipeline.Problems
	var environment environmentError
	var machine interface{ Environment() bool }
	var interrupted *interruptedError
	var timeout timeoutError
	var refused *controlplane.RunError
	var told statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage), errors.As(err, &problems):
		return 2
	case errors.As(err, &environment), errors.As(err, &machine) && machine.Environment():
		return 3
	case errors.As(err, &timeout):
		return 4
	case errors.As(err, &refused):
		return refusedCode(refused)
	case errors.As(err, &told):
		return told.code
	case errors.As(err, &interrupted):
		return interrupted.code()
	default:
		return 1
	}
}

// refusedCode is the exit code for what a run said.
func refusedCode(e *controlplane.RunError) int {
	switch {
	case e.Invalid:
		return 2
	case e.Gone, e.Denied, e.Environment:
		return 3
	default:
		return 1
	}
}

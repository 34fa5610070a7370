package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/reference/cli.md anew")

const referenceFile = repository + "/docs/reference/cli.md"

// TestReference keeps docs/reference/cli.md to what the commands say of
// themselves; -update writes it.
func TestReference(t *testing.T) {
	want := reference()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is out of date: run make generate (-commands +file):\n%s", referenceFile, diff)
	}
}

// reference is the help of every command that is not hidden.
func reference() string {
	var out bytes.Buffer
	root := newRoot(&app{Out: &out, Err: &out})
	root.InitDefaultHelpCmd()
	fmt.Fprint(&out, "# The command line\n\nGenerated from the commands by `make generate`: do not edit.\n")
	commands := []*cobra.Command{root}
	for _, cmd := range root.Commands() {
		commands = append(append(commands, cmd), cmd.Commands()...)
	}
	for _, cmd := range commands {
		if cmd.Hidden || cmd.Name() == "help" {
			continue
		}
		fmt.Fprintf(&out, "\n## %s\n\n```text\n", cmd.CommandPath())
		cmd.InitDefaultHelpFlag()
		_ = cmd.Help() // into out
		fmt.Fprint(&out, "```\n")
	}
	lines := strings.Split(out.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

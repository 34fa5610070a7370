package cli

import (
	"fmt"
	"io"
)

// printCauses prints chains of causes, each step one line.
func printCauses(out io.Writer, causes []cause) error {
	if len(causes) == 0 {
		_, err := fmt.Fprintln(out, "Every component is ready or has completed.")
		return err
	}
	for i, c := range causes {
		if i > 0 {
			fmt.Fprintln(out)
		}
		printCause(out, c, "")
		roots := map[string]bool{}
		printRoots(out, c, roots)
	}
	return nil
}

// printCause prints a cause and what is behind it, with deeper ones further in.
func printCause(out io.Writer, c cause, indent string) {
	arrow := ""
	if indent != "" {
		arrow = indent[2:] + "→ "
	}
	fmt.Fprintf(out, "%s%s\n", arrow, c.Text)
	if c.LastLines != nil {
		fmt.Fprintf(out, "%s  its last lines:\n", indent)
	}
	for _, line := range c.LastLines {
		fmt.Fprintf(out, "%s  | %s\n", indent, line)
	}
	for _, deeper := range c.Causes {
		printCause(out, deeper, indent+"  ")
	}
}

// printRoots names the roots, each once, with what to do about them.
func printRoots(out io.Writer, c cause, named map[string]bool) {
	for _, deeper := range c.Causes {
		printRoots(out, deeper, named)
	}
	if !c.Root || named[c.Component] {
		return
	}
	named[c.Component] = true
	fmt.Fprintf(out, "root cause: %s. Next:\n", c.Component)
	for _, step := range c.Next {
		fmt.Fprintf(out, "  %s\n", step)
	}
}

package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// outputFlag adds -o to a command that prints data.
func outputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "table", "output format: table, json or yaml")
}

// print writes value in the format of the -o flag; table writes it for people.
func (a *app) print(format string, value any, table func(io.Writer) error) error {
	switch format {
	case "table":
		return table(a.Out)
	case "json":
		enc := json.NewEncoder(a.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	case "yaml":
		// By way of JSON, so that both formats have the same names.
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
		_, err = a.Out.Write(text)
		return err
	default:
		return noFormat(format)
	}
}

// checkFormat refuses formats that print does not know.
func checkFormat(format string) error {
	if format != "table" && format != "json" && format != "yaml" {
		return noFormat(format)
	}
	return nil
}

func noFormat(format string) error {
	return usageError{fmt.Errorf("there is no output format %q; use table, json or yaml", format)}
}

// maxArgs refuses more than n arguments.
func maxArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("%s takes at most %s, not %d\nSee '%s --help'", cmd.CommandPath(), plural(n, "argument"), len(args), cmd.CommandPath())}
		}
		return nil
	}
}

package cli

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the linker: see the Makefile.
var version = "dev"

func newVersionCmd(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  flowctl version
  flowctl version -o json`,
		Args: maxArgs(0),
		RunE: func(*cobra.Command, []string) error {
			info := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(output, info, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "flowctl %s (%s, %s)\n", info.Version, info.Go, info.Platform)
				return err
			})
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

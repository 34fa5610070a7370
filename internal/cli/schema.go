package cli

import (
	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

func newSchemaCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the pipeline file",
		Long: `Schema prints the JSON Schema (draft 2020-12) of the pipeline file, for editors
that complete and check YAML. It is made from the tables the file is read with.`,
		Example: `  # Completion in an editor that knows the YAML language server:
  flowctl schema > pipeline.schema.json
  # and as the first line of the pipeline file:
  #   # yaml-language-server: $schema=pipeline.schema.json`,
		Args: maxArgs(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.Out.Write(pipeline.Schema())
			return err
		},
	}
}

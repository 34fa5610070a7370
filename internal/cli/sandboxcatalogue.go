package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/sandbox"
)

// catalogueEntry is a service of the catalogue as it is shown.
type catalogueEntry struct {
	ID          string `json:"id"`
	Description string `json:"description"`
	Image       string `json:"image"`
	// Ports are those of the host.
	Ports    []int             `json:"ports"`
	Variable string            `json:"variable"`
	Env      map[string]string `json:"env"`
	// Connection is how programs of this machine connect.
	Connection string `json:"connection"`
}

func newSandboxCatalogueCmd(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "catalogue",
		Short: "List the services that flowctl knows by name",
		Long: `Catalogue lists the services that can be started by name. A sandbox file may use
and change them: what it says of one takes the place of what is here.`,
		Example: `  flowctl sandbox catalogue

  # User and password of one
  flowctl sandbox catalogue -o json | jq '.[] | select(.id == "postgres").env'`,
		Args: maxArgs(0),
		RunE: func(*cobra.Command, []string) error {
			services, err := sandbox.Catalogue()
			if err != nil {
				return err
			}
			var entries []catalogueEntry
			for _, s := range services {
				entries = append(entries, newCatalogueEntry(s))
			}
			return a.print(output, entries, func(w io.Writer) error { return printCatalogue(w, entries) })
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

func newCatalogueEntry(s pipeline.Service) catalogueEntry {
	outside := func(p pipeline.Port) string { return strconv.Itoa(p.HostPort) }
	e := catalogueEntry{
		ID: s.ID, Description: s.Description, Image: s.Image, Variable: s.Variable, Env: map[string]string{},
		Connection: s.Refer(s.Connection, "localhost", outside),
	}
	for _, p := range s.Ports {
		e.Ports = append(e.Ports, p.HostPort)
	}
	for _, v := range s.Env {
		e.Env[v.Name] = s.Refer(v.Value, "localhost", outside)
	}
	return e
}

func printCatalogue(out io.Writer, entries []catalogueEntry) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tIMAGE\tPORTS\tVARIABLE\tWHAT IT IS")
	for _, e := range entries {
		ports := strings.Trim(fmt.Sprint(e.Ports), "[]")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.ID, e.Image, ports, e.Variable, e.Description)
	}
	return w.Flush()
}

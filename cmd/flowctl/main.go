// Command flowctl brings data pipelines to life.
package main

import (
	"os"

	"github.com/withobsrvr/flowctl/internal/cli"
)

func main() { os.Exit(cli.Main()) }

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// component is one component of a pipeline file.
type component struct {
	id      string
	tier    string // sources, processors or sinks
	command []string
	// more are further lines, without indentation.
	more []string
}

// writePipeline writes the pipeline file called name and returns its path.
func (h *host) writePipeline(name string, components []component) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata:\n  name: %s\nspec:\n", name)
	for _, tier := range []string{"sources", "processors", "sinks"} {
		header := "  " + tier + ":\n"
		for _, c := range components {
			if c.tier != tier {
				continue
			}
			b.WriteString(header)
			header = ""
			quoted := make([]string, len(c.command))
			for i, word := range c.command {
				quoted[i] = strconv.Quote(word)
			}
			fmt.Fprintf(&b, "    - id: %s\n      command: [%s]\n", c.id, strings.Join(quoted, ", "))
			for _, line := range c.more {
				fmt.Fprintf(&b, "      %s\n", line)
			}
		}
	}
	path := filepath.Join(h.dir, name+".yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return "", fmt.Errorf("write a pipeline file: %w", err)
	}
	return path, nil
}

// freePorts returns n ports that are free now, outside of the range that systems
// commonly give to outgoing connections.
func freePorts(n int) ([]int, error) {
	var ports []int
	for port := 20000 + rand.IntN(5000); port < 30000 && len(ports) < n; port++ { // others look for ports as well
		lis, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		_ = lis.Close()
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("find %d free ports: there are %d", n, len(ports))
	}
	return ports, nil
}

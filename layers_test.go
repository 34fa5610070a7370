// Package flowctl_test holds the house to its plan: which package may import which.
package flowctl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/withobsrvr/flowctl/"

// layers lists, for each room, the rooms it may import; an entry ending in /*
// stands for every room below. A package that is not listed has no place yet.
var layers = map[string][]string{
	"cmd/flowctl": {"internal/cli"},

	"internal/cli":     {"internal/engine", "internal/supervisor", "internal/controlplane", "internal/registry", "internal/journal", "internal/plan", "internal/pipeline", "internal/driver", "internal/probe", "internal/guardian", "internal/store", "internal/metrics", "internal/sandbox", "internal/compose", "internal/shellscript"},
	"internal/sandbox": {"internal/pipeline", "internal/driver", "internal/driver/docker", "internal/port", "internal/probe"},
	"internal/engine":  {"internal/controlplane", "internal/supervisor", "internal/registry", "internal/plan", "internal/pipeline", "internal/driver", "internal/driver/*", "internal/probe", "internal/journal", "internal/guardian", "internal/procid", "internal/store", "internal/authority", "internal/metrics", "internal/tracing", "internal/port"},

	"internal/controlplane": {"api/*", "internal/supervisor", "internal/registry", "internal/plan", "internal/pipeline", "internal/driver", "internal/journal"},
	"internal/supervisor":   {"internal/plan", "internal/pipeline", "internal/driver", "internal/probe", "internal/journal"},
	"internal/store":        {"internal/registry"},
	"internal/metrics":      {"internal/registry"},
	"internal/tracing":      {"internal/journal"},
	"internal/authority":    {},
	"internal/registry":     {"internal/journal"},
	"internal/plan":         {"internal/pipeline", "internal/driver"},

	"internal/compose":     {"internal/plan", "internal/pipeline", "internal/driver"},
	"internal/shellscript": {"internal/plan", "internal/pipeline"},

	"internal/guardian":                 {"internal/procid"},
	"internal/driver/process":           {"internal/driver", "internal/procid"},
	"internal/driver/docker":            {"internal/driver"},
	"internal/driver/drivertest":        {"internal/driver"},
	"internal/driver/docker/dockertest": {},

	"internal/driver":   {},
	"internal/journal":  {},
	"internal/probe":    {},
	"internal/pipeline": {},
	"internal/procid":   {},
	"internal/port":     {},

	"sdk/go":                  {"api/*"},
	"api/flowctl":             {},
	"api/flowctl/v1":          {},
	"api/flowctl/run/v1":      {"api/flowctl/registry/v1"},
	"api/flowctl/registry/v1": {},
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range list(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(room, "e2e") || p.ImportPath+"/" == module {
			continue // tests may look everywhere
		}
		allowed, known := layers[room]
		if !known {
			t.Errorf("%s has no place in layers: give it one", room)
			continue
		}
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, target) }) {
				t.Errorf("%s imports %s, which is not below it", room, target)
			}
		}
	}
}

func matches(pattern, room string) bool {
	if folder, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(room, folder)
	}
	return pattern == room
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

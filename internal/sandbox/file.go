package sandbox

import (
	"path/filepath"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

// Load reads a sandbox file on top of the catalogue, and makes its host paths
// absolute. The error is pipeline.Problems when anything is wrong with the file.
func Load(path string, opts pipeline.Options) (*pipeline.SandboxFile, error) {
	entries, err := Catalogue()
	if err != nil {
		return nil, err
	}
	f, err := pipeline.LoadSandbox(path, opts, entries)
	if err != nil {
		return nil, err
	}
	for i := range f.Services {
		for j := range f.Services[i].Volumes {
			v := &f.Services[i].Volumes[j]
			if v.HostPath != "" && !filepath.IsAbs(v.HostPath) {
				v.HostPath = filepath.Join(f.Dir, v.HostPath)
			}
		}
	}
	return f, nil
}

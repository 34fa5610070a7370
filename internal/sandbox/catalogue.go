package sandbox

import (
	_ "embed" // the catalogue
	"fmt"

	"github.com/withobsrvr/flowctl/internal/pipeline"
)

//go:embed catalogue.yaml
var catalogue []byte

// Catalogue returns the services that flowctl knows by name, in the order in which
// they are shown. It is the caller's.
func Catalogue() ([]pipeline.Service, error) {
	f, err := pipeline.ParseSandbox("catalogue.yaml", "/", catalogue, pipeline.Options{}, nil)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	for i := range f.Services {
		f.Services[i].FromCatalogue = true
	}
	return f.Services, nil
}

package pipeline

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what comes out to the golden files")

// TestProblems reads each testdata/problems/*.txtar: flow.yml, other files it
// names, environ (KEY=value lines), and want: the problems and warnings, as
// lines and as a terminal shows them.
func TestProblems(t *testing.T) {
	paths, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := report(t, archive)
			for i, f := range archive.Files {
				if f.Name != "want" {
					continue
				}
				if *update {
					archive.Files[i].Data = []byte(got)
					if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				if diff := cmp.Diff(string(f.Data), got); diff != "" {
					t.Errorf("problems differ (-want +got):\n%s", diff)
				}
				return
			}
			t.Error("the case has no want")
		})
	}
}

// report is what is said of the archive's flow.yml.
func report(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	var source []byte
	var environ []string
	for _, f := range archive.Files {
		switch f.Name {
		case "flow.yml":
			source = f.Data
		case "environ":
			environ = strings.Fields(string(f.Data))
		case "want":
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	p, warnings, err := Parse("flow.yml", dir, source, Options{Environ: environ})
	var problems Problems
	if err != nil && !errors.As(err, &problems) {
		t.Fatalf("the error is %T, not Problems", err)
	}
	if (p == nil) != (err != nil) {
		t.Fatalf("pipeline %v with error %v", p, err)
	}
	var out bytes.Buffer
	for _, all := range []Problems{problems, warnings} {
		if len(all) > 0 {
			out.WriteString(all.Error() + "\n")
		}
	}
	out.WriteString("\n")
	problems.Render(&out, false)
	warnings.Render(&out, false)
	return out.String()
}

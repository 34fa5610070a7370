package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/withobsrvr/flowctl/internal/pipeline"
	"github.com/withobsrvr/flowctl/internal/plan"
)

// repository is the root of the source tree, as seen from this package's tests.
const repository = "../.."

// document is one Markdown file of the repository.
type document struct {
	path string // as in the repository
	text string
}

// documents reads every Markdown file that is ours.
func documents(t *testing.T) []document {
	t.Helper()
	var docs []document
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != repository && (strings.HasPrefix(name, ".") || slices.Contains([]string{"node_modules", "dist", "bin"}, name)):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(repository, path)
		docs = append(docs, document{inside, string(text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) < 5 {
		t.Fatalf("only %d documents found under %s", len(docs), repository)
	}
	return docs
}

// fence is a code block: its language and its content.
var fence = regexp.MustCompile("(?ms)^```([a-z]*)[^\n]*\n(.*?)^```")

// span is inline code; link the target of a link or picture.
var (
	span = regexp.MustCompile("`([^`\n]+)`")
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// TestDocumentedCommandsExist finds the command lines in code blocks and inline
// code: the command and each of its flags must be there.
func TestDocumentedCommandsExist(t *testing.T) {
	found := 0
	for _, doc := range documents(t) {
		var lines []string
		for _, block := range fence.FindAllStringSubmatch(doc.text, -1) {
			if slices.Contains([]string{"", "sh", "console"}, block[1]) {
				lines = append(lines, strings.Split(block[2], "\n")...)
			}
		}
		for _, code := range span.FindAllStringSubmatch(fence.ReplaceAllString(doc.text, ""), -1) {
			lines = append(lines, code[1])
		}
		for _, line := range lines {
			if commandLine.MatchString(line) {
				found++
			}
			if err := checkCommandLine(line); err != nil {
				t.Errorf("%s: %v", doc.path, err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d command lines found: does this test still read the documents?", found)
	}
}

// commandLine finds a call of flowctl at the beginning of a line, after a prompt
// and variables; not its own output, which begins with its version or a time.
var commandLine = regexp.MustCompile(`^\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?:bin/|\./)?flowctl( [^|#;&>]*)?`)

// output is flowctl's first line: its name and a version.
var output = regexp.MustCompile(`^flowctl (v?\d|dev|[0-9a-f]{7}|:)`)

// checkCommandLine returns what is wrong with a line that calls flowctl; other lines are fine.
func checkCommandLine(line string) error {
	match := commandLine.FindStringSubmatch(line)
	if match == nil || output.MatchString(line) {
		return nil
	}
	args := strings.Fields(match[1])
	cmd, rest, err := newRoot(&app{}).Find(args)
	if err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	if !cmd.HasParent() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return fmt.Errorf("%q: there is no command %s", line, rest[0])
	}
	for _, arg := range rest {
		if arg == "--" { // what comes then is for somebody else
			return nil
		}
		name, _, _ := strings.Cut(arg, "=")
		long, isLong := strings.CutPrefix(name, "--")
		short, isShort := strings.CutPrefix(name, "-")
		switch {
		case long == "help" || name == "-h" || name == "-":
		case isLong && cmd.Flags().Lookup(long) == nil,
			!isLong && isShort && cmd.Flags().ShorthandLookup(short[:1]) == nil:
			return fmt.Errorf("%q: %s has no flag %s", line, cmd.CommandPath(), name)
		}
	}
	return nil
}

func TestCheckCommandLineFindsMistakes(t *testing.T) {
	for line, wrong := range map[string]bool{
		"flowctl run":                            false,
		"$ bin/flowctl run x.yaml --log-dir y":   false,
		"A=1 flowctl plan -o json | jq --foo":    false,
		"flowctl dev  pipeline tiny":             false,
		"the program flowctl nonsense":           false,
		"flowctl nonsense":                       true,
		"  flowctl run --nonsense":               true,
		"$ LAKE=x ./flowctl run f.yaml -z":       true,
		"flowctl list --endpoint=localhost:8080": false,
	} {
		if err := checkCommandLine(line); (err != nil) != wrong {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestDocumentedLinksResolve checks that what a document points to in the
// repository exists, be it a file or a heading of one.
func TestDocumentedLinksResolve(t *testing.T) {
	for _, doc := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(doc.text, ""), -1) {
			if err := checkLink(doc, match[1]); err != nil {
				t.Errorf("%s: %v", doc.path, err)
			}
		}
	}
}

func checkLink(doc document, target string) error {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return nil
	}
	file, heading, _ := strings.Cut(target, "#")
	text := doc.text
	if file != "" {
		path := filepath.Join(repository, filepath.Dir(doc.path), file)
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return fmt.Errorf("the link %s leads nowhere", target)
		case info.IsDir() || heading == "":
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text = string(content)
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") && anchor(line) == heading {
			return nil
		}
	}
	return fmt.Errorf("the link %s leads to no heading", target)
}

// anchor is what a heading is linked by.
func anchor(heading string) string {
	text := strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	return regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ReplaceAll(text, " ", "-"), "")
}

// TestDocumentedProgramsCompile vets every go block that is a whole program.
func TestDocumentedProgramsCompile(t *testing.T) {
	found := 0
	for _, doc := range documents(t) {
		for _, block := range fence.FindAllStringSubmatch(doc.text, -1) {
			if block[1] != "go" || !strings.HasPrefix(block[2], "package main") {
				continue
			}
			found++
			path := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(path, []byte(block[2]), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("go", "vet", path).CombinedOutput(); err != nil {
				t.Errorf("%s: this program does not compile: %v\n%s", doc.path, err, out)
			}
		}
	}
	if found < 2 {
		t.Errorf("only %d programs found in the documents", found)
	}
}

// TestDocumentedPipelinesAreValid loads and plans every yaml block that is a whole pipeline file.
func TestDocumentedPipelinesAreValid(t *testing.T) {
	found := 0
	for _, doc := range documents(t) {
		for _, block := range fence.FindAllStringSubmatch(doc.text, -1) {
			if block[1] != "yaml" || !strings.HasPrefix(block[2], "apiVersion:") {
				continue
			}
			found++
			path := filepath.Join(t.TempDir(), "pipeline.yaml")
			if err := os.WriteFile(path, []byte(block[2]), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := checkPipeline(path); err != nil {
				t.Errorf("%s: this pipeline is wrong: %v\n%s", doc.path, err, block[2])
			}
		}
	}
	if found == 0 {
		t.Error("no pipeline found in any document")
	}
}

func checkPipeline(path string) error {
	p, warnings, err := pipeline.Load(path, pipeline.Options{})
	if err != nil {
		return err
	}
	if len(warnings) > 0 {
		return errors.New("it has warnings: " + warnings.Error())
	}
	_, err = plan.New(p, plan.Options{})
	return err
}

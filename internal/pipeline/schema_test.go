package pipeline

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const referenceDir = "../../docs/reference/"

// TestDocuments keeps the schema and the reference current.
func TestDocuments(t *testing.T) {
	golden(t, referenceDir+"pipeline.schema.json", Schema())
	golden(t, referenceDir+"pipeline.md", Reference())
	golden(t, referenceDir+"sandbox.md", SandboxReference())
}

// compile is the schema, ready to be asked.
func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// asInstance is YAML as a validator of JSON sees it.
func asInstance(t *testing.T, source []byte) (any, error) {
	t.Helper()
	text, err := yaml.YAMLToJSON(source)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(text))
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	s := compile(t)
	for _, path := range []string{"testdata/ttp-pipeline.yaml", "testdata/full.yaml"} {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := asInstance(t, source)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestSchemaRefusesBadFiles: the golden cases whose problem a schema can see.
func TestSchemaRefusesBadFiles(t *testing.T) {
	s := compile(t)
	seen := []string{"unknown-field", "wrong-type", "command-text", "empty-values", "missing-fields", "no-spec", "unsafe-id", "later", "versions", "not-a-mapping"}
	unseen := []string{"cycle", "unknown-dependency", "port-conflict", "conditions"}
	for _, name := range slices.Concat(seen, unseen) {
		archive, err := txtar.ParseFile(filepath.Join("testdata/problems", name+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		instance, err := asInstance(t, archive.Files[0].Data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		refused := s.Validate(instance) != nil
		if want := slices.Contains(seen, name); name != "conditions" && refused != want {
			t.Errorf("%s: refused is %v, want %v", name, refused, want)
		}
	}
}

// TestDefaultsAreTrue: a component that writes a key with the default the
// reference gives is the same as one that does not.
func TestDefaultsAreTrue(t *testing.T) {
	base := "apiVersion: flowctl/v1\nkind: Pipeline\nmetadata: {name: p}\nspec: {sinks: [{id: a, binary: a, health_port: 1%s}]}\n"
	inside := map[string]string{
		"component": ", %s: %s", "restart": ", restart: {%s: %s}", "stop": ", stop: {%s: %s}", "probe": ", probe: {http: {}, %s: %s}",
		"http": ", probe: {http: {%s: %s}}", "dependency": ", depends_on: {b: {required: false, %s: %s}}",
	}
	empty := map[string]string{
		"component": "", "restart": ", restart: {}", "stop": "", "probe": ", probe: {http: {}}", "http": ", probe: {http: {}}",
		"dependency": ", depends_on: {b: {required: false}}",
	}
	parse := func(extra string) Component {
		p, _, err := Parse("f", "/", fmt.Appendf(nil, base, extra), Options{})
		if err != nil {
			t.Fatalf("%s: %v", extra, err)
		}
		return p.Components[0]
	}
	var c catalogue
	documentShape().describe(&c)
	checked := 0
	for _, o := range c.objects {
		for _, f := range o.fields {
			if f.def == "" || inside[o.name] == "" || strings.Contains(f.def, " ") || o.name+f.name == "dependencyrequired" {
				continue
			}
			checked++
			written := parse(fmt.Sprintf(inside[o.name], f.name, f.def))
			if diff := cmp.Diff(parse(empty[o.name]), written); diff != "" {
				t.Errorf("%s.%s: the default is not %s:\n%s", o.name, f.name, f.def, diff)
			}
		}
	}
	if checked < 15 {
		t.Errorf("only %d defaults were looked at", checked)
	}
}

package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
)

// catalogue collects the objects of the file in the order they are met.
type catalogue struct{ objects []*objectInfo }

// objectInfo is one object as the schema and the reference show it.
type objectInfo struct {
	name, doc  string
	extensions bool
	fields     []fieldInfo
}

// fieldInfo is one of its keys.
type fieldInfo struct {
	name, says, def, doc string
	required, later      bool
	schema               schema
}

// describe adds the object to the catalogue, once, and refers to it.
func (o objectShape[T]) describe(c *catalogue) (string, schema) {
	says, ref := "["+o.name+"](#"+o.name+")", schema{"$ref": "#/$defs/" + o.name}
	for _, have := range c.objects {
		if have.name == o.name {
			return says, ref
		}
	}
	info := &objectInfo{name: o.name, doc: o.doc, extensions: o.extensions}
	c.objects = append(c.objects, info)
	for _, f := range o.fields {
		fi := fieldInfo{name: f.name, def: f.def, doc: f.doc, required: f.required, later: f.later}
		if !f.later {
			fi.says, fi.schema = f.describe(c)
		}
		info.fields = append(info.fields, fi)
	}
	return says, ref
}

// Schema is the JSON Schema (draft 2020-12) of the pipeline file, indented, for
// editors and other tools. It knows shapes and spellings; what concerns several
// parts of a file, such as a cycle, only Load knows.
func Schema() []byte {
	var c catalogue
	_, ref := documentShape().describe(&c)
	defs := schema{}
	for _, o := range c.objects {
		defs[o.name] = o.schema()
	}
	out, err := json.MarshalIndent(schema{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     "https://github.com/withobsrvr/flowctl/docs/reference/pipeline.schema.json",
		"title":   "flowctl pipeline", "$ref": ref["$ref"], "$defs": defs,
	}, "", "  ")
	if err != nil {
		panic(err) // strings, numbers and lists always have a JSON form
	}
	return append(out, '\n')
}

// schema is the object's JSON Schema.
func (o *objectInfo) schema() schema {
	properties, required := schema{}, []string{}
	for _, f := range o.fields {
		if f.later {
			continue
		}
		property := schema{"description": strings.ReplaceAll(f.doc, "`", "")}
		if f.def != "" {
			property["description"] = property["description"].(string) + " Default: " + f.def + "."
		}
		for k, v := range f.schema {
			property[k] = v
		}
		properties[f.name] = property
		if f.required {
			required = append(required, f.name)
		}
	}
	s := schema{
		"type": "object", "description": strings.ReplaceAll(o.doc, "`", ""),
		"properties": properties, "additionalProperties": false,
	}
	if len(required) > 0 {
		s["required"] = required
	}
	if o.extensions {
		s["patternProperties"] = schema{"^x-": schema{}}
	}
	return s
}

// Reference is the table of all keys of the pipeline file, as Markdown.
func Reference() []byte {
	var c catalogue
	documentShape().describe(&c)
	return c.reference("The pipeline file")
}

// SandboxReference is the table of all keys of the sandbox file, as Markdown.
func SandboxReference() []byte {
	var c catalogue
	sandboxShape(nil).describe(&c)
	return c.reference("The sandbox file")
}

// reference is the objects as Markdown.
func (c *catalogue) reference(title string) []byte {
	var b strings.Builder
	b.WriteString("# " + title + "\n\n<!-- Written by the test of internal/pipeline from the tables the file is read with: go test ./internal/pipeline -update -->\n")
	for _, o := range c.objects {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", o.name, o.doc)
		for _, f := range o.fields {
			says, def := f.says, f.def
			switch {
			case f.later:
				says, def = "", "*comes with a later version*"
			case f.required:
				def = "**needed**"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, cell(says), cell(def), cell(f.doc))
		}
	}
	return []byte(b.String())
}

// cell keeps text inside one cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

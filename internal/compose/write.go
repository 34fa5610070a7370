package compose

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// document is a mapping in the order in which it is written.
type document []entry

type entry struct {
	key   string
	value any
}

// list is a sequence of texts or secrets on one line, blocks a sequence of mappings.
type (
	list   []any
	blocks []document
)

// MarshalYAML writes the sequence.
func (l list) MarshalYAML() ([]byte, error) {
	words := make([]string, len(l))
	for i, word := range l {
		written, err := yamlOf(word).(text).MarshalYAML()
		if err != nil {
			return nil, err
		}
		words[i] = string(written)
	}
	return []byte("[" + strings.Join(words, ", ") + "]"), nil
}

// required is a variable that must be set when Compose reads the file.
type required string

// secretAddress is an address with a secret path.
type secretAddress struct {
	address string
	path    required
}

// text is written so that it is text to all readers of YAML: in double quotes
// unless it is a plain word.
type text string

// plainWord is text that needs no quotes, if it is none of notText.
var plainWord = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// notText are words that some reader of YAML takes for a truth or for nothing.
var notText = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)

// MarshalYAML writes the text, escaped where YAML wants it.
func (s text) MarshalYAML() ([]byte, error) {
	if !utf8.ValidString(string(s)) {
		return nil, fmt.Errorf("%q is not UTF-8, and cannot be said in YAML", string(s))
	}
	if plainWord.MatchString(string(s)) && !notText.MatchString(string(s)) {
		return []byte(s), nil
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range string(s) {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return []byte(b.String()), nil
}

// literal is text in which Compose is to read no variables.
func literal(s string) text { return text(strings.ReplaceAll(s, "$", "$$")) }

// filled is the text of a variable that must be set.
func (r required) filled() text {
	return text("${" + string(r) + ":?set " + string(r) + ", a secret that is not in this file}")
}

// WriteTo writes the file: what it loses as comments, then the document.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	body, err := yaml.MarshalWithOptions(yamlOf(f.document), yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return 0, fmt.Errorf("write the Compose file of %s: %w", f.source, err)
	}
	n, err := io.WriteString(w, f.head()+string(body))
	return int64(n), err
}

// head are the comments before the document.
func (f *File) head() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A Compose file that `flowctl translate` has made of %s.\n", oneLine(f.source))
	b.WriteString("# Changes are best made there. Start it with `docker compose up`.\n")
	if len(f.Secrets) > 0 {
		b.WriteString("#\n# Secrets are not in it. Set these variables, or write them into .env beside it:\n")
		for _, s := range f.Secrets {
			fmt.Fprintf(&b, "#   %s: %s\n", s.Variable, s.Of)
		}
	}
	b.WriteString("#\n# What it does not say of the pipeline:\n")
	for _, l := range f.Losses {
		fmt.Fprintf(&b, "#   - %s\n", l)
	}
	b.WriteString("\n")
	return b.String()
}

// String is the loss as a sentence.
func (l Loss) String() string {
	if l.Component == "" {
		return l.Text
	}
	return l.Component + ": " + l.Text
}

// yamlOf is a value as the writer of YAML takes it.
func yamlOf(value any) any {
	switch v := value.(type) {
	case document:
		if v == nil {
			return yaml.MapSlice{}
		}
		out := make(yaml.MapSlice, 0, len(v))
		for _, e := range v {
			out = append(out, yaml.MapItem{Key: e.key, Value: yamlOf(e.value)})
		}
		return out
	case blocks:
		out := make([]any, len(v))
		for i, d := range v {
			out[i] = yamlOf(d)
		}
		return out
	case required:
		return v.filled()
	case secretAddress:
		return literal(v.address) + v.path.filled()
	case string:
		return literal(v)
	}
	return value
}

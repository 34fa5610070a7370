package pipeline

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The most a file may hold: far above any pipeline, far below what hurts.
const (
	maxDepth     = 100
	maxNodes     = 100_000
	maxKeys      = 20_000
	maxDocuments = 100
)

// kind is what a value is before anyone asks what it should be.
type kind string

const (
	null    kind = "nothing"
	boolean kind = "a boolean"
	integer kind = "a whole number"
	float   kind = "a number"
	text    kind = "text"
	list    kind = "a list"
	mapping kind = "a mapping"
)

// node is one value of the file, with aliases and merge keys resolved.
type node struct {
	kind kind
	// text is a scalar as written, without its quotes.
	text string
	position
	items   []*node
	entries []entry
}

// entry is one key of a mapping; again is true when the key was there before.
type entry struct {
	key, value *node
	again      *node
}

// position counts lines and columns from 1.
type position struct{ line, column int }

// scalar reports whether n is a single value.
func (n *node) scalar() bool { return n.kind != list && n.kind != mapping }

// get is the value of a key, or nil; nil has no keys.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, e := range n.entries {
		if e.key.text == key {
			return e.value
		}
	}
	return nil
}

// parseTree turns source into one tree. The problem has no File and no Source yet.
// Whatever the source is, it returns within seconds and does not run out of stack.
func parseTree(source string) (root *node, problem *Problem) {
	// The parser is foreign code fed with anything a user can type.
	defer func() {
		if r := recover(); r != nil {
			root, problem = nil, &Problem{Text: "is no YAML that can be read"}
		}
	}()
	tokens := lexer.Tokenize(source)
	if tk, limit := tooMuch(tokens); tk != nil {
		return nil, &Problem{Line: tk.Position.Line, Column: tk.Position.Column, Text: limit}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxProblem(err, source)
	}
	body, problem := singleBody(file)
	if problem != nil {
		return nil, problem
	}
	b := &treeBuilder{anchors: map[string]ast.Node{}, open: map[string]bool{}}
	root = b.build(body, 0)
	return root, b.problem
}

// tooMuch is the first token beyond a limit, and the limit in words, or nil. The
// parser calls itself for what is nested on one line or in brackets, and takes
// time by the square of the number of keys and of documents: it must not see too
// many. Deeper indentation needs too long a file to hurt.
func tooMuch(tokens token.Tokens) (*token.Token, string) {
	brackets, nested, line, keys, documents := 0, 0, 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			nested, line = 0, tk.Position.Line
		}
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			nested++
		case token.MappingValueType:
			keys++
		case token.DocumentHeaderType, token.DocumentEndType:
			documents++
		}
		switch {
		case brackets > maxDepth || nested > maxDepth:
			return tk, fmt.Sprintf("is nested more than %d levels deep", maxDepth)
		case keys > maxKeys:
			return tk, fmt.Sprintf("holds more than %d keys", maxKeys)
		case documents > maxDocuments:
			return tk, fmt.Sprintf("holds more than %d YAML documents, separated by ---; a pipeline file holds one", maxDocuments)
		}
	}
	return nil, ""
}

// syntaxProblem is the parser's complaint with its position.
func syntaxProblem(err error, source string) *Problem {
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		return &Problem{Text: "is no YAML: " + err.Error()}
	}
	p := &Problem{Text: "is no YAML: " + strings.TrimSpace(syntax.GetMessage())}
	if tk := syntax.GetToken(); tk != nil && tk.Position != nil {
		p.Line, p.Column = tk.Position.Line, tk.Position.Column
	}
	line := lineOf(strings.Split(source, "\n"), p.Line)
	if indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; strings.Contains(indent, "\t") {
		p.Text = "is no YAML: this line is indented with a tab; YAML is indented with spaces"
	}
	return p
}

// singleBody is the one document of the file.
func singleBody(file *ast.File) (ast.Node, *Problem) {
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.DirectiveType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		return nil, &Problem{Text: "is empty but for comments"}
	case 1:
		return bodies[0], nil
	}
	at := placeOf(bodies[1])
	return nil, &Problem{Line: at.line, Column: at.column, Text: fmt.Sprintf(
		"holds %d YAML documents, separated by ---; a pipeline file holds one", len(bodies))}
}

// treeBuilder turns the parser's tree into nodes.
type treeBuilder struct {
	anchors map[string]ast.Node
	// open are the anchors whose value is being built: an alias to one never ends.
	open    map[string]bool
	nodes   int
	problem *Problem
}

// fail keeps the first problem; the build then runs out without work.
func (b *treeBuilder) fail(at position, format string, args ...any) *node {
	if b.problem == nil {
		b.problem = &Problem{Line: at.line, Column: at.column, Text: fmt.Sprintf(format, args...)}
	}
	return &node{kind: null, position: at}
}

// build is the node for a, and everything below it.
func (b *treeBuilder) build(a ast.Node, depth int) *node {
	at := placeOf(a)
	if b.nodes++; b.nodes > maxNodes {
		return b.fail(at, "holds more than %d values; are there aliases of aliases?", maxNodes)
	}
	if depth > maxDepth {
		return b.fail(at, "is nested more than %d levels deep", maxDepth)
	}
	if b.problem != nil {
		return &node{kind: null, position: at}
	}
	switch a := a.(type) {
	case *ast.MappingNode:
		return b.mapping(at, a.Values, depth)
	case *ast.MappingValueNode:
		return b.mapping(at, []*ast.MappingValueNode{a}, depth)
	case *ast.SequenceNode:
		n := &node{kind: list, position: at}
		for _, item := range a.Values {
			n.items = append(n.items, b.build(item, depth+1))
		}
		return n
	case *ast.AnchorNode:
		return b.anchor(a, depth)
	case *ast.AliasNode:
		return b.alias(a, at, depth)
	case *ast.TagNode:
		return b.tag(a, at, depth)
	default:
		return b.scalar(a, at)
	}
}

// scalar is the node of a single value.
func (b *treeBuilder) scalar(a ast.Node, at position) *node {
	n := &node{position: at}
	switch a := a.(type) {
	case nil, *ast.NullNode:
		n.kind = null
	case *ast.StringNode:
		n.kind, n.text = text, a.Value
	case *ast.LiteralNode:
		n.kind, n.text = text, a.Value.Value
	case *ast.BoolNode:
		n.kind, n.text = boolean, a.GetToken().Value
	case *ast.IntegerNode:
		n.kind, n.text = integer, a.GetToken().Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		n.kind, n.text = float, a.GetToken().Value
	default:
		return b.fail(at, "holds a kind of YAML (%s) that a pipeline file does not use", strings.ToLower(a.Type().String()))
	}
	return n
}

// anchor names a value for later aliases; the latest of two with one name counts.
func (b *treeBuilder) anchor(a *ast.AnchorNode, depth int) *node {
	name := nameOf(a.Name)
	outer := b.open[name]
	b.open[name] = true
	n := b.build(a.Value, depth+1)
	b.open[name] = outer
	b.anchors[name] = a.Value
	return n
}

// alias builds the anchored value once more; maxNodes bounds how often that can happen.
func (b *treeBuilder) alias(a *ast.AliasNode, at position, depth int) *node {
	name := nameOf(a.Value)
	value, known := b.anchors[name]
	switch {
	case b.open[name]:
		return b.fail(at, "the alias *%s stands inside the value it names", name)
	case !known:
		return b.fail(at, "the alias *%s names no anchor: &%s is not written before it", name, name)
	}
	b.open[name] = true
	n := b.build(value, depth+1)
	b.open[name] = false
	return n
}

// tag applies the tags of YAML itself that can be written without changing the value.
func (b *treeBuilder) tag(a *ast.TagNode, at position, depth int) *node {
	switch name := a.Start.Value; name {
	case "!!str":
		n := b.build(a.Value, depth+1)
		if n.scalar() {
			n.kind = text
		}
		return n
	case "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return b.build(a.Value, depth+1)
	default:
		return b.fail(at, "the tag %s has no meaning here", name)
	}
}

// mapping is the node of a mapping. Keys merged in with << come after the written ones and never replace them.
func (b *treeBuilder) mapping(at position, values []*ast.MappingValueNode, depth int) *node {
	n := &node{kind: mapping, position: at}
	first := map[string]*node{}
	var merged []*node
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, b.build(v.Value, depth+1))
			continue
		}
		key := b.key(v.Key, depth)
		value := b.build(v.Value, depth+1)
		if value.kind == null {
			value.position = key.position
		}
		n.entries = append(n.entries, entry{key, value, first[key.text]})
		if first[key.text] == nil {
			first[key.text] = key
		}
	}
	for _, m := range merged {
		b.merge(n, m, first)
	}
	return n
}

// merge adds the entries of m, a mapping or a list of mappings, that n does not have yet.
func (b *treeBuilder) merge(n, m *node, have map[string]*node) {
	switch m.kind {
	case list:
		for _, item := range m.items {
			if item.kind == list {
				b.fail(item.position, "<< takes a mapping or a list of mappings")
				return
			}
			b.merge(n, item, have)
		}
	case mapping:
		for _, e := range m.entries {
			if have[e.key.text] == nil {
				have[e.key.text] = e.key
				n.entries = append(n.entries, e)
			}
		}
	default:
		if b.problem == nil {
			b.fail(m.position, "<< takes a mapping or a list of mappings")
		}
	}
}

// key is the node of a mapping's key, which must be a single value.
func (b *treeBuilder) key(k ast.MapKeyNode, depth int) *node {
	var a ast.Node = k
	if explicit, ok := k.(*ast.MappingKeyNode); ok {
		a = explicit.Value
	}
	n := b.build(a, depth+1)
	if !n.scalar() {
		return b.fail(n.position, "a key must be plain text")
	}
	return n
}

// nameOf is the name of an anchor or alias.
func nameOf(a ast.Node) string {
	if a == nil || a.GetToken() == nil {
		return ""
	}
	return a.GetToken().Value
}

// placeOf is where a value begins: for a block mapping at its first key.
func placeOf(a ast.Node) position {
	switch v := a.(type) {
	case nil:
		return position{}
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return placeOf(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return placeOf(v.Key)
	}
	tk := a.GetToken()
	if tk == nil || tk.Position == nil {
		return position{}
	}
	return position{tk.Position.Line, tk.Position.Column}
}

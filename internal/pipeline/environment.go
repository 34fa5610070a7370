package pipeline

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
)

// variables is a map from the names of variables to values.
func variables(value shape[string]) shape[[]pair[string]] {
	s := mapOf(value)
	return shape[[]pair[string]]{
		read: func(d *decoder, n *node, at string) ([]pair[string], bool) {
			pairs, ok := s.read(d, n, at)
			for _, p := range pairs {
				if !envName.MatchString(p.key) {
					d.wrong(p.at, p.field, "", "%s cannot be the name of a variable: it may consist of letters, digits and '_'", quote(p.key))
					ok = false
				}
			}
			return pairs, ok
		},
		describe: func(c *catalogue) (string, schema) {
			says, schema := s.describe(c)
			schema["propertyNames"] = map[string]any{"pattern": envName.String()}
			return says, schema
		},
	}
}

// configuration is a map whose keys become variables and whose values may be anything.
func configuration() shape[[]pair[string]] {
	s := mapOf(either(asJSON(), scalar(), list, mapping))
	return shape[[]pair[string]]{
		read: func(d *decoder, n *node, at string) ([]pair[string], bool) {
			pairs, ok := s.read(d, n, at)
			taken := map[string]string{}
			for _, p := range pairs {
				switch name := upper(p.key); {
				case !envName.MatchString(name):
					d.wrong(p.at, p.field, "", "%s cannot become a variable: it may consist of letters, digits, '_', '-' and '.'", quote(p.key))
					ok = false
				case taken[name] != "":
					d.wrong(p.at, p.field, "", "becomes the variable %s, and so does %s", name, quote(taken[name]))
					ok = false
				default:
					taken[name] = p.key
				}
			}
			return pairs, ok
		},
		describe: func(c *catalogue) (string, schema) { return "map of anything", schema{"type": "object"} },
	}
}

// asJSON is a list or mapping as JSON text.
func asJSON() shape[string] {
	return plain("list or mapping", schema{"type": []string{"array", "object"}}, func(d *decoder, n *node, at string) (string, bool) {
		var b strings.Builder
		ok := d.writeJSON(&b, n, at)
		return b.String(), ok
	})
}

// writeJSON writes n with the keys in the order of the file. Numbers that JSON
// does not know are written as text.
func (d *decoder) writeJSON(b *strings.Builder, n *node, at string) bool {
	fine := true
	switch n.kind {
	case list:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			fine = d.writeJSON(b, item, at+"["+strconv.Itoa(i)+"]") && fine
		}
		b.WriteByte(']')
	case mapping:
		b.WriteByte('{')
		for i, e := range n.entries {
			if i > 0 {
				b.WriteByte(',')
			}
			if d.again(e, at+"."+e.key.text) {
				fine = false
			}
			b.WriteString(jsonText(e.key.text) + ":")
			fine = d.writeJSON(b, e.value, at+"."+e.key.text) && fine
		}
		b.WriteByte('}')
	case null:
		b.WriteString("null")
	case boolean, integer, float:
		if json.Valid([]byte(n.text)) {
			b.WriteString(n.text)
		} else {
			b.WriteString(jsonText(n.text))
		}
	default:
		v, ok := d.expand(n, at, false)
		b.WriteString(jsonText(v))
		fine = ok
	}
	return fine
}

// jsonText is s as a JSON string.
func jsonText(s string) string {
	text, _ := json.Marshal(s) // a string always has a JSON form
	return string(text)
}

// envFile is one file of variables, read.
type envFile struct {
	path string
	vars []EnvVar
}

// envFiles is the path of a file of variables, or a list of them.
func envFiles() shape[[]envFile] {
	one := as(words(), func(d *decoder, n *node, at string, path string) (envFile, bool) {
		full, shown := path, path
		if !filepath.IsAbs(path) {
			full, shown = filepath.Join(d.dir, path), filepath.Join(filepath.Dir(d.file), path)
		}
		source, err := readFile(full)
		if err == nil {
			source, err = cleanText(source)
		}
		if err != nil {
			d.wrong(n.position, at, "", "%s: %v", shown, err)
			return envFile{}, false
		}
		vars, problems := parseEnvFile(shown, string(source))
		for i := range vars {
			vars[i].Origin, vars[i].Field = "env_file "+path, at
		}
		d.problems = append(d.problems, problems...)
		return envFile{path, vars}, len(problems) == 0
	})
	alone := as(one, func(_ *decoder, _ *node, _ string, f envFile) ([]envFile, bool) { return []envFile{f}, true })
	return either(listOf(one), alone, list)
}

// parseEnvFile reads lines of KEY=value, with comments, quotes and "export".
// Its problems show no source line: it may hold a secret.
func parseEnvFile(file, source string) ([]EnvVar, Problems) {
	var vars []EnvVar
	var problems Problems
	for i, line := range strings.Split(source, "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(trimmed, "export "); ok {
			trimmed = strings.TrimSpace(rest)
		}
		name, raw, found := strings.Cut(trimmed, "=")
		name = strings.TrimSpace(name)
		value, complaint := unquoteEnv(strings.TrimSpace(raw))
		switch {
		case !found:
			complaint = "must be KEY=value"
		case !envName.MatchString(name):
			complaint = "the part before = cannot be the name of a variable"
		}
		if complaint != "" {
			column := len([]rune(line)) - len([]rune(strings.TrimLeft(line, " \t"))) + 1
			problems = append(problems, Problem{File: file, Line: i + 1, Column: column, Text: complaint})
			continue
		}
		vars = append(vars, EnvVar{Name: name, Value: value})
	}
	return vars, problems
}

// unquoteEnv is the value after the =: 'as it is', "with \n and \"", or bare, up to " #".
func unquoteEnv(raw string) (value, complaint string) {
	if raw == "" || raw[0] != '"' && raw[0] != '\'' {
		if i := strings.Index(raw, " #"); i >= 0 {
			raw = raw[:i]
		}
		if strings.HasPrefix(raw, "#") {
			raw = ""
		}
		return strings.TrimSpace(raw), ""
	}
	quoteMark, body := raw[0], raw[1:]
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == quoteMark:
			if rest := strings.TrimSpace(body[i+1:]); rest != "" && rest[0] != '#' {
				return "", "has text after the closing quote"
			}
			return b.String(), ""
		case c == '\\' && quoteMark == '"' && i+1 < len(body):
			i++
			b.WriteString(escaped(body[i]))
		default:
			b.WriteByte(c)
		}
	}
	return "", "has a quote that is not closed on its line"
}

// escaped is what a backslash and c stand for between double quotes.
func escaped(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 'r':
		return "\r"
	case '"', '\\', '$':
		return string([]byte{c})
	default:
		return string([]byte{'\\', c})
	}
}

// variables are all variables of a component, the weakest first.
func (w *written) variables() []EnvVar {
	var vars []EnvVar
	for _, f := range w.envFiles {
		vars = append(vars, f.vars...)
	}
	for _, p := range w.config {
		vars = append(vars, EnvVar{upper(p.key), p.value, "config", p.field})
	}
	for _, p := range w.env {
		vars = append(vars, EnvVar{p.key, p.value, "env", p.field})
	}
	return vars
}

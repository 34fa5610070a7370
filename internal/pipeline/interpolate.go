package pipeline

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	variableName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	portReference = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_.-]*)\.([A-Za-z0-9_-]+)$`)
)

// A reference is kept in a value between two NULs, which no value can hold
// otherwise: so a ${a.b} that came from $${a.b} or from a variable stays text.
const mark = "\x00"

// Expand replaces the references to ports in a value of a pipeline:
// ${id.port} becomes what address says of the component and its port.
func Expand(value string, address func(id, port string) string) string {
	parts := strings.Split(value, mark)
	for i := 1; i < len(parts); i += 2 {
		dot := strings.LastIndexByte(parts[i], '.')
		parts[i] = address(parts[i][:dot], parts[i][dot+1:])
	}
	return strings.Join(parts, "")
}

// expander replaces ${VAR} in one scalar.
type expander struct {
	lookup     func(name string) (string, bool)
	complaints []complaint
	references []struct{ id, port string }
	// depth is how many ${…} the text at hand stands in.
	depth int
}

// maxNesting is how deep ${A:-${B:-…}} may go.
const maxNesting = 10

// complaint is a problem inside a scalar; where is the text it is about.
type complaint struct{ where, text, fix string }

// expand is s with $$ as $ and each ${…} replaced. A $ before anything else stands for itself.
func (x *expander) expand(s string) string {
	x.depth++
	defer func() { x.depth-- }()
	if x.depth > maxNesting {
		x.complain("${", "", "nests ${…} more than %d deep", maxNesting)
		return ""
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String()
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			inside, rest, closed := cutBrace(after[1:])
			if !closed {
				x.complain("${", `write $${ for a literal ${`, "a ${ is not closed")
				return out.String()
			}
			out.WriteString(x.value(inside))
			s = rest
		default:
			out.WriteByte('$')
			s = after
		}
	}
}

// cutBrace cuts s at the } that belongs to the { before it.
func cutBrace(s string) (inside, rest string, closed bool) {
	depth := 1
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "$$"):
			i++
		case strings.HasPrefix(s[i:], "${"):
			depth++
			i++
		case s[i] == '}':
			if depth--; depth == 0 {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

// value is what stands for the inside of one ${…}.
func (x *expander) value(inside string) string {
	if m := portReference.FindStringSubmatch(inside); m != nil {
		x.references = append(x.references, struct{ id, port string }{m[1], m[2]})
		return mark + inside + mark
	}
	name := variableName.FindString(inside)
	operator, word := cutOperator(inside[len(name):])
	if name == "" || operator == "" && word != "" {
		x.complain("${"+inside, `write $${ for a literal ${`,
			"%s is neither a variable, such as ${NAME} or ${NAME:-default}, nor a component's port, such as ${id.port}", quote("${"+inside+"}"))
		return ""
	}
	value, set := x.lookup(name)
	if strings.HasPrefix(operator, ":") {
		set = set && value != ""
	}
	if set {
		return strings.ReplaceAll(value, mark, "")
	}
	return x.missing(name, operator, word)
}

// missing is what stands for a variable that is not set.
func (x *expander) missing(name, operator, word string) string {
	switch operator {
	case ":-", "-":
		return x.expand(word)
	case ":?", "?":
		if message := x.expand(word); message != "" {
			x.complain("${"+name, "", "the variable %s is needed: %s", name, message)
			return ""
		}
	}
	x.complain("${"+name, fmt.Sprintf("set it, or write ${%s:-default}", name), "the variable %s is not set", name)
	return ""
}

// cutOperator splits what follows a variable's name: ":-", "-", ":?" or "?", and the word after it.
func cutOperator(s string) (operator, word string) {
	for _, operator := range []string{":-", ":?", "-", "?"} {
		if word, ok := strings.CutPrefix(s, operator); ok {
			return operator, word
		}
	}
	return "", s
}

// complain notes each complaint about a place once.
func (x *expander) complain(where, fix, format string, args ...any) {
	c := complaint{where, fmt.Sprintf(format, args...), fix}
	for _, have := range x.complaints {
		if have == c {
			return
		}
	}
	x.complaints = append(x.complaints, c)
}

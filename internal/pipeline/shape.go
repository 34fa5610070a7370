package pipeline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shape is one kind of value the file may hold: how it is read, and how the JSON
// Schema and the reference describe it. The decoder and both documents come
// from the same shapes and cannot say different things.
type shape[T any] struct {
	// read returns the value and whether it is usable; if not, it has said why.
	read func(d *decoder, n *node, field string) (T, bool)
	// describe returns the value's name for a reader and its JSON Schema, and adds
	// the objects it consists of to the catalogue.
	describe func(c *catalogue) (says string, s schema)
}

// schema is a JSON Schema. encoding/json sorts its keys, so that the file is stable.
type schema map[string]any

// plain is a shape whose description needs no catalogue.
func plain[T any](says string, s schema, read func(d *decoder, n *node, field string) (T, bool)) shape[T] {
	return shape[T]{read, func(*catalogue) (string, schema) { return says, s }}
}

// interpolated allows ${VAR} where a schema asks for something else than text.
func interpolated(s schema) schema {
	return schema{"anyOf": []schema{s, {"type": "string", "pattern": `\$\{`}}}
}

// words is text that is not empty.
func words() shape[string] {
	s := schema{"type": "string", "minLength": 1}
	return plain("text", s, func(d *decoder, n *node, field string) (string, bool) {
		if n.kind != text {
			if n.kind == integer || n.kind == float || n.kind == boolean {
				d.wrong(n.position, field, fmt.Sprintf("write %q", n.text), "must be text, not %s", n.shown())
			} else {
				d.mismatch(n, field, "text")
			}
			return "", false
		}
		v, ok := d.expand(n, field, false)
		if ok && strings.TrimSpace(v) == "" {
			d.wrong(n.position, field, "", "is empty: write text, or remove the key")
			return "", false
		}
		return v, ok
	})
}

// scalar is text, a number or a boolean, taken as it is written; it may be empty
// and may refer to components' ports.
func scalar() shape[string] {
	s := schema{"type": []string{"string", "number", "boolean"}}
	return plain("text, number or boolean", s, func(d *decoder, n *node, field string) (string, bool) {
		switch {
		case n.kind == null:
			d.wrong(n.position, field, `write "" for an empty value`, "has no value")
			return "", false
		case !n.scalar():
			d.mismatch(n, field, "a single value")
			return "", false
		}
		return d.expand(n, field, true)
	})
}

// asText is a scalar's text for a shape that wants something else, when it holds ${VAR} or is of kind want.
func (d *decoder) asText(n *node, field, says string, want ...kind) (string, bool) {
	if !slices.Contains(want, n.kind) && (n.kind != text || !strings.Contains(n.text, "${")) {
		d.mismatch(n, field, says)
		if _, err := strconv.ParseFloat(n.text, 64); err == nil && n.kind == text {
			d.problems[len(d.problems)-1].Fix = "write " + n.text + " without quotes"
		}
		return "", false
	}
	return d.expand(n, field, false)
}

// notA reports a scalar that came out wrong. A value from the environment is not shown: it may be a secret.
func (d *decoder) notA(n *node, field, says string) {
	if strings.Contains(n.text, "${") {
		d.wrong(n.position, field, "", "must be %s, which the value of %s is not", says, quote(n.text))
		return
	}
	d.mismatch(n, field, says)
}

// whole is a whole number from low to high.
func whole(low, high int) shape[int] {
	says := fmt.Sprintf("a whole number from %d to %d", low, high)
	s := interpolated(schema{"type": "integer", "minimum": low, "maximum": high})
	return plain(fmt.Sprintf("%d–%d", low, high), s, func(d *decoder, n *node, field string) (int, bool) {
		raw, ok := d.asText(n, field, says, integer)
		if !ok {
			return 0, false
		}
		v, err := strconv.Atoi(raw)
		if err != nil || v < low || v > high {
			d.notA(n, field, says)
			return 0, false
		}
		return v, true
	})
}

// portNumber is a port a component can listen on.
func portNumber() shape[int] { return whole(1, 65535) }

// number is a number from low to high.
func number(low, high float64) shape[float64] {
	says := fmt.Sprintf("a number from %v to %v", low, high)
	s := interpolated(schema{"type": "number", "minimum": low, "maximum": high})
	return plain(fmt.Sprintf("%v–%v", low, high), s, func(d *decoder, n *node, field string) (float64, bool) {
		raw, ok := d.asText(n, field, says, integer, float)
		if !ok {
			return 0, false
		}
		v, err := strconv.ParseFloat(raw, 64)
		if err != nil || !(v >= low && v <= high) {
			d.notA(n, field, says)
			return 0, false
		}
		return v, true
	})
}

// truth is true or false.
func truth() shape[bool] {
	says := "true or false"
	return plain(says, interpolated(schema{"type": "boolean"}), func(d *decoder, n *node, field string) (bool, bool) {
		raw, ok := d.asText(n, field, says, boolean)
		if ok && raw != "true" && raw != "false" {
			d.notA(n, field, says)
			return false, false
		}
		return raw == "true", ok
	})
}

// duration is a time such as 10s, at least low and at most a year.
func duration(low time.Duration) shape[time.Duration] {
	const high = 365 * 24 * time.Hour
	says := "a duration such as 500ms, 10s or 1m30s"
	s := interpolated(schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`})
	return plain("duration", s, func(d *decoder, n *node, field string) (time.Duration, bool) {
		if n.kind == integer || n.kind == float {
			d.wrong(n.position, field, fmt.Sprintf("did you mean %q?", n.text+"s"), "must be %s, not %s without a unit", says, n.shown())
			return 0, false
		}
		raw, ok := d.asText(n, field, says, text)
		if !ok {
			return 0, false
		}
		v, err := time.ParseDuration(raw)
		switch {
		case err != nil:
			d.notA(n, field, says)
		case v < low:
			d.wrong(n.position, field, "", "must be at least %s, not %s", FormatDuration(low), FormatDuration(v))
		case v > high:
			d.wrong(n.position, field, "", "must be at most a year, not %s", FormatDuration(v))
		default:
			return v, true
		}
		return 0, false
	})
}

// FormatDuration is a duration as it would be written in a file: 10m, not 10m0s.
func FormatDuration(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// choice is one of some words; spellings maps each accepted word to its meaning,
// shown are the ones to offer.
func choice[T ~string](shown []T, spellings map[string]T) shape[T] {
	all := map[string]T{}
	var offered []string
	for _, v := range shown {
		all[string(v)] = v
		offered = append(offered, string(v))
	}
	for word, v := range spellings {
		all[word] = v
	}
	accepted := make([]string, 0, len(all))
	for word := range all {
		accepted = append(accepted, word)
	}
	slices.Sort(accepted)
	says := strings.Join(offered, ", ")
	want := says
	if len(offered) > 1 {
		want = "one of " + says
	}
	s := schema{"anyOf": []schema{{"enum": accepted}, {"type": "string", "pattern": `\$\{`}}}
	return plain(says, s, func(d *decoder, n *node, field string) (T, bool) {
		if n.kind != text {
			d.mismatch(n, field, want)
			return "", false
		}
		raw, ok := d.expand(n, field, false)
		if !ok {
			return "", false
		}
		v, known := all[raw]
		if !known {
			d.wrong(n.position, field, didYouMean(raw, accepted), "must be %s, not %s", want, n.shown())
		}
		return v, known
	})
}

// listOf is a list of values; one that is wrong does not hide the others.
func listOf[T any](item shape[T]) shape[[]T] {
	return shape[[]T]{
		read: func(d *decoder, n *node, field string) ([]T, bool) {
			if n.kind != list {
				d.mismatch(n, field, "a list")
				return nil, false
			}
			values, fine := make([]T, 0, len(n.items)), true
			for i, child := range n.items {
				at := fmt.Sprintf("%s[%d]", field, i)
				d.where[at] = child.position
				v, ok := item.read(d, child, at)
				values, fine = append(values, v), fine && ok
			}
			return values, fine
		},
		describe: func(c *catalogue) (string, schema) {
			says, s := item.describe(c)
			return "list of " + says, schema{"type": "array", "items": s}
		},
	}
}

// pair is one entry of a mapping with free keys.
type pair[T any] struct {
	key   string
	value T
	field string
	at    position
}

// mapOf is a mapping with free keys, in the order of the file.
func mapOf[T any](item shape[T]) shape[[]pair[T]] {
	return shape[[]pair[T]]{
		read: func(d *decoder, n *node, field string) ([]pair[T], bool) {
			if n.kind != mapping {
				d.mismatch(n, field, "a mapping of names to values")
				return nil, false
			}
			var pairs []pair[T]
			fine := true
			for _, e := range n.entries {
				at := field + "." + e.key.text
				if d.again(e, at) {
					fine = false
					continue
				}
				d.where[at] = e.key.position
				v, ok := item.read(d, e.value, at)
				pairs, fine = append(pairs, pair[T]{e.key.text, v, at, e.key.position}), fine && ok
			}
			return pairs, fine
		},
		describe: func(c *catalogue) (string, schema) {
			says, s := item.describe(c)
			return "map of " + says, schema{"type": "object", "additionalProperties": s}
		},
	}
}

// again reports a key that is written twice.
func (d *decoder) again(e entry, field string) bool {
	if e.again == nil {
		return false
	}
	d.wrong(e.key.position, field, "", "is written twice, first on line %d", e.again.line)
	return true
}

// either reads values of some kinds as one shape and all others as another.
func either[T any](first shape[T], second shape[T], kinds ...kind) shape[T] {
	return shape[T]{
		read: func(d *decoder, n *node, field string) (T, bool) {
			if slices.Contains(kinds, n.kind) {
				return first.read(d, n, field)
			}
			return second.read(d, n, field)
		},
		describe: func(c *catalogue) (string, schema) {
			one, a := first.describe(c)
			other, b := second.describe(c)
			return one + ", or " + other, schema{"anyOf": []schema{a, b}}
		},
	}
}

// as turns what one shape reads into something else; make may find more wrong with it.
func as[A, B any](s shape[A], make func(d *decoder, n *node, field string, v A) (B, bool)) shape[B] {
	return shape[B]{
		read: func(d *decoder, n *node, field string) (B, bool) {
			v, ok := s.read(d, n, field)
			if !ok {
				var none B
				return none, false
			}
			return make(d, n, field, v)
		},
		describe: s.describe,
	}
}

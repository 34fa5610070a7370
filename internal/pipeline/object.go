package pipeline

import "strings"

// field is one key of an object.
type field[T any] struct {
	name, def, doc string
	required       bool
	// later is true for a key that this version knows only to refuse it by name.
	later    bool
	read     func(d *decoder, n *node, at string, into *T) bool
	describe func(c *catalogue) (string, schema)
}

// key is a field whose value goes into a part of T. def is its default as the reference shows it.
func key[T, V any](name string, s shape[V], def, doc string, into func(*T) *V) field[T] {
	return field[T]{
		name: name, def: def, doc: doc, describe: s.describe,
		read: func(d *decoder, n *node, at string, t *T) bool {
			v, ok := s.read(d, n, at)
			*into(t) = v // even if it is wrong in part: checks of the rest want to see it
			return ok
		},
	}
}

// needed makes a field one that must be written.
func needed[T any](f field[T]) field[T] {
	f.required = true
	return f
}

// later is a field of a later version: refused by name, so that it is never ignored.
func later[T any](name, doc string) field[T] {
	return field[T]{
		name: name, doc: doc, later: true,
		read: func(d *decoder, n *node, at string, _ *T) bool {
			d.wrong(d.where[at], at, "", "comes with a later version of flowctl")
			return false
		},
	}
}

// objectShape is a mapping with known keys.
type objectShape[T any] struct {
	// name and doc head its section of the reference.
	name, doc string
	// start is the value with its defaults; nil when they are all zero.
	start  func() T
	fields []field[T]
	// extensions allows keys that begin with x-, which are not read: a place for anchors.
	extensions bool
	// finish checks what concerns several fields; it runs whatever was wrong with them, and
	// gets the fields that were read well.
	finish func(d *decoder, n *node, at string, v *T, good map[string]bool) bool
}

// object is the shape of o. Its value is returned even if parts of it are wrong.
func object[T any](o objectShape[T]) shape[T] {
	return shape[T]{read: o.read, describe: o.describe}
}

// read reads each key of a mapping into its field.
func (o objectShape[T]) read(d *decoder, n *node, at string) (T, bool) {
	var v T
	if o.start != nil {
		v = o.start()
	}
	if n.kind != mapping {
		d.mismatch(n, at, "a mapping of "+o.name+" fields")
		return v, false
	}
	fine, good := true, map[string]bool{}
	for _, e := range n.entries {
		child := join(at, e.key.text)
		f, known := o.field(e.key.text)
		switch {
		case o.extensions && strings.HasPrefix(e.key.text, "x-"):
			continue
		case !known:
			d.wrong(e.key.position, child, didYouMean(e.key.text, o.names()), "unknown field")
			fine = false
			continue
		case d.again(e, child):
			fine = false
			continue
		}
		d.where[child] = e.key.position
		good[f.name] = f.read(d, e.value, child, &v)
		fine = fine && good[f.name]
	}
	for _, f := range o.fields {
		if f.required && n.get(f.name) == nil {
			d.wrong(n.position, join(at, f.name), "", "is missing")
			fine = false
		}
	}
	if o.finish != nil {
		fine = o.finish(d, n, at, &v, good) && fine
	}
	return v, fine
}

// join is the way to a key of the object at at.
func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// field finds a field by its name.
func (o objectShape[T]) field(name string) (field[T], bool) {
	for _, f := range o.fields {
		if f.name == name {
			return f, true
		}
	}
	return field[T]{}, false
}

// names are the names that may be written.
func (o objectShape[T]) names() []string {
	var names []string
	for _, f := range o.fields {
		if !f.later {
			names = append(names, f.name)
		}
	}
	return names
}

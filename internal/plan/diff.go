package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ChangeKind says what a new plan does with a component.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is one component that a new plan treats differently, or, with an empty
// Component, the pipeline as a whole.
type Change struct {
	Component string        `json:"component"`
	Kind      ChangeKind    `json:"kind"`
	Fields    []FieldChange `json:"fields,omitempty"`
}

// FieldChange is one field that differs, as shown in a plan: secrets are masked.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// Diff returns what changes from one plan to the next: changed and added
// components in the order of next, then removed ones in the order of old.
func Diff(old, next *Plan) []Change {
	var changes []Change
	if old.OnFailure != next.OnFailure {
		changes = append(changes, Change{Kind: Changed, Fields: []FieldChange{{"on_failure", string(old.OnFailure), string(next.OnFailure)}}})
	}
	for i := range next.Components {
		c := &next.Components[i]
		before, ok := old.Component(c.ID)
		switch {
		case !ok:
			changes = append(changes, Change{Component: c.ID, Kind: Added})
		case !c.equal(before):
			changes = append(changes, Change{Component: c.ID, Kind: Changed,
				Fields: slices.Concat(secretChanges(before, c), fieldChanges(before.view(newMasker(old), true), c.view(newMasker(next), true)))})
		}
	}
	for _, c := range old.Components {
		if _, ok := next.Component(c.ID); !ok {
			changes = append(changes, Change{Component: c.ID, Kind: Removed})
		}
	}
	return changes
}

// equal reports whether a component is planned as before, but for its place and the notes.
func (c *Component) equal(before *Component) bool {
	a, b := *c, *before
	for _, x := range []*Component{&a, &b} {
		x.Level, x.Reason, x.Notes = 0, "", nil
		x.After = slices.Clone(x.After)
		for i := range x.After {
			x.After[i].Why = "" // the same edge, for another reason
		}
	}
	return reflect.DeepEqual(a, b)
}

// fieldChanges compares two views field by field; variables are fields of their own.
func fieldChanges(old, next ComponentView) []FieldChange {
	var changes []FieldChange
	was, is := variables(old), variables(next)
	old.Env, next.Env = nil, nil
	old.Step, old.Reason, old.Notes = next.Step, next.Reason, next.Notes
	maps.Copy(was, fieldTexts(old))
	maps.Copy(is, fieldTexts(next))
	names := slices.Collect(maps.Keys(was))
	names = slices.AppendSeq(names, maps.Keys(is))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if was[name] != is[name] {
			changes = append(changes, FieldChange{Field: name, Old: was[name], New: is[name]})
		}
	}
	return changes
}

// secretChanges are the variables whose change does not show: both values are masked.
func secretChanges(old, next *Component) []FieldChange {
	before := map[string]string{}
	for _, v := range old.Env {
		if v.Secret() {
			before[v.Name] = v.Value
		}
	}
	var changes []FieldChange
	for _, v := range next.Env {
		if was, ok := before[v.Name]; ok && v.Secret() && was != v.Value {
			changes = append(changes, FieldChange{Field: "env." + v.Name, Old: masked, New: masked})
		}
	}
	return changes
}

// variables are a component's variables as fields: env.NAME.
func variables(c ComponentView) map[string]string {
	fields := map[string]string{}
	for _, v := range c.Env {
		fields["env."+v.Name] = v.Value
	}
	return fields
}

// fieldTexts are a view's fields, each as JSON.
func fieldTexts(c ComponentView) map[string]string {
	text, err := json.Marshal(c)
	if err != nil {
		return nil // views hold nothing that cannot be marshalled
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(text, &raw) != nil {
		return nil
	}
	fields := map[string]string{}
	for name, value := range raw {
		fields[name] = strings.Trim(string(value), `"`)
	}
	return fields
}

// String shows a change as lines: "+ id", "- id", "~ id" and what differs.
func (c Change) String() string {
	mark := map[ChangeKind]string{Added: "+", Removed: "-", Changed: "~"}[c.Kind]
	text := fmt.Sprintf("%s %s", mark, cmp.Or(c.Component, "the pipeline"))
	for _, f := range c.Fields {
		text += fmt.Sprintf("\n    %s: %s → %s", f.Field, orNothing(f.Old), orNothing(f.New))
	}
	return text
}

func orNothing(s string) string {
	if s == "" {
		return "(nothing)"
	}
	return s
}

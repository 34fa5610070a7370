package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStandIns: a variable stands for one value only, by its own name if it can.
func TestStandIns(t *testing.T) {
	s := StandIns{names: map[place]string{}, values: map[string]string{}}
	s.add(place{0, inEnv, 0}, "a", "TOKEN", "one")
	s.add(place{1, inEnv, 0}, "b-c", "TOKEN", "two")
	s.add(place{2, inEnv, 0}, "b.c", "TOKEN", "three")
	s.add(place{3, inEnv, 0}, "9", "TOKEN", "four")
	s.add(place{4, inEnv, 0}, "d", "TOKEN", "one")
	s.add(place{5, inEnv, 0}, "e", "db.Token-1", "five")
	want := []StandIn{{"TOKEN", "variable TOKEN of a, variable TOKEN of d"}, {"B_C_TOKEN", "variable TOKEN of b-c"},
		{"B_C_TOKEN_2", "variable TOKEN of b.c"}, {"_9_TOKEN", "variable TOKEN of 9"}, {"db_Token_1", "variable db.Token-1 of e"}}
	if diff := cmp.Diff(want, s.List); diff != "" {
		t.Error(diff)
	}
}

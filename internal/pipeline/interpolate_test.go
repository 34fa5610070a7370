package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInterpolation(t *testing.T) {
	env := map[string]string{"A": "a", "EMPTY": "", "DOLLAR": "${A} $$ ${x.y}"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for in, want := range map[string]string{
		"plain": "plain", "": "", "$": "$", "$A": "$A", "a$": "a$", "$$": "$", "$$$$": "$$", "$${A}": "${A}", "$$${A}": "$a",
		"${A}": "a", "x${A}y${A}": "xaya", "${EMPTY}": "", "${EMPTY:-d}": "d", "${EMPTY-d}": "", "${NO-d}": "d", "${NO:-d}": "d",
		"${NO:-}": "", "${NO:-${A}}": "a", "${NO:-${NO2:-x}}y": "xy", "${NO:-a}b}": "ab}", "${A:?m}": "a", "${EMPTY?m}": "",
		"${DOLLAR}": "${A} $$ ${x.y}", "${NO:-$${x}": "${x", "${NO:-{}}": "{}", "${x.y}": "<x|y>", "${a.b.c}": "<a.b|c>", "$${x.y}": "${x.y}",
	} {
		x := expander{lookup: lookup}
		got := Expand(x.expand(in), func(id, port string) string { return "<" + id + "|" + port + ">" })
		if got != want || len(x.complaints) > 0 {
			t.Errorf("%s gives %q with %v, want %q", in, got, x.complaints, want)
		}
	}
	for in, want := range map[string]string{
		"${NO}": "the variable NO is not set", "${NO:?}": "the variable NO is not set", "${EMPTY:?why}": "the variable EMPTY is needed: why",
		"${NO:?${A}!}": "the variable NO is needed: a!", "${": "a ${ is not closed", "${A": "a ${ is not closed", "${NO:-${A}": "a ${ is not closed",
		"${}": `"${}" is neither`, "${A!}": `"${A!}" is neither`, "${.a}": `"${.a}" is neither`, "${x.}": `"${x.}" is neither`,
		strings.Repeat("${A:-", 11) + strings.Repeat("}", 11): "",
		strings.Repeat("${N:-", 11) + strings.Repeat("}", 11): "nests ${…} more than 10 deep",
	} {
		x := expander{lookup: lookup}
		x.expand(in)
		if want == "" && len(x.complaints) == 0 {
			continue
		}
		if len(x.complaints) != 1 || want == "" || !strings.HasPrefix(x.complaints[0].text, want) {
			t.Errorf("%s gives %v, want %q", in, x.complaints, want)
		}
	}
}

func TestEnvFile(t *testing.T) {
	source := "A=1\n\n # c\nexport B = two words # c\nC='a \"b\" \\n'\nD=\"\\\\ \\n \\q \\é\"\nE=#nothing\nF=a#b\nG=\"\"\nA=2\n"
	vars, problems := parseEnvFile("f", source)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := []EnvVar{
		{Name: "A", Value: "1"}, {Name: "B", Value: "two words"}, {Name: "C", Value: `a "b" \n`}, {Name: "D", Value: "\\ \n \\q \\é"},
		{Name: "E"}, {Name: "F", Value: "a#b"}, {Name: "G"}, {Name: "A", Value: "2"},
	}
	if diff := cmp.Diff(want, vars); diff != "" {
		t.Error(diff)
	}
	for line, complaint := range map[string]string{
		"A": "must be KEY=value", "=1": "the part before = cannot be the name of a variable", "1A=1": "the part before = cannot be the name of a variable",
		"A='x": "has a quote that is not closed on its line", `A="x" y`: "has text after the closing quote",
	} {
		_, problems := parseEnvFile("f", "# first\n "+line)
		if want := "f:2:2: " + complaint; problems.Error() != want {
			t.Errorf("%s gives %q, want %q", line, problems.Error(), want)
		}
		if len(problems) > 0 && problems[0].Source != "" {
			t.Errorf("%s: the line is shown, which may hold a secret", line)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	fields := []string{"id", "binary", "command", "depends_on", "health_port", "env"}
	for word, want := range map[string]string{
		"binray": "binary", "dependsOn": "depends_on", "depends-on": "depends_on", "HealthPort": "health_port", "environment": "env",
		"cmd": "command", "name": "id", "wibble": "", "x": "", "": "", strings.Repeat("binary", 1000): "",
	} {
		if want != "" {
			want = `did you mean "` + want + `"?`
		}
		if got := didYouMean(word, fields); got != want {
			t.Errorf("%.20s: %q, want %q", word, got, want)
		}
	}
}

package pipeline

import (
	"strings"
	"testing"
)

// TestHostileFiles: files made to hurt a reader end in a problem, and soon.
func TestHostileFiles(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		prev := string(rune('0' + i))
		next := string(rune('1' + i))
		bomb += "a" + next + ": &a" + next + " [" + strings.Repeat("*a"+prev+", ", 9) + "]\n"
	}
	mergeBomb := "m0: &m0 {a: 1}\n"
	for i := range 9 {
		prev, next := string(rune('0'+i)), string(rune('1'+i))
		mergeBomb += "m" + next + ": &m" + next + " {<<: [" + strings.Repeat("*m"+prev+", ", 9) + "]}\n"
	}
	for name, source := range map[string]string{
		"alias bomb":      bomb,
		"merge bomb":      mergeBomb,
		"brackets":        strings.Repeat("[", 50_000),
		"closed brackets": strings.Repeat("[", 50_000) + strings.Repeat("]", 50_000),
		"braces":          strings.Repeat("{a: ", 30_000),
		"dashes":          strings.Repeat("- ", 50_000) + "x",
		"question marks":  strings.Repeat("? ", 50_000) + "x",
		"colons":          strings.Repeat("a: ", 40_000),
		"anchors":         strings.Repeat("&a ", 40_000),
		"tags":            strings.Repeat("!!str ", 30_000),
		"spaces":          "a:" + strings.Repeat(" ", 200_000) + "b",
		"newlines":        strings.Repeat("\n", 200_000) + "a",
		"long key":        strings.Repeat("k", 200_000) + ": v",
		"long quote":      `"` + strings.Repeat(`\n`, 50_000) + `"`,
		"open quote":      `a: "` + strings.Repeat("x\n", 50_000),
		"block":           "a: |\n" + strings.Repeat("  x\n", 30_000),
		"keys":            strings.Repeat("a: b\n", 25_000),
		"items":           strings.Repeat("- b\n", 30_000),
		"comments":        strings.Repeat("# x\n", 30_000) + "a",
		"documents":       strings.Repeat("--- a\n", 20_000),
		"staircase":       staircase(1200),
		"too large":       strings.Repeat("#", maxFileSize+1),
		"percent":         strings.Repeat("%", 50_000),
		"backticks":       strings.Repeat("`", 50_000),
		"dollars":         "kind: " + strings.Repeat("${", 50_000),
		"dollars closed":  "kind: " + strings.Repeat("${a:-", 30_000) + strings.Repeat("}", 30_000),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse("flow.yml", t.TempDir(), []byte(source), Options{})
			if err == nil {
				t.Error("no problem")
			}
		})
	}
}

// staircase nests mappings as deep as indentation goes.
func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// synonyms are what other tools call a field of ours.
const synonyms = "environment=env envs=env cmd=command name=id cwd=working_dir workdir=working_dir directory=working_dir " +
	"needs=depends_on after=depends_on dependencies=depends_on healthcheck=probe readiness=probe readinessProbe=probe " +
	"path=binary executable=binary arguments=args envFile=env_file"

// didYouMean is a fix that names the candidate closest to word, or "" when none is close.
func didYouMean(word string, candidates []string) string {
	if len(word) > 100 {
		return ""
	}
	best, nearest := "", (len(word)+2)/3+1
	for _, c := range candidates {
		if d := distance(fold(word), fold(c)); d < nearest {
			best, nearest = c, d
		}
	}
	for _, s := range strings.Fields(synonyms) {
		if theirs, ours, _ := strings.Cut(s, "="); theirs == word && slices.Contains(candidates, ours) {
			best = ours
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// fold makes depends-on, dependsOn and depends_on one word.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance is how many letters must be inserted, deleted, replaced or swapped with
// their neighbour to turn a into b.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	table := make([][]int, len(from)+1)
	for i := range table {
		table[i] = make([]int, len(to)+1)
		table[i][0] = i
	}
	for j := range table[0] {
		table[0][j] = j
	}
	for i := 1; i <= len(from); i++ {
		for j := 1; j <= len(to); j++ {
			replace := table[i-1][j-1]
			if from[i-1] != to[j-1] {
				replace++
			}
			table[i][j] = min(replace, table[i-1][j]+1, table[i][j-1]+1)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				table[i][j] = min(table[i][j], table[i-2][j-2]+1)
			}
		}
	}
	return table[len(from)][len(to)]
}

package plan

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// masked stands for a secret wherever a plan is shown.
const masked = "****"

var (
	// secretInURL is a password in a URL, in a user:password@ address, or after password=.
	secretInURL  = regexp.MustCompile(`(://[^/\s:@]*:)([^@/\s]+)(@)`)
	secretInDSN  = regexp.MustCompile(`(^[^/\s:@=]+:)([^@\s]+)(@[a-z]*\()`)
	secretInPair = regexp.MustCompile(`(?i)(\b(?:password|passwd|pwd)\s*=\s*)([^\s;&]+)()`)
	assignment   = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_.-]*)=(\S+)`)
	secretWord   = regexp.MustCompile(`^([A-Z0-9]*(PASSWORD|SECRET|TOKEN|CREDENTIAL|APIKEY|PASSPHRASE)S?|KEYS?|PASS|PASSWD|PWD|CREDS?|COOKIE|SEED|MNEMONIC)$`)
	nameParts    = regexp.MustCompile(`[^A-Za-z0-9]+`)
)

// Secret reports whether the variable looks like a secret, by its name or its
// value: then it is masked wherever the plan is shown. It costs more than
// planning: ask only when something is to be shown.
func (v EnvVar) Secret() bool { return secretName(v.Name) || secretValue(v.Value) }

// secretName reports whether a variable or flag of this name holds a secret: one
// of its words says so.
func secretName(name string) bool {
	words := nameParts.Split(strings.ToUpper(name), -1)
	for i, word := range words {
		before, after := "", ""
		if i > 0 {
			before = words[i-1]
		}
		if i+1 < len(words) {
			after = words[i+1]
		}
		if secretWord.MatchString(word) && !publicWord(before, word, after) {
			return true
		}
	}
	return false
}

// publicWord excepts names that only sound secret: NETWORK_PASSPHRASE is the name
// of a Stellar network, TOKEN_TRANSFER a kind of event, PWD alone a folder.
func publicWord(before, word, after string) bool {
	switch word {
	case "PASSPHRASE":
		return before == "NETWORK"
	case "TOKEN":
		return after == "TRANSFER"
	case "KEY", "KEYS":
		return before == "PUBLIC"
	case "PWD":
		return before == ""
	}
	return false
}

// secretValue reports whether a value carries a password whatever its name.
func secretValue(value string) bool {
	return secretInURL.MatchString(value) || secretInDSN.MatchString(value) || secretInPair.MatchString(value)
}

// masker takes secrets out of text that is shown.
type masker struct {
	// values are the secrets, the longest first.
	values []string
}

// newMasker knows the secret variables of all components.
func newMasker(p *Plan) masker {
	var m masker
	for i := range p.Components {
		for _, v := range p.Components[i].Env {
			// A short value would be found everywhere.
			if v.Secret() && len(v.Value) >= 6 && !slices.Contains(m.values, v.Value) {
				m.values = append(m.values, v.Value)
			}
		}
	}
	slices.SortFunc(m.values, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return m
}

// text is s without secrets.
func (m masker) text(s string) string {
	for _, secret := range m.values {
		s = strings.ReplaceAll(s, secret, masked)
	}
	for _, pattern := range []*regexp.Regexp{secretInURL, secretInDSN, secretInPair} {
		s = pattern.ReplaceAllString(s, "${1}"+masked+"${3}")
	}
	return assignment.ReplaceAllStringFunc(s, func(pair string) string {
		if name, _, _ := strings.Cut(pair, "="); secretName(name) {
			return name + "=" + masked
		}
		return pair
	})
}

// args are arguments without secrets: what follows --password is one too.
func (m masker) args(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = m.text(arg)
		if i > 0 && strings.HasPrefix(args[i-1], "-") && !strings.Contains(args[i-1], "=") && !strings.HasPrefix(arg, "-") && secretName(args[i-1]) {
			out[i] = masked
		}
	}
	return out
}

// env is a variable's value without secrets.
func (m masker) env(v EnvVar) string {
	if v.Secret() {
		return masked
	}
	return m.text(v.Value)
}

package cli

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// appendVisible appends text as a terminal may show it: control characters,
// which could move the cursor or set the window's title, and bytes that are no
// UTF-8 are shown as such (^[, \x9b). Tabs stay, and so do colours if color is
// true; else they are left out. Colours end with the text.
func appendVisible(dst, text []byte, color bool) []byte {
	colored := false
	for {
		n := harmless(text)
		dst, text = append(dst, text[:n]...), text[n:]
		if len(text) == 0 {
			break
		}
		if n := sgr(text); n > 0 {
			if color {
				dst, colored = append(dst, text[:n]...), true
			}
			text = text[n:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, text[0])
		case r < ' ':
			dst = append(dst, '^', byte(r)+'@')
		case r == 0x7f:
			dst = append(dst, "^?"...)
		case r >= 0x80 && r < 0xa0: // the 8-bit spelling of ESC [ is among them
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	if colored {
		dst = append(dst, "\x1b[0m"...)
	}
	return dst
}

// visible is text as a terminal may show it, without colours; its lines stay lines.
func visible(text string) string {
	if harmless([]byte(text)) == len(text) {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = string(appendVisible(nil, []byte(line), false))
	}
	return strings.Join(lines, "\n")
}

// harmless is how many bytes at the beginning of text are printable ASCII or tabs.
func harmless(text []byte) int {
	for i, c := range text {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return i
		}
	}
	return len(text)
}

// sgr is the length of the colour sequence text begins with, or 0.
func sgr(text []byte) int {
	if !bytes.HasPrefix(text, []byte("\x1b[")) {
		return 0
	}
	for i, c := range text[2:] {
		switch {
		case c == 'm':
			return i + len("\x1b[m")
		case (c < '0' || c > '9') && c != ';' && c != ':':
			return 0
		}
	}
	return 0
}

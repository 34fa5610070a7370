package cli

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"unicode"
)

// level is how much a log record matters.
type level int

const (
	trace level = iota + 1
	debug
	info
	warn
	fault
	fatal
)

// levelNames are the spellings of the loggers in use, in lower case.
var levelNames = map[string]level{
	"trace": trace, "trc": trace, "debug": debug, "dbg": debug,
	"info": info, "inf": info, "information": info, "notice": info, "default": info,
	"warn": warn, "wrn": warn, "warning": warn,
	"error": fault, "err": fault, "severe": fault,
	"fatal": fatal, "ftl": fatal, "critical": fatal, "crit": fatal, "panic": fatal, "dpanic": fatal,
	"alert": fatal, "emergency": fatal, "emerg": fatal,
}

// levelTexts are shown for the levels, levelColors their colours.
var (
	levelTexts  = map[level]string{trace: "TRACE", debug: "DEBUG", info: "INFO ", warn: "WARN ", fault: "ERROR", fatal: "FATAL"}
	levelColors = map[level]string{trace: "\x1b[2m", debug: "\x1b[2m", info: "\x1b[32m", warn: "\x1b[33m", fault: "\x1b[31m", fatal: "\x1b[1;31m"}
)

// parseLevel reads a level's name; slog adds a distance to some: DEBUG-4. It is 0 if there is none.
func parseLevel(name string) level {
	if i := strings.IndexAny(name, "+-"); i > 0 {
		name = name[:i]
	}
	return levelNames[strings.ToLower(name)]
}

// numericLevel reads a level of pino and bunyan: 10 is trace, 60 fatal. It is 0 if it is none of theirs.
func numericLevel(text string) level {
	if len(text) != 2 || text[0] < '1' || text[0] > '6' || text[1] < '0' || text[1] > '9' {
		return 0
	}
	return level(text[0] - '0')
}

// logRecord is a line that is a JSON object with a level and a message.
type logRecord struct {
	level   level
	message string
	// fields are the rest, in the order of the line.
	fields []logField
}

// logField is one key and its value: what JSON says, without quotes where they are not needed.
type logField struct {
	key, value string
	// lines is true for a value of several lines, such as a stack.
	lines bool
}

// parseRecord reads a line of zap, slog, zerolog, logrus, pino, bunyan and the
// like. What is JSON and no log record, such as an event that a sink prints, is none.
func parseRecord(line []byte) (logRecord, bool) {
	var r logRecord
	if len(line) < 2 || line[0] != '{' || line[len(line)-1] != '}' {
		return r, false
	}
	if !json.Valid(line) {
		return r, false
	}
	numeric, told := false, false
	for key, raw := range members(line) {
		f := newLogField(key, raw)
		switch key {
		case "level", "lvl", "severity", "levelname", "log.level", "@level":
			r.level = parseLevel(f.value)
			if n := numericLevel(f.value); n != 0 {
				r.level, numeric = n, true
			}
		case "msg", "message", "@message":
			r.message, told = text(raw), true
		case "time", "ts", "timestamp", "@timestamp": // every line has a time already
			told = true
		default:
			r.fields = append(r.fields, f)
		}
	}
	if r.level == 0 || !told {
		return r, false
	}
	if numeric {
		r.leaveOut("pid", "hostname", "v")
	}
	return r, true
}

// members yields the keys of a JSON object, which must be valid, with their values as they are written.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for rest := object[1:]; ; {
			begin := bytes.IndexByte(rest, '"')
			if begin < 0 {
				return
			}
			rest = rest[begin:]
			end := valueEnd(rest)
			key := rest[1 : end-1]
			rest = rest[end:]
			rest = bytes.TrimLeft(rest[bytes.IndexByte(rest, ':')+1:], " \t\r\n")
			end = valueEnd(rest)
			if !yield(string(key), rest[:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// valueEnd is the length of the value that valid JSON begins with.
func valueEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(text)
}

// newLogField reads one field.
func newLogField(key string, raw []byte) logField {
	f := logField{key: key, value: string(raw)}
	if raw[0] != '"' {
		return f
	}
	value := text(raw)
	f.lines = strings.Contains(value, "\n")
	if f.lines || value != "" && !strings.ContainsFunc(value, wantsQuotes) {
		f.value = value
	}
	return f
}

func wantsQuotes(r rune) bool {
	return r == '"' || r == '=' || r == '\\' || unicode.IsSpace(r) || unicode.IsControl(r)
}

// text is a value without quotes.
func text(raw []byte) string {
	if raw[0] != '"' {
		return string(raw)
	}
	if !bytes.ContainsRune(raw, '\\') {
		return string(raw[1 : len(raw)-1])
	}
	var text string
	_ = json.Unmarshal(raw, &text) // it is valid
	return text
}

// leaveOut drops fields that say the same on every line.
func (r *logRecord) leaveOut(keys ...string) {
	kept := r.fields[:0]
	for _, f := range r.fields {
		drop := false
		for _, key := range keys {
			drop = drop || f.key == key
		}
		if !drop {
			kept = append(kept, f)
		}
	}
	r.fields = kept
}

// record adds a whole line, which may be a log record.
func (p *linePrinter) record(prefix, line []byte) {
	whole := bytes.TrimRight(line, "\r\n")
	r, ok := parseRecord(whole)
	if !ok {
		p.buf = append(p.buf, prefix...)
		if from, to, l := logfmtLevel(whole); l != 0 && p.color {
			p.text(line[:from])
			p.paint(levelColors[l], line[from:to])
			line = line[to:]
		}
		p.text(line)
		return
	}
	p.buf = append(p.buf, prefix...)
	p.paint(levelColors[r.level], []byte(levelTexts[r.level]))
	message, more, _ := strings.Cut(r.message, "\n")
	p.buf = append(p.buf, ' ')
	p.text([]byte(message))
	for _, f := range r.fields {
		if f.lines {
			continue
		}
		p.buf = append(p.buf, ' ')
		p.paint("\x1b[2m", []byte(f.key+"="))
		p.text([]byte(f.value))
	}
	p.indented(prefix, "", more)
	for _, f := range r.fields {
		if f.lines {
			p.indented(prefix, f.key, f.value)
		}
	}
	if bytes.HasSuffix(line, []byte("\n")) {
		p.buf = append(p.buf, '\n')
	}
}

// paint adds text in a colour.
func (p *linePrinter) paint(color string, text []byte) {
	if !p.color {
		p.text(text)
		return
	}
	p.buf = append(p.buf, color...)
	p.buf = appendVisible(p.buf, text, false)
	p.buf = append(p.buf, "\x1b[0m"...)
}

// indented adds lines that belong to the record before, under a heading if there is one.
func (p *linePrinter) indented(prefix []byte, heading, text string) {
	if text == "" {
		return
	}
	if heading != "" {
		text = heading + ":\n" + text
	}
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		p.buf = append(append(append(p.buf, '\n'), prefix...), "    "...)
		p.text([]byte(line))
	}
}

// logfmtLevel finds the level in a line of key=value pairs that begins with a
// time or a level, as the text formats of slog and logrus do: line[from:to].
func logfmtLevel(line []byte) (from, to int, l level) {
	if !bytes.HasPrefix(line, []byte("time=")) && !bytes.HasPrefix(line, []byte("ts=")) && !bytes.HasPrefix(line, []byte("level=")) {
		return 0, 0, 0
	}
	head := line[:min(len(line), 120)]
	from = bytes.Index(head, []byte("level=")) + len("level=")
	if from < len("level=") || from > len("level=") && head[from-len("level=")-1] != ' ' {
		return 0, 0, 0
	}
	to = from + len(head[from:])
	if n := bytes.IndexByte(head[from:], ' '); n >= 0 {
		to = from + n
	}
	return from, to, parseLevel(string(head[from:to]))
}

package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// onTerminal is what a terminal without colours shows of what src prints, without the times.
func onTerminal(t *testing.T, color, pretty bool, output ...string) string {
	t.Helper()
	var out bytes.Buffer
	p := newLinePrinter(&out, color, []string{"src"})
	p.terminal, p.pretty = true, pretty
	for i, piece := range output {
		if err := p.print(printed("src", "stdout", piece, i < len(output)-1)); err != nil {
			t.Fatal(err)
		}
	}
	return strings.ReplaceAll(out.String(), "12:00:00.007  ", "")
}

func TestLogRecords(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"zap", `{"level":"info","ts":1767355200.5,"caller":"main.go:12","msg":"ledger done","ledger":53312000,"took":0.25}`,
			`INFO  ledger done caller=main.go:12 ledger=53312000 took=0.25`},
		{"slog", `{"time":"2026-01-02T12:00:00Z","level":"WARN","msg":"slow","peer":{"host":"a","ports":[1, 2]}}`,
			`WARN  slow peer={"host":"a","ports":[1, 2]}`},
		{"slog between levels", `{"time":"2026-01-02T12:00:00Z","level":"DEBUG-4","msg":"fine"}`, `DEBUG fine`},
		{"logrus", `{"level":"warning","msg":"no such \"table\"","time":"2026-01-02T12:00:00Z"}`, `WARN  no such "table"`},
		{"pino", `{"level":50,"time":1767355200500,"pid":7,"hostname":"h","msg":"gone","err":"ECONNREFUSED"}`, `ERROR gone err=ECONNREFUSED`},
		{"pino without a message", `{"level":30,"time":1767355200500,"pid":7,"hostname":"h","events":3}`, `INFO   events=3`},
		{"bunyan", `{"name":"app","hostname":"h","pid":7,"level":60,"msg":"the end","time":"2026-01-02T12:00:00Z","v":0}`, `FATAL the end name=app`},
		{"zerolog", `{"level":"error","error":"a b","n":null,"empty":"","ok":true,"message":"failed"}`, `ERROR failed error="a b" n=null empty="" ok=true`},
		{"hclog", `{"@level":"trace","@message":"m","@timestamp":"x"}`, `TRACE m`},
		{"severity", `{"severity":"CRITICAL","message":"m","pid":7}`, `FATAL m pid=7`},
		{"spaces and escapes", `{ "level" : "info" , "msg" : "\u0041\\" , "k\"q" : "v\\" , "o" : { "a" : "}" } }`, `INFO  A\ k\"q="v\\" o={ "a" : "}" }`},
		{"control characters", `{"level":"info","msg":"\u001b]0;title\u0007","k":"\u001b[2J"}`, `INFO  ^[]0;title^G k="\u001b[2J"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff("src     | "+test.want+"\n", onTerminal(t, false, true, test.line+"\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := onTerminal(t, false, false, test.line+"\n"); got != "src     | "+test.line+"\n" {
				t.Errorf("raw: %q", got)
			}
		})
	}
}

func TestWhatIsNoLogRecord(t *testing.T) {
	for _, line := range []string{
		`{}`, `{`, `}`, `{"level":"info","msg":"cut off`, `{"level":"info","msg":"x"} and more`, `{"level":"info","msg":"x"}}`,
		`{"event":"transfer","amount":"12"}`, `{"level":"ground","msg":"x"}`, `{"level":3,"msg":"x"}`, `{"level":99,"msg":"x"}`,
		`{"level":"info"}`, `{"level":null,"msg":null}`, `{level:info,msg:x}`, `["level"]`, ` {"level":"info","msg":"x"}`, `{"level":"info","msg":"x",}`,
	} {
		if got := onTerminal(t, false, true, line+"\n"); got != "src     | "+line+"\n" {
			t.Errorf("%s is shown as %q", line, got)
		}
	}
	const record = `{"level":"info","msg":"x"}`
	for _, pieces := range [][]string{{record[:10], record[10:] + "\n"}, {"begin ", record + "\n"}} {
		if got, want := onTerminal(t, false, true, pieces...), "src     | "+strings.Join(pieces, ""); got != want {
			t.Errorf("a line in pieces is shown as %q, want %q", got, want)
		}
	}
	if got := onTerminal(t, false, true, record+"\r\nplain\r\n"+record); got != "src     | INFO  x\nsrc     | plain\nsrc     | INFO  x\n" {
		t.Errorf("%q", got)
	}
}

func TestStacksAreShownAsLines(t *testing.T) {
	got := onTerminal(t, false, true, `{"level":"error","msg":"boom\nand more","stack":"Error: boom\n    at f (x.js:3)\n","k":1}`+"\n")
	want := `src     | ERROR boom k=1
src     |     and more
src     |     stack:
src     |     Error: boom
src     |         at f (x.js:3)
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLevelsAreColoured(t *testing.T) {
	for line, want := range map[string]string{
		`{"level":"error","msg":"m","k":1}`:      "\x1b[31mERROR\x1b[0m m \x1b[2mk=\x1b[0m1",
		`{"level":"warn","msg":"m"}`:             "\x1b[33mWARN \x1b[0m m",
		`time=2026-01-02 level=ERROR msg="a b"`:  "time=2026-01-02 level=\x1b[31mERROR\x1b[0m msg=\"a b\"",
		`time="2026-01-02" level=warning msg=x`:  "time=\"2026-01-02\" level=\x1b[33mwarning\x1b[0m msg=x",
		`level=info`:                             "level=\x1b[32minfo\x1b[0m",
		`time=1 level=ground msg=x`:              "time=1 level=ground msg=x",
		`time=1 sublevel=info msg=x`:             "time=1 sublevel=info msg=x",
		`time=1 msg=x`:                           "time=1 msg=x",
		`told level=info`:                        "told level=info",
		"\x1b[36mINFO\x1b[0m[0000] of a program": "\x1b[36mINFO\x1b[0m[0000] of a program\x1b[0m",
		"a colour \x1b[1;31mthat never ends":     "a colour \x1b[1;31mthat never ends\x1b[0m",
	} {
		got := onTerminal(t, true, true, line+"\n")
		if _, text, _ := strings.Cut(got, " | "); text != want+"\n" {
			t.Errorf("%q is shown as %q, want %q", line, text, want)
		}
	}
}

func TestComponentsDoNotControlTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext, ünï, 日本, 🙂": "plain\ttext, ünï, 日本, 🙂",
		"\x1b[2J\x1b[H":           "^[[2J^[[H",
		"\x1b]0;title\x07":        "^[]0;title^G",
		"50%\r60%":                "50%^M60%",
		"\b\b\x7f\x00":            "^H^H^?^@",
		"\u009b2J\u0085":          `\u009b2J\u0085`,
		"\xff\x9b2J":              `\xff\x9b2J`,
		"\x1b[31mred\x1b[0m":      "red",
		"\x1b[38:5:1mred\x1b[m":   "red",
		"\x1b[31":                 "^[[31",
		"\x1b[?25l\x1b[3;4Hx":     "^[[?25l^[[3;4Hx",
		"\x1b":                    "^[",
	} {
		if got := string(appendVisible(nil, []byte(text), false)); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got, want := visible("one\ntwo\r\x1b[A"), "one\ntwo^M^[[A"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var out bytes.Buffer
	p := newLinePrinter(&out, false, nil)
	p.terminal = true
	if err := p.print(happened(t, state("src", "failed", "its probe said \x1b[2J"))); err != nil || strings.Contains(out.String(), "\x1b") {
		t.Errorf("an event reaches the terminal as %q (%v)", out.String(), err)
	}
}

// FuzzTerminal: whatever components print, no control character but those of
// colours, tabs and ends of lines reaches the terminal, and every line has its prefix.
func FuzzTerminal(f *testing.F) {
	f.Add([]byte(`{"level":"info","msg":"x","stack":"a\nb"}`))
	f.Add([]byte("\x1b[31mred \x9b \xc2\x9b \x1b]0;t\x07\r\n{\"level\":30,\"time\":1}\n"))
	f.Add([]byte("time=1 level=\x1bINFO\nx"))
	f.Fuzz(func(t *testing.T, output []byte) {
		if len(output) == 0 {
			return
		}
		shown := onTerminal(t, true, true, string(output))
		if !utf8.ValidString(shown) {
			t.Errorf("no UTF-8: %q", shown)
		}
		lines := strings.Split(strings.TrimSuffix(shown, "\n"), "\n")
		for _, line := range lines {
			if !strings.HasPrefix(line, "\x1b[") || !strings.Contains(line, "src") {
				t.Errorf("a line without its prefix: %q", line)
			}
			for rest := line; rest != ""; {
				if n := sgr([]byte(rest)); n > 0 {
					rest = rest[n:]
					continue
				}
				r, size := utf8.DecodeRuneInString(rest)
				if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
					t.Fatalf("control character %U in %q", r, line)
				}
				rest = rest[size:]
			}
		}
	})
}

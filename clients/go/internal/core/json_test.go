package core

import (
	"encoding/json"

	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	valid := []string{
		`null`, `true`, `false`, `0`, `-0`, `12.5e-3`, `""`, `"\u00e4\n"`, `"\ud83d\ude00"`, `[]`, `{}`,
		` { "a" : [ 1 , { } ] , "b" : null } `, `1e308`, `"😀"`, `{"a":1,"a":2}`,
		strings.Repeat("9", 400)[:308],
	}
	wrong := []string{
		``, ` `, `nul`, `01`, `1.`, `.5`, `-`, `1e`, `"`, `"\x"`, `"\u12"`, "\"\n\"", `[1,]`, `[1 2]`, `[`,
		`{"a"}`, `{"a":}`, `{a:1}`, `{"a":1,}`, `1 2`, `1e400`, strings.Repeat("9", 400), `"\ud800"`,
		`"\udc00"`, `"\ud800\u0041"`, "\"\xff\"", `nan`, `+1`, "\ufeff1",
	}
	for i := range 20 { // within eight characters that are looked at together, and behind them
		plain := strings.Repeat("x", i)
		valid = append(valid, `"`+plain+`\"`+plain+`"`, `{"`+plain+`":"ä`+plain+`"}`)
		wrong = append(wrong, `"`+plain+"\x1f"+plain+`"`, `"`+plain, `"`+plain+`\`, `"`+plain+`"x`)
	}
	for _, text := range valid {
		got, reason := Check([]byte(text), 5)
		if reason != "" || string(got) != strings.TrimSpace(text) {
			t.Errorf("%.60s: %q %s", text, got, reason)
		}
	}
	for _, text := range wrong {
		if _, reason := Check([]byte(text), 5); reason != "it is not valid JSON" {
			t.Errorf("%.60s: %q", text, reason)
		}
	}
	if _, reason := Check([]byte(`[[[[[[]]]]]]`), 5); reason != "it is nested too deeply" {
		t.Error(reason)
	}
}

func TestAppendText(t *testing.T) {
	texts := []string{"", "abc", "\"\\\n\r\t\x01\x7f", "ä😀", "a\xffb", "<&>", "\u2028"}
	for i := range 20 { // within eight characters that are looked at together, and behind them
		for _, c := range []string{"\"", "\\", "\x1f", "\x7f", "ä", "\xff"} {
			texts = append(texts, strings.Repeat("x", i)+c+strings.Repeat("y", 20-i))
		}
	}
	for _, text := range texts {
		var back string
		if err := json.Unmarshal(AppendText(nil, text), &back); err != nil || back != strings.ToValidUTF8(text, "\uFFFD") {
			t.Errorf("%q became %q, %v", text, back, err)
		}
	}
}

// FuzzCheck compares with encoding/json, which is less strict in what the specification names.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e3,"\u00e4"]}`, `"\ud83d\ude00"`, `[1,]`, `{"a":1}x`, `-0.0`, "\"\xff\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checked, reason := Check(data, 1000)
		var value any
		decoder := json.NewDecoder(strings.NewReader(string(data)))
		decoder.UseNumber()
		isValid := json.Valid(data) && utf8.Valid(data)
		if reason == "" {
			if !isValid || decoder.Decode(&value) != nil {
				t.Fatalf("%q is taken", data)
			}
			for range members(checked) {
			}
			for range elements(checked) {
			}
		} else if isValid && !strings.Contains(string(data), `\u`) && !strings.ContainsAny(string(data), "eE") &&
			len(data) < mostDigits {
			t.Fatalf("%q: %s", data, reason)
		}
	})
}

func TestMembersAndElements(t *testing.T) {
	object := []byte(` {"a": 1 , "b":[1, "x" ,{}], "c\u0041": "d" }`)
	var names, values []string
	checked, _ := Check(object, 10)
	for name, value := range members(checked) {
		names, values = append(names, textOr(name)), append(values, string(value))
	}
	if !reflect.DeepEqual(names, []string{"a", "b", "cA"}) ||
		!reflect.DeepEqual(values, []string{"1", `[1, "x" ,{}]`, `"d"`}) {
		t.Error(names, values)
	}
	var parts []string
	for part := range elements([]byte(values[1])) {
		parts = append(parts, string(part))
	}
	if !reflect.DeepEqual(parts, []string{"1", `"x"`, "{}"}) {
		t.Error(parts)
	}
	for range members([]byte(`[1]`)) {
		t.Error("an array has members")
	}
	for range elements([]byte(`{"a":1}`)) {
		t.Error("an object has elements")
	}
}

func TestMatches(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a*", "a", true}, {"a*", "a/b", false}, {"a**", "a/b", true},
		{"sensors/*/temperature", "sensors/7/temperature", true},
		{"sensors/*/temperature", "sensors/7/a/temperature", false},
		{"sensors/**", "sensors/", true}, {"sensors/**", "sensors", false},
		{"**", "", true}, {"*", "", true}, {"***", "a/b", true}, {"*a*b", "xab", true},
		{"**a*b", "a/a/xb", false}, {"**a*b", "a/axb", true}, {"**/b*c/**", "x/y/bzc/", true}, {"*/*", "a/b/c", false},
		{"a**b**c", "a/b/c/b/c", true}, {"*a", "aaa", true}, {"*ab*/c", "aab/c", true}, {"ä*ß", "äöß", true},
	}
	for _, test := range tests {
		if Matches(test.pattern, test.text) != test.want {
			t.Errorf("%q and %q", test.pattern, test.text)
		}
	}
}

// slowlyMatches says the same by the definition.
func slowlyMatches(pattern, text string) bool {
	switch {
	case pattern == "":
		return text == ""
	case strings.HasPrefix(pattern, "**"):
		rest := strings.TrimLeft(pattern, "*")
		for i := 0; i <= len(text); i++ {
			if slowlyMatches(rest, text[i:]) {
				return true
			}
		}
		return false
	case pattern[0] == '*':
		for i := 0; i <= len(text); i++ {
			if slowlyMatches(pattern[1:], text[i:]) {
				return true
			}
			if i < len(text) && text[i] == '/' {
				return false
			}
		}
		return false
	}
	return text != "" && pattern[0] == text[0] && slowlyMatches(pattern[1:], text[1:])
}

// Every short pattern and text over a small alphabet.
func TestMatchesByDefinition(t *testing.T) {
	words := func(letters string, most int) []string {
		all := []string{""}
		for i := 0; i < len(all); i++ {
			if len(all[i]) < most {
				for _, c := range letters {
					all = append(all, all[i]+string(c))
				}
			}
		}
		return all
	}
	texts := words("ab/", 5)
	for _, pattern := range words("a/*", 6) {
		for _, text := range texts {
			if Matches(pattern, text) != slowlyMatches(pattern, text) {
				t.Fatalf("%q and %q", pattern, text)
			}
		}
	}
}

func TestSelects(t *testing.T) {
	tests := []struct {
		pattern, topic string
		want           bool
	}{
		{"**", "a", true}, {"**", "__kps/stats", false}, {"__kps/**", "__kps/stats", true},
		{"__k**", "__kps/stats", false}, {"__x", "__x", true}, {"__*", "__x", false}, {"**", "", false},
	}
	for _, test := range tests {
		if selects(test.pattern, test.topic) != test.want {
			t.Errorf("%q and %q", test.pattern, test.topic)
		}
	}
}

func TestParserReadsWhatServersSend(t *testing.T) {
	var p parser
	read := func(text string) []incoming {
		t.Helper()
		messages, broken := p.read([]byte(text), true)
		if broken != "" {
			t.Fatal(broken)
		}
		return messages
	}
	m := read(`{"action":"publish","topic":"a","from":"bob","batch":[1, {"x":[]} ,"y"],"offset":7,"unknown":{"a":1}}`)
	var payloads []string
	for _, payload := range p.payloadsOf(&m[0]) {
		payloads = append(payloads, string(payload))
	}
	if m[0].topic != "a" || m[0].from != "bob" || string(m[0].offset) != "7" ||
		!reflect.DeepEqual(payloads, []string{"1", `{"x":[]}`, `"y"`}) {
		t.Error(m[0], payloads)
	}
	m = read(` [ {"action":"a"} , {"\u0061ction":"b","topic":"x\"y"},{} , 5, {"action":5}, {"action":null}] `)
	if len(m) != 6 || m[0].action != "a" || m[2].action != "" || m[3].action != fault ||
		m[4].err != "field action must be a string" || m[1].action != "b" || m[5].action != "" || m[1].topic != `x"y` {
		t.Errorf("%+v", m)
	}
	read(`{"a\"b":1,"a\\b":2,"\u005c\u0022":3}`)
	m = read(`{"action":"publish","data":1,"data":2}`)
	if got := p.payloadsOf(&m[0]); len(got) != 1 || string(got[0]) != "2" {
		t.Errorf("%s", got)
	}
	m = read(`{"action":"publish","batch":[]}`)
	if got := p.payloadsOf(&m[0]); len(got) != 0 {
		t.Errorf("%s", got)
	}
	m = read(`{"action":"publish","batch":5,"data":1}`)
	if got := p.payloadsOf(&m[0]); len(got) != 1 {
		t.Errorf("%s", got)
	}
	for text, want := range map[string]string{
		`{`: "message is not valid JSON", `[{]`: "message is not valid JSON", `{"a":1} x`: "message is not valid JSON",
		``: "message is not valid JSON", `{"batch":[1,]}`: "message is not valid JSON",
		`{"data":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`: "message nested too deeply",
	} {
		if _, broken := p.read([]byte(text), true); broken != want {
			t.Errorf("%.40s: %q", text, broken)
		}
	}
	if _, broken := p.read([]byte("{\"a\":\"\xff\"}"), false); broken == "" {
		t.Error("a binary message that is not UTF-8 is taken")
	}
}

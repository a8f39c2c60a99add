package escape

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{ // in one line
		"plain, ä 日本 🙂":       "plain, ä 日本 🙂",
		`C:\plugins`:          `C:\plugins`,
		"two\nlines\tand\r":   `two\nlines\tand\x0d`,
		"\x1b[2J\x07\x7f\x00": `\x1b[2J\x07\x7f\x00`,
		"a\xffb\xed\xa0\x80":  `a\xffb\xed\xa0\x80`,
		"a\ufffdb":            "a\ufffdb", // which a host has put there
		"\u009b1m\u0085":      `\u{9b}1m\u{85}`,
		"\u202egpj.exe":       `\u{202e}gpj.exe`,
		"\u2066a\u2069":       `\u{2066}a\u{2069}`,
		"a\u200b\u200d\ufeff": `a\u{200b}\u{200d}\u{feff}`,
		"a\u2028b\u2029":      `a\u{2028}b\u{2029}`,
		"a\u00ad\u034f":       `a\u{ad}\u{34f}`,
		"\u3164\uffa0\u115f":  `\u{3164}\u{ffa0}\u{115f}`,
		"a\ufe0f\U000e0100":   `a\u{fe0f}\u{e0100}`,
		"\U000e0041":          `\u{e0041}`,
		"\ue000\ufdd0":        `\u{e000}\u{fdd0}`,
	} {
		assert.Equal(t, want, Line(in))
	}
	assert.Equal(t, "a\n\tb", Lines("a\n\tb"))
	assert.Equal(t, `a\x0d`+"\n", Lines("a\r\n"))
	assert.Equal(t, "a\u200d\u2028b\x7f"+`\u{200b}`, Text("a\u200d\u2028b\x7f\u200b", "\u200d\u2028\x7f"), "what is kept is kept, whatever it is")
	assert.Equal(t, `a\xff`, Text("a\xff", "\ufffd"))
}

// FuzzEscape: nothing that cannot be seen is left, and what can be seen is left as it is.
func FuzzEscape(f *testing.F) {
	f.Add("a\xff\x1b\u202e\n")
	f.Fuzz(func(t *testing.T, text string) {
		one := Line(text)
		for _, r := range one {
			assert.True(t, unicode.IsPrint(r) || unicode.Is(unicode.Zs, r), "%q", r)
		}
		assert.Equal(t, one, Line(one), "again")
		assert.Equal(t, strings.Count(text, "\n"), strings.Count(Lines(text), "\n"))
	})
}

// A document with escapes means the same, and shows all that is in it.
func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		"h\u00e9llo \U0001f600\n\"<":       "h\u00e9llo \U0001f600" + `\n\"<`,
		"\u009b31m\u009d\u009c\x7f":        `\u009b31m\u009d\u009c\u007f`,
		"\x1b\u202e\u2066\u3164\ufeff":     `\u001b\u202e\u2066\u3164\ufeff`,
		"\U000e0041\U000e0100\U0010ffff":   `\udb40\udc41\udb40\udd00\udbff\udfff`,
		"\u2028 and one of its own \ufffd": `\u2028 and one of its own ` + "\ufffd",
	} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		assert.NoError(t, e.Encode([]string{text}))
		got := JSON(b.Bytes())
		assert.Equal(t, "[\n  \""+want+"\"\n]\n", string(got))
		var back []string
		assert.NoError(t, json.Unmarshal(got, &back))
		assert.Equal(t, []string{text}, back)
	}
}

// What stands between the parts of a document is no escape, which would make it invalid.
func TestJSONBetweenItsParts(t *testing.T) {
	indented, err := json.MarshalIndent(map[string]any{"a\u009b": []int{1, 2}}, "", "\t")
	assert.NoError(t, err)
	for _, document := range [][]byte{indented, bytes.ReplaceAll(indented, []byte("\n"), []byte("\r\n"))} {
		got := JSON(document)
		var want, back any
		assert.NoError(t, json.Unmarshal(document, &want))
		assert.NoError(t, json.Unmarshal(got, &back), "%q", got)
		assert.Equal(t, want, back)
		assert.NotContains(t, string(got), "\r")
	}
	assert.Contains(t, string(JSON(indented)), "\n\t\"a\\u009b\": [\n\t\t1,")
}

// BenchmarkJSON: a large document without anything to be escaped, as most are.
func BenchmarkJSON(b *testing.B) {
	document := []byte(`"` + strings.Repeat(`\u0001`, 1<<20) + `"`)
	b.SetBytes(int64(len(document)))
	for b.Loop() {
		JSON(document)
	}
}

package gen

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
)

// prefix begins each comment that is for the generator.
const prefix = "//ferrule:"

// words are the directives, each with what it stands at.
var words = []struct{ word, place string }{
	{"plugin", "the doc comment of the package"},
	{"export", "the doc comment of a function or a method"},
	{"hook", "the doc comment of a function or a method"},
	{"import", "the doc comment of a package variable"},
	{"want", "the doc comment of a package variable"},
	{"start", "the doc comment of a function"},
	{"stop", "the doc comment of a method"},
	{"configure", "the doc comment of a method"},
	{"save", "the doc comment of a method"},
	{"resume", "the doc comment of a method"},
}

// placeOf is what a directive stands at, "" where there is none of this name.
func placeOf(word string) string {
	for _, w := range words {
		if w.word == word {
			return w.place
		}
	}
	return ""
}

// directive is one such comment.
type directive struct {
	word  string
	point string // of a hook
	keys  []key
}

// key is one key=value of it.
type key struct {
	name, value string
	at          int // where it begins, in bytes from the comment's first
}

// get returns a key's value.
func (d *directive) get(name string) (value string, at int, ok bool) {
	for _, k := range d.keys {
		if k.name == name {
			return k.value, k.at, true
		}
	}
	return "", 0, false
}

// slip is a fault within a comment, at a number of bytes from its first.
type slip struct {
	at                      int
	found, expected, remedy string
}

// parse reads a comment that begins with prefix. Where slips are returned, the directive is what could be read of it.
func parse(comment string) (d *directive, slips []slip) {
	d = &directive{}
	slipped := func(at int, found, expected, remedy string) {
		slips = append(slips, slip{at, found, expected, remedy})
	}
	if !utf8.ValidString(comment) {
		slipped(0, "a directive that is not UTF-8", "UTF-8", "")
		return d, slips
	}
	at := len(prefix)
	next := func() (from int, ok bool) {
		for at < len(comment) && blank(comment[at]) {
			at++
		}
		return at, at < len(comment)
	}
	word := func(stop func(byte) bool) string {
		from := at
		for at < len(comment) && !stop(comment[at]) {
			at++
		}
		return comment[from:at]
	}
	d.word = word(blank)
	if placeOf(d.word) == "" {
		var all []string
		for _, w := range words {
			all = append(all, w.word)
		}
		remedy := ""
		if near := abi.Nearest(d.word, all); near != "" {
			remedy = "Did you mean " + prefix + near + "?"
		}
		slipped(0, short(prefix+d.word), "one of "+strings.Join(all, ", "), remedy)
		return d, slips
	}
	bare := 0
	for {
		from, ok := next()
		if !ok {
			break
		}
		name := word(func(c byte) bool { return blank(c) || c == '=' })
		if at == len(comment) || comment[at] != '=' {
			switch bare++; {
			case d.word == "hook" && bare == 1 && len(d.keys) == 0:
				d.point = name
			case d.word == "hook":
				slipped(from, short(name), "the name of one extension point, and then key=value", "")
			default:
				slipped(from, short(name), "key=value", "")
			}
			continue
		}
		at++
		value, ok := "", true
		switch quoted := at < len(comment) && (comment[at] == '"' || comment[at] == '`'); {
		case quoted:
			literal, err := strconv.QuotedPrefix(comment[at:])
			if err != nil {
				slipped(at, "a value that is no Go string literal", `"…" or `+"`…`, on one line", "")
				return d, slips
			}
			value, err = strconv.Unquote(literal)
			if err != nil {
				slipped(at, "a value that is no Go string literal", `"…" or `+"`…`, on one line", "")
				return d, slips
			}
			at += len(literal)
			if at < len(comment) && !blank(comment[at]) {
				behind := at
				slipped(behind, short(word(blank))+" right behind a literal", "a blank there", "")
				ok = false
			}
		default:
			begin := at
			value = word(blank)
			switch {
			case value == "":
				slipped(from, name+"= without a value", "one", `Leave the key out, or write ""`)
				ok = false
			case strings.ContainsAny(value, "\"`"):
				slipped(begin, "a quote within the word "+short(value), "a word without one, or a Go string literal", "")
				ok = false
			}
		}
		switch _, _, twice := d.get(name); {
		case !validKey(name):
			slipped(from, "the key "+short(name), "1 to 64 bytes of a-z, 0-9, _, - and .", "")
		case twice:
			slipped(from, "the key "+name+" twice", "each key once", "")
		case strings.ContainsRune(value, 0):
			slipped(from, "a NUL in the value of "+name, "text without one", "")
		case !utf8.ValidString(value):
			slipped(from, "a value of "+name+" that is not UTF-8", "UTF-8", "")
		case ok:
			d.keys = append(d.keys, key{name, value, from})
		}
	}
	if d.word == "hook" && bare == 0 {
		slipped(0, prefix+"hook without an extension point", prefix+"hook POINT", "")
	}
	return d, slips
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// validKey is rule R3 of ferrule.h.
func validKey(name string) bool {
	_, err := abi.ParseText([]byte(name + "=\x00\x00"))
	return err == nil && !strings.ContainsAny(name, "=\x00")
}

// short quotes a text that may be long.
func short(text string) string {
	if r := []rune(text); len(r) > 60 {
		text = string(r[:60]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

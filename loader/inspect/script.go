package inspect

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
)

// maxHeader is how many bytes of a script are read for its header: no statement may stand before it.
const maxHeader = 64 << 10

// languages are those of scripts, by what begins a comment in them.
var languages = []struct {
	comment string
	format  Format
}{{"//", JavaScript}, {"#", Python}}

// ScriptOf returns the language of a script that begins with head, JavaScript or Python, by the first line of its header; "" where none is there. The first 4 KiB are enough:
// the header's first line stands there. It may be broken.
func ScriptOf(head []byte) Format {
	for _, l := range languages {
		for _, line := range headerLines(head, l.comment) {
			if line.words != "" {
				return l.format
			}
		}
	}
	return ""
}

// headerLine is a line of the comments that a script begins with.
type headerLine struct {
	number int    // from 1
	words  string // behind the word ferrule:, "" of another comment
}

// headerLines are those lines. There is none behind the first that is neither empty nor a comment.
func headerLines(text []byte, comment string) []headerLine {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var lines []headerLine
	for number := 1; len(text) > 0; number++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		s := strings.TrimSpace(string(line))
		behind, is := strings.CutPrefix(s, comment)
		switch {
		case s == "", number == 1 && strings.HasPrefix(s, "#!"):
		case !is:
			return lines
		default:
			words, own := strings.CutPrefix(strings.TrimSpace(behind), "ferrule:")
			if words = strings.TrimSpace(words); own && words != "" {
				lines = append(lines, headerLine{number, words})
			}
		}
	}
	return lines
}

// What a header may say in few letters, and how the contract has it.
var mediaTypes = map[string]string{"text": "text/plain", "json": "application/json", "bytes": "application/octet-stream"}

// listed are the keys of a manifest that may stand several times in a header: each is an item of a list (rule R32).
var listed = []string{"license", "authors", "provides", "requires", "conflicts", "permit.read", "permit.write", "permit.connect", "permit.listen"}

// readScript fills lib from a script's header, and from nothing else of it.
func (lib *Library) readScript(m *image, format Format) error {
	text, err := m.view("the header", 0, min(m.size, maxHeader))
	if err != nil {
		return err
	}
	lib.Format, lib.Machine = format, string(format)
	comment := languages[slices.IndexFunc(languages, func(l struct {
		comment string
		format  Format
	}) bool {
		return l.format == format
	})].comment
	h := header{lib: lib, kinds: map[string]*[]abi.Symbol{"fn": &lib.Funcs, "hook": &lib.Hooks, "import": &lib.Imports, "want": &lib.Wants}}
	for _, line := range headerLines(text, comment) {
		if err := h.line(line); err != nil {
			return err
		}
	}
	return h.end()
}

// header is what was read of one.
type header struct {
	lib      *Library
	kinds    map[string]*[]abi.Symbol
	manifest abi.Text
	services []string
	last     int // its last line
}

func (h *header) faulty(line int, found, expected string) error {
	return &Error{Kind: ErrManifest, Found: fmt.Sprintf("line %d: %s", line, found), Expected: expected, Remedy: "Correct the script's header"}
}

// line takes in one line: pairs of key=value, in which fn, hook, import and want begin one of these, which what is behind it on the line is about.
func (h *header) line(line headerLine) error {
	h.last = line.number
	var kind string
	var symbol abi.Symbol
	var about abi.Text
	flush := func() error {
		if kind == "" {
			return nil
		}
		if fault := symbol.Describe(about); fault != nil {
			return h.textFault(line.number, kind+" "+symbol.Name, fault)
		}
		to := h.kinds[kind]
		i, there := slices.BinarySearchFunc(*to, symbol.Name, func(s abi.Symbol, name string) int { return strings.Compare(s.Name, name) })
		if there {
			return h.faulty(line.number, fmt.Sprintf("%s=%s for the second time", kind, symbol.Name), "each once")
		}
		*to = slices.Insert(*to, i, symbol)
		return nil
	}
	for rest := line.words; rest != ""; {
		key, value, left, err := pair(rest)
		if err != "" {
			return h.faulty(line.number, err, `key=value, or key="a value with spaces"`)
		}
		rest = left
		switch {
		case h.kinds[key] != nil:
			if err := flush(); err != nil {
				return err
			}
			if !abi.ValidName(value) {
				return h.faulty(line.number, fmt.Sprintf("%s=%.140q", key, value), fmt.Sprintf("a name of letters, digits and _, %d bytes at most, that no digit begins", abi.MaxName))
			}
			kind, symbol, about = key, abi.Symbol{Name: value}, nil
		case kind != "":
			if (key == "in" || key == "out") && mediaTypes[value] != "" {
				value = mediaTypes[value]
			}
			var fault error
			if about, fault = add(about, key, value, false); fault != nil {
				return h.textFault(line.number, kind+" "+symbol.Name, fault)
			}
		case key == "services":
			h.services = append(h.services, strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ' ' })...)
		case key == "ferrule" || key == "threads":
			return h.faulty(line.number, "the key "+key, "none: package script says it")
		default:
			var fault error
			if h.manifest, fault = add(h.manifest, key, value, slices.Contains(listed, key) || strings.HasPrefix(key, "host.")); fault != nil {
				return h.textFault(line.number, "the manifest", fault)
			}
		}
	}
	return flush()
}

// textFault is the error of a text that the contract does not have.
func (h *header) textFault(line int, of string, fault error) error {
	text, ok := fault.(*abi.TextError)
	if !ok {
		return h.faulty(line, of+": "+fault.Error(), "what the contract has")
	}
	found := text.Found
	if text.Key != "" && !strings.HasPrefix(found, "the key ") {
		found = fmt.Sprintf("%s of the key %s", found, text.Key)
	}
	return h.faulty(line, of+": "+found, text.Expected)
}

// add appends a pair, or an item of a list, to a text.
func add(text abi.Text, key, value string, list bool) (abi.Text, error) {
	if i := slices.IndexFunc(text, func(kv abi.KeyValue) bool { return kv.Key == key }); i >= 0 && list {
		text[i].Value += "\n" + value
		return text, nil
	}
	text = append(text, abi.KeyValue{Key: key, Value: value})
	_, err := parsed(text)
	return text, err
}

// parsed is a text as the contract reads it, which judges keys and values.
func parsed(text abi.Text) ([]byte, error) {
	var b []byte
	for _, kv := range text {
		b = fmt.Appendf(b, "%s=%s\x00", kv.Key, kv.Value)
	}
	b = append(b, 0)
	_, err := abi.ParseText(b)
	return b, err
}

// end makes the description of what was read.
func (h *header) end() error {
	joined, fault := parsed(append(abi.Text{{Key: "ferrule", Value: strconv.Itoa(abi.Major)}}, h.manifest...))
	if fault == nil {
		h.lib.Manifest, fault = abi.ParseManifest(joined)
	}
	if fault != nil {
		return h.textFault(h.last, "the manifest", fault)
	}
	for _, want := range h.lib.Wants {
		if slices.ContainsFunc(h.lib.Imports, func(s abi.Symbol) bool { return s.Name == want.Name }) {
			return h.faulty(h.last, want.Name+" as import= and as want=", "one of the two (rule R23)")
		}
	}
	h.lib.HasStart = true
	for i, service := range h.services {
		has := map[string]*bool{"stop": &h.lib.HasStop, "configure": &h.lib.HasConfigure, "save": &h.lib.HasSave, "resume": &h.lib.HasResume}[service]
		if has == nil || slices.Contains(h.services[:i], service) {
			return h.faulty(h.last, fmt.Sprintf("%.140q among services", service), "stop, configure, save and resume, each once")
		}
		*has = true
	}
	if handed := h.lib.Manifest.State != ""; h.lib.HasSave != handed || h.lib.HasResume != handed {
		return h.faulty(h.last, "some of state=, and save and resume among services", "all three, or none (rule R29)")
	}
	return nil
}

// pair cuts the first key=value off. A value in double quotes is as Go and JSON have it. fault says what is wrong with it.
func pair(s string) (key, value, rest, fault string) {
	end := strings.IndexAny(s, "= \t")
	if end <= 0 || s[end] != '=' {
		word, _, _ := strings.Cut(s, " ")
		return "", "", "", fmt.Sprintf("%.140q", word)
	}
	key, s = s[:end], s[end+1:]
	if strings.HasPrefix(s, `"`) {
		quoted, err := strconv.QuotedPrefix(s)
		if err == nil {
			value, err = strconv.Unquote(quoted)
		}
		if err != nil {
			return "", "", "", fmt.Sprintf("%.140q, whose quotes do not end, or have what is no text between them", key+"="+s)
		}
		rest = s[len(quoted):]
		if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
			return "", "", "", fmt.Sprintf("%.140q behind the quotes of %s", rest, key)
		}
	} else {
		end := strings.IndexAny(s, " \t")
		if end < 0 {
			end = len(s)
		}
		value, rest = s[:end], s[end:]
	}
	if strings.Contains(value, "\x00") || !utf8.ValidString(value) {
		return "", "", "", fmt.Sprintf("the value %.140q of %s", value, key)
	}
	return key, value, strings.TrimLeft(rest, " \t"), ""
}

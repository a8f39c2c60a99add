package inspect

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// maxHeader is how many bytes of a script are read for its header: the first statement stands before their end.
const maxHeader = 64 << 10

// language is one of scripts: what begins a comment in it up to the line's end, and what closes one that goes over lines, where it has such.
type language struct {
	format            Format
	line, open, close string
	extensions        []string
	runs              *regexp.Regexp // the programs that a first line with #! may name, where scripts in other languages have such comments, too
	starts            *regexp.Regexp // programs that start one of those, which is among their arguments
}

var languages = []*language{
	{format: JavaScript, line: "//", open: "/*", close: "*/", extensions: []string{".js", ".mjs"}},
	{format: Python, line: "#", extensions: []string{".py"},
		runs:   regexp.MustCompile(`^(?i:\w*python\w?|hython|pypy|graalpy|pyston|mayapy|propy|ipy|pyw?|uv[xw]?)[0-9.]*t?(?:-\w+)?(?:\.exe)?$`), // as python3.12, pypy3, mayapy, uv run
		starts: regexp.MustCompile(`^(?i:poetry|pipenv|pdm|hatch|rye|pixi|conda|mamba|micromamba|sage|nix-shell)(?:\.exe)?$`)},
}

// runBy reports whether the program that a first line with #! names, by its own name, is one that runs the language.
func (l *language) runBy(line string) bool {
	if l.runs == nil {
		return true
	}
	words := program(strings.Fields(strings.NewReplacer(`"`, "", "'", "").Replace(line[len("#!"):])))
	if len(words) == 0 {
		return false
	}
	return l.runs.MatchString(base(words[0])) || l.starts.MatchString(base(words[0])) &&
		slices.ContainsFunc(words[1:], func(word string) bool { return l.runs.MatchString(base(strings.TrimLeft(word, "-"))) })
}

// base is the last part of a path of any system.
func base(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

// program returns the words of a command from the program on that it comes to: without env, and what env itself takes.
func program(words []string) []string {
	if len(words) == 0 || base(words[0]) != "env" {
		return words
	}
	words = slices.Clone(words[1:])
	for len(words) > 0 {
		word := words[0]
		split, long := strings.CutPrefix(word, "--split-string=")
		_, short, at := strings.Cut(word, "S")
		switch {
		case long:
			words[0] = split // the command begins there
		case slices.Contains([]string{"-u", "--unset", "-C", "--chdir", "-a", "--argv0", "-P"}, word):
			words = words[min(2, len(words)):]
		case strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") && at: // -S, and as -vS
			words[0] = short
		case word == "" || strings.HasPrefix(word, "-") || strings.Contains(word, "="):
			words = words[1:]
		default:
			return words
		}
	}
	return nil
}

// RunsOther returns the first line of a file that begins with head, where that line (#!) names no Python that is known, and the file would be a script with a header of Python's
// without it; or "". Of what follows the line the first 4 KiB are looked at.
func RunsOther(head []byte) string {
	if !hasPrefix(head, "#!") || ScriptOf(head) != "" {
		return ""
	}
	line, rest := head, []byte(nil)
	if end := bytes.IndexAny(head, "\r\n"); end >= 0 {
		line, rest = head[:end], head[end:]
	}
	if ScriptOf(rest[:min(len(rest), 4<<10)]) != Python {
		return ""
	}
	return string(bytes.TrimSpace(line))
}

// ScriptOf returns the language of a script that begins with head, JavaScript or Python, by the first line of its header; "" where none is there. The first 4 KiB are enough:
// the header's first line stands there. It may be broken.
func ScriptOf(head []byte) Format {
	for _, l := range languages {
		if lines, _ := l.header(head); len(lines) > 0 {
			return l.format
		}
	}
	return ""
}

// headerLine is a line of the comments that a script begins with.
type headerLine struct {
	number int    // from 1
	words  string // behind the word ferrule:, never empty
}

// header returns the lines of a script's header: those of the comments before its first statement that begin with ferrule:. open says that text has no statement, or only a piece of what may be none.
func (l *language) header(text []byte) (lines []headerLine, open bool) {
	rest := strings.TrimPrefix(string(text), "\ufeff")
	within := false // a comment that goes over lines
	for number := 1; rest != ""; number++ {
		line := rest
		if end := strings.IndexAny(rest, "\r\n"); end < 0 {
			rest = ""
		} else {
			line, rest = rest[:end], strings.TrimPrefix(rest[end:], "\r")
			rest = strings.TrimPrefix(rest, "\n")
		}
		line = strings.TrimSpace(line)
		if number == 1 && strings.HasPrefix(line, "#!") {
			if !l.runBy(line) {
				return nil, false
			}
			continue
		}
		for l.open != "" && (within || strings.HasPrefix(line, l.open)) {
			if !within {
				line = line[len(l.open):]
			}
			_, behind, closed := strings.Cut(line, l.close)
			if within = !closed; within {
				break
			}
			line = strings.TrimSpace(behind)
		}
		if within || line == "" {
			continue
		}
		comment, is := strings.CutPrefix(line, l.line)
		if !is {
			return lines, rest == "" && strings.HasPrefix(l.line, line) // what follows may make a comment of it
		}
		if words, own := strings.CutPrefix(strings.TrimSpace(comment), "ferrule:"); own {
			if words = strings.TrimSpace(words); words != "" {
				lines = append(lines, headerLine{number, words})
			}
		}
	}
	return lines, true
}

// What a header may say in few letters, and how the contract has it.
var mediaTypes = map[string]string{"text": "text/plain", "json": "application/json", "bytes": "application/octet-stream"}

// listed are the keys that may stand several times: each is an item of a list (rule R32). A schema is one in pieces.
var listed = []string{"provides", "requires", "conflicts", "permit.read", "permit.write", "permit.connect", "permit.listen", "before", "after", "services", configSchema, "in-schema", "out-schema", "schema"}

// configSchema is the key of the schema of the configuration, which a library has in a symbol of its own.
const configSchema = "config-schema"

// ofSymbol are the contract's keys that say something of a function, a hook, a host function or several of these, and ofScript those of the whole.
var (
	ofSymbol = []string{"doc", "in", "out", "schema", "in-schema", "out-schema", "stream", "since", "deprecated", "idempotent", "quick", "order", "before", "after", "priority", "wrap", "optional", "from", "why"}
	ofScript = []string{"name", "description", "homepage", "license", "authors", "state", "health", "provides", "requires", "conflicts", "services", configSchema}
)

// meant are words that stand for others in other places.
var meant = map[string]string{"func": "fn", "function": "fn", "def": "fn", "hooks": "hook", "imports": "import", "wants": "want", "service": "services", "config_schema": configSchema, "config": configSchema}

// readScript fills lib from a script's header, and from nothing else of it. Where all libraries are described, a fault in the header is a fact.
func (lib *Library) readScript(m *image, format Format, all bool) error {
	text, err := m.view("the header", 0, min(m.size, maxHeader))
	if err != nil {
		return err
	}
	lib.Format, lib.Machine = format, string(format)
	lib.Archs = []string{lib.Machine}
	err = lib.readHeader(text, format, m.size > uint64(len(text)))
	if fault, ok := err.(*Error); ok && all {
		lib.Description, lib.NotPlugin = abi.Description{}, fault
		return nil
	}
	return err
}

// readHeader fills lib from the text that a script begins with. more says that the script goes on behind it.
func (lib *Library) readHeader(text []byte, format Format, more bool) error {
	l := languages[slices.IndexFunc(languages, func(l *language) bool { return l.format == format })]
	lines, open := l.header(text)
	if open && more {
		return &Error{Kind: ErrManifest, Found: count.Of(len(text), "byte") + " of comments, and no statement", Expected: "the first statement among them",
			Remedy: "Move the comments that are no header below it"}
	}
	h := header{lib: lib, kinds: map[string]*symbols{"fn": {}, "hook": {}, "import": {}, "want": {}}}
	for _, line := range lines {
		if err := h.line(line); err != nil {
			return err
		}
	}
	return h.end()
}

// symbols are those of a kind, and the lines that they are in.
type symbols struct {
	list  []abi.Symbol
	lines map[string]int
}

// sorted returns them by name.
func (s *symbols) sorted() []abi.Symbol {
	slices.SortFunc(s.list, func(a, b abi.Symbol) int { return strings.Compare(a.Name, b.Name) })
	return s.list
}

// value is what a header says of a key.
type value struct {
	items []string
	line  int
}

// keyed are pairs in the order in which they stand.
type keyed struct {
	keys   []string
	values map[string]*value
}

// add takes a pair. again says that the key was there, and is not one of a list.
func (k *keyed) add(key, item string, line int) (again bool) {
	v := k.values[key]
	if v == nil {
		if k.values == nil {
			k.values = map[string]*value{}
		}
		v = &value{line: line}
		k.values[key], k.keys = v, append(k.keys, key)
	} else if !slices.Contains(listed, key) {
		return true
	}
	v.items = append(v.items, item)
	return false
}

// take returns what is said of a key, which is no longer among them.
func (k *keyed) take(key string) *value {
	v := k.values[key]
	if v == nil {
		return &value{}
	}
	delete(k.values, key)
	k.keys = slices.DeleteFunc(k.keys, func(have string) bool { return have == key })
	return v
}

// bytes is the text as the contract has it, which judges it where it reads it.
func (k *keyed) bytes(first string) []byte {
	b := []byte(first)
	for _, key := range k.keys {
		b = append(append(append(append(b, key...), '='), strings.Join(k.values[key].items, "\n")...), 0)
	}
	return append(b, 0)
}

// header is what was read of one.
type header struct {
	lib    *Library
	kinds  map[string]*symbols
	script keyed
	last   int // its last line
}

const correctHeader = "Correct the script's header"

func faultyHeader(line int, found, expected, remedy string) error {
	return &Error{Kind: ErrManifest, Found: fmt.Sprintf("line %d: %s", line, found), Expected: expected, Remedy: remedy}
}

// line takes in one line: pairs of key=value, in which fn, hook, import and want begin one of these, which what is behind it on the line is about.
func (h *header) line(line headerLine) error {
	h.last = line.number
	faulty := func(found, expected, remedy string) error { return faultyHeader(line.number, found, expected, remedy) }
	var kind, name string
	var about keyed
	flush := func() error {
		if kind == "" {
			return nil
		}
		symbol := abi.Symbol{Name: name}
		text, fault := abi.ParseText(about.bytes(""))
		if fault == nil {
			fault = symbol.Describe(text)
		}
		if fault != nil {
			return textFault(line.number, kind+"="+name+" with ", fault)
		}
		of := h.kinds[kind]
		if before := of.lines[name]; before != 0 {
			return faulty(fmt.Sprintf("%s=%s, which is in line %d, too", kind, name, before), "each once", "Leave one of them out")
		}
		if of.lines == nil {
			of.lines = map[string]int{}
		}
		of.lines[name], of.list = line.number, append(of.list, symbol)
		return nil
	}
	for rest := line.words; rest != ""; {
		key, value, left, fault := pair(rest)
		if fault != nil {
			fault.number = line.number
			return fault.err()
		}
		rest = left
		switch {
		case h.kinds[key] != nil:
			if err := flush(); err != nil {
				return err
			}
			if !abi.ValidName(value) {
				return faulty(fmt.Sprintf("%s=%.140q", key, value), fmt.Sprintf("a name of letters, digits and _, %d bytes at most, that no digit begins", abi.MaxName), "Correct the name")
			}
			kind, name, about = key, value, keyed{}
			continue
		case meant[key] != "":
			return faulty(fmt.Sprintf("the key %s", key), meant[key]+"=", "Write "+meant[key]+"= instead of it, or x-"+key+"= for a key of your own")
		case kind != "" && (slices.Contains(ofScript, key) || strings.HasPrefix(key, "permit.") || strings.HasPrefix(key, "host.")):
			return faulty(fmt.Sprintf("%s= behind %s=%s", key, kind, name), "there what is about "+name+" alone", "Write it before fn=, hook=, import= and want=, or on a line of its own")
		case kind == "" && slices.Contains(ofSymbol, key):
			return faulty(fmt.Sprintf("%s=, and before it no fn=, hook=, import= or want= on its line", key), "it behind what it is about", "Write it on the line of that")
		case key == "ferrule" || key == "threads":
			return faulty("the key "+key, "it left out: the engine says it", "Leave it out")
		}
		to := &h.script
		if kind != "" {
			to = &about
			if (key == "in" || key == "out") && mediaTypes[value] != "" {
				value = mediaTypes[value]
			}
		}
		if to.add(key, value, line.number) {
			return faulty(fmt.Sprintf("%s= for the second time", key), "each key once, but for those of lists", "Leave one of them out")
		}
	}
	return flush()
}

// textFault is the error of a text that the contract does not have.
func textFault(line int, of string, fault error) error {
	text, ok := fault.(*abi.TextError)
	if !ok {
		return faultyHeader(line, of+fault.Error(), "what the contract has", correctHeader)
	}
	found := text.Found
	if text.Key != "" && !strings.HasPrefix(found, "the key ") {
		found = text.Key + "=: " + found
	}
	return faultyHeader(line, of+found, fmt.Sprintf("%s (rule %s)", text.Expected, text.Rule), correctHeader)
}

// end makes the description of what was read.
func (h *header) end() error {
	lib := h.lib
	services, schema := h.script.take("services"), h.script.take(configSchema)
	manifest, fault := abi.ParseManifest(h.script.bytes(fmt.Sprintf("ferrule=%d\x00", abi.Major)))
	if fault != nil {
		text, ok := fault.(*abi.TextError)
		if ok && (text.Key == "name" || text.Key == "version") && h.script.values[text.Key] == nil {
			return faultyHeader(h.last, fmt.Sprintf("the header's end, and no %s=", text.Key), "name= and version=", "Write "+text.Key+"= into the header")
		}
		line := h.last
		if ok && h.script.values[text.Key] != nil {
			line = h.script.values[text.Key].line
		}
		return textFault(line, "", fault)
	}
	lib.Manifest, lib.ConfigSchema, lib.HasStart = manifest, strings.Join(schema.items, "\n"), true
	for kind, to := range map[string]*[]abi.Symbol{"fn": &lib.Funcs, "hook": &lib.Hooks, "import": &lib.Imports, "want": &lib.Wants} {
		*to = h.kinds[kind].sorted()
	}
	for _, want := range lib.Wants {
		if h.kinds["import"].lines[want.Name] != 0 {
			return faultyHeader(h.kinds["want"].lines[want.Name], fmt.Sprintf("want=%s, and import=%[1]s", want.Name), "one of the two (rule R23)", "Want what the script can do without, and import what it cannot")
		}
	}
	has := map[string]*bool{"stop": &lib.HasStop, "configure": &lib.HasConfigure, "save": &lib.HasSave, "resume": &lib.HasResume}
	for _, service := range strings.FieldsFunc(strings.Join(services.items, ","), func(c rune) bool { return c == ',' || c == ' ' }) {
		if has[service] == nil || *has[service] {
			return faultyHeader(services.line, fmt.Sprintf("%.140q among services", service), "stop, configure, save and resume, each once", correctHeader)
		}
		*has[service] = true
	}
	if handed := lib.Manifest.State != ""; lib.HasSave != handed || lib.HasResume != handed {
		var found []string
		for what, there := range map[string]bool{"state=": handed, "save among services": lib.HasSave, "resume among services": lib.HasResume} {
			if there {
				found = append(found, what)
			}
		}
		slices.Sort(found)
		line := services.line
		if handed {
			line = h.script.values["state"].line
		}
		return faultyHeader(line, strings.Join(found, " and ")+" alone", "state=, and save and resume among services, together (rule R29)", "Add what is missing, or leave out the rest")
	}
	return nil
}

// pairFault is what is wrong with one.
type pairFault struct {
	number                  int
	found, expected, remedy string
}

func (f *pairFault) err() error {
	return faultyHeader(f.number, f.found, cmp.Or(f.expected, `key=value, or key="a value with spaces"`), cmp.Or(f.remedy, correctHeader))
}

// pair cuts the first key=value off. A value in double quotes is a text as JSON has it, one in single quotes is as it stands.
func pair(s string) (key, value, rest string, fault *pairFault) {
	end := strings.IndexAny(s, "= \t")
	if end <= 0 || s[end] != '=' {
		word, _, _ := strings.Cut(s, " ")
		return "", "", "", &pairFault{found: fmt.Sprintf("%.140q", word)}
	}
	key, s = s[:end], s[end+1:]
	switch {
	case !validHeaderKey(key):
		return "", "", "", &pairFault{found: fmt.Sprintf("the key %.140q", key), expected: "1 to 64 bytes of a-z, 0-9, _, - and . (rule R3)", remedy: "Correct the key"}
	case strings.HasPrefix(s, `"`), strings.HasPrefix(s, "'"):
		quoted := s[:quotedLen(s)]
		rest = s[len(quoted):]
		switch {
		case quoted == "":
			return "", "", "", &pairFault{found: fmt.Sprintf("%.140q, whose quotes do not end on the line", key+"="+s), expected: "a value in quotes with both", remedy: "Close the quotes"}
		case rest != "" && rest[0] != ' ' && rest[0] != '\t':
			return "", "", "", &pairFault{found: fmt.Sprintf("%.140q right behind the quotes of %s", rest, key), expected: "a space, or the line's end", remedy: correctHeader}
		}
		value = quoted[1 : len(quoted)-1]
		if quoted[0] == '"' && utf8.ValidString(value) && json.Unmarshal([]byte(quoted), &value) != nil {
			return "", "", "", &pairFault{found: fmt.Sprintf("%.140s of %s", quoted, key), expected: "a text as JSON has it", remedy: "Correct what stands behind the backslash, or use single quotes, between which everything is as it stands"}
		}
	default:
		end := strings.IndexAny(s, " \t")
		if end < 0 {
			end = len(s)
		}
		value, rest = s[:end], s[end:]
	}
	if strings.Contains(value, "\x00") || !utf8.ValidString(value) {
		return "", "", "", &pairFault{found: fmt.Sprintf("%s=%.140q", key, value), expected: "UTF-8 without NUL", remedy: "Write the value in UTF-8"}
	}
	return key, value, strings.TrimLeft(rest, " \t"), nil
}

// quotedLen returns how long the text in quotes is that s begins with, with both of its quotes; 0 where they do not end.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return i + 1
		case s[i] == '\\' && s[0] == '"':
			i++
		}
	}
	return 0
}

// validHeaderKey reports whether the contract has such keys (rule R3).
func validHeaderKey(key string) bool {
	text, err := abi.ParseText([]byte(key + "=\x00\x00"))
	return err == nil && len(text) == 1 // none where the key begins with a NUL
}

package config

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/loader/abspath"
)

// QuoteList returns a list as it may be written on one line of a config.yaml, in brackets: each item by Quote.
func QuoteList(items []string) string {
	written := make([]string, len(items))
	for i, item := range items {
		written[i] = Quote(item)
	}
	return "[" + strings.Join(written, ", ") + "]"
}

// Quote returns an item, such as a path or a port, as it may be written anywhere in a config.yaml: digits alone as the number that they are, and all else
// as text, quoted where it would be read as anything but itself. A text that is not UTF-8 cannot be written so: each byte that is none is read as the letter of its number.
func Quote(item string) string {
	if decimal.MatchString(item) {
		return item
	}
	return QuoteText(item)
}

// ProgramEntry is the entry by which a program would be the plug-in of a name, on one line. Where that can be no plug-in's name, as of many files, another one stands for it, and the text says what
// that is to be.
func ProgramEntry(name, path string) string {
	if len(name) > maxName || !nameOf.MatchString(name) {
		return "{name: NAME, program: " + QuoteText(path) + "}, with the name that it says"
	}
	return "{name: " + QuoteText(name) + ", program: " + QuoteText(path) + "}"
}

// plainText is what is a plain scalar anywhere in a file, unless it is another word for a number or a truth.
var plainText = regexp.MustCompile(`^[A-Za-z0-9_./\\][A-Za-z0-9_./\\*+@-]*$`)

// QuoteText is Quote for what is a text whatever it looks like, such as a name: digits alone are quoted, too.
func QuoteText(text string) string {
	tag := (&yaml.Node{Kind: yaml.ScalarNode, Value: text}).ShortTag()
	switch {
	case tag == "!!str" && plainText.MatchString(text):
		return text
	case utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	return strconv.QuoteToASCII(text) // of whose escapes YAML reads each as Go does, in valid UTF-8: no other text can be written in YAML
}

// Value is a plug-in's settings as they are written: references to secrets in it are not resolved. It does not change.
type Value struct {
	root *node
	file string // of the configuration, or ""
}

var jsonNumber = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$`)

// JSON returns the value as JSON, in the order of the file. Numbers keep their digits. It is the caller's.
func (v *Value) JSON() []byte {
	var b bytes.Buffer
	v.root.json(&b)
	return b.Bytes()
}

func (n *node) json(b *bytes.Buffer) {
	switch n.Kind {
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.json(b)
		}
		b.WriteByte(']')
		return
	case yaml.MappingNode:
		b.WriteByte('{')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			encode(b, item.key.Value)
			b.WriteByte(':')
			item.json(b)
		}
		b.WriteByte('}')
		return
	}
	switch n.Tag {
	case "!!null":
		b.WriteString("null")
	case "!!bool", "!!int", "!!float":
		if jsonNumber.MatchString(n.Value) {
			b.WriteString(n.Value)
			return
		}
		var value any // true, 0x10, 1_000
		if n.Decode(&value) != nil {
			value = nil
		}
		encode(b, value)
	default:
		encode(b, n.Value)
	}
}

// encode writes a scalar as JSON.
func encode(b *bytes.Buffer, value any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if e.Encode(value) != nil { // what YAML has as scalars, but for infinities, which are refused
		b.WriteString("null")
		return
	}
	b.Truncate(b.Len() - 1) // the line break
}

// at returns the value at a path below v, or the last one on the way there.
func (v *Value) at(path []string) (n *node, rest []string) {
	n = v.root
	for i, step := range path {
		next := n.get(step)
		if n.Kind == yaml.SequenceNode {
			k, err := strconv.Atoi(step)
			at := slices.IndexFunc(n.items, func(item *node) bool { return err == nil && item.index == k })
			if next = nil; at >= 0 {
				next = n.items[at]
			}
		}
		if next == nil {
			return n, path[i:]
		}
		n = next
	}
	return n, nil
}

// File returns the path of the configuration file that the value is in, or "".
func (v *Value) File() string { return v.file }

// Path returns a path that is written in the value as one that can be opened: a relative one is below the configuration file's folder,
// and ~ is the home folder.
func (v *Value) Path(written string) (string, error) {
	if v.file == "" {
		return written, nil
	}
	whole, err := abspath.Of(v.file)
	if err != nil {
		return "", err
	}
	return absolute(filepath.Dir(whole), written)
}

// Position returns where in the file the value at a path stands: keys of mappings, and indexes of lists as decimals. Where the path
// leads to nothing it is that of the last value on the way.
func (v *Value) Position(path ...string) (line, column int) {
	n, _ := v.at(path)
	return n.position()
}

// Where returns the path of a value from the top of the file, such as plugins[1].config.rate.
func (v *Value) Where(path ...string) string {
	n, rest := v.at(path)
	for _, step := range rest {
		n = &node{parent: n, key: &yaml.Node{Value: step}}
	}
	return n.where()
}

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The bounds of a file's tree, beside MaxSize: how many values it has when its aliases stand for what they name, and how deep it is.
const (
	maxNodes = 100_000
	maxDepth = 64
)

// node is a value of the file. Its tree has no aliases and no merge keys any more, only texts as keys, and no key twice.
type node struct {
	*yaml.Node
	parent *node
	key    *yaml.Node // of the value in a mapping, or nil
	index  int        // in a list
	items  []*node    // of a mapping or a list
}

func (n *node) null() bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
func (n *node) text() bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!str" }

// get returns a value of a mapping, or nil.
func (n *node) get(key string) *node {
	for _, item := range n.items {
		if item.key != nil && item.key.Value == key {
			return item
		}
	}
	return nil
}

// position is where the value stands; of one that is not written it is its key's.
func (n *node) position() (line, column int) {
	if n.null() && n.Value == "" && n.key != nil {
		return n.key.Line, n.key.Column
	}
	return max(n.Line, 1), max(n.Column, 1)
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// where is the path of the value, such as plugins[1].limit.
func (n *node) where() string {
	switch {
	case n.parent == nil:
		return ""
	case n.key == nil:
		return fmt.Sprintf("%s[%d]", n.parent.where(), n.index)
	case !plainKey.MatchString(n.key.Value):
		return n.parent.where() + "[" + quote(n.key.Value) + "]"
	}
	return strings.TrimPrefix(n.parent.where()+"."+n.key.Value, ".")
}

// secret reports whether the value is one of a plug-in's settings, or of its program's environment, which no error shows: plugins[n].config, or below it.
func (n *node) secret() bool {
	for at := n; at.parent != nil; at = at.parent {
		entry := at.parent
		if at.key != nil && (at.key.Value == "config" || at.key.Value == "env") && entry.parent != nil && entry.parent.where() == "plugins" {
			return true
		}
	}
	return false
}

// found says what the value is.
func (n *node) found() string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.null():
		return "nothing"
	case n.secret():
		return "a value"
	case n.Tag == "!!bool":
		return n.Value
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + n.Value
	}
	return "the text " + quote(n.Value)
}

// tree reads the text as YAML. It returns nil when the file has nothing in it, or when there are faults.
func (r *reader) tree(text []byte) *node {
	text, _ = bytes.CutPrefix(text, []byte("\ufeff"))
	if !r.readable(text) {
		return nil
	}
	if line := conflict(text); line > 0 {
		r.faults = append(r.faults, Fault{line, 1, "", "a marker of a merge conflict", "one side of it", "Resolve the merge, and delete the lines with <<<<<<<, ======= and >>>>>>>"})
		return nil
	}
	documents, line, err := parse(text)
	if err != nil {
		r.faults = append(r.faults, syntax(text, line, err))
		return nil
	}
	if len(documents) == 0 {
		return nil
	}
	if len(documents) > 1 {
		r.faults = append(r.faults, Fault{documents[1].Line, documents[1].Column, "", "a second document", "one document",
			"Put all into one file without --- in it"})
	}
	e := expander{r: r, open: map[*yaml.Node]bool{}}
	root := e.expand(documents[0].Content[0], nil, nil, 0)
	if len(r.faults) > 0 && (root == nil || e.nodes > maxNodes) || root.null() {
		return nil
	}
	return root
}

// conflict returns the line of the first conflict that a merge has left, or 0. A block of text with such lines is indented.
func conflict(text []byte) (line int) {
	for ; len(text) > 0; text = text[lineEnd(text):] {
		line++
		if bytes.HasPrefix(text, []byte("<<<<<<< ")) || bytes.HasPrefix(text, []byte(">>>>>>> ")) {
			return line
		}
	}
	return 0
}

// readable reports whether the text is short enough and has only characters that YAML takes.
func (r *reader) readable(text []byte) bool {
	line, column := 1, 1
	fault := func(found, expected, remedy string) bool {
		r.faults = append(r.faults, Fault{line, column, "", found, expected, remedy})
		return false
	}
	if len(text) > MaxSize {
		return fault("more than 1 MiB", "a configuration file of 1 MiB at most", "Look whether this is the right file")
	}
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return fault("UTF-16", "UTF-8", "Save the file as UTF-8")
	}
	for at := 0; at < len(text); {
		if n := lineBreak(text[at:]); n > 0 {
			at, line, column = at+n, line+1, 1
			continue
		}
		c, n := utf8.DecodeRune(text[at:])
		switch {
		case c == utf8.RuneError && n == 1:
			return fault(fmt.Sprintf("the byte 0x%02x, which is not UTF-8", text[at]), "UTF-8", "Save the file as UTF-8")
		case c < 0x20 && c != '\t', c >= 0x7f && c < 0xa0, c >= 0xfffe && c <= 0xffff:
			return fault(fmt.Sprintf("the character U+%04X", c), "characters that can be seen", `Remove it, or write it as an escape between "`)
		}
		at, column = at+n, column+1
	}
	return true
}

// lineBreak returns the length of the line break with which text begins, or 0. They are YAML 1.1's, which the parser keeps to.
func lineBreak(text []byte) int {
	switch {
	case bytes.HasPrefix(text, []byte("\r\n")), bytes.HasPrefix(text, []byte("\u0085")):
		return 2
	case text[0] == '\n', text[0] == '\r':
		return 1
	case bytes.HasPrefix(text, []byte("\u2028")), bytes.HasPrefix(text, []byte("\u2029")):
		return 3
	}
	return 0
}

// parse returns the documents of a text, two at most. When it fails, line is one that the parser had begun: the fault is not behind it.
func parse(text []byte) (documents []*yaml.Node, line int, err error) {
	lines := &lineReader{rest: text}
	defer func() {
		if p := recover(); p != nil { // the parser panics where it does not know itself
			documents, line, err = nil, lines.n, fmt.Errorf("yaml: %v", p)
		}
	}()
	for decoder := yaml.NewDecoder(lines); len(documents) < 2; {
		document := new(yaml.Node)
		err := decoder.Decode(document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, lines.n, err
		}
		documents = append(documents, document)
	}
	return documents, lines.n, nil
}

// lineReader gives a line at a time, and counts them.
type lineReader struct {
	rest []byte
	n    int
}

func (l *lineReader) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	piece := l.rest[:min(len(l.rest), len(p))] // of a line that is longer than p, of which each piece counts as one
	n := copy(p, piece[:lineEnd(piece)])
	l.rest = l.rest[n:]
	l.n++
	return n, nil
}

// lineEnd returns the length of the first line, its line break included.
func lineEnd(text []byte) int {
	for at := range text {
		if n := lineBreak(text[at:]); n > 0 {
			return at + n
		}
	}
	return len(text)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax says where a text is no YAML, and why. The parser's own line is often that of what was begun there, as a mapping of many
// lines. The fault is in the line behind the longest part of the text that can be read; only some are tried, from line upwards.
func syntax(text []byte, line int, err error) Fault {
	var starts []int
	for at := 0; at < len(text); at += lineEnd(text[at:]) {
		starts = append(starts, at)
	}
	line = min(max(line, 1), len(starts))
	parts := yamlLine.FindStringSubmatch(err.Error())
	said := 1
	if parts[1] != "" {
		fmt.Sscan(parts[1], &said)
	}
	at := min(max(said, 1), len(starts))
	for k, budget := line, 8*MaxSize; k > 0 && budget > 0; k-- {
		budget -= starts[k-1] + 1000
		if _, _, err := parse(text[:starts[k-1]]); err == nil {
			at = k
			break
		}
	}
	f := Fault{Line: at, Column: 1, Found: "a text that is no YAML: " + err.Error()[len(parts[0]):], Expected: "YAML"}
	rest := text[starts[at-1]:]
	indent := rest[:len(rest)-len(bytes.TrimLeft(rest, " \t"))]
	f.Column = 1 + len(indent)
	tab := bytes.IndexByte(indent, '\t')
	switch {
	case tab >= 0:
		f.Column, f.Found, f.Expected, f.Remedy = tab+1, "a tab at the beginning of a line", "spaces", "Indent with spaces"
	case strings.Contains(f.Found, "unknown anchor"): // its name may be what somebody wrote as a password
		f.Found, f.Expected, f.Remedy = "an alias (*) of an anchor that is not there", "an anchor (&) before it", "Put a text that begins with * in quotes"
	case strings.Contains(f.Found, "cannot start any token"):
		f.Found, f.Remedy = "a character that no value begins with", "Put a text that begins with @, ` or % in quotes"
	}
	return f
}

// expander makes a tree without aliases and merge keys. What is wrong in it is a fault at once, and left out.
type expander struct {
	r     *reader
	nodes int
	open  map[*yaml.Node]bool // what an alias must not name: it is around it
}

// expand returns the tree of n, or nil when it cannot be used.
func (e *expander) expand(n *yaml.Node, parent *node, key *yaml.Node, index int) *node {
	out := &node{Node: n, parent: parent, key: key, index: index}
	for n.Kind == yaml.AliasNode {
		if e.open[n.Alias] {
			e.r.fault(out, "an alias of what it stands in", "an alias of something before", "")
			return nil
		}
		n = n.Alias
	}
	out.Node = n
	if !e.more(out) {
		return nil
	}
	depth := 0
	for at := out; at.parent != nil; at = at.parent {
		depth++
	}
	if depth > maxDepth {
		e.r.fault(out, fmt.Sprintf("more than %d levels of values in values", maxDepth), "fewer", "")
		return nil
	}
	if n.Style&yaml.TaggedStyle != 0 {
		e.r.fault(out, "a tag (!)", "a value without a tag", "Put a text that begins with ! in quotes")
		return nil
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!timestamp" { // JSON has none, and nor has the core of YAML 1.2
		text := *n
		text.Tag = "!!str"
		out.Node = &text
	}
	if n.Kind != yaml.ScalarNode {
		e.open[n] = true
		defer delete(e.open, n)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if item := e.expand(item, out, nil, i); item != nil {
				out.items = append(out.items, item)
			}
		}
	case yaml.MappingNode:
		e.mapping(n, out, map[string]*node{})
	}
	return out
}

// more reports whether there may be one more value.
func (e *expander) more(at *node) bool {
	if e.nodes++; e.nodes == maxNodes+1 {
		e.r.fault(at, fmt.Sprintf("more than %d values, with those that aliases stand for", maxNodes), "fewer", "Use fewer aliases of large values")
	}
	return e.nodes <= maxNodes
}

// mapping adds the keys of n to a mapping; those of a merge key are weaker than those that are there by the time.
func (e *expander) mapping(n *yaml.Node, out *node, have map[string]*node) {
	var merges []*yaml.Node
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := &node{Node: key, parent: out.parent, key: out.key, index: out.index}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge" && key.Style&yaml.TaggedStyle == 0:
			merges = append(merges, value)
			continue
		case key.Kind != yaml.ScalarNode:
			e.r.fault(at, "a list or a mapping as a key", "a text", "Put a text that begins with [ or { in quotes")
			continue
		case key.Style&yaml.TaggedStyle != 0:
			e.r.fault(at, "a key with a tag (!)", "a key without a tag", "")
			continue
		case key.Tag == "!!null":
			e.r.fault(at, "an empty key", "a text", "")
			continue
		case key.Tag != "!!str" && key.Tag != "!!timestamp":
			e.r.fault(at, "the key "+quote(key.Value)+", which is no text in YAML", "a text", "Put it in quotes")
			continue
		case own[key.Value]:
			e.r.fault(at, "the key "+quote(key.Value)+" a second time", "each key once", "Make one of the two")
			continue
		}
		own[key.Value] = true
		if have[key.Value] != nil {
			if !e.more(at) {
				return
			}
			continue // by a merge key: what was there is stronger
		}
		if item := e.expand(value, out, n.Content[i], len(out.items)); item != nil {
			if item.key.Kind == yaml.AliasNode {
				item.key = key
			}
			have[key.Value] = item
			out.items = append(out.items, item)
		}
	}
	for _, value := range merges {
		for value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		from := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			from = value.Content
		}
		for _, one := range from {
			for one.Kind == yaml.AliasNode {
				one = one.Alias
			}
			at := &node{Node: one, parent: out.parent, key: out.key, index: out.index}
			switch {
			case !e.more(at):
			case one.Kind != yaml.MappingNode:
				e.r.fault(at, at.found()+" to be merged (<<)", "a mapping", `Put << in quotes where it is a key of its own`)
			case e.open[one]:
				e.r.fault(at, "an alias of what it stands in", "an alias of something before", "")
			default:
				e.open[one] = true
				e.mapping(one, out, have)
				delete(e.open, one)
			}
		}
	}
}

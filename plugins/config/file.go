package config

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/internal/owner"
)

// File is a configuration file that is being edited. Comments, order and the way things are written stay as they are, but for the place
// of an edit. An edit that cannot be made so is an *Error that says where to do it by hand, and changes nothing: after each the text is
// parsed, and has to mean what was asked for and nothing else.
type File struct {
	path string
	disk []byte // what was read
	text []byte
}

// ErrChanged is in the error of Save when somebody else has written the file since.
var ErrChanged = errors.New("the file was changed since it was read")

// OpenFile reads a file for edits. What Parse does not take is an error.
func OpenFile(path string) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	if _, err := Parse(path, text); err != nil {
		return nil, err
	}
	return &File{path, text, text}, nil
}

// Bytes returns the text as edited. It is the caller's.
func (f *File) Bytes() []byte { return bytes.Clone(f.text) }

// Config returns what the text says now.
func (f *File) Config() (*Config, error) { return Parse(f.path, f.text) }

// patience is how long Save waits for others. They only compare, write and rename.
const patience = 10 * time.Second

// Save writes the text to a file beside it, and puts that in its place, so that who reads sees either of both whole. Mode and, where
// this process may, owner stay; a symbolic link stays, and the file that it leads to is replaced. When the file is no longer as
// OpenFile or Save left it, nothing is written, and the error is ErrChanged. Of those who save at the same time, in this process or in others, one comes after the
// other, so that none undoes what another has written. An editor does not know of that; and on a file system without locks, such as some of NFS, nobody waits: one who saves between another's look at
// the file and its writing is undone.
func (f *File) Save() error {
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return err
	}
	if bytes.Equal(f.text, f.disk) { // nothing is written, and so a folder that may only be read will do
		return f.unchanged(path)
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return unsaved(f.path, err)
	}
	defer root.Close()
	waiting, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	guard := "." + filepath.Base(path) + ".save" // no plug-in's name: who watches the folder does not mind
	held, err := filelock.Acquire(waiting, root, guard, 0o644)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &fs.PathError{Op: "save", Path: f.path, Err: fmt.Errorf("found others that have been saving it for %v, expected a moment in which nobody does. Look who edits it, and try again", patience)}
	case filelock.Unsupported(err): // an edit of somebody else's is seen unless it comes at this very moment
	case err != nil:
		if cause := new(fs.PathError); errors.As(err, &cause) {
			err = &fs.PathError{Op: cause.Op, Path: filepath.Join(filepath.Dir(path), guard), Err: cause.Err}
		}
		return unsaved(f.path, err)
	}
	if held != nil {
		defer held.Release()
		sweep(root, filepath.Base(path))
	}
	if err := f.unchanged(path); err != nil {
		return err
	}
	if err := f.replace(path); err != nil {
		return unsaved(f.path, err)
	}
	f.disk = f.text
	return nil
}

// unchanged is ErrChanged when the file is no longer as it was read or saved.
func (f *File) unchanged(path string) error {
	now, err := Read(path)
	if err == nil && !bytes.Equal(now, f.disk) {
		err = &fs.PathError{Op: "save", Path: f.path, Err: ErrChanged}
	}
	return err
}

// partOf is how the names begin of what is written to be a file; a number is behind it.
func partOf(name string) string { return "." + name + ".save-" }

// sweep removes what saves of a file have left in its folder that were killed: a configuration may have secrets in it. The caller has the lock.
func sweep(root *os.Root, name string) {
	entries, _ := fs.ReadDir(root.FS(), ".") // a folder that cannot be listed is no reason not to save
	for _, e := range entries {
		number, isPart := strings.CutPrefix(e.Name(), partOf(name))
		if _, err := strconv.ParseUint(number, 10, 64); isPart && err == nil && e.Type().IsRegular() {
			_ = root.Remove(e.Name())
		}
	}
}

// replace writes a new file, and puts it in the place of the old one.
func (f *File) replace(path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), partOf(filepath.Base(path))+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(f.text)
	owner.Keep(temp, info)
	err = errors.Join(err, temp.Chmod(info.Mode().Perm()), temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// SetEnabled says whether a plug-in is used. One that is used again loses its key enabled, which says nothing then; where a merge key says that it
// is not used, the key says true.
func (f *File) SetEnabled(name string, enabled bool) error {
	if p := f.plugin(name); p != nil && p.Enabled == enabled {
		return nil
	}
	want := func(p *Plugin) { p.Enabled = enabled }
	if enabled && f.change(name, want, func(s *source, entry *node) bool { return s.unset(entry, "enabled") }) == nil {
		return nil
	}
	return f.change(name, want, func(s *source, entry *node) bool { return s.set(entry, "enabled", fmt.Sprint(enabled)) })
}

// Grant lets a plug-in call functions of the application: names, or beginnings with a *. What it has already stays.
func (f *File) Grant(name string, offers ...string) error {
	for _, offer := range offers {
		if err := f.check(offerName, offer); err != nil {
			return err
		}
	}
	return f.each(offers, func(offer string) error {
		if p := f.plugin(name); p != nil && slices.Contains(p.Grant, offer) {
			return nil
		}
		written := offer
		if offer == "*" {
			written = "'*'"
		}
		return f.change(name, func(p *Plugin) { p.Grant = append(slices.Clone(p.Grant), offer) }, func(s *source, entry *node) bool {
			if grant := entry.own("grant"); grant != nil {
				return s.add(grant, written)
			}
			inherited := []string{}
			if all := entry.get("grant"); all != nil { // by a merge key: an own list is in its place, and not added
				for _, item := range all.items {
					inherited = append(inherited, item.Value)
				}
			}
			return s.set(entry, "grant", "["+strings.Join(append(inherited, written), ", ")+"]")
		})
	})
}

// Deny takes grants away, as they are written: one that is part of loyalty_* is an error.
func (f *File) Deny(name string, offers ...string) error {
	return f.each(offers, func(offer string) error {
		p := f.plugin(name)
		if p != nil && !slices.Contains(p.Grant, offer) {
			i := slices.IndexFunc(p.Grant, func(g string) bool { return strings.HasSuffix(g, "*") && strings.HasPrefix(offer, g[:len(g)-1]) })
			if i < 0 {
				return nil
			}
			return f.fault(p.Line, p.Column, quote(offer)+" granted to "+name+" by "+quote(p.Grant[i]), "a grant of its own",
				"Deny "+p.Grant[i]+", and grant those that it is to keep")
		}
		without := func(p *Plugin) {
			p.Grant = slices.DeleteFunc(slices.Clone(p.Grant), func(g string) bool { return g == offer })
		}
		return f.change(name, without, func(s *source, entry *node) bool {
			grant := entry.own("grant")
			if grant == nil || !s.drop(grant, slices.IndexFunc(grant.items, func(n *node) bool { return n.Value == offer }), "[]") {
				return false
			}
			if merged := slices.ContainsFunc(entry.Content, func(n *yaml.Node) bool { return n.Value == "<<" }); len(grant.items) == 1 && !merged { // else an empty list is in another one's place
				list, i := entryOf((&reader{}).tree(s.text), name)
				s.unset(list.items[i], "grant") // or the empty list stays, which says the same
			}
			return true
		})
	})
}

// Add adds a plug-in behind the others, with a range of versions unless it is "".
func (f *File) Add(name, version string) error {
	if err := f.check(pluginName, name); err != nil {
		return err
	}
	if p := f.plugin(name); p != nil {
		return f.fault(p.Line, p.Column, "the plug-in "+name, "one that is not in the file yet", "")
	}
	written := QuoteText(name)
	if version != "" {
		if err := f.check(versions, version); err != nil {
			return err
		}
		written = "{name: " + written + ", version: '" + version + "'}"
	}
	return f.edit("write - "+written+" below plugins:", func(c *Config) {
		c.Plugins = append(c.Plugins, Plugin{Name: name, Version: version, Enabled: true})
	}, func(s *source, root *node) bool {
		switch {
		case root == nil:
			return s.append("plugins:", "  - "+written)
		case root.Style&yaml.FlowStyle != 0 && root.get("plugins") == nil:
			if len(root.items) > 0 {
				written += "], "
			} else {
				written += "]"
			}
			return s.replace(s.start(root)+1, s.start(root)+1, "plugins: ["+written)
		case root.get("plugins") == nil:
			indent := strings.Repeat(" ", root.Column-1)
			return s.append(indent+"plugins:", indent+"  - "+written)
		}
		return s.add(root.get("plugins"), written)
	})
}

// Remove takes a plug-in's entry out. What hooks, dev and logging say of it stays.
func (f *File) Remove(name string) error {
	return f.edit("remove it", func(c *Config) {
		c.Plugins = slices.DeleteFunc(c.Plugins, func(p Plugin) bool { return p.Name == name })
	}, func(s *source, root *node) bool {
		list, i := entryOf(root, name)
		return s.drop(list, i, "")
	}, name)
}

// each does all, or nothing.
func (f *File) each(offers []string, do func(string) error) error {
	before := f.text
	for _, offer := range offers {
		if err := do(offer); err != nil {
			f.text = before
			return err
		}
	}
	return nil
}

// plugin returns an entry, or nil.
func (f *File) plugin(name string) *Plugin {
	c, err := Parse("", f.text)
	if err != nil {
		return nil
	}
	return c.Plugin(name)
}

// check holds a text that is to be written into the file to its rule.
func (f *File) check(of rule[string], written string) error {
	r := &reader{}
	of.read(r, &node{Node: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: written}})
	if len(r.faults) > 0 {
		return r.err(f.path)
	}
	return nil
}

func (f *File) fault(line, column int, found, expected, remedy string) error {
	return &Error{f.path, []Fault{{line, column, "", found, expected, remedy}}}
}

// change edits the entry of a plug-in.
func (f *File) change(name string, want func(*Plugin), do func(*source, *node) bool) error {
	return f.edit("change the entry of "+name, func(c *Config) { want(c.Plugin(name)) }, func(s *source, root *node) bool {
		list, i := entryOf(root, name)
		return do(s, list.items[i])
	}, name)
}

// entryOf finds an entry that is there.
func entryOf(root *node, name string) (list *node, i int) {
	list = root.get("plugins")
	return list, slices.IndexFunc(list.items, func(n *node) bool {
		if n.Kind == yaml.MappingNode {
			n = n.get("name")
		}
		return n.Value == name
	})
}

// edit has do edit the text, and takes the result when it means what want makes of what the file meant. byHand is what whoever edits
// by hand is told; names are of the plug-ins that have to be there.
func (f *File) edit(byHand string, want func(*Config), do func(s *source, root *node) bool, names ...string) error {
	before, err := Parse("", f.text)
	if err != nil {
		return err
	}
	line, column := 1, 1
	for _, name := range names {
		p := before.Plugin(name)
		if p == nil {
			var have []string
			for _, p := range before.Plugins {
				have = append(have, p.Name)
			}
			return f.fault(1, 1, "no plug-in "+quote(name)+" in the file", "one of its plug-ins", cmp.Or(didYouMean(name, have), "Add it to plugins:"))
		}
		line, column = p.Line, p.Column
	}
	text, mark := bytes.CutPrefix(f.text, []byte("\ufeff"))
	s := &source{text: text}
	edited := do(s, (&reader{}).tree(text))
	if mark {
		s.text = append([]byte("\ufeff"), s.text...)
	}
	after, err := Parse("", s.text)
	want(before)
	if !edited || err != nil || !same(before, after) {
		return f.fault(line, column, "a place that cannot be edited without changing more than it", "lists and mappings that are written out",
			"Edit the file: "+byHand)
	}
	f.text = s.text
	return nil
}

// same reports whether two configurations mean the same.
func same(a, b *Config) bool {
	x, y := *a, *b
	x.Plugins, y.Plugins = nil, nil
	return reflect.DeepEqual(x, y) && slices.EqualFunc(a.Plugins, b.Plugins, func(p, o Plugin) bool { return p.Same(&o) })
}

// own returns a value that a mapping has by itself, and not by a merge key.
func (n *node) own(key string) *node {
	item := n.get(key)
	if item != nil && n.Kind == yaml.MappingNode && slices.Contains(n.Content, item.key) {
		return item
	}
	return nil
}

// source is the text of a file under its tree: edits go by where its nodes begin. A false result says that the text is not as the edit
// has to have it.
type source struct{ text []byte }

// line returns where the line begins in which at is, and where the next one does.
func (s *source) line(at int) (begin, end int) {
	for begin+lineEnd(s.text[begin:]) <= at && begin+lineEnd(s.text[begin:]) < len(s.text) {
		begin += lineEnd(s.text[begin:])
	}
	return begin, begin + lineEnd(s.text[begin:])
}

// offset is where a line and a column are.
func (s *source) offset(line, column int) int {
	at := 0
	for ; line > 1; line-- {
		at += lineEnd(s.text[at:])
	}
	for ; column > 1 && at < len(s.text); column-- {
		_, n := utf8.DecodeRune(s.text[at:])
		at += n
	}
	return at
}

func (s *source) start(n *node) int { return s.offset(n.Line, n.Column) }

// end returns where a value ends: of a scalar in one line, or of a list or mapping between brackets.
func (s *source) end(n *node) (at int, ok bool) {
	at = s.start(n)
	rest := s.text[at:]
	switch {
	case n.Kind == yaml.ScalarNode && n.Style == 0:
		return at + len(n.Value), n.Value != "" && bytes.HasPrefix(rest, []byte(n.Value))
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0, n.Style&yaml.FlowStyle != 0:
		return at + closed(rest), closed(rest) > 0
	}
	return 0, false
}

// closed returns the length of the quoted text, or of what is between brackets, with which text begins; 0 when it is not closed.
func closed(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		first := i == 0 || strings.IndexByte(" \t\r\n[{,:", text[i-1]) >= 0 // of a value, in a text that is none these are letters
		switch c := text[i]; {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case first && (c == '\'' || c == '"'):
			for i++; i < len(text) && text[i] != c; i++ {
				if c == '"' && text[i] == '\\' {
					i++
				}
			} // a doubled ' is the end of one text and the beginning of another
			for c == '\'' && i+1 < len(text) && text[i+1] == c {
				for i += 2; i < len(text) && text[i] != c; i++ {
				}
			}
		case first && c == '#':
			i += lineEnd(text[i:]) - 1
		}
		if depth <= 0 {
			return min(i+1, len(text))
		}
	}
	return 0
}

// replace puts a text in the place of what is between two offsets.
func (s *source) replace(from, to int, with string) bool {
	s.text = slices.Concat(s.text[:from], []byte(with), s.text[to:])
	return true
}

// lineBreak is how lines end in the file.
func (s *source) lineBreak() string {
	if end := lineEnd(s.text); end > 1 && s.text[end-1] == '\n' && s.text[end-2] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// insert puts lines where a line begins, or the text ends.
func (s *source) insert(at int, lines ...string) bool {
	with := strings.Join(lines, s.lineBreak())
	if at == len(s.text) && at > 0 && s.text[at-1] != '\n' {
		return s.replace(at, at, s.lineBreak()+with)
	}
	return s.replace(at, at, with+s.lineBreak())
}

// append puts lines at the end.
func (s *source) append(lines ...string) bool { return s.insert(len(s.text), lines...) }

// set gives a key of an entry its value. An entry that is a name alone becomes a mapping.
func (s *source) set(entry *node, key, written string) bool {
	name := entry
	if entry.Kind == yaml.MappingNode {
		if have := entry.own(key); have != nil {
			end, ok := s.end(have)
			return ok && s.replace(s.start(have), end, written)
		}
		if name = entry.own("name"); name == nil {
			return false
		}
	}
	end, ok := s.end(name)
	switch {
	case !ok:
		return false
	case entry.Kind == yaml.ScalarNode:
		start := s.start(name)
		return s.replace(start, end, "{name: "+string(s.text[start:end])+", "+key+": "+written+"}")
	case entry.Style&yaml.FlowStyle != 0:
		return s.replace(end, end, ", "+key+": "+written)
	}
	_, next := s.line(end)
	return s.insert(next, strings.Repeat(" ", name.key.Column-1)+key+": "+written)
}

// unset takes a key out of an entry, with the comment behind its value where the line is its own. Where it shares its line with others, a comment between
// them is not to be lost, and the result is false.
func (s *source) unset(entry *node, key string) bool {
	have := entry.own(key)
	if have == nil {
		return false
	}
	to, ok := s.end(have)
	if !ok {
		return false
	}
	i := slices.Index(entry.Content, have.key) // of keys and values in turn, as they are written
	from := s.offset(have.key.Line, have.key.Column)
	begin, _ := s.line(from)
	alone := len(bytes.TrimLeft(s.text[begin:from], " ")) == 0
	switch {
	case entry.Style&yaml.FlowStyle == 0 && alone:
		from = begin
		_, to = s.line(to)
		return s.replace(from, to, "")
	case i+2 < len(entry.Content):
		next := entry.Content[i+2]
		to = s.offset(next.Line, next.Column)
	case i > 0:
		if from, ok = s.end(&node{Node: entry.Content[i-1]}); !ok {
			return false
		}
	}
	return !bytes.ContainsRune(s.text[from:to], '#') && s.replace(from, to, "")
}

// add adds an item at the end of a list.
func (s *source) add(list *node, written string) bool {
	switch {
	case list.null() && list.Value == "":
		at := s.offset(list.key.Line, list.key.Column) + len(list.key.Value)
		return s.text[at] == ':' && s.replace(at+1, at+1, " ["+written+"]")
	case list.null():
		end, ok := s.end(list)
		return ok && s.replace(s.start(list), end, "["+written+"]")
	case list.Kind != yaml.SequenceNode:
		return false
	case len(list.items) == 0:
		return s.replace(s.start(list)+1, s.start(list)+1, written)
	case list.Style&yaml.FlowStyle != 0:
		end, ok := s.end(list.items[len(list.items)-1])
		return ok && s.replace(end, end, ", "+written)
	}
	return s.insert(s.itemEnd(list, len(list.items)-1), strings.Repeat(" ", list.Column-1)+"- "+written)
}

// drop takes an item out of a list. A list between lines that has no item any more becomes the text none.
func (s *source) drop(list *node, i int, none string) bool {
	if i < 0 || i >= len(list.items) || list.Kind != yaml.SequenceNode {
		return false
	}
	if list.Style&yaml.FlowStyle == 0 {
		from := s.itemStart(list, i)
		s.replace(from, s.itemEnd(list, i), "")
		if at := s.offset(list.key.Line, list.key.Column) + len(list.key.Value); len(list.items) == 1 && none != "" {
			return s.text[at] == ':' && s.replace(at+1, at+1, " "+none)
		}
		return true
	}
	from := s.start(list.items[i])
	to, ok := s.end(list.items[i])
	switch {
	case !ok:
		return false
	case i+1 < len(list.items):
		to = s.start(list.items[i+1])
	case i > 0: // the last one goes with the comma before it
		if from, ok = s.end(list.items[i-1]); !ok {
			return false
		}
	}
	return !bytes.ContainsRune(s.text[from:to], '#') && s.replace(from, to, "")
}

// itemStart is where the line of an item's dash begins, in a list of lines.
func (s *source) itemStart(list *node, i int) int {
	n := list.items[i]
	for line := n.Line; ; line-- {
		begin := s.offset(line, 1)
		if dash := s.offset(line, list.Column); line <= list.Line || dash < len(s.text) && s.text[dash] == '-' &&
			len(bytes.TrimLeft(s.text[begin:dash], " ")) == 0 {
			return begin
		}
	}
}

// itemEnd is where the line begins that is behind an item, in a list of lines. Empty lines and comments that are not indented by more
// than the dashes belong to what follows; behind the last item, comments beside the dashes belong to the list.
func (s *source) itemEnd(list *node, i int) int {
	end, indent := len(s.text), list.Column-1
	if i+1 < len(list.items) {
		end = s.itemStart(list, i+1)
		indent++
	} else {
		for at := list; at.parent != nil && end == len(s.text); at = at.parent {
			for _, other := range at.parent.items {
				if line := other.line(); line > list.items[i].Line && line > list.Line {
					end = min(end, s.offset(line, 1))
				}
			}
		}
	}
	begin := s.itemStart(list, i)
	for end > begin {
		last, _ := s.line(end - 1)
		text := bytes.TrimSpace(s.text[last:end])
		spaces := len(s.text[last:end]) - len(bytes.TrimLeft(s.text[last:end], " "))
		if len(text) > 0 && (text[0] != '#' || spaces >= max(indent, 1)) || last <= begin {
			break
		}
		end = last
	}
	return end
}

// line is the line in which an item of a list or a key of a mapping begins.
func (n *node) line() int {
	if n.key != nil {
		return n.key.Line
	}
	return n.Line
}

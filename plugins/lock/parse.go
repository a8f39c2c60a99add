package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// Load reads a file. One that is not there is fs.ErrNotExist; all other errors are an *registry.Error: ErrLock.
func Load(path string) (*Lock, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Read returns a file's text for Parse, of which it reads no more than Parse takes. Its errors are those of Load.
func Read(path string) (text []byte, err error) {
	f, err := regular.Open(path)
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, MaxSize+1))
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	e := &registry.Error{Kind: registry.ErrLock, Path: path, Found: "a lock that cannot be read", Expected: "a file that this user may read", Err: err, Remedy: "See what is at that path, and who may read it"}
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		e.Err = cause.Err
	}
	if errors.Is(err, regular.ErrKind) {
		e.Found, e.Expected, e.Remedy = "something else than a file in the place of the lock", "a file", "Remove it, and restore the lock from version control"
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		e.Found, e.Expected, e.Remedy = "a folder in the place of the lock", "a file", "Name a file for the lock, or remove the folder"
	}
	return nil, e
}

// Parse reads what Text writes, with comments and empty lines between, in any order. Whatever else there is, is an *registry.Error with line, column and what to do:
// ErrLock. path is for errors. It takes memory in proportion to the text, and time.
func Parse(path string, text []byte) (*Lock, error) {
	p := &parser{path: path, lock: &Lock{Plugins: map[string]*Entry{}, Indexes: map[string]Index{}}, seen: map[string]int{}}
	if len(text) > MaxSize {
		return nil, p.fault(1, fmt.Sprintf("more than %d bytes", MaxSize), "a lock", restore)
	}
	for line := range bytes.Lines(text) {
		p.line++
		if err := p.read(strings.TrimRight(string(line), "\r\n")); err != nil {
			return nil, err
		}
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if p.seen["format"] == 0 {
		p.line = max(p.line, 1)
		return nil, p.fault(1, "no line \"format: 1\"", "a lock, which has one", restore)
	}
	return p.lock, nil
}

const restore = "Restore the file from version control, or delete it and install again, which takes the newest versions that fit"

// parser reads line by line. Nothing is nested deeper than four levels.
type parser struct {
	path string
	line int
	lock *Lock
	seen map[string]int // the line of each thing that may be there once, by its path

	section, name, key string // where the last line was: levels 0, 1 and 2
	entry              *Entry // what is being read, of section plugins
	index              Index  // of section indexes
	began              int    // the line of name
}

func (p *parser) fault(column int, found, expected, remedy string) error {
	return &registry.Error{Kind: registry.ErrLock, Path: fmt.Sprintf("%s:%d:%d", p.path, p.line, column), Found: found, Expected: expected, Remedy: remedy}
}

// read reads one line.
func (p *parser) read(text string) error {
	if !utf8.ValidString(text) {
		return p.fault(1, "bytes that are not UTF-8", "a text", restore)
	}
	if strings.HasPrefix(text, "<<<<<<< ") || strings.HasPrefix(text, "||||||| ") || text == "=======" || strings.HasPrefix(text, ">>>>>>> ") {
		return p.fault(1, "a conflict of a merge", "one side of it", "Take one side (git checkout --ours or --theirs), then install or update again what the other one had")
	}
	if at := strings.IndexFunc(text, foreign); at >= 0 {
		r, _ := utf8.DecodeRuneInString(text[at:])
		return p.fault(utf8.RuneCountInString(text[:at])+1, fmt.Sprintf("the character %U", r), "characters that may stand in a line of YAML", restore)
	}
	rest := strings.TrimLeft(text, " ")
	if rest == "" || rest[0] == '#' {
		return nil
	}
	indent := len(text) - len(rest)
	if rest[0] == '\t' || indent%2 != 0 || indent > 6 {
		return p.fault(indent+1, "an indentation of "+quote(text[:indent+len(rest)-len(strings.TrimLeft(rest, " \t"))]), "2, 4 or 6 spaces", restore)
	}
	s := &scanner{p: p, text: text, at: indent}
	if strings.HasPrefix(rest, "- ") {
		s.at += 2
		return p.item(s, indent)
	}
	key, err := s.scalar("a key")
	if err != nil {
		return err
	}
	if !s.take(":") {
		return p.fault(indent+1, quote(rest), "a key, and a : behind it", restore)
	}
	if s.at < len(text) && !s.take(" ") {
		return s.fault("a space behind the :")
	}
	switch indent / 2 {
	case 0:
		return p.top(s, indent, key)
	case 1:
		return p.second(s, indent, key)
	case 2:
		return p.third(s, indent, key)
	}
	return p.fourth(s, indent, key)
}

// foreign tells whether a character may not stand within a line, comments included: YAML refuses it, or some reader of YAML begins a line with what follows, which
// here would be a part of a comment.
func foreign(r rune) bool {
	switch {
	case r == '\t':
		return false
	case r < ' ', r >= 0x7f && r < 0xa0: // control characters; a carriage return and U+0085 end a line
		return true
	case r == '\u2028', r == '\u2029': // these end a line in YAML 1.1
		return true
	}
	return r == '\ufffe' || r == '\uffff'
}

// once notes a thing of which there may be one.
func (p *parser) once(indent int, what string, path ...string) error {
	id := strings.Join(path, "\x00")
	if first := p.seen[id]; first > 0 {
		return p.fault(indent+1, what+" a second time, first in line "+strconv.Itoa(first), "one", "Delete one of the two, as after a merge that took both")
	}
	p.seen[id] = p.line
	return nil
}

func (p *parser) unknown(indent int, key, place string, keys ...string) error {
	return p.fault(indent+1, "the key "+quote(key)+" "+place, "one of "+strings.Join(keys, ", "), "Was the file written by a newer version? Then update this one. "+restore)
}

func (p *parser) top(s *scanner, indent int, key string) error {
	if err := p.finish(); err != nil {
		return err
	}
	p.section, p.key = "", ""
	if err := p.once(indent, quote(key), key); err != nil {
		return err
	}
	switch key {
	case "format":
		at := s.at
		n, err := s.number("a format's number", 1, 1<<31, "")
		if err == nil && n > Format {
			err = p.fault(at+1, fmt.Sprintf("format %d", n), fmt.Sprintf("format %d", Format), "A newer version has written it: update the application, or what reads the lock")
		}
		return err
	case "plugins", "indexes":
		p.section = key
		return s.end()
	}
	return p.unknown(indent, key, "at the top", "format", "plugins", "indexes")
}

func (p *parser) second(s *scanner, indent int, name string) error {
	if err := p.finish(); err != nil {
		return err
	}
	if p.section == "" {
		return p.fault(indent+1, quote(name)+" below no section", "plugins: or indexes: before it", restore)
	}
	if err := p.once(indent, quote(name), p.section, name); err != nil {
		return err
	}
	p.name, p.key, p.began = name, "", p.line
	if p.section == "indexes" {
		p.index = Index{}
		if err := checkSource(name); err != nil {
			return p.refuse(indent, name, err)
		}
		return s.end()
	}
	p.entry = &Entry{}
	if err := checkPlugin(name); err != nil {
		return p.refuse(indent, name, err)
	}
	return s.end()
}

// finish ends what is being read.
func (p *parser) finish() error {
	name := p.name
	if name == "" {
		return nil
	}
	lack := func(what string) error {
		p.line = p.began
		return p.fault(3, quote(name)+" without "+what, "version, kind and files of a plug-in, serial and date of an index", restore)
	}
	had := func(key string) bool { return p.seen[p.section+"\x00"+name+"\x00"+key] > 0 }
	if p.section == "indexes" {
		for _, key := range []string{"name", "serial", "date"} {
			if !had(key) {
				return lack(key)
			}
		}
		p.lock.Indexes[name] = p.index
	} else {
		for _, key := range []string{"version", "kind"} {
			if !had(key) {
				return lack(key)
			}
		}
		if len(p.entry.Files) == 0 {
			return lack("files")
		}
		if len(p.entry.Requires) == 0 {
			p.entry.Requires = nil
		}
		slices.Sort(p.entry.Grants)
		slices.Sort(p.entry.Says)
		p.lock.Plugins[name] = p.entry
	}
	p.name, p.key, p.entry = "", "", nil
	return nil
}

func (p *parser) third(s *scanner, indent int, key string) (err error) {
	if p.name == "" {
		return p.fault(indent+1, quote(key)+" below no name", "the name of a plug-in or source before it", restore)
	}
	if err := p.once(indent, quote(key)+" of "+quote(p.name), p.section, p.name, key); err != nil {
		return err
	}
	p.key = key
	if p.section == "indexes" {
		switch key {
		case "name":
			p.index.Name, err = s.checked("a registry's name", checkIndex)
		case "serial":
			p.index.Serial, err = s.number("a number", 0, 1<<64-1, "")
		case "date":
			at := s.at
			var text string
			if text, err = s.value("a date"); err == nil {
				if p.index.Date, err = time.Parse(dateLayout, text); err != nil || p.index.Date.UTC().Format(dateLayout) != text {
					return p.fault(at+1, quote(text), "a date as in 2026-01-31T12:00:00Z", restore)
				}
			}
		case "digest":
			p.index.Digest, err = s.checked("a digest", checkDigest)
		default:
			return p.unknown(indent, key, "of an index", "name", "serial", "date", "digest")
		}
		return err
	}
	e := p.entry
	switch key {
	case "version":
		e.Version, err = s.checked("a version", checkVersion)
	case "kind":
		var kind string
		kind, err = s.checked("a kind", checkKind)
		e.Kind = registry.Kind(kind)
	case "source":
		e.Source, err = s.checked("a source", checkSource)
	case "tag":
		e.Tag, err = s.checked("a tag", checkLine)
	case "digest":
		e.Digest, err = s.checked("a digest", checkDigest)
	case "key":
		e.Key, err = s.checked("a key's id", checkLine)
	case "pinned":
		_, err = s.checked("true", func(s string) error {
			if s != "true" {
				return expected("true, or no such line")
			}
			return nil
		})
		e.Pinned = true
	case "requires":
		e.Requires = map[string]string{}
		err = s.end()
	case "grants", "says":
		err = s.end()
	case "files":
		e.Files = map[string]registry.File{}
		err = s.end()
	default:
		return p.unknown(indent, key, "of a plug-in", "version", "kind", "source", "tag", "digest", "key", "pinned", "requires", "grants", "says", "files")
	}
	return err
}

func (p *parser) fourth(s *scanner, indent int, key string) (err error) {
	if p.entry == nil || p.key != "requires" && p.key != "files" {
		return p.fault(indent+1, quote(key)+" in a place that has no such lines", "lines of requires or files", restore)
	}
	if err := p.once(indent, quote(key)+" in "+p.key+" of "+quote(p.name), p.section, p.name, p.key, key); err != nil {
		return err
	}
	if p.key == "requires" {
		if err := checkPlugin(key); err != nil {
			return p.refuse(indent, key, err)
		}
		p.entry.Requires[key], err = s.checked("a version", checkVersion)
		return err
	}
	if err := checkPlatform(key); err != nil {
		return p.refuse(indent, key, err)
	}
	var signature string
	if p.entry.Files[key], signature, err = s.file(); signature != "" {
		if p.entry.Signatures == nil {
			p.entry.Signatures = map[string]string{}
		}
		p.entry.Signatures[key] = signature
	}
	return err
}

// item reads an item of grants or of says.
func (p *parser) item(s *scanner, indent int) error {
	if p.entry == nil || p.key != "grants" && p.key != "says" || indent != 6 {
		return p.fault(indent+1, "an item of a list", "one below grants: or says:, behind 6 spaces", restore)
	}
	to, what := &p.entry.Grants, "grant"
	if p.key == "says" {
		to, what = &p.entry.Says, "line"
	}
	item, err := s.checked("a "+what, checkLine)
	if err != nil {
		return err
	}
	if err := p.once(indent, "the "+what+" "+quote(item)+" of "+quote(p.name), p.section, p.name, p.key, item); err != nil {
		return err
	}
	*to = append(*to, item)
	return nil
}

func (p *parser) refuse(at int, found string, rule error) error {
	return p.fault(at+1, quote(found), rule.Error(), restore)
}

// scanner reads the parts of one line.
type scanner struct {
	p    *parser
	text string
	at   int
}

func (s *scanner) fault(want string) error {
	found := "the end of the line"
	if s.at < len(s.text) {
		found = quote(s.text[s.at:])
	}
	return s.p.fault(utf8.RuneCountInString(s.text[:s.at])+1, found, want, restore)
}

func (s *scanner) refuse(at int, found string, rule error) error {
	return s.p.refuse(utf8.RuneCountInString(s.text[:at]), found, rule)
}

func (s *scanner) take(word string) bool {
	if !strings.HasPrefix(s.text[s.at:], word) {
		return false
	}
	s.at += len(word)
	return true
}

func (s *scanner) end() error {
	if s.at < len(s.text) {
		return s.fault("nothing more in this line, and what belongs to it in the next ones")
	}
	return nil
}

var quotedText = regexp.MustCompile(`^"(?:[^"\\]|\\["\\n]|\\u[0-9a-fA-F]{4})*"`)

// scalar reads a text, in quotes or without. It ends before a : that a space or the end of the line follows, and before a , or }.
func (s *scanner) scalar(want string) (string, error) {
	rest := s.text[s.at:]
	if strings.HasPrefix(rest, `"`) {
		written := quotedText.FindString(rest)
		var text string
		if written == "" || json.Unmarshal([]byte(written), &text) != nil {
			return "", s.fault(want + ` in quotes, with \", \\, \n and \u0000 as in JSON`)
		}
		s.at += len(written)
		return text, nil
	}
	n := len(rest)
	for i := range n {
		if c := rest[i]; c == ',' || c == '}' || c == ':' && (i+1 == n || rest[i+1] == ' ') {
			n = i
			break
		}
	}
	if !isPlain(rest[:n]) {
		return "", s.fault(want + ", in \" where it is no simple text; a comment has a line of its own")
	}
	s.at += n
	return rest[:n], nil
}

// value reads a text to the end of the line.
func (s *scanner) value(want string) (string, error) {
	text, err := s.scalarOrTrue(want)
	if err == nil {
		err = s.end()
	}
	return text, err
}

// scalarOrTrue is scalar, with the one word that is not in quotes.
func (s *scanner) scalarOrTrue(want string) (string, error) {
	if want == "true" && s.take("true") {
		return "true", nil
	}
	return s.scalar(want)
}

func (s *scanner) checked(want string, check func(string) error) (string, error) {
	at := s.at
	text, err := s.value(want)
	if err == nil {
		if rule := check(text); rule != nil {
			err = s.refuse(at, text, rule)
		}
	}
	return text, err
}

var digits = regexp.MustCompile(`^(?:0|[1-9][0-9]*)`)

// number reads a decimal number, which ends the line, or stands before one of the characters in ends.
func (s *scanner) number(want string, low, high uint64, ends string) (uint64, error) {
	written := digits.FindString(s.text[s.at:])
	n, err := strconv.ParseUint(written, 10, 64)
	if next := s.text[s.at+len(written):]; err != nil || n < low || n > high || next != "" && strings.IndexByte(ends, next[0]) < 0 {
		return 0, s.fault(fmt.Sprintf("%s from %d to %d", want, low, high))
	}
	s.at += len(written)
	return n, nil
}

// fileForm is what a file of a release is written as.
const fileForm = `{digest: "sha256:…", size: 1, url: "…", signature: "…"}, where url and signature may be missing`

// file reads a file of a release, and its signature.
func (s *scanner) file() (f registry.File, signature string, err error) {
	for i, key := range []string{"digest", "size", "url", "signature"} {
		open := ", " + key + ": "
		if i == 0 {
			open = "{" + key + ": "
		}
		if !s.take(open) {
			if key == "url" || key == "signature" {
				continue
			}
			return f, "", s.fault(strconv.Quote(open) + " as in " + fileForm)
		}
		switch key {
		case "digest":
			f.Digest, err = s.part("a digest", checkDigest)
		case "size":
			var n uint64
			n, err = s.number("a size in bytes", 1, MaxFileSize, ",}")
			f.Size = int64(n)
		case "url":
			f.URL, err = s.part("a URL", checkSource)
		case "signature":
			signature, err = s.part("a signature", checkSignature)
		}
		if err != nil {
			return f, "", err
		}
	}
	if !s.take("}") {
		return f, "", s.fault("} as in " + fileForm)
	}
	return f, signature, s.end()
}

// part reads a text that does not end the line.
func (s *scanner) part(want string, check func(string) error) (string, error) {
	at := s.at
	text, err := s.scalar(want)
	if err == nil {
		if rule := check(text); rule != nil {
			err = s.refuse(at, text, rule)
		}
	}
	return text, err
}

// expected is why a text is none of its kind: what would be one.
type expected string

func (e expected) Error() string { return string(e) }

func checkPlugin(s string) error {
	if !registry.ValidName(s) {
		return expected(registry.NameRule)
	}
	return nil
}

func checkIndex(s string) error {
	if !registry.ValidIndex(s) {
		return expected(registry.IndexRule)
	}
	return nil
}

func checkPlatform(s string) error {
	if !registry.ValidPlatform(s) {
		return expected(registry.PlatformRule)
	}
	return nil
}

func checkVersion(s string) error {
	if v, err := semver.StrictNewVersion(s); err != nil || v.String() != s || len(s) > 128 {
		return expected("a version as in 1.2.3 or 1.2.3-rc.1")
	}
	return nil
}

func checkKind(s string) error {
	var all []string
	for _, kind := range registry.Kinds() {
		all = append(all, string(kind))
	}
	if !slices.Contains(all, s) {
		return expected("one of " + sentence.List(all, "or"))
	}
	return nil
}

func checkDigest(s string) error {
	if registry.Hex(s) == "" {
		return expected("sha256: and 64 hexadecimal digits, with small letters")
	}
	return nil
}

func checkSignature(s string) error {
	if !ValidSignature(s) {
		return expected(fmt.Sprintf("a signature of 1 to %d bytes of UTF-8", registry.MaxSignature))
	}
	return nil
}

// checkLine refuses what cannot be seen, and what no line bears.
func checkLine(s string) error {
	if s == "" || len(s) > 1000 || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return expected("a text of 1 to 1000 bytes in one line, without what cannot be seen")
	}
	return nil
}

// checkSource refuses what is not to be committed, too.
func checkSource(s string) error {
	if err := checkLine(s); err != nil {
		return err
	}
	if u, err := url.Parse(s); err == nil && u.User != nil {
		if _, secret := u.User.Password(); secret {
			return expected("a source without a password, which everybody would see who sees the lock")
		}
	}
	return nil
}

func quote(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return strconv.Quote(s)
}

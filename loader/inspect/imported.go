package inspect

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// The bounds of what Imported reads: a file in bytes, and how many there are.
const (
	maxScript   = 16 << 20
	maxImported = 1000
)

// Imported returns the files beneath a script's folder that the script imports, and those that they import in turn, by their paths from that folder, in slashes and
// sorted. What it says is read, and nothing runs: what a script imports under a name that it makes while it runs is not among them. Of a file that is not there, the path where it is looked for first is.
// It is empty for a file that is no script. The error is an *Error of the kind ErrRead, about the script itself.
func Imported(script string) ([]string, error) {
	abs, err := abspath.Of(script)
	if err != nil {
		return nil, &Error{Path: script, Kind: ErrRead, Err: err, Remedy: "Check the path"}
	}
	text, err := textOf(abs)
	if err != nil {
		return nil, &Error{Path: script, Kind: ErrRead, Err: err, Remedy: libfile.Remedy(err)}
	}
	im := &imports{folder: filepath.Dir(abs), seen: map[string]bool{filepath.Base(abs): true}}
	switch format := ScriptOf(text[:min(len(text), maxHeader)]); format {
	case JavaScript, Python:
		im.look(format, "", text)
	}
	slices.Sort(im.all)
	return im.all, nil
}

// textOf reads a regular file.
func textOf(file string) ([]byte, error) {
	f, _, err := libfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, min(f.Size, maxScript)))
}

// imports are the files that were found so far.
type imports struct {
	folder string
	seen   map[string]bool
	all    []string
}

// look adds what a text imports that lies in the folder at, from the script's own.
func (im *imports) look(format Format, at string, text []byte) {
	if format == JavaScript {
		for _, name := range javaScriptImports(string(text)) {
			im.add(format, path.Join(at, name))
		}
		return
	}
	for _, module := range pythonImports(string(text)) {
		im.module(at, module)
	}
}

// add adds a file, and what it imports.
func (im *imports) add(format Format, name string) {
	if !filepath.IsLocal(filepath.FromSlash(name)) || im.seen[name] || len(im.all) == maxImported {
		return
	}
	im.seen[name] = true
	im.all = append(im.all, name)
	if format == JavaScript && strings.HasSuffix(name, ".json") {
		return
	}
	if text, err := textOf(filepath.Join(im.folder, filepath.FromSlash(name))); err == nil {
		im.look(format, path.Dir(name), text)
	}
}

func (im *imports) is(name string) bool {
	info, err := os.Stat(filepath.Join(im.folder, filepath.FromSlash(name)))
	return filepath.IsLocal(filepath.FromSlash(name)) && err == nil && info.Mode().IsRegular()
}

// module adds the files of a module in Python, and of the packages that it is in. at is the folder of the file that imports it.
func (im *imports) module(at, module string) {
	base := ""
	if rest := strings.TrimLeft(module, "."); rest != module {
		base = at
		for range len(module) - len(rest) - 1 {
			base = path.Join(base, "..")
		}
		module = rest
		if im.is(path.Join(base, "__init__.py")) {
			im.add(Python, path.Join(base, "__init__.py"))
		}
	}
	parts := strings.Split(module, ".")
	if parts[0] == "ferrule" || slices.ContainsFunc(parts, func(part string) bool {
		return part == "" || strings.IndexFunc(part, func(c rune) bool { return c < 0x80 && !inWord(byte(c)) }) >= 0
	}) {
		return
	}
	name := base
	for i, part := range parts {
		name = path.Join(name, part)
		switch {
		case im.is(path.Join(name, "__init__.py")):
			im.add(Python, path.Join(name, "__init__.py"))
		case im.is(name + ".py"):
			im.add(Python, name+".py")
			return
		case i == 0:
			if info, err := os.Stat(filepath.Join(im.folder, filepath.FromSlash(name))); err != nil || !info.IsDir() {
				im.add(Python, name+".py") // it may be a package of Python's: then there is none
				return
			}
		}
	}
}

// regularAfter are the words of JavaScript behind which a slash begins a regular expression.
var regularAfter = []string{"return", "typeof", "case", "in", "of", "do", "else", "void", "delete", "throw", "new", "instanceof", "await", "yield"}

// javaScriptImports are the paths that begin with a dot and are imported, or exported from.
func javaScriptImports(text string) (all []string) {
	var last, before string // tokens
	next := func(token string) { before, last = last, token }
	var braces []bool // of each open one, whether it is of a template
	template := func(i int) int {
		for i < len(text) {
			switch {
			case text[i] == '\\':
				i++
			case text[i] == '`':
				next("`")
				return i + 1
			case text[i] == '$' && i+1 < len(text) && text[i+1] == '{':
				braces = append(braces, true)
				next("{")
				return i + 2
			}
			i++
		}
		return i
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '/' && strings.HasPrefix(text[i:], "//"):
			i = until(text, i, "\n")
		case c == '/' && strings.HasPrefix(text[i:], "/*"):
			i = until(text, i+2, "*/")
		case c == '/' && (last == "" || slices.Contains(regularAfter, last) || strings.Contains("=([{,;:!&|?+-*%<>~^}", last[len(last)-1:])):
			i = regular(text, i+1)
			next("/")
		case c == '"' || c == '\'':
			end := i + 1
			for end < len(text) && text[end] != c && text[end] != '\n' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(text))
			imported := last == "from" || last == "import" || last == "(" && before == "import"
			if name := text[i+1 : end]; imported && (strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")) {
				all = append(all, name)
			}
			next(`"`)
			i = end + 1
		case c == '`':
			i = template(i + 1)
		case c == '{':
			braces = append(braces, false)
			next("{")
			i++
		case c == '}':
			of := len(braces) > 0 && braces[len(braces)-1]
			braces = braces[:max(0, len(braces)-1)]
			i++
			if of {
				i = template(i)
			} else {
				next("}")
			}
		case inWord(c):
			end := i
			for end < len(text) && inWord(text[end]) {
				end++
			}
			next(text[i:end])
			i = end
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		default:
			next(text[i : i+1])
			i++
		}
	}
	return all
}

func inWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// until is where what ends a comment is over.
func until(text string, i int, end string) int {
	n := strings.Index(text[i:], end)
	if n < 0 {
		return len(text)
	}
	return i + n + len(end)
}

// regular is where a regular expression that begins at i is over.
func regular(text string, i int) int {
	class := false
	for ; i < len(text) && text[i] != '\n'; i++ {
		switch text[i] {
		case '\\':
			i++
		case '[':
			class = true
		case ']':
			class = false
		case '/':
			if !class {
				return i + 1
			}
		}
	}
	return min(i, len(text))
}

var (
	pythonFrom   = regexp.MustCompile(`^from\s*(\.*\s*[\w.]*)\s*import\s*\(?([^)]*)`)
	pythonImport = regexp.MustCompile(`^import\s+(.*)`)
)

// pythonImports are the modules that are imported, with what is imported from them behind a dot: that may be a module, too.
func pythonImports(text string) (all []string) {
	for _, statement := range pythonStatements(text) {
		if m := pythonFrom.FindStringSubmatch(statement); m != nil {
			from := strings.ReplaceAll(m[1], " ", "")
			all = append(all, from)
			for item := range strings.SplitSeq(m[2], ",") {
				if fields := strings.Fields(item); len(fields) > 0 && fields[0] != "*" {
					all = append(all, from+dot(from)+fields[0])
				}
			}
		} else if m := pythonImport.FindStringSubmatch(statement); m != nil {
			for item := range strings.SplitSeq(m[1], ",") {
				if fields := strings.Fields(item); len(fields) > 0 {
					all = append(all, fields[0])
				}
			}
		}
	}
	return all
}

// dot is what stands between a module and what is in it: nothing behind one that is dots alone.
func dot(module string) string {
	if strings.Trim(module, ".") == "" {
		return ""
	}
	return "."
}

// pythonStatements are the statements of a text, without comments, with empty texts, and each on one line. What stands behind a colon is one, too.
func pythonStatements(text string) (all []string) {
	var b strings.Builder
	depth := 0
	end := func() {
		if s := strings.TrimSpace(b.String()); s != "" {
			all = append(all, s)
		}
		b.Reset()
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '"' || c == '\'':
			quotes := text[i : i+1]
			if strings.HasPrefix(text[i:], strings.Repeat(quotes, 3)) {
				quotes = strings.Repeat(quotes, 3)
			}
			i += len(quotes)
			for i < len(text) && !strings.HasPrefix(text[i:], quotes) && (len(quotes) == 3 || text[i] != '\n') {
				if text[i] == '\\' {
					i++
				}
				i++
			}
			i = min(len(text), i+len(quotes))
			b.WriteString(`""`)
		case c == '\\' && (strings.HasPrefix(text[i+1:], "\n") || strings.HasPrefix(text[i+1:], "\r\n")):
			b.WriteByte(' ')
			i += strings.IndexByte(text[i:], '\n') + 1
		case (c == '\n' || c == ';' || c == ':') && depth == 0:
			end()
			i++
		default:
			switch c {
			case '(', '[', '{':
				depth++
			case ')', ']', '}':
				depth = max(0, depth-1)
			case '\n', '\r', '\t':
				c = ' '
			}
			b.WriteByte(c)
			i++
		}
	}
	end()
	return all
}

package lock

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

const head = `# The plug-ins of this application, to the byte, on every platform. Ferrule writes this file; commit it.
# Where a merge has a conflict here, take one side, and install or update again.
format: 1
`

// Text writes the lock: sorted, and the same bytes for the same content. What Parse does not take, it writes nevertheless.
func (l *Lock) Text() []byte {
	w := &writer{}
	w.b.WriteString(head)
	if len(l.Plugins) > 0 {
		w.b.WriteString("\nplugins:\n")
	}
	for i, name := range slices.Sorted(maps.Keys(l.Plugins)) {
		if i > 0 {
			w.b.WriteByte('\n') // a line between blocks that never changes: changes to two of them do not touch
		}
		w.entry(name, l.Plugins[name])
	}
	if len(l.Indexes) > 0 {
		w.b.WriteString("\nindexes:\n")
	}
	for _, source := range slices.Sorted(maps.Keys(l.Indexes)) {
		index := l.Indexes[source]
		w.line(1, source, "")
		w.text("name", index.Name)
		w.line(2, "serial", strconv.FormatUint(index.Serial, 10))
		w.text("date", index.Date.UTC().Format(dateLayout))
		w.text("digest", index.Digest)
	}
	return []byte(w.b.String())
}

const dateLayout = time.RFC3339Nano

type writer struct{ b strings.Builder }

func (w *writer) entry(name string, e *Entry) {
	w.line(1, name, "")
	w.text("version", e.Version)
	w.text("kind", string(kindOf(e)))
	w.text("source", e.Source)
	w.text("tag", e.Tag)
	w.text("digest", e.Digest)
	w.text("key", e.Key)
	if e.Pinned {
		w.line(2, "pinned", "true")
	}
	if len(e.Requires) > 0 {
		w.line(2, "requires", "")
	}
	for _, other := range slices.Sorted(maps.Keys(e.Requires)) {
		w.line(3, other, plain(e.Requires[other]))
	}
	w.list("grants", e.Grants)
	w.list("says", e.Says)
	w.line(2, "files", "")
	for _, platform := range slices.Sorted(maps.Keys(e.Files)) {
		f := e.Files[platform]
		written := fmt.Sprintf("{digest: %s, size: %d", quoted(f.Digest), f.Size)
		if f.URL != "" {
			written += ", url: " + quoted(f.URL)
		}
		if text := e.Signatures[platform]; text != "" {
			written += ", signature: " + quoted(text)
		}
		w.line(3, platform, written+"}")
	}
}

func kindOf(e *Entry) registry.Kind {
	if e.Kind == "" {
		return registry.Library
	}
	return e.Kind
}

// list writes a list of an entry, unless it is empty.
func (w *writer) list(key string, items []string) {
	if len(items) > 0 {
		w.line(2, key, "")
	}
	for _, item := range slices.Compact(slices.Sorted(slices.Values(items))) {
		fmt.Fprintf(&w.b, "      - %s\n", plain(item))
	}
}

// text writes a line of an entry, unless it says nothing.
func (w *writer) text(key, value string) {
	if value != "" {
		w.line(2, key, plain(value))
	}
}

func (w *writer) line(depth int, key, written string) {
	fmt.Fprintf(&w.b, "%s%s:", strings.Repeat("  ", depth), plain(key))
	if written != "" {
		w.b.WriteString(" " + written)
	}
	w.b.WriteByte('\n')
}

// What is written without quotes: texts that no reader of YAML, old or new, takes for a number, a date, a truth or nothing.
var (
	unquoted = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_+./@-]*(?:[: ]?[A-Za-z0-9_+./@-]+)*$`)
	semantic = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]`) // a version
	letter   = regexp.MustCompile(`^[A-Za-z]`)
	words    = regexp.MustCompile(`(?i)^(?:y|n|yes|no|on|off|true|false|null|nan|inf)$`)
)

func isPlain(s string) bool {
	return unquoted.MatchString(s) && !words.MatchString(s) && (letter.MatchString(s) || semantic.MatchString(s))
}

func plain(s string) string {
	if isPlain(s) {
		return s
	}
	return quoted(s)
}

// quoted writes a text as JSON does, which is YAML, too.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case !strconv.IsPrint(r) && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

package abi

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxText is the longest manifest or meta text, in bytes, its closing empty text included (rule R1).
const MaxText = 64 << 10

// KeyValue is one `key=value` of a manifest or of a meta text.
type KeyValue struct {
	Key   string // 1 to 64 bytes of a-z 0-9 _ - . (rule R3)
	Value string // UTF-8 without NUL; may be empty
}

// Text is a parsed manifest or meta text, in the order in which its author wrote it; no key stands twice.
type Text []KeyValue

// Get returns the value of key, or "" when the text has no such key.
func (t Text) Get(key string) string {
	for _, kv := range t {
		if kv.Key == key {
			return kv.Value
		}
	}
	return ""
}

// TextError says what is wrong with a manifest or a meta text. Found and Expected are written for the plug-in's author.
type TextError struct {
	Rule     string // the rule of ferrule.h that is broken: R1, R3, R13, R24 or R29
	Key      string // the key it is about; "" when it is about the text as a whole
	Found    string // what stands there, shortened; it names the key where it begins with "the key "
	Expected string // what the rule asks for
	Remedy   string // what to do, as a sentence without its full stop; "" where the macros of ferrule.h would have written it right
}

// What its author does about a value.
const correctValue = "Correct the value"

// Error says what was found and what was expected.
func (e *TextError) Error() string {
	if e.Key == "" || strings.HasPrefix(e.Found, "the key ") {
		return fmt.Sprintf("found %s, expected %s (rule %s)", e.Found, e.Expected, e.Rule)
	}
	return fmt.Sprintf("key %q: found %s, expected %s (rule %s)", e.Key, e.Found, e.Expected, e.Rule)
}

// MajorError says that a manifest is written for another major version of the contract.
type MajorError struct {
	Found string // the value of the manifest's ferrule= key
}

// Error says which version was found and which one this package speaks.
func (e *MajorError) Error() string {
	return fmt.Sprintf("the manifest says ferrule=%s, this host speaks ferrule=%d", e.Found, Major)
}

// ParseText reads NUL-separated `key=value` texts up to the empty one that ends them; data may go on behind it,
// and is only read, and not kept. It returns a *TextError when data has no end, or when a key or a value is not as rules R1 and R3 have it.
func ParseText(data []byte) (Text, error) {
	if len(data) > MaxText {
		data = data[:MaxText]
	}
	if end := bytes.Index(data, []byte{0, 0}); end >= 0 {
		data = data[:end+2]
	}
	rest := string(data) // once, for all keys and values
	var text Text
	seen := make(map[string]bool, 8)
	for {
		end := strings.IndexByte(rest, 0)
		if end < 0 {
			return nil, &TextError{Rule: "R1", Found: "no empty text that ends it",
				Expected: fmt.Sprintf("a NUL after the last value's own NUL, within %d bytes", MaxText)}
		}
		if end == 0 {
			return text, nil
		}
		item := rest[:end]
		rest = rest[end+1:]
		key, value, ok := strings.Cut(item, "=")
		if !ok {
			return nil, &TextError{Rule: "R3", Found: quoteShort(item), Expected: "key=value"}
		}
		if !validKey(key) {
			return nil, &TextError{Rule: "R3", Found: "the key " + quoteShort(key),
				Expected: "1 to 64 bytes of a-z, 0-9, _, - and .", Remedy: "Correct the key"}
		}
		if !utf8.ValidString(value) {
			return nil, &TextError{Rule: "R1", Key: key, Found: quoteShort(value), Expected: "UTF-8", Remedy: "Write the value in UTF-8"}
		}
		if seen[key] {
			return nil, &TextError{Rule: "R3", Key: key, Found: fmt.Sprintf("the key %q twice", key), Expected: "each key once", Remedy: "Leave one of them out"}
		}
		seen[key] = true
		if text == nil {
			text = make(Text, 0, 8)
		}
		text = append(text, KeyValue{key, value})
	}
}

// Manifest is what a library says of itself (rule R1).
type Manifest struct {
	Name        string  // its name, which errors and log lines carry
	Version     string  // its own version, free text
	Threads     Threads // how its instances may be called
	Description string  // may be empty
	State       string  // the format of what ferrule_save gives (rule R29); may be empty
	Keys        Text    // everything, with the keys above and those that this package does not know
}

// ParseManifest reads the bytes at the symbol ferrule_manifest; data may go on behind the manifest's end, and
// is only read, and not kept. The error is
// a *MajorError when the library speaks another major version of the contract, otherwise a *TextError.
func ParseManifest(data []byte) (*Manifest, error) {
	// The first key comes before the rest is judged: another major version may have another syntax.
	first, _, _ := bytes.Cut(data[:min(len(data), MaxText)], []byte{0})
	major, ok := strings.CutPrefix(string(first), "ferrule=")
	if !ok {
		return nil, &TextError{Rule: "R1", Found: quoteShort(string(first)) + " as its first text",
			Expected: fmt.Sprintf(`"ferrule=%d"`, Major)}
	}
	if n, err := strconv.ParseUint(major, 10, 31); err != nil || len(major) > 1 && major[0] == '0' {
		return nil, &TextError{Rule: "R1", Key: "ferrule", Found: quoteShort(major), Expected: "a major version, as a number without zeros before it"}
	} else if n != Major {
		return nil, &MajorError{Found: major}
	}
	text, err := ParseText(data)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Name: text.Get("name"), Version: text.Get("version"), Description: text.Get("description"), State: text.Get("state"), Keys: text}
	if m.Name == "" {
		return nil, &TextError{Rule: "R1", Key: "name", Found: "no name", Expected: "one", Remedy: "Add FERRULE_NAME"}
	}
	if !validPluginName(m.Name) {
		return nil, &TextError{Rule: "R1", Key: "name", Found: quoteShort(m.Name),
			Expected: "1 to 128 letters, digits, _, - or .", Remedy: correctValue}
	}
	if m.Version == "" {
		return nil, &TextError{Rule: "R1", Key: "version", Found: "none", Expected: "a version such as 1.0.0", Remedy: "Add FERRULE_VERSION"}
	}
	if m.Threads, ok = parseThreads(text.Get("threads")); !ok {
		return nil, &TextError{Rule: "R13", Key: "threads", Found: quoteShort(text.Get("threads")),
			Expected: "serial, concurrent or pinned", Remedy: correctValue}
	}
	if m.State != "" && !validPluginName(m.State) {
		return nil, &TextError{Rule: "R29", Key: "state", Found: quoteShort(m.State),
			Expected: "1 to 128 letters, digits, _, - or .", Remedy: correctValue}
	}
	return m, nil
}

// Threads says how an instance may be called (rule R13).
type Threads uint8

// The words of the manifest's threads= key.
const (
	Serial     Threads = iota // one call at a time for each instance, on any thread; the default
	Concurrent                // any number of calls at a time for each instance
	Pinned                    // one call at a time, always on the thread that started the instance
)

var threadWords = [...]string{Serial: "serial", Concurrent: "concurrent", Pinned: "pinned"}

// String returns the word as a manifest has it.
func (t Threads) String() string {
	if int(t) < len(threadWords) {
		return threadWords[t]
	}
	return "threads " + strconv.Itoa(int(t))
}

func parseThreads(word string) (Threads, bool) {
	if word == "" {
		return Serial, true
	}
	for t, w := range threadWords {
		if w == word {
			return Threads(t), true
		}
	}
	return 0, false
}

func validKey(key string) bool {
	for i := range len(key) {
		if c := key[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return len(key) > 0 && len(key) <= 64
}

func validPluginName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 128
}

// quoteShort quotes what a library wrote, cut to a length that a line of an error message bears.
func quoteShort(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}

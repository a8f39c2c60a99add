// Package manifest is what a plug-in says of itself, as JSON: a sidecar in its hello, and a plug-in in Go that was made with sdk-go. Rule W5 of docs/wire.md has it.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// Max is how many bytes a manifest has at most (rule W2).
const Max = 1 << 20

// Error says what breaks a rule of docs/wire.md.
type Error struct {
	Rule     string // such as W1
	Found    string
	Expected string
}

// Error says what was found and what was expected.
func (e *Error) Error() string {
	return fmt.Sprintf("found %s, expected %s (rule %s of docs/wire.md)", e.Found, e.Expected, e.Rule)
}

// Broken makes an Error; found is a format.
func Broken(rule, expected, found string, args ...any) *Error {
	return &Error{rule, fmt.Sprintf(found, args...), expected}
}

// Quoted is the beginning of a text for people.
func Quoted(b []byte) string {
	const most = 60
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}

// manifest is the body of a sidecar's hello (rule W5).
type manifest struct {
	Name        string                       `json:"name"`
	Version     string                       `json:"version"`
	Threads     string                       `json:"threads,omitempty"`
	Description string                       `json:"description,omitempty"`
	Keys        map[string]string            `json:"keys,omitempty"`
	Functions   map[string]map[string]string `json:"functions,omitempty"`
	Hooks       map[string]map[string]string `json:"hooks,omitempty"`
	Imports     map[string]map[string]string `json:"imports,omitempty"`
	Wants       map[string]map[string]string `json:"wants,omitempty"`
	Services    []string                     `json:"services,omitempty"`
	Config      string                       `json:"config,omitempty"`
}

// members are the keys of a manifest, own those that every plug-in's manifest has and that a sidecar's has as members.
var (
	members = []string{"name", "version", "threads", "description", "keys", "functions", "hooks", "imports", "wants", "services", "config"}
	own     = []string{"ferrule", "name", "version", "threads", "description"}
)

// Parse reads what a plug-in says of itself. The description is the caller's, and has nothing of body. The error is an *Error.
func Parse(body []byte) (*abi.Description, error) {
	if len(body) > Max {
		return nil, Broken("W2", fmt.Sprintf("%d at most", Max), "a manifest of %s", count.Of(len(body), "byte"))
	}
	if !utf8.Valid(body) {
		return nil, Broken("W5", "UTF-8", "a manifest with bytes that are not UTF-8")
	}
	if err := lookThrough(body); err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, Broken("W5", "a JSON object", "a manifest that is not JSON (%v)", err)
	}
	if m.Threads == "" {
		m.Threads = abi.Serial.String()
	}
	if m.Version == "" {
		return nil, Broken("W5", "text", "a manifest without a version")
	}
	text := []abi.KeyValue{{Key: "ferrule", Value: fmt.Sprint(abi.Major)}, {Key: "name", Value: m.Name}, {Key: "version", Value: m.Version}, {Key: "threads", Value: m.Threads}}
	if m.Description != "" {
		text = append(text, abi.KeyValue{Key: "description", Value: m.Description})
	}
	for _, key := range own {
		if _, too := m.Keys[key]; too {
			return nil, Broken("W5", "it once, as a member of the manifest", "the key %s among keys", Quoted([]byte(key)))
		}
	}
	if strings.Contains(m.Config, "\x00") {
		return nil, Broken("W5", "text without a NUL", "the value of config")
	}
	joined, err := joinText(text, m.Keys)
	if err != nil {
		return nil, err
	}
	about := &abi.Description{ConfigSchema: m.Config}
	if about.Manifest, err = abi.ParseManifest(joined); err != nil {
		return nil, Broken("W5", "what ferrule.h asks for", "a manifest with a key that is wrong: %v", err)
	}
	for _, kind := range []struct {
		word string
		from map[string]map[string]string
		to   *[]abi.Symbol
	}{{"function", m.Functions, &about.Funcs}, {"hook", m.Hooks, &about.Hooks}, {"import", m.Imports, &about.Imports}, {"want", m.Wants, &about.Wants}} {
		for _, name := range slices.Sorted(maps.Keys(kind.from)) {
			if !abi.ValidName(name) {
				return nil, Broken("W5", "a C identifier of 1 to 128 bytes", "the %s %s", kind.word, Quoted([]byte(name)))
			}
			symbol := abi.Symbol{Name: name}
			if len(kind.from[name]) > 0 {
				joined, err := joinText(nil, kind.from[name])
				if err != nil {
					return nil, err
				}
				text, err := abi.ParseText(joined)
				if err == nil {
					err = symbol.Describe(text)
				}
				if err != nil {
					return nil, Broken("W5", "what ferrule.h asks for", "the %s %s with a key that is wrong: %v", kind.word, name, err)
				}
			}
			*kind.to = append(*kind.to, symbol)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Wants)) {
		if _, both := m.Imports[name]; both {
			return nil, Broken("W5", "one of the two", "%s as an import and as a want", name)
		}
	}
	for i, service := range m.Services {
		has := map[string]*bool{"start": &about.HasStart, "stop": &about.HasStop, "configure": &about.HasConfigure, "save": &about.HasSave, "resume": &about.HasResume}[service]
		if has == nil || slices.Contains(m.Services[:i], service) {
			return nil, Broken("W5", "start, stop, configure, save and resume, each once", "the service %s", Quoted([]byte(service)))
		}
		*has = true
	}
	if handed := about.Manifest.State != ""; about.HasSave != handed || about.HasResume != handed {
		return nil, Broken("W10", "all three, or none", "some of the services save and resume and the key state")
	}
	return about, nil
}

// joinText makes a text of the contract of keys and values.
func joinText(text []abi.KeyValue, more map[string]string) ([]byte, error) {
	for _, key := range slices.Sorted(maps.Keys(more)) {
		text = append(text, abi.KeyValue{Key: key, Value: more[key]})
	}
	var b []byte
	for _, kv := range text {
		if strings.ContainsAny(kv.Key, "=\x00") || strings.Contains(kv.Value, "\x00") {
			return nil, Broken("W5", "text without a NUL, and keys without an equals sign", "the key %s", Quoted([]byte(kv.Key)))
		}
		b = fmt.Appendf(b, "%s=%s\x00", kv.Key, kv.Value)
	}
	if b = append(b, 0); len(b) > abi.MaxText {
		return nil, Broken("W5", fmt.Sprintf("%d at most", abi.MaxText), "texts of %s together", count.Of(len(b), "byte"))
	}
	return b, nil
}

// jsonKind is what a token of JSON begins, in words.
func jsonKind(token json.Token) string {
	switch token.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case json.Delim:
		if token == json.Delim('[') {
			return "a list"
		}
		return "an object"
	default:
		return "a number"
	}
}

// The values of a manifest, as errors call them.
const (
	isText   = "text"
	isList   = "a list of texts"
	isObject = "an object"
)

// kinds are what those are in JSON.
var kinds = map[string]string{isText: "a text", isList: "a list", isObject: "an object"}

// valueAt is what the value behind these keys of a manifest is.
func valueAt(keys []string) string {
	switch keys[0] {
	case "functions", "hooks", "imports", "wants":
		if len(keys) < 3 {
			return isObject
		}
	case "keys":
		if len(keys) < 2 {
			return isObject
		}
	case "services":
		return isList
	}
	return isText
}

// lookThrough finds what Go's own reader takes, such as a key of an object that stands twice, one that is written in other letters, null, and what stands behind
// the object; and where a value is that is none of a manifest's.
func lookThrough(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	type object struct {
		keys map[string]bool // nil of a list
		key  bool            // a key is next
		last string          // the one before
	}
	var within []*object
	for values := 0; ; {
		token, err := d.Token()
		if err == io.EOF && values == 1 && len(within) == 0 {
			return nil
		}
		if err != nil {
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("it ends too early")
			}
			return Broken("W5", "a JSON object", "a manifest that is not JSON (%v)", err)
		}
		var top *object
		if len(within) > 0 {
			top = within[len(within)-1]
		} else if values++; values > 1 || token != json.Delim('{') {
			return Broken("W5", "one JSON object", "a manifest that is something else")
		}
		if t, ok := token.(json.Delim); ok && (t == '}' || t == ']') {
			within = within[:len(within)-1]
			continue
		}
		if top != nil && top.key {
			key := token.(string) // the decoder takes nothing else
			if top.keys[key] {
				return Broken("W5", "each once", "the key %s twice", Quoted([]byte(key)))
			}
			if len(within) == 1 && !slices.Contains(members, key) {
				return Broken("W5", strings.Join(members, ", "), "the key %s", Quoted([]byte(key)))
			}
			top.keys[key], top.key, top.last = true, false, key
			continue
		}
		if top != nil {
			var keys, path []string
			for _, o := range within {
				if o.keys != nil {
					keys, path = append(keys, o.last), append(path, Quoted([]byte(o.last)))
				}
			}
			expected := valueAt(keys)
			if top.keys == nil {
				expected = isText
			}
			if kind := jsonKind(token); kind != kinds[expected] {
				return Broken("W5", expected, "%s as a value in %s", kind, strings.Join(path, "."))
			}
			top.key = top.keys != nil
		}
		switch token {
		case json.Delim('{'):
			within = append(within, &object{keys: map[string]bool{}, key: true})
		case json.Delim('['):
			within = append(within, &object{})
		}
	}
}

// Format writes what a plug-in says of itself as a sidecar's hello has it, which Parse reads. What a sidecar cannot do, such as ferrule_batch, is left out. start adds the
// service start, for who needs the configuration in any case.
func Format(about *abi.Description, start bool) []byte {
	m := manifest{Name: about.Manifest.Name, Version: about.Manifest.Version, Threads: about.Manifest.Threads.String(), Description: about.Manifest.Description,
		Config: about.ConfigSchema, Keys: map[string]string{}}
	for _, kv := range about.Manifest.Keys {
		if !slices.Contains(own, kv.Key) {
			m.Keys[kv.Key] = kv.Value
		}
	}
	symbols := func(all []abi.Symbol) map[string]map[string]string {
		of := make(map[string]map[string]string, len(all))
		for _, s := range all {
			of[s.Name] = map[string]string{}
			for _, kv := range s.Keys {
				of[s.Name][kv.Key] = kv.Value
			}
		}
		return of
	}
	m.Functions, m.Hooks, m.Imports, m.Wants = symbols(about.Funcs), symbols(about.Hooks), symbols(about.Imports), symbols(about.Wants)
	for _, service := range []struct {
		has  bool
		name string
	}{{about.HasStart || start, "start"}, {about.HasStop, "stop"}, {about.HasConfigure, "configure"}, {about.HasSave, "save"}, {about.HasResume, "resume"}} {
		if service.has {
			m.Services = append(m.Services, service.name)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)               // nobody's page, and six times as long
	if err := e.Encode(&m); err != nil { // texts can be written, whatever is in them
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

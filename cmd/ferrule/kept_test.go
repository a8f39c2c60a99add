package main

import (
	"encoding"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var recordKept = flag.Bool("kept", false, "write testdata/kept.txt, the verbs, flags and fields of JSON that later versions keep")

// fields calls add with each value that a type's JSON has, by its path, and with what kind of JSON it is.
func fields(add func(path, kind string), path string, of reflect.Type, within ...reflect.Type) {
	own := func(marshaler reflect.Type) bool {
		return of.Implements(marshaler) || reflect.PointerTo(of).Implements(marshaler)
	}
	switch kind := of.Kind(); {
	case kind == reflect.Pointer:
		fields(add, path, of.Elem(), within...)
	case slices.Contains(within, of):
		add(path, "the same again")
	case own(reflect.TypeFor[encoding.TextMarshaler]()):
		add(path, "string")
	case own(reflect.TypeFor[json.Marshaler]()), kind == reflect.Interface:
		add(path, "any")
	case kind == reflect.Struct:
		for i := range of.NumField() {
			f := of.Field(i)
			tag := f.Tag.Get("json")
			name, _, _ := strings.Cut(tag, ",")
			switch {
			case tag == "-" || !f.IsExported() && !f.Anonymous:
			case name == "" && f.Anonymous:
				fields(add, path, f.Type, append(within, of)...)
			default:
				if name == "" {
					name = f.Name
				}
				fields(add, strings.TrimPrefix(path+"."+name, "."), f.Type, append(within, of)...)
			}
		}
	case kind == reflect.Slice && of.Elem().Kind() == reflect.Uint8, kind == reflect.String:
		add(path, "string")
	case kind == reflect.Slice, kind == reflect.Array:
		fields(add, path+"[]", of.Elem(), within...)
	case kind == reflect.Map:
		fields(add, path+"{}", of.Elem(), within...)
	case kind == reflect.Bool:
		add(path, "bool")
	default:
		add(path, "number")
	}
}

// interfaceLines are a line for each verb, each of its flags, and each field of its JSON.
func interfaceLines() (lines []string) {
	add := func(words ...string) { lines = append(lines, strings.Join(words, " ")) }
	root := command(&app{})
	flags := func(verb string, of *pflag.FlagSet) {
		of.VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" {
				add(verb, "--"+f.Name, f.Value.Type())
				if f.Shorthand != "" {
					add(verb, "-"+f.Shorthand, "is", "--"+f.Name)
				}
			}
		})
	}
	flags("ferrule", root.PersistentFlags())
	for _, verb := range manual(root) {
		add("ferrule", verb.Name())
		flags("ferrule "+verb.Name(), verb.LocalNonPersistentFlags())
	}
	field := func(verb string) func(path, kind string) {
		return func(path, kind string) { add(verb, "JSON", path, kind) }
	}
	fields(field("ferrule"), "error", reflect.TypeFor[errorDetails]())
	for verb, facts := range jsonFacts {
		for i, f := range facts { // those that are in no other one
			within := false
			for j, other := range facts {
				within = within || i != j && has(reflect.TypeOf(other), reflect.TypeOf(f))
			}
			if !within {
				fields(field("ferrule "+verb), "", reflect.TypeOf(f))
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// has is whether a type has another one in it, at any depth.
func has(of, what reflect.Type, within ...reflect.Type) bool {
	if slices.Contains(within, of) {
		return false
	}
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return of.Elem() == what || has(of.Elem(), what, within...)
	case reflect.Struct:
		for i := range of.NumField() {
			if f := of.Field(i).Type; f == what || has(f, what, append(within, of)...) {
				return true
			}
		}
	}
	return false
}

// TestVerbsFlagsAndFieldsStay: what testdata/kept.txt has is there. More may be there; each release writes the file anew, and a line that leaves it is seen in the change.
func TestVerbsFlagsAndFieldsStay(t *testing.T) {
	found := interfaceLines()
	path := filepath.Join("testdata", "kept.txt")
	if *recordKept {
		require.NoError(t, os.MkdirAll("testdata", 0o777))
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(found, "\n")+"\n"), 0o666))
		return
	}
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(kept), "\r\n", "\n")), "\n")
	require.Greater(t, len(lines), 300)
	for _, line := range lines {
		assert.True(t, slices.Contains(found, line), "gone, or another one: %s. docs/promises.md says that it stays; before 1.0: go test ./cmd/ferrule -run TestVerbsFlagsAndFieldsStay -args -kept", line)
	}
}

// TestFieldsAreTold: a field that is gone, has another name or is another kind of JSON is another line; a field more, and where a struct is written, are not.
func TestFieldsAreTold(t *testing.T) {
	type part struct {
		N int `json:"n"`
	}
	type embedded struct {
		In bool `json:"in,omitempty"`
	}
	type whole struct {
		embedded
		Parts  []*part           `json:"parts"`
		Of     map[string]string `json:"of"`
		Bytes  []byte            `json:"bytes"`
		Any    json.RawMessage   `json:"any"`
		Hidden string            `json:"-"`
		Again  *whole            `json:"again"`
	}
	var got []string
	fields(func(path, kind string) { got = append(got, path+" "+kind) }, "", reflect.TypeFor[whole]())
	assert.Equal(t, []string{"in bool", "parts[].n number", "of{} string", "bytes string", "any any", "again the same again"}, got)
	assert.True(t, has(reflect.TypeFor[whole](), reflect.TypeFor[part]()))
	assert.False(t, has(reflect.TypeFor[part](), reflect.TypeFor[whole]()))
}

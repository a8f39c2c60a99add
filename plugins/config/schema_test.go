package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/plugins/config"
)

var compiled = sync.OnceValue(func() *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", document); err != nil {
		panic(err)
	}
	return c.MustCompile("config.json")
})

// valid says what the schema thinks of a text, by a reading of YAML that is not Parse's.
func valid(t *testing.T, text []byte) error {
	t.Helper()
	var document yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &document))
	var retag func(*yaml.Node)
	retag = func(n *yaml.Node) {
		if n.Tag == "!!timestamp" { // JSON has no times: they are texts
			n.Tag = "!!str"
		}
		for _, child := range n.Content {
			retag(child)
		}
	}
	retag(&document)
	var value any
	require.NoError(t, document.Decode(&value))
	asJSON, err := json.Marshal(value)
	require.NoError(t, err)
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	return compiled().Validate(instance)
}

func TestSchemaTakesTheExamples(t *testing.T) {
	for _, text := range []string{field, all, "", "plugins:\n"} {
		assert.NoError(t, valid(t, []byte(text)))
	}
	assert.Error(t, valid(t, []byte("plugin: []")))
}

// generator makes files from the schema: valid ones, and some with a value that may be a wrong one.
type generator struct {
	*rand.Rand
	wrong int // which value is any; 0: none
}

// text is a right one.
func (g *generator) text(schema map[string]any, where string) any {
	pattern, _ := schema["pattern"].(string)
	last := where[strings.LastIndexByte(where, '/')+1:]
	switch {
	case last == "version":
		return []any{"^2", ">=1.2, <3", "", json.Number("3"), json.Number("1.10")}[g.IntN(5)]
	case last == "limit", last == "cpu":
		return fmt.Sprintf("%d%s", 1+g.IntN(99), []string{"ns", "us", "µs", "ms", "s", "m", "h", "m.5s"}[g.IntN(8)])
	case last == "memory":
		return fmt.Sprintf("%d%s", 1+g.IntN(999), []string{"000000000", "000000000B", "0000K", "0000KiB", "M", "MiB", "G", "GiB", "T", "TiB"}[g.IntN(10)])
	case last == "url" && strings.Contains(where, "plugins"):
		return []any{"unix:/run/x.sock", "unix:x y", "tcp:127.0.0.1:80", "tcp:[::1]:80", "fifo:a,b", "npipe:x", "http://a_b.c:80", "https://[::1]/p%20q", "http+unix:x y", "https://é.x:1",
			"nats://x:4222/a", "tls://x,y:1/a.b@^2", "mqtt://[::1]:1/a@>=1.2, <3", "mqtts://x/a_b@~1"}[g.IntN(14)]
	case last == "url", strings.HasSuffix(where, "mirrors/items"):
		return []any{"file://localhost/srv/%20", "oci://a/b", "https://x/{name}/{plugin}-{version}-{os}.{ext}", "http://127.0.0.1:1/%20", "file:///srv/releases"}[g.IntN(5)]
	case strings.HasPrefix(pattern, "^(?:~|"):
		return []any{"~", "~/x", "a b", "/x", `C:\x`, "é", "."}[g.IntN(7)]
	case strings.Contains(where, "hooks/"):
		return []any{"*", "a", "b.c", "true", "12"}[g.IntN(5)]
	case strings.HasSuffix(where, "keys/items"), strings.HasSuffix(where, "revoked/items") && g.IntN(2) == 0:
		return fmt.Sprintf("RW%c%053d", "QRST"[g.IntN(4)], g.IntN(1000))
	case strings.HasSuffix(where, "revoked/items"):
		return fmt.Sprintf("%015dA", g.IntN(1000))
	case strings.HasSuffix(where, "grant/items"):
		return []any{"*", "a", "loyalty_*", "true", "_1"}[g.IntN(5)]
	case last == "name" && strings.Contains(where, "registry"), last == "repository", last == "tag":
		return []any{"", "a b", "é", "1.0"}[g.IntN(4)]
	}
	return fmt.Sprintf("n%d", g.IntN(1000))
}

func (g *generator) value(schema map[string]any, where string) any {
	g.wrong--
	if g.wrong == 0 {
		return []any{nil, true, json.Number("-7"), json.Number("99999999"), "\x01", "~u", []any{[]any{}}, map[string]any{"un known": nil}}[g.IntN(8)]
	}
	if options, ok := schema["anyOf"].([]any); ok {
		return g.value(options[g.IntN(len(options))].(map[string]any), where)
	}
	if words, ok := schema["enum"].([]any); ok {
		return words[g.IntN(len(words))]
	}
	kind, ok := schema["type"].(string)
	if kinds, several := schema["type"].([]any); several {
		if kind, ok = kinds[0].(string), true; g.IntN(9) == 0 && kinds[1] == "null" {
			return nil
		}
	}
	if !ok {
		return []any{json.Number("0.50"), "${env:X}", map[string]any{"a": []any{true, "b", json.Number("3")}}}[g.IntN(3)]
	}
	switch kind {
	case "boolean":
		return g.IntN(2) == 0
	case "integer":
		low, _ := schema["minimum"].(json.Number).Int64()
		high, _ := schema["maximum"].(json.Number).Int64()
		return json.Number(fmt.Sprint([]int64{low, high, low + g.Int64N(high-low)}[g.IntN(3)]))
	case "string":
		return g.text(schema, where)
	case "array":
		all := []any{}
		for range g.IntN(4) {
			all = append(all, g.value(schema["items"].(map[string]any), where+"/items"))
		}
		return all
	}
	object := map[string]any{}
	if properties, ok := schema["properties"].(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			required, _ := schema["required"].([]any)
			if len(required) > 0 && name == required[0] || g.IntN(2) == 0 {
				object[name] = g.value(properties[name].(map[string]any), where+"/"+name)
			}
		}
		if with, ok := schema["dependencies"].(map[string]any); ok && g.IntN(8) > 0 {
			g.beside(object, with)
		}
		return object
	}
	for range g.IntN(3) {
		object[fmt.Sprintf("k%d", g.IntN(100))] = g.value(schema["additionalProperties"].(map[string]any), where+"/")
	}
	return object
}

// beside takes keys out of an object that cannot be beside others of it, or need others that are not there: a few, or most entries have some of them.
func (g *generator) beside(object, dependencies map[string]any) {
	if g.IntN(2) == 0 {
		delete(object, []string{"program", "url"}[g.IntN(2)])
	}
	if url, _ := object["url"].(string); g.IntN(4) > 0 { // which no dependency says
		var others []string
		switch {
		case config.IsHTTP(url):
			others = []string{"tls", "data", "config"}
		case config.IsBroker(url):
			others = []string{"tls", "data", "config", "token-file", "ca"}
		}
		for _, other := range others {
			delete(object, other)
		}
	}
	for range 2 { // what needs a key, and what that one rules out
		for _, name := range slices.Sorted(maps.Keys(dependencies)) {
			if _, there := object[name]; !there {
				continue
			}
			switch with := dependencies[name].(type) {
			case []any:
				for _, needed := range with {
					if _, there := object[needed.(string)]; !there {
						delete(object, name)
					}
				}
			case map[string]any:
				for _, other := range with["not"].(map[string]any)["anyOf"].([]any) {
					rule := other.(map[string]any)
					key := rule["required"].([]any)[0].(string)
					if _, some := rule["properties"]; !some {
						delete(object, key)
					} else if isolate, ok := object[key].(map[string]any); ok {
						delete(isolate, "group")
					} else if object[key] == false {
						object[key] = true
					}
				}
			}
		}
	}
}

// unsayable matches the faults that no schema can find.
var unsayable = regexp.MustCompile(`found the plug-in \w+ a second time|expected a range of versions|found ca without tls|found tls for a url that is not tcp|found [\w-]+ for (an HTTP server|a plug-in that a broker reaches)`)

// Parse and the schema agree on files that are made from the schema, right ones and wrong ones.
func TestSchemaIsWhatParseTakes(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	require.NoError(t, err)
	taken, refused := 0, 0
	for seed := range uint64(2000) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 13))}
		if seed%2 == 1 {
			g.wrong = 2 + g.IntN(60)
		}
		text, err := json.Marshal(g.value(document.(map[string]any), ""))
		require.NoError(t, err)
		_, ours := config.Parse("", text)
		if ours != nil && unsayable.MatchString(ours.Error()) {
			continue
		}
		theirs := valid(t, text)
		if !assert.Equal(t, theirs == nil, ours == nil, "seed %d: Parse says %v, the schema %v\n%s", seed, ours, theirs, text) {
			return
		}
		if ours == nil {
			taken++
		} else {
			refused++
		}
	}
	assert.Greater(t, taken, 750)
	assert.Greater(t, refused, 250)
}

// Every edit of a file without aliases is made, in lists and mappings of lines and between brackets; a grant that is taken away again leaves the
// meaning of the file as it was.
func TestEveryEditIsMade(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("USERPROFILE", os.Getenv("HOME"))
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	require.NoError(t, err)
	edits := 0
	for seed := range uint64(400) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 7))}
		asJSON, err := json.Marshal(g.value(document.(map[string]any), ""))
		require.NoError(t, err)
		text := asJSON
		if seed%3 > 0 { // as lines, by way of a tree that has no style
			var tree yaml.Node
			require.NoError(t, yaml.Unmarshal(asJSON, &tree))
			var plain func(*yaml.Node)
			plain = func(n *yaml.Node) {
				if n.Style = 0; seed%3 == 2 && n.Kind == yaml.MappingNode && g.IntN(2) == 0 {
					n.Style = yaml.FlowStyle
				}
				for _, child := range n.Content {
					plain(child)
				}
			}
			plain(&tree)
			text, err = yaml.Marshal(&tree)
			require.NoError(t, err)
		}
		c, err := config.Parse("", text)
		if err != nil || string(asJSON) == "null" {
			continue
		}
		f, _ := open(t, string(text))
		for _, p := range c.Plugins {
			require.NoError(t, f.SetEnabled(p.Name, !p.Enabled), "%s", f.Bytes())
			require.NoError(t, f.Grant(p.Name, "new", "newer_*"), "%s", f.Bytes())
			require.NoError(t, f.Deny(p.Name, "new", "newer_*"), "%s", f.Bytes())
			assert.ElementsMatch(t, p.Grant, must(t, f).Plugin(p.Name).Grant)
			edits += 3
		}
		require.NoError(t, f.Add("added", "^1"), "%s", f.Bytes())
		for _, p := range c.Plugins {
			require.NoError(t, f.Remove(p.Name), "%s", f.Bytes())
		}
		require.Len(t, must(t, f).Plugins, 1)
	}
	assert.Greater(t, edits, 300)
}

// Parse never panics; what it takes the schema takes; what an edit makes of it can be read.
func FuzzParse(f *testing.F) {
	for _, text := range []string{field, all, "plugins:\n- &a {name: a, config: &c [1, .5, 0x1F, 2024-01-01, 0o7, 1_000, +1]}\n- {<<: [*a], name: b}\n", "? a\n: b", "a: *b", "!!x y",
		"plugins: [{name: a, isolate: {memory: 1_0}}]", "--- |\n a\n...\n---\n", "\ufeff{}", "plugins:\n\t- a"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse("", text)
		if err != nil {
			require.NotEmpty(t, err.(*config.Error).Faults)
			for _, fault := range err.(*config.Error).Faults {
				require.True(t, fault.Line > 0 && fault.Column > 0 && fault.Found != "" && fault.Expected != "", "%+v", fault)
				require.LessOrEqual(t, fault.Line, 1+bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r"))+bytes.Count(text, []byte("\u0085"))+
					bytes.Count(text, []byte("\u2028"))+bytes.Count(text, []byte("\u2029")))
			}
			return
		}
		require.NoError(t, valid(t, text), "%q", text)
		for _, p := range c.Plugins {
			if p.Config != nil {
				require.True(t, json.Valid(p.Config.JSON()), "%s", p.Config.JSON())
			}
		}
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		file, err := config.OpenFile(path)
		if err != nil {
			require.Contains(t, err.Error(), "home folder")
			return
		}
		if len(c.Plugins) == 0 {
			if file.Add("new", "^1") == nil {
				require.NotNil(t, must(t, file).Plugin("new"))
			}
			return
		}
		name := c.Plugins[len(c.Plugins)-1].Name
		if file.SetEnabled(name, !c.Plugin(name).Enabled) == nil {
			require.Equal(t, !c.Plugin(name).Enabled, must(t, file).Plugin(name).Enabled)
		}
		if file.Grant(name, "fuzzed_*") == nil {
			require.Contains(t, must(t, file).Plugin(name).Grant, "fuzzed_*")
			if file.Deny(name, "fuzzed_*") == nil {
				require.NotContains(t, must(t, file).Plugin(name).Grant, "fuzzed_*")
			}
		}
		if file.Remove(c.Plugins[0].Name) == nil {
			require.Nil(t, must(t, file).Plugin(c.Plugins[0].Name))
		}
	})
}

func must(t *testing.T, f *config.File) *config.Config {
	t.Helper()
	c, err := f.Config()
	require.NoError(t, err)
	return c
}

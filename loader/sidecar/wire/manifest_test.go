package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

const everything = `{"name":"shout-2.x","version":"1.0.0 <&> ü","threads":"concurrent","description":"It shouts",
	"keys":{"license":"MIT","state":"v1","x-own":""},
	"functions":{"whisper":{},"shout":{"doc":"Loud","in":"text/plain","out":"text/html","schema":"{}","stream":"both","x-own":"1=2"}},
	"hooks":{"shout":{"wrap":"yes"},"a":{}},
	"imports":{"get":{"doc":"Gets"}},"wants":{"put":{}},
	"services":["save","resume","stop","start","configure"],"config":"{\"type\":\"object\"}"}`

func TestManifest(t *testing.T) {
	about, err := wire.ParseManifest([]byte(everything))
	require.NoError(t, err)
	shout := abi.Symbol{Name: "shout"}
	require.NoError(t, shout.Describe(abi.Text{{Key: "doc", Value: "Loud"}, {Key: "in", Value: "text/plain"}, {Key: "out", Value: "text/html"},
		{Key: "schema", Value: "{}"}, {Key: "stream", Value: "both"}, {Key: "x-own", Value: "1=2"}}))
	assert.Equal(t, &abi.Description{
		Manifest: &abi.Manifest{Name: "shout-2.x", Version: "1.0.0 <&> ü", Threads: abi.Concurrent, Description: "It shouts", State: "v1",
			Keys: abi.Text{{Key: "ferrule", Value: "1"}, {Key: "name", Value: "shout-2.x"}, {Key: "version", Value: "1.0.0 <&> ü"}, {Key: "threads", Value: "concurrent"},
				{Key: "description", Value: "It shouts"}, {Key: "license", Value: "MIT"}, {Key: "state", Value: "v1"}, {Key: "x-own", Value: ""}}},
		Funcs:    []abi.Symbol{shout, {Name: "whisper"}},
		Hooks:    []abi.Symbol{{Name: "a"}, {Name: "shout", Keys: abi.Text{{Key: "wrap", Value: "yes"}}}},
		Imports:  []abi.Symbol{{Name: "get", Doc: "Gets", Keys: abi.Text{{Key: "doc", Value: "Gets"}}}},
		Wants:    []abi.Symbol{{Name: "put"}},
		HasStart: true, HasStop: true, HasConfigure: true, HasSave: true, HasResume: true, ConfigSchema: `{"type":"object"}`,
	}, about)

	again, err := wire.ParseManifest(wire.FormatManifest(about, false))
	require.NoError(t, err)
	assert.Equal(t, about, again)
	assert.Contains(t, string(wire.FormatManifest(about, false)), "<&> ü", "as its author has written it")
}

// member is a manifest with one more member.
func member(text string) string { return `{"name":"n","version":"1",` + text + `}` }

func TestManifestKept(t *testing.T) {
	for _, text := range []string{
		`{"name":"n","version":"1"}`, " \r\n\t{ \"version\" : \"1\" , \"name\" : \"n\" } \n", `{"n\u0061me":"n","version":"1"}`,
		`{"name":"` + strings.Repeat("n", 128) + `","version":"1"}`,
		member(`"threads":"serial"`), member(`"threads":"pinned"`), member(`"description":""`), member(`"config":""`),
		member(`"keys":{}`), member(`"functions":{}`), member(`"hooks":{}`), member(`"imports":{}`), member(`"wants":{}`), member(`"services":[]`),
		member(`"functions":{"f":{"name":"n","doc":"d"},"name":{},"F":{},"` + strings.Repeat("f", 128) + `":{}}`),
		member(`"keys":{"state":"s"},"services":["save","resume"]`), member(`"keys":{"state":""}`),
		member(`"imports":{"a":{}},"wants":{"A":{}},"functions":{"a":{}},"hooks":{"a":{}}`),
		member(`"config":"` + strings.Repeat("c", wire.MaxManifest-len(member(`"config":""`))) + `"`),
		member(`"config":"\ud83d\ude00 \ud800"`),
		member(`"keys":{"k":"` + strings.Repeat("v", abi.MaxText-len("ferrule=1|name=n|version=1|threads=serial|k=||")) + `"}`),
		member(`"functions":{"f":{"k":"` + strings.Repeat("v", abi.MaxText-len("k=||")) + `"}}`),
	} {
		about, err := wire.ParseManifest([]byte(text))
		require.NoError(t, err, "%.200s", text)
		if len(text) == wire.MaxManifest { // it says nothing of threads, which is written
			require.Len(t, about.ConfigSchema, len(text)-len(member(`"config":""`)))
			continue
		}
		again, err := wire.ParseManifest(wire.FormatManifest(about, false))
		require.NoError(t, err, "%.200s", text)
		require.Equal(t, about, again, "%.200s", text)
	}
}

var manifestsBroken = []struct{ text, want string }{
	{``, `found a manifest that is not JSON (it ends too early), expected a JSON object (rule W5`},
	{` `, `not JSON (it ends too early)`},
	{`{`, `not JSON (it ends too early)`},
	{`{"name"`, `not JSON (it ends too early)`},
	{`{"name":"n`, `not JSON (it ends too early)`},
	{`hello`, `found a manifest that is not JSON (`},
	{`{"name":"n" "version":"1"}`, `not JSON (`},
	{`{"name":"n","version":"1",}`, `not JSON (`},
	{`{'name':'n','version':'1'}`, `not JSON (`},
	{"{\"name\":\"n\",\"version\":\"1\n\"}", `not JSON (`},
	{"\ufeff" + `{"name":"n","version":"1"}`, `not JSON (`},
	{`{"name":"n","version":"1"} // more`, `not JSON (`},
	{`{"name":"n","version":"1"}}`, `not JSON (`},
	{`{5:"n"}`, `not JSON (`},
	{member(`"keys":{"a":01}`), `found a number as a value in "keys"."a"`},
	{member(`"config":1e999`), `expected`},
	{`{"name":"n","version":"1"} {}`, `found a manifest that is something else, expected one JSON object (rule W5`},
	{`{"name":"n","version":"1"} null`, `something else`},
	{`[]`, `something else`},
	{`[{"name":"n","version":"1"}]`, `something else`},
	{`"text"`, `something else`},
	{`1`, `something else`},
	{`null`, `something else`},
	{"{\"name\":\"n\",\"version\":\"\xff\"}", `found a manifest with bytes that are not UTF-8, expected UTF-8 (rule W5`},
	{member(`"config":"` + strings.Repeat("c", 1+wire.MaxManifest-len(member(`"config":""`))) + `"`), `found a manifest of 1048577 bytes, expected 1048576 at most (rule W2`},

	// Keys.
	{`{"name":"n","name":"n","version":"1"}`, `found the key "name" twice, expected each once (rule W5`},
	{`{"name":"n","n\u0061me":"n","version":"1"}`, `found the key "name" twice`},
	{`{"name":"n","Name":"m","version":"1"}`, `found the key "Name", expected name, version, threads, description, keys, functions, hooks, imports, wants, services, config (rule W5`},
	{`{"NAME":"n","version":"1"}`, `found the key "NAME", expected name, version,`},
	{member(`"":""`), `found the key "", expected name`},
	{member(`"licence":"MIT"`), `found the key "licence", expected name`},
	{member(`"\u017fervices":["start"]`), "found the key \"\u017fervices\", expected name"}, // folds to services
	{member(`"keys":{"a":"1","a":"2"}`), `found the key "a" twice`},
	{member(`"functions":{"f":{},"f":{}}`), `found the key "f" twice`},
	{member(`"functions":{"f":{"doc":"","doc":""}}`), `found the key "doc" twice`},
	{member(`"functions":{"f":{"doc":""}},"functions":{"g":{}}`), `found the key "functions" twice`},
	{member(`"keys":{"name":"m"}`), `found the key "name" among keys, expected it once, as a member of the manifest (rule W5`},
	{member(`"keys":{"description":"m"}`), `found the key "description" among keys`},
	{member(`"keys":{"ferrule":"1"}`), `found the key "ferrule" among keys`},
	{member(`"keys":{"threads":"serial"}`), `found the key "threads" among keys`},
	{member(`"keys":{"":"1"}`), `found a manifest with a key that is wrong: found the key "", expected 1 to 64 bytes of a-z, 0-9, _, - and . (rule R3), expected what ferrule.h asks for (rule W5`},
	{member(`"keys":{"License":"1"}`), `found the key "License", expected 1 to 64 bytes of a-z`},
	{member(`"keys":{"a=b":"1"}`), `found the key "a=b", expected text without a NUL, and keys without an equals sign (rule W5`},
	{member(`"keys":{"a\u0000":"1"}`), `found the key "a\x00", expected text without a NUL`},
	{member(`"keys":{"a":"1\u0000"}`), `found the key "a", expected text without a NUL`},
	{member(`"functions":{"f":{"doc":"\u0000x=y"}}`), `found the key "doc", expected text without a NUL`},
	{member(`"description":"a\u0000b"`), `found the key "description", expected text without a NUL`},
	{member(`"config":"a\u0000b"`), `found the value of config, expected text without a NUL`},
	{member(`"keys":{"k":"` + strings.Repeat("v", abi.MaxText) + `"}`), `found texts of 65582 bytes together, expected 65536 at most (rule W5`},
	{member(`"functions":{"f":{"k":"` + strings.Repeat("v", abi.MaxText-3) + `"}}`), `found texts of 65537 bytes together, expected 65536 at most`},

	// Values of other types.
	{`{"name":5,"version":"1"}`, `found a number as a value in "name", expected text (rule W5`},
	{`{"name":"n","version":1.5}`, `found a number as a value in "version", expected text`},
	{`{"name":["n"],"version":"1"}`, `found a list as a value in "name", expected text`},
	{`{"name":{},"version":"1"}`, `found an object as a value in "name", expected text`},
	{`{"name":true,"version":"1"}`, `found true or false as a value in "name", expected text`},
	{member(`"functions":[]`), `found a list as a value in "functions", expected an object`},
	{member(`"functions":["f"]`), `found a list as a value in "functions", expected an object`},
	{member(`"functions":"f"`), `found a text as a value in "functions", expected an object`},
	{member(`"functions":{"g":{},"f":""}`), `found a text as a value in "functions"."f", expected an object (rule W5`},
	{member(`"functions":{"f":{"stream":true}}`), `found true or false as a value in "functions"."f"."stream", expected text (rule W5`},
	{member(`"wants":{"f":{"` + strings.Repeat("k", 61) + `":1}}`), `found a number as a value in "wants"."f"."` + strings.Repeat("k", 60) + `"…, expected text`},
	{member(`"hooks":{"f":{}},"imports":{"a":{"doc":"d"},"b":{"from":[]}}`), `found a list as a value in "imports"."b"."from", expected text`},
	{member(`"keys":{"a":false}`), `found true or false as a value in "keys"."a", expected text`},
	{member(`"services":"start"`), `found a text as a value in "services", expected a list of texts`},
	{member(`"services":{"start":"yes"}`), `found an object as a value in "services", expected a list of texts`},
	{member(`"services":["start",1]`), `found a number as a value in "services", expected text (rule W5`},
	{member(`"services":[["start"]]`), `found a list as a value in "services", expected text`},
	{member(`"services":[{"start":""}]`), `found an object as a value in "services", expected text`},
	{`{"name":null,"version":"1"}`, `found null as a value in "name", expected text (rule W5`},
	{member(`"functions":null`), `found null as a value in "functions", expected an object (rule W5`},
	{member(`"functions":{"f":null}`), `found null as a value in "functions"."f", expected an object`},
	{member(`"functions":{"f":{"doc":null}}`), `found null as a value in "functions"."f"."doc", expected text`},
	{member(`"services":null`), `found null as a value in "services", expected a list of texts`},
	{member(`"services":[null]`), `found null as a value in "services", expected text`},
	{member(`"functions":{"f":{"doc":{}}}`), `found an object as a value in "functions"."f"."doc", expected text (rule W5`},
	{member(`"config":` + strings.Repeat("[", 500_000)), `found a list as a value in "config", expected text`},
	{member(`"config":` + strings.Repeat(`{"a":`, 100_000)), `found an object as a value in "config", expected text`},
	{strings.Repeat("[", wire.MaxManifest), `something else`},

	// What ferrule.h asks for.
	{`{}`, `found a manifest without a version, expected text (rule W5`},
	{`{"name":"n"}`, `found a manifest without a version`},
	{`{"name":"n","version":""}`, `found a manifest without a version`},
	{`{"version":"1"}`, `found a manifest with a key that is wrong: key "name": found no name`},
	{`{"name":"","version":"1"}`, `key "name": found no name`},
	{`{"name":"a b","version":"1"}`, `key "name": found "a b", expected 1 to 128 letters, digits, _, - or .`},
	{`{"name":"` + strings.Repeat("n", 129) + `","version":"1"}`, `expected 1 to 128 letters, digits`},
	{member(`"threads":"many"`), `key "threads": found "many", expected serial, concurrent or pinned`},
	{member(`"functions":{"a-b":{}}`), `found the function "a-b", expected a C identifier of 1 to 128 bytes (rule W5`},
	{member(`"functions":{"":{}}`), `found the function "", expected a C identifier`},
	{member(`"functions":{"ferrule.start":{}}`), `found the function "ferrule.start", expected a C identifier`},
	{member(`"hooks":{"9":{}}`), `found the hook "9", expected a C identifier`},
	{member(`"imports":{"a b":{}}`), `found the import "a b", expected a C identifier`},
	{member(`"wants":{"` + strings.Repeat("w", 129) + `":{}}`), `found the want "` + strings.Repeat("w", 60) + `"…, expected a C identifier of 1 to 128 bytes`},
	{member(`"functions":{"f":{"stream":"yes"}}`), `found the function f with a key that is wrong: key "stream": found "yes", expected in, out or both (rule R24), expected what ferrule.h asks for (rule W5`},
	{member(`"functions":{"f":{"Doc":"x"}}`), `found the function f with a key that is wrong: found the key "Doc"`},
	{member(`"imports":{"b":{},"a":{}},"wants":{"a":{},"b":{}}`), `found a as an import and as a want, expected one of the two (rule W5`},
	{member(`"services":["start","start"]`), `found the service "start", expected start, stop, configure, save and resume, each once (rule W5`},
	{member(`"services":["batch"]`), `found the service "batch", expected start, stop`},
	{member(`"services":["Start"]`), `found the service "Start", expected start, stop`},
	{member(`"services":["save"]`), `found some of the services save and resume and the key state, expected all three, or none (rule W10`},
	{member(`"services":["resume"],"keys":{"state":"s"}`), `(rule W10`},
	{member(`"services":["save","resume"]`), `(rule W10`},
	{member(`"keys":{"state":"s"}`), `(rule W10`},
	{member(`"keys":{"state":"s p"},"services":["save","resume"]`), `key "state": found "s p"`},
}

func TestManifestBroken(t *testing.T) {
	for _, c := range manifestsBroken {
		var about *abi.Description
		var err error
		spent := allocated(func() { about, err = wire.ParseManifest([]byte(c.text)) })
		assert.Nil(t, about, "%.200s", c.text)
		broken, ok := errors.AsType[*wire.Error](err)
		require.True(t, ok, "%.200s: %v", c.text, err)
		assert.Contains(t, err.Error(), c.want, "%.200s", c.text)
		assert.Regexp(t, `^found .*, expected .* \(rule `+broken.Rule+` of docs/wire\.md\)$`, err.Error())
		assert.Less(t, len(err.Error()), 500, "%.200s", c.text)
		assert.Less(t, spent, manifestAffordable(len(c.text)), "%.200s", c.text)
	}
}

// manifestAffordable is how much memory the parsing of n bytes may take: JSON has lists of nothing, and objects of little.
func manifestAffordable(n int) uint64 { return 1<<20 + 200*uint64(n) }

// Every prefix of a manifest is none.
func TestManifestCutOff(t *testing.T) {
	for n := range len(everything) {
		_, err := wire.ParseManifest([]byte(everything[:n]))
		assert.ErrorContains(t, err, "(rule W5 of docs/wire.md)", "%d bytes", n)
	}
}

// What a manifest is made of is not the body's, which may be used again.
func TestManifestKeepsNothing(t *testing.T) {
	body := []byte(everything)
	about, err := wire.ParseManifest(body)
	require.NoError(t, err)
	clear(body)
	again, err := wire.ParseManifest([]byte(everything))
	require.NoError(t, err)
	assert.Equal(t, again, about)
}

// A plug-in's description goes over the wire as it is, but for what a sidecar cannot have, and for the order of keys, which JSON does not know.
func TestManifestOfFixtures(t *testing.T) {
	for _, name := range []string{"echo", "quick", "serves", "services", "services_pinned", "state", "system", "limits", "asks", "released", "host", "traced", "check_wants", "check_words_list",
		"check_config", "threads_concurrent", "permits", "check_next"} {
		about, err := loader.Inspect(fixture.C(t, name))
		require.NoError(t, err, name)
		for _, start := range []bool{false, true} {
			body := wire.FormatManifest(&about.Description, start)
			require.True(t, json.Valid(body))
			require.False(t, bytes.ContainsAny(body, "\n\x00"))
			got, err := wire.ParseManifest(body)
			require.NoError(t, err, "%s: %s", name, body)
			want := about.Description
			want.HasBatch = false
			want.HasStart = want.HasStart || start
			assert.Equal(t, ordered(&want), ordered(got), name)
			assert.Equal(t, got.Ordinals(), want.Ordinals(), name)
			again, err := wire.ParseManifest(wire.FormatManifest(got, false))
			require.NoError(t, err, name)
			assert.Equal(t, got, again, name)
		}
	}
	about, err := loader.Inspect(fixture.C(t, "check_want_and_import"))
	if err == nil { // it may be refused there already
		_, err = wire.ParseManifest(wire.FormatManifest(&about.Description, false))
	}
	assert.Error(t, err, "a want that is an import, too")
}

// ordered is a copy whose keys are in order; where it does not say how its instances may be called it says so.
func ordered(about *abi.Description) *abi.Description {
	sorted := func(text abi.Text) abi.Text {
		text = slices.DeleteFunc(slices.Clone(text), func(kv abi.KeyValue) bool { return kv.Key == "threads" && kv.Value == "" })
		slices.SortFunc(text, func(a, b abi.KeyValue) int { return strings.Compare(a.Key, b.Key) })
		return text
	}
	c := *about
	m := *about.Manifest
	if m.Keys.Get("threads") == "" {
		m.Keys = append(slices.Clone(m.Keys), abi.KeyValue{Key: "threads", Value: "serial"})
	}
	m.Keys, c.Manifest = sorted(m.Keys), &m
	for _, all := range []*[]abi.Symbol{&c.Funcs, &c.Hooks, &c.Imports, &c.Wants} {
		*all = slices.Clone(*all)
		for i := range *all {
			(*all)[i].Keys = sorted((*all)[i].Keys)
		}
	}
	return &c
}

// A body of any bytes is a manifest, or an *Error; what is one is written so that it reads as the same.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(everything))
	for _, c := range manifestsBroken {
		if len(c.text) < 10_000 {
			f.Add([]byte(c.text))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var about *abi.Description
		var err error
		spent := allocated(func() { about, err = wire.ParseManifest(body) })
		assert.Less(t, spent, manifestAffordable(len(body)))
		if err != nil {
			require.IsType(t, new(wire.Error), err)
			require.Nil(t, about)
			return
		}
		again, err := wire.ParseManifest(wire.FormatManifest(about, false))
		require.NoError(t, err)
		require.Equal(t, about, again)
		started, err := wire.ParseManifest(wire.FormatManifest(about, true))
		require.NoError(t, err)
		about.HasStart = true
		require.Equal(t, about, started)
	})
}

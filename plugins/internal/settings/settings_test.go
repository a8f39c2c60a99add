package settings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/settings"
)

// plugin parses the settings of the second plug-in of a file.
func plugin(t *testing.T, settings string) *config.Plugin {
	t.Helper()
	c, err := config.Parse("", []byte("plugins:\n- a\n- name: p\n  config:\n    "+strings.ReplaceAll(settings, "\n", "\n    ")+"\n"))
	require.NoError(t, err)
	return &c.Plugins[1]
}

func env(name string) (string, bool) {
	v, ok := map[string]string{"TOKEN": "hunter2-token", "EMPTY": "", "LOOP": "${env:TOKEN}", "BAD": "\xff"}[name]
	return v, ok
}

func readFile(path string) ([]byte, error) {
	if text, ok := map[string]string{"key.pem": "first line\nsecond line\n", "windows.txt": "pass-word\r\n", "binary": "\xff\xfe"}[path]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func TestReferences(t *testing.T) {
	for in, want := range map[string]string{
		`{a: "${env:TOKEN}", b: [1.50, true, null]}`: `{"a":"hunter2-token","b":[1.50,true,null]}`,
		`Bearer ${env:TOKEN}, ${file:windows.txt}`:   `"Bearer hunter2-token, pass-word"`,
		`${file:key.pem}`:                      `"first line\nsecond line"`,
		`$${env:TOKEN} $$ $x {} ${env:EMPTY}.`: `"${env:TOKEN} $$ $x {} ."`,
		`${env:LOOP}`:                          `"${env:TOKEN}"`,
		`{"${env:TOKEN}": 1}`:                  `{"${env:TOKEN}":1}`,
		`{z: 1, a: <&>, m: 0x10}`:              `{"z":1,"a":"<&>","m":16}`,
		`{z: "$${", a: <&>}`:                   `{"a":"<&>","z":"${"}`,
		`12345678901234567890123`:              `12345678901234567890123`,
	} {
		got, _, err := settings.Resolve(plugin(t, in), "", env, readFile)
		if assert.NoError(t, err, in) {
			assert.Equal(t, want, string(got), in)
		}
	}
	_, secrets, err := settings.Resolve(plugin(t, `{a: "${env:TOKEN} ${env:TOKEN}${env:EMPTY}", b: "${file:windows.txt}", c: plain}`), "", env, readFile)
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"hunter2-token", "pass-word"}, secrets)
}

func TestFilesAreBesideTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("here\n"), 0o600))
	require.NoError(t, os.WriteFile(path, []byte("plugins: [{name: p, config: '${file:token}'}, {name: q, config: '${file:gone}'}]"), 0o600))
	c, err := config.Load(path)
	require.NoError(t, err)
	got, _, err := settings.Resolve(&c.Plugins[0], "", env, os.ReadFile)
	require.NoError(t, err)
	assert.Equal(t, `"here"`, string(got))
	_, _, err = settings.Resolve(&c.Plugins[1], "", env, os.ReadFile)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.True(t, strings.HasPrefix(err.Error(), path+":1:"), err.Error())
}

func TestReferencesThatAreMissing(t *testing.T) {
	_, _, err := settings.Resolve(plugin(t, "ok: ${env:TOKEN}\nx: [a, '${env:GONE}']\ny: ${file:gone.txt}\nz: ${file:binary}\nv: ${secret:s3cr3t}\nu: ${TOKEN}\nt: s3cr3t ${env:TOKEN\ns: ${envs:X}\nr: ${env:BAD}"), "", env, readFile)
	e, ok := errors.AsType[*settings.Error](err)
	require.True(t, ok, err)
	assert.Equal(t, "p", e.Plugin)
	assert.Equal(t, strings.Join([]string{
		"config:6:12: plugins[1].config.x[1]: found ${env:GONE}, and no such variable in the environment, expected a variable that is set. Set GONE where the application is started.",
		"config:7:8: plugins[1].config.y: found ${file:gone.txt}, which cannot be read: file does not exist, expected a file with the secret",
		"config:8:8: plugins[1].config.z: found ${file:binary}, which is not UTF-8, expected a text file",
		"config:9:8: plugins[1].config.v: found a ${…} that is no reference, expected ${env:NAME} or ${file:path}. Write $${ where no reference is meant.",
		"config:10:8: plugins[1].config.u: found a ${…} that is no reference, expected ${env:NAME} or ${file:path}. Write $${ where no reference is meant.",
		"config:11:8: plugins[1].config.t: found a ${ that no } ends, expected ${env:NAME} or ${file:path}. Write $${ where no reference is meant.",
		"config:12:8: plugins[1].config.s: found a ${…} that is no reference, expected ${env:NAME} or ${file:path}. Did you mean ${env:…}?",
		"config:13:8: plugins[1].config.r: found ${env:BAD}, which is not UTF-8, expected a text",
	}, "\n"), err.Error())
	assert.Equal(t, "${env:GONE}", e.Faults[0].Reference)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

const schema = `{
	"type": "object",
	"required": ["rate"],
	"additionalProperties": false,
	"properties": {
		"rate": {"type": "integer", "minimum": 1, "maximum": 100},
		"mode": {"enum": ["fast", "slow"]},
		"token": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
		"list": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": true},
		"either": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}}]},
		"factor": {"type": "number", "exclusiveMinimum": 0.5, "multipleOf": 0.25},
		"no/w%": {"type": "object", "additionalProperties": false, "properties": {"inner": {}}},
		"never": false,
		"const": {"const": 3},
		"not": {"not": {"type": "string"}}
	}
}`

func TestSchema(t *testing.T) {
	got, _, err := settings.Resolve(plugin(t, `{rate: 10, token: abc, list: [a, b], either: {path: x}, factor: 0.75}`), schema, env, readFile)
	require.NoError(t, err)
	assert.Equal(t, `{"rate":10,"token":"abc","list":["a","b"],"either":{"path":"x"},"factor":0.75}`, string(got))
	for in, want := range map[string][]string{
		`{rate: ten, mode: fats, tokne: x}`: {
			`config:5:12: plugins[1].config.rate: found a text, expected an integer`,
			`config:5:23: plugins[1].config.mode: found a text, expected fast or slow`,
			`config:5:36: plugins[1].config.tokne: found an unknown key, expected const, either, factor, list, mode, never, no/w%, not, rate or token. Did you mean token?`},
		`{}`:                     {`config:5:5: plugins[1].config: found no "rate", expected the keys that the plug-in needs. Add rate:.`},
		`x`:                      {`config:5:5: plugins[1].config: found a text, expected a mapping`},
		`{rate: 0}`:              {`plugins[1].config.rate: found a number, expected 1 or more`},
		`{rate: 1000}`:           {`plugins[1].config.rate: found a number, expected 100 at most`},
		`{rate: '${env:TOKEN}'}`: {`plugins[1].config.rate: found a text, expected an integer`},
		`{rate: 1, token: '${env:TOKEN}'}`: {
			`plugins[1].config.token: found a text, expected a text that "^[a-z]+$" matches`,
			`plugins[1].config.token: found a text, expected 5 characters at most`},
		`{rate: 1, list: [a, 1, a]}`: {
			`plugins[1].config.list[1]: found a number, expected a text`,
			`plugins[1].config.list: found a list, expected 2 items at most`,
			`plugins[1].config.list: found a list, expected each item once (0 and 2 are the same)`},
		`{rate: 1, either: 5}`:          {`plugins[1].config.either: found a number, expected a text, or a mapping`},
		`{rate: 1, either: {path: 5}}`:  {`config:5:30: plugins[1].config.either.path: found a number, expected a text`},
		`{rate: 1, either: {}}`:         {`plugins[1].config.either: found no "path"`},
		`{rate: 1, factor: 0.5}`:        {`plugins[1].config.factor: found a number, expected more than 0.5`},
		`{rate: 1, factor: 0.6}`:        {`plugins[1].config.factor: found a number, expected a multiple of 0.25`},
		`{rate: 1, 'no/w%': {iner: 1}}`: {`plugins[1].config["no/w%"].iner: found an unknown key, expected inner. Did you mean inner?`},
		`{rate: 1, never: 1}`:           {`plugins[1].config.never: found a number, expected nothing there. Remove it.`},
		`{rate: 1, const: 4}`:           {`plugins[1].config.const: found a number, expected 3`},
		`{rate: 1, not: a}`:             {`plugins[1].config.not: found a text, expected what the plug-in's schema does not exclude`},
	} {
		got, _, err := settings.Resolve(plugin(t, in), schema, env, readFile)
		assert.Nil(t, got)
		e, ok := errors.AsType[*settings.Error](err)
		if assert.True(t, ok, "%s: %v", in, err) {
			assert.Len(t, e.Faults, len(want), "%s: %v", in, err)
			for _, line := range want {
				assert.Contains(t, err.Error(), line, in)
			}
			assert.NotContains(t, err.Error(), "hunter2")
		}
	}
}

func TestNoSettings(t *testing.T) {
	c, err := config.Parse("", []byte("plugins:\n- p\n- {name: q, config: }\n"))
	require.NoError(t, err)
	for i := range c.Plugins {
		for _, schema := range []string{"", `{"type": "object"}`, `{"type": "null"}`, `true`} {
			got, secrets, err := settings.Resolve(&c.Plugins[i], schema, env, readFile)
			assert.NoError(t, err, schema)
			assert.Nil(t, got)
			assert.Nil(t, secrets)
		}
	}
	_, _, err = settings.Resolve(&c.Plugins[0], schema, env, readFile)
	require.EqualError(t, err, `config:2:3: p: config: found no "rate", expected the keys that the plug-in needs. Add rate:.`)
}

func TestSchemaThatIsBroken(t *testing.T) {
	for schema, want := range map[string]string{
		`{`:                                 "it is no JSON",
		`{} {}`:                             "it is no JSON",
		`[]`:                                "",
		`{"type": "text"}`:                  "",
		`{"$ref": "https://example.com/s"}`: `it refers to "https://example.com/s", and no other schema is loaded`,
		`{"$ref": "file:///etc/passwd"}`:    `it refers to "file:///etc/passwd", and no other schema is loaded`,
		`{"$schema": "https://example.com/draft"}`: "no other schema is loaded",
		`{"$ref": "#/$defs/gone"}`:                 "",
		`{"$ref": "#"}`:                            "a $ref leads back to itself",
		`{"anyOf": [{"type": "text"}]}`:            "",
		`{"allOf": [{"$ref": "#"}]}`:               "a $ref leads back to itself",
		`{"pattern": "("}`:                         "",
		`{"type": "\u001b[2J"}`:                    "",
		`{"multipleOf": 1e-99999999}`:              "found the number 1e-99999999, expected one of 400 characters at most",
		`{"allOf": [{"minimum": 1e401}]}`:          "found the number 1e401",
		`{"properties": {"a": {"minimum": 1e401}, "b": {"minimum": 1e402}, "c": {"minimum": 1e403}, "d": {"minimum": 1e404}, "e": {"minimum": 1e405}, "f": {"minimum": 1e406}, "g": {"minimum": 1e407}, "h": {"minimum": 1e408}}}`: "found the number 1e401",
		`{"maximum": 1` + strings.Repeat("0", 400) + `}`: "found the number 1000",
		strings.Repeat(" ", 1<<20) + "{}":                "expected 1048576 at most",
	} {
		_, _, err := settings.Resolve(plugin(t, "{}"), schema, env, readFile)
		e, ok := errors.AsType[*settings.SchemaError](err)
		if assert.True(t, ok, "%.60s: %v", schema, err) {
			assert.Equal(t, "p", e.Plugin)
			assert.Contains(t, err.Error(), want, "%.60s", schema)
			assert.Contains(t, err.Error(), "p: the schema of its settings (ferrule_meta_config) is broken")
			assert.NotContains(t, err.Error(), "\x1b")
		}
	}
}

// A schema that is short and takes for ever is broken, whoever wrote it: in one place, or by what stands in what.
func TestSchemaThatTakesForEver(t *testing.T) {
	var chain strings.Builder
	for i := range 60 {
		fmt.Fprintf(&chain, `"d%d": {"allOf": [{"$ref": "#/$defs/d%d"}, {"$ref": "#/$defs/d%d"}]}, `, i, i+1, i+1)
	}
	nested := strings.Repeat(`{"a": `, 50) + "1" + strings.Repeat("}", 50)
	for schema, value := range map[string]string{
		`{"$defs": {` + chain.String() + `"d60": {"type": "object"}}, "$ref": "#/$defs/d0"}`:          `{}`,
		`{"properties": {"a": {"$ref": "#"}}, "anyOf": [{"properties": {"a": {"$ref": "#"}}}]}`:       nested,
		`{"additionalProperties": {"$ref": "#"}, "allOf": [{"additionalProperties": {"$ref": "#"}}]}`: nested,
	} {
		_, _, err := settings.Resolve(plugin(t, value), schema, env, readFile)
		e, ok := errors.AsType[*settings.SchemaError](err)
		if assert.True(t, ok, err) {
			assert.ErrorContains(t, e, "takes more than 1000000 steps")
		}
	}
	_, _, err := settings.Resolve(plugin(t, nested), `{"properties": {"a": {"$ref": "#"}}}`, env, readFile)
	assert.NoError(t, err)
}

// A number in settings that no program has is a fault in its place, and not work without end for the validator.
func TestNumberWithoutMeasure(t *testing.T) {
	for _, number := range []string{"-1e-99999999", "1e-401", "0." + strings.Repeat("0", 399) + "1"} {
		for _, schema := range []string{"", `{"properties": {"a": {"minimum": 0}}}`, `{"properties": {"a": {"multipleOf": 1.3e-300}}}`} {
			_, _, err := settings.Resolve(plugin(t, `{"a": [`+number+`]}`), schema, env, readFile)
			e, ok := errors.AsType[*settings.Error](err)
			if assert.True(t, ok, "%.60s: %v", number, err) {
				require.Len(t, e.Faults, 1)
				assert.ErrorContains(t, err, "a[0]: found the number "+number[:4])
			}
		}
	}
	for _, number := range []string{"1e308", "-4.9e-324", "0.1", "1e-400"} {
		_, _, err := settings.Resolve(plugin(t, `{"a": `+number+`}`), `{"properties": {"a": {"maximum": 1e400, "multipleOf": 1e-400}}}`, env, readFile)
		assert.NoError(t, err, number)
	}
}

func TestRedactor(t *testing.T) {
	var r settings.Redactor
	assert.Equal(t, "hunter2", r.Text("hunter2"))
	r.Set([]string{"hunter2", "hunter2-long", "abc", "first line\nsecond line\r\n", `quo"ted`, ""})
	for in, want := range map[string]string{
		"x hunter2-long hunter2x":     "x [secret] [secret]x",
		"abc":                         "abc",
		"see second line":             "see [secret]",
		"all first line\nsecond line": "all [secret]",
		`{"k":"first line\nsecond line","q":"quo\"ted"}`: `{"k":"[secret]","q":"[secret]"}`,
	} {
		assert.Equal(t, want, r.Text(in))
	}
	var out bytes.Buffer
	log := slog.New(r.Handler(slog.NewJSONHandler(&out, nil))).With("token", "hunter2").WithGroup("g")
	log.Info("it is hunter2", "a", "hunter2", "n", 7, slog.Group("h", "b", "xhunter2"), "err", errors.New("no hunter2"), "any", map[string]string{"c": "hunter2"},
		"list", []int{1}, "late", late{})
	assert.NotContains(t, out.String(), "hunter2")
	assert.Equal(t, 7, strings.Count(out.String(), "[secret]"), out.String())
	assert.Contains(t, out.String(), `"n":7`)
	assert.Contains(t, out.String(), `"list":[1]`)
	r.Set(nil)
	assert.Equal(t, "hunter2", r.Text("hunter2"))
}

type late struct{}

func (late) LogValue() slog.Value { return slog.StringValue("hunter2") }

// Resolve never panics, its result is as the schema says, and no error has a secret in it, one of a reference or one that is written.
func FuzzResolve(f *testing.F) {
	f.Add(schema, `{"rate": 5, "mode": "s3cr3t", "token": "${env:TOKEN}", "either": ["s3cr3t"], "list": ["s3cr3t", "s3cr3t"]}`)
	f.Add(`{"oneOf": [{"type": "string"}, {"minLength": 3}], "propertyNames": {"maxLength": 1}}`, `"s3cr3t"`)
	f.Add(`{"contains": {"type": "null"}, "dependentRequired": {"a": ["b"]}, "prefixItems": [false], "if": {}, "then": {"const": "${"}}`, `["s3cr3t"]`)
	f.Add(`{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}`, `{"a": 1}`)
	f.Fuzz(func(t *testing.T, schema, value string) {
		if !json.Valid([]byte(value)) || strings.Contains(schema, "s3cr3t") || strings.Contains(schema, "hunter2") {
			return
		}
		var line bytes.Buffer
		if json.Compact(&line, []byte(value)) != nil {
			return
		}
		c, err := config.Parse("", []byte(`{"plugins": [{"name": "p", "config": `+line.String()+`}]}`))
		if err != nil {
			require.NotContains(t, err.Error(), "s3cr3t-")
			return
		}
		got, _, err := settings.Resolve(&c.Plugins[0], schema, env, readFile)
		if err == nil {
			require.True(t, got == nil && c.Plugins[0].Config == nil || json.Valid(got), "%s", got)
			return
		}
		require.NotContains(t, err.Error(), "hunter2")
		if !strings.Contains(keys(line.Bytes()), "s3cr3t") && !strings.Contains(value, "${") { // the names of keys and references are shown
			require.NotContains(t, err.Error(), "s3cr3t", "%s\n%s", schema, value)
		}
	})
}

// keys returns all the keys of a JSON document.
func keys(document []byte) string {
	var value any
	if json.Unmarshal(document, &value) != nil {
		return ""
	}
	var all []string
	var walk func(any)
	walk = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			for key, item := range v {
				all = append(all, key)
				walk(item)
			}
		}
	}
	walk(value)
	return strings.Join(all, " ")
}

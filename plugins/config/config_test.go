package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
)

// field is the file that the system is made for, as its users wrote it.
const field = `registry:
  # Plugin registry settings example
  url: 'https://github.com/{name}/{repository}/releases/download/{tag}'
  name: ''
  repository: ''
  tag: 'latest'
logging:
  # Setting the log level: CRITICAL, ERROR, WARNING, INFO, DEBUG
  level: 'DEBUG'
plugins:
  # Packages to download from registry
  - advance-plugin
  - sample-plugin
`

// Keys of minisign.
const (
	aKey        = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
	aPrivateKey = "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAo/htdcDzJBYOL2KpohOXthEZ3ATLTORv0R49Dea6bIA4cQa5kk8ihcoLu83YC/xcXm6T7TWmll08hNFchytpdiOPhGNV9J/cAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// all has every key.
const all = `registry: {url: 'https://github.com/{name}/{repository}/releases/download/{tag}/{plugin}-{os}-{arch}.{ext}', name: acme, repository: shop-plugins,
           tag: 1.10, keys: [RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3],
           revoked: [RWSj+G11wPMkFsoLu83YC/xcXm6T7TWmll08hNFchytpdiOPhGNV9J/c, 1624F3C0756DF8A3], mirrors: ['oci://mirror.example/acme'],
           index: registry.example/acme}
logging: {level: CRITICAL, plugins: {advance-plugin: ERROR}}
plugins:
  - sample-plugin
  - {name: advance-plugin, version: ^2, grant: [loyalty_points, 'cart_*'], permit: {read: [data, /etc/hosts], write: [~/out], connect: [443], listen: [0, 80], memory: 1MiB}, limit: 50ms,
     isolate: {group: untrusted, memory: 256MiB, cpu: 1m, processes: 1, files: 9, grace: 100ms, stop: 10s, sandbox: best-effort}, data: own, required: true, enabled: false, config: {rate: 10},
     keys: [RWSj+G11wPMkFsoLu83YC/xcXm6T7TWmll08hNFchytpdiOPhGNV9J/c]}
  - name: last
    isolate: true
    permit: {memory: 65536}
  - {name: vowels, program: bin/vowels.py, interpreter: [./python, -u, -u], args: [a, a], env: {KEY: '${env:KEY}', N: 1}}
  - {name: far, url: 'tcp:[::1]:7000', token-file: token, tls: true, ca: ca.pem}
  - {name: near, url: 'unix:run/near.sock'}
folders: [~/plugins, more]
dev: {sample-plugin: ./build/sample.so}
hooks: {before_save: [audit, '*', tax]}
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("", []byte(text))
	require.NoError(t, err)
	return c
}

func TestTheFieldsOwnExample(t *testing.T) {
	assert.Equal(t, &config.Config{
		Registry: config.Registry{URL: "https://github.com/{name}/{repository}/releases/download/{tag}", Tag: "latest"},
		Logging:  config.Logging{Level: slog.LevelDebug},
		Plugins: []config.Plugin{{Name: "advance-plugin", Enabled: true, Line: 12, Column: 5},
			{Name: "sample-plugin", Enabled: true, Line: 13, Column: 5}},
	}, parse(t, field))
}

func TestEveryKey(t *testing.T) {
	c := parse(t, all)
	advance := c.Plugin("advance-plugin")
	require.NotNil(t, advance)
	assert.JSONEq(t, `{"rate":10}`, string(advance.Config.JSON()))
	advance.Config = nil
	vowels := c.Plugin("vowels").Sidecar
	assert.JSONEq(t, `{"KEY":"${env:KEY}","N":1}`, string(vowels.Env.JSON()))
	assert.Equal(t, "plugins[3].env.KEY", vowels.Env.Where("KEY"))
	vowels.Env = nil
	assert.Equal(t, &config.Config{
		Registry: config.Registry{URL: "https://github.com/{name}/{repository}/releases/download/{tag}/{plugin}-{os}-{arch}.{ext}",
			Name: "acme", Repository: "shop-plugins", Tag: "1.10", Keys: []string{
				"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"},
			Revoked: []string{"RWSj+G11wPMkFsoLu83YC/xcXm6T7TWmll08hNFchytpdiOPhGNV9J/c", "1624F3C0756DF8A3"}, Mirrors: []string{"oci://mirror.example/acme"},
			Index: "registry.example/acme"},
		Logging: config.Logging{Level: config.LevelCritical, Plugins: map[string]slog.Level{"advance-plugin": slog.LevelError}},
		Plugins: []config.Plugin{
			{Name: "sample-plugin", Enabled: true, Line: 7, Column: 5},
			{Name: "advance-plugin", Version: "^2", Grant: []string{"loyalty_points", "cart_*"}, Keys: []string{"RWSj+G11wPMkFsoLu83YC/xcXm6T7TWmll08hNFchytpdiOPhGNV9J/c"}, Limit: 50 * time.Millisecond, Required: true,
				Permit:  config.Permit{Said: true, Read: []string{"data", "/etc/hosts"}, Write: []string{"~/out"}, Connect: []int{443}, Listen: []int{0, 80}, Memory: 1 << 20},
				Isolate: &config.Isolate{Group: "untrusted", Memory: 256 << 20, CPU: time.Minute, Processes: 1, Files: 9, Grace: 100 * time.Millisecond, Stop: 10 * time.Second, Sandbox: config.SandboxBestEffort},
				Data:    "own",
				Line:    8, Column: 5},
			{Name: "last", Enabled: true, Isolate: &config.Isolate{Sandbox: config.SandboxFull}, Permit: config.Permit{Said: true, Memory: 65536}, Line: 11, Column: 5},
			{Name: "vowels", Enabled: true, Sidecar: &config.Sidecar{Program: "bin/vowels.py", Interpreter: []string{"./python", "-u", "-u"}, Args: []string{"a", "a"}}, Line: 14, Column: 5},
			{Name: "far", Enabled: true, Sidecar: &config.Sidecar{URL: "tcp:[::1]:7000", TokenFile: "token", TLS: true, CA: "ca.pem"}, Line: 15, Column: 5},
			{Name: "near", Enabled: true, Sidecar: &config.Sidecar{URL: "unix:run/near.sock"}, Line: 16, Column: 5},
		},
		Folders: []string{"~/plugins", "more"},
		Dev:     map[string]string{"sample-plugin": "./build/sample.so"},
		Hooks:   map[string][]string{"before_save": {"audit", "*", "tax"}},
	}, c)
	assert.Nil(t, c.Plugin("other"))
}

func TestLoadMakesPathsAbsolute(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	path := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(all), 0o600))
	c, err := config.Load(path)
	require.NoError(t, err)
	assert.Equal(t, path, c.Path)
	assert.Equal(t, []string{filepath.Join(home, "plugins"), filepath.Join(dir, "more")}, c.Folders)
	assert.Equal(t, map[string]string{"sample-plugin": filepath.Join(dir, "build", "sample.so")}, c.Dev)
	assert.Equal(t, filepath.Join(dir, "data"), c.Plugin("advance-plugin").Permit.Read[0])
	assert.Equal(t, []string{filepath.Join(home, "out")}, c.Plugin("advance-plugin").Permit.Write)
	assert.Equal(t, filepath.Join(dir, "bin", "vowels.py"), c.Plugin("vowels").Sidecar.Program)
	assert.Equal(t, []string{filepath.Join(dir, "python"), "-u", "-u"}, c.Plugin("vowels").Sidecar.Interpreter)
	assert.Equal(t, filepath.Join(dir, "token"), c.Plugin("far").Sidecar.TokenFile)
	assert.Equal(t, filepath.Join(dir, "ca.pem"), c.Plugin("far").Sidecar.CA)
	assert.Equal(t, "unix:"+filepath.Join(dir, "run", "near.sock"), c.Plugin("near").Sidecar.URL)
}

func TestLoadOfNoFile(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "config.yaml"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "config.yaml: found no file, expected the application's configuration. Make one there")
	_, err = config.Load(t.TempDir())
	require.Error(t, err)
}

// What is valid though it looks odd, and what it means.
func TestValid(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                   "",
		"a comment":               "# nothing\n",
		"a document with nothing": "---\n...\n",
		"null":                    "~",
		"keys with nothing":       "registry:\nlogging:\nplugins:\nfolders:\ndev:\nhooks:\n",
		"a byte order mark":       "\ufeffplugins: []\n",
		"Windows' line ends":      "plugins:\r\nfolders:\r\n",
	} {
		c, err := config.Parse("", []byte(text))
		if assert.NoError(t, err, name) {
			assert.Equal(t, "latest", c.Registry.Tag, name)
			assert.Empty(t, c.Plugins, name)
		}
	}
	c := parse(t, "plugins:\n- &a {name: a, isolate: &w {memory: 1MiB}, config: {x: 1}}\n- {<<: *a, name: b, isolate: {<<: *w, group: g}}\n- {<<: [{limit: 1s}, *a], name: c}\n- {name: d, grant: [], permit: , config: , isolate: false}\n")
	assert.Equal(t, &config.Isolate{Memory: 1 << 20, Group: "g", Sandbox: config.SandboxFull}, c.Plugin("b").Isolate)
	assert.Equal(t, `{"x":1}`, string(c.Plugin("b").Config.JSON()))
	assert.Equal(t, time.Second, c.Plugin("c").Limit)
	assert.Equal(t, int64(1<<20), c.Plugin("c").Isolate.Memory)
	assert.Nil(t, c.Plugin("d").Config)
	assert.Nil(t, c.Plugin("d").Isolate)
	assert.Equal(t, "2024-01-01", parse(t, "registry: {tag: 2024-01-01}").Registry.Tag)
}

// Each fault is where it is, and says what was found; a file has them all at once.
func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"plugin: []":                                                 `1:1: plugin: found the unknown key "plugin", expected registry, logging, plugins, folders, dev or hooks. Did you mean plugins?`,
		"- a":                                                        `1:1: found a list, expected a mapping with registry, logging or plugins …`,
		"hello":                                                      `1:1: found the text "hello", expected a mapping`,
		"plugins: a":                                                 `1:10: plugins: found the text "a", expected a list of plug-ins, each with - before it. Put it in brackets: [a].`,
		"plugins: {a: {}}":                                           `1:10: plugins: found a mapping, expected a list of plug-ins`,
		"plugins:\n- a\n- b\n- a":                                    `4:3: plugins[2]: found the plug-in a a second time, expected each plug-in once. Make one of it and of the one in line 2.`,
		"plugins:\n- {name: a}\n- a":                                 `3:3: plugins[1]: found the plug-in a a second time`,
		"plugins:\n- a\n- name: a":                                   `3:3: plugins[1]: found the plug-in a a second time`,
		"plugins:\n- a:":                                             `2:3: plugins[0]: found the mapping "a:", expected a plug-in's name, or a mapping with name and others. Write - a, or - name: a.`,
		"plugins:\n- a:\n    limit: 1s":                              `2:3: plugins[0]: found the mapping "a:"`,
		"plugins:\n-":                                                `2:2: plugins[0]: found nothing, expected a plug-in's name, or a mapping`,
		"plugins:\n- {version: 1}":                                   `2:3: plugins[0]: found no name, expected a plug-in's name, or a mapping with name and others. Add name:.`,
		"plugins:\n- a b":                                            `2:3: plugins[0]: found the text "a b", expected a plug-in's name: letters, digits`,
		"plugins: [..]":                                              `1:11: plugins[0]: found the text "..", expected a plug-in's name`,
		"plugins: [12]":                                              `1:11: plugins[0]: found the number 12, which is no text in YAML, expected a plug-in's name: letters, digits, _, - and ., 128 of them at most, not dots alone. Put it in quotes: '12'.`,
		"plugins: [true]":                                            `1:11: plugins[0]: found true, which is no text in YAML`,
		"plugins: [[a]]":                                             `1:11: plugins[0]: found a list, expected a plug-in's name, or a mapping`,
		"plugins: [{name: a, limit: 50}]":                            `1:28: plugins[0].limit: found the number 50, expected more than 0 with a unit, such as 50ms, 2s or 1m30s. Say the unit: 50ms, or 50s.`,
		"plugins: [{name: a, limit: 50 ms}]":                         `plugins[0].limit: found the text "50 ms", expected more than 0 with a unit, such as 50ms, 2s or 1m30s. Did you mean 50ms?`,
		"plugins: [{name: a, limit: 0s}]":                            `plugins[0].limit: found the text "0s", expected more than 0`,
		"plugins: [{name: a, limit: -1s}]":                           `plugins[0].limit: found the text "-1s", expected more than 0`,
		"plugins: [{name: a, limit: 9999999h}]":                      `plugins[0].limit: found the text "9999999h", expected more than 0 with a unit, such as 50ms, 2s or 1m30s, and at most 290 years`,
		"plugins: [{name: a, limit: }]":                              `1:21: plugins[0].limit: found nothing`,
		"plugins: [{name: a, version: two}]":                         `plugins[0].version: found the text "two", expected a range of versions, such as ^2, ~1.4 or '>=1.2, <3'`,
		"plugins: [{name: a, permit: {memory: 256MB}}]":              `plugins[0].permit.memory: found the text "256MB", expected a size from 64KiB to 1024TiB, such as 256MiB, or a number of bytes. Did you mean 256MiB?`,
		"plugins:\n- name: a\n  permit: {memory: 65535}":             `3:20: plugins[0].permit.memory: found the number 65535, expected a size from 64KiB to 1024TiB, such as 256MiB, or a number of bytes. It is a number of bytes: the least is 65536.`,
		"plugins: [{name: a, permit: {memory: 63K}}]":                `plugins[0].permit.memory: found the text "63K", expected a size from 64KiB`,
		"plugins: [{name: a, isolate: {memory: 1000000}}]":           `found the number 1000000, expected a size from 1MiB to 1024TiB, such as 256MiB, or a number of bytes. It is a number of bytes: the least is 1048576.`,
		"plugins: [{name: a, isolate: {memory: 9999}}]":              `found the number 9999, expected a size from 1MiB to 1024TiB, such as 256MiB, or a number of bytes. Say the unit: 9999MiB.`,
		"plugins: [{name: a, isolate: {memory: 64}}]":                `plugins[0].isolate.memory: found the number 64, expected a size from 1MiB to 1024TiB, such as 256MiB, or a number of bytes. Say the unit: 64MiB.`,
		"plugins: [{name: a, isolate: {memory: 1023KiB}}]":           `plugins[0].isolate.memory: found the text "1023KiB", expected a size from 1MiB`,
		"plugins: [{name: a, permit: {memory: 0}}]":                  `plugins[0].permit.memory: found the number 0, expected a size`,
		"plugins: [{name: a, permit: {memory: 9000000TiB}}]":         `plugins[0].permit.memory: found the text "9000000TiB", expected a size`,
		"plugins: [{name: a, permit: {connect: [0]}}]":               `plugins[0].permit.connect[0]: found the number 0, expected a port from 1 to 65535`,
		"plugins: [{name: a, permit: {connect: [65536]}}]":           `plugins[0].permit.connect[0]: found the number 65536`,
		"plugins: [{name: a, permit: {connect: ['443']}}]":           `plugins[0].permit.connect[0]: found the text "443", expected a port from 1 to 65535. Leave out the quotes.`,
		"plugins: [{name: a, permit: {connect: [443, 443]}}]":        `plugins[0].permit.connect[1]: found "443" a second time`,
		"plugins: [{name: a, permit: {read: ['~x/y']}}]":             `plugins[0].permit.read[0]: found the text "~x/y", expected a path. ~ is the home folder`,
		"plugins: [{name: a, grant: points}]":                        `plugins[0].grant: found the text "points", expected a list of the application's functions. Put it in brackets: [points].`,
		"plugins: [{name: a, grant: ['']}]":                          `plugins[0].grant[0]: found the text "", expected a function's name`,
		"plugins: [{name: a, grant: [a*b]}]":                         `plugins[0].grant[0]: found the text "a*b", expected a function's name`,
		"plugins: [{name: a, required: yes}]":                        `plugins[0].required: found the text "yes", expected true or false. Write true.`,
		"plugins: [{name: a, isolate: }]":                            `1:21: plugins[0].isolate: found nothing, expected true, false, or a mapping with group and others`,
		"plugins: [{name: a, isolate: {sandbox: Full}}]":             `plugins[0].isolate.sandbox: found the text "Full", expected full, best-effort or none. Did you mean full?`,
		"plugins: [{name: a, isolate: {files: -1}}]":                 `plugins[0].isolate.files: found the number -1, expected a number from 0 to 65535`,
		"plugins: [{name: a, config: {x: .inf}}]":                    `plugins[0].config.x: found a number without an end, or none, expected a number that JSON has`,
		"logging: {level: WARN}":                                     `1:18: logging.level: found the text "WARN", expected CRITICAL, ERROR, WARNING, INFO or DEBUG. Did you mean WARNING?`,
		"logging: {level: debug}":                                    `found the text "debug", expected CRITICAL, ERROR, WARNING, INFO or DEBUG. Did you mean DEBUG?`,
		"logging: {plugins: {a: 3}}":                                 `logging.plugins.a: found the number 3`,
		"logging: {plugins: {a b: INFO}}":                            `logging.plugins: found the text "a b", expected a plug-in's name`,
		"hooks: {before_save: ['*', a, '*']}":                        `1:31: hooks.before_save[2]: found "*" a second time, expected each once. Remove one of the two.`,
		"hooks: {before-save: [a]}":                                  `hooks: found the text "before-save", expected a point's name`,
		"hooks: {p: [a, a]}":                                         `hooks.p[1]: found "a" a second time`,
		"hooks: [a]":                                                 `hooks: found a list, expected a mapping of points to lists of plug-ins`,
		"folders: ['']":                                              `folders[0]: found the text "", expected a path`,
		"registry: {url: 'https://x/{nam}'}":                         `1:17: registry.url: found {nam}, expected {name}, {repository}, {tag}, {plugin}, {version}, {os}, {arch}, {ext}. Did you mean name?`,
		"registry: {url: 'https://x/{name'}":                         `registry.url: found a { or } by itself`,
		"registry: {url: 'htps://x'}":                                `registry.url: found an address that begins with "htps"://, expected an address that begins with https://, http://, oci://, oci+http:// or file://, without spaces. Did you mean https?`,
		"registry: {url: example.com}":                               `Write https:// before it`,
		"registry: {url: /tmp/a.zip}":                                `registry.url: found an address without ://, expected an address that begins with https://, http://, oci://, oci+http:// or file://, without spaces. It is a path: write file:// before it`,
		"registry: {url: ../releases}":                               `It is a path: write file:// and the whole path, such as file:///path/of/a/folder`,
		"registry: {url: '~/releases'}":                              `It is a path: write file:// and the whole path`,
		"registry: {mirrors: ['C:\\a']}":                             `It is a path: write file:// and the whole path`,
		"registry: {url: 'https:// x'}":                              `registry.url: found an address with a space`,
		"registry:\n  url: 'file://releases'":                        `2:8: registry.url: found the address "file://releases", expected file:///path/of/a/folder or file:///path/of/a.zip, with the whole path. In a path a space is written %20`,
		"registry: {mirrors: ['file:///srv/50%']}":                   `registry.mirrors[0]: found the address "file:///srv/50%", expected file:///path`,
		"registry: {url: 'file:///srv/a b#c'}":                       `registry.url: found the address "file:///srv/a b#c", expected file:///path`,
		"registry: {url: 'file://me:secret@host/a'}":                 `registry.url: found an address of files with a user, or with characters that a path may not have, expected file:///path`,
		"registry: {mirrors: ['file:///srv/{tag}']}":                 `registry.mirrors[0]: found a placeholder in an address of files, expected file:// and the path`,
		"plugins:\n<<<<<<< HEAD\n  - a\n=======\n  - b\n>>>>>>> x\n": `found a marker of a merge conflict, expected one side of it. Resolve the merge`,
		"registry: {mirrors: ['']}":                                  `registry.mirrors[0]: found an address without ://`,
		"registry: {keys: [RWQabc]}":                                 `1:19: registry.keys[0]: found the text "RWQabc", expected a public key of minisign: 56 characters that begin with RW. It is the line that begins with RW in the .pub file`,
		"registry: {keys: RWQabc}":                                   `registry.keys: found the text "RWQabc", expected a list of keys. Put it in brackets`,
		"registry: {keys: [1624F3C0756DF8A3]}":                       `registry.keys[0]: found the text "1624F3C0756DF8A3", expected a public key of minisign`,
		"registry: {revoked: [1624F3C0756DF8A]}":                     `1:22: registry.revoked[0]: found the text "1624F3C0756DF8A", expected a public key of minisign, or the 16 hexadecimal digits of a key's id`,
		"registry: {revoked: [1624430075630803]}":                    `registry.revoked[0]: found the number 1624430075630803, which is no text in YAML, expected a public key of minisign, or the 16 hexadecimal digits of a key's id. Put it in quotes: '1624430075630803'`,
		"plugins:\n  - name: a\n    keys: [RWQabc]\n":                `3:12: plugins[0].keys[0]: found the text "RWQabc", expected a public key of minisign`,
		"plugins: [{name: a, keys: [" + aKey + ", " + aKey + "]}]":   `plugins[0].keys[1]: found "` + aKey + `" a second time`,
		"registry: {keys: [" + aPrivateKey + "]}":                    `A private key is of no use here, and is to be kept secret`,
		"registry: {index: 'acme corp'}":                             `1:19: registry.index: found the text "acme corp", expected a registry's name: letters, digits, _, -, . and /, 128 of them at most`,
		"registry: {index: ''}":                                      `registry.index: found the text "", expected a registry's name`,
		"registry: {index: https://registry.example/acme}":           `registry.index: found the text "https://registry.example/acme", expected a registry's name`,
		"registry: {tag: [a]}":                                       `registry.tag: found a list, expected a text`,
		"dev: {a: ''}":                                               `dev.a: found the text "", expected a path`,
		"plugins: []\nplugins: []":                                   `2:1: found the key "plugins" a second time, expected each key once. Make one of the two.`,
		"plugins:\n- name: a\n  limit: 1s\n  limit: 2s":              `4:3: plugins[0]: found the key "limit" a second time`,
		"dev: {1: a}":                                                `1:7: dev: found the key "1", which is no text in YAML, expected a text. Put it in quotes.`,
		"? [a]\n: b":                                                 `1:3: found a list or a mapping as a key`,
		"~: a":                                                       `1:1: found an empty key`,
		"plugins: !!seq []":                                          `1:10: plugins: found a tag (!), expected a value without a tag`,
		"plugins: []\n---\nfolders: []":                              `2:1: found a second document, expected one document. Put all into one file without --- in it.`,
		"plugins: &a [*a]":                                           `plugins[0]: found an alias of what it stands in`,
		"logging: {plugins: &a {<<: *a}}":                            `logging.plugins: found an alias of what it stands in`,
		"plugins: [{<<: 3, name: a}]":                                `1:16: plugins[0]: found the number 3 to be merged (<<), expected a mapping`,
		"plugins:\n- a\n- \xff":                                      `3:3: found the byte 0xff, which is not UTF-8, expected UTF-8. Save the file as UTF-8.`,
		"\xff\xfep\x00":                                              `1:1: found UTF-16, expected UTF-8. Save the file as UTF-8.`,
		"plugins: [a\x00]":                                           `1:12: found the character U+0000`,
		"plugins:\n\t- a\n":                                          `2:1: found a tab at the beginning of a line, expected spaces. Indent with spaces.`,
		"plugins:\n  - name: a\n  \tlimit: 1s\n":                     `3:3: found a tab at the beginning of a line`,
		"plugins: [a\nfolders: [b]\n":                                `found a text that is no YAML: `,
		"plugins:\n- a\nfolders: *b\n":                               `3:1: found an alias (*) of an anchor that is not there`,
		"plugins:\n- @a\n":                                           `2:1: found a character that no value begins with`,
		"registry:\n  name: a\n  tag 3\nplugins: []\n":               `3:3: found a text that is no YAML: `,
		"registry:\n  name: a\n tag: x\nplugins: []\n":               `3:2: found a text that is no YAML: `,
		"registry:\n  name: 'a\nplugins: []\nfolders: []\n":          `2:3: found a text that is no YAML: `,
		strings.Repeat("# long\n", 200_000):                          `1:1: found more than 1 MiB, expected a configuration file of 1 MiB at most`,
		"plugins: [{name: a, config: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}]": `found more than 64 levels of values in values`,

		"plugins:\n- {name: a, program: x, isolate: false}":               `2:34: plugins[0].isolate: found isolate: false beside program, expected true, or a mapping. Take it out: a program is a process of its own by itself.`,
		"plugins:\n- {name: a, program: x, isolate: {group: g}}":          `2:42: plugins[0].isolate.group: found a group beside program, expected none. Take it out: a program is a process of its own`,
		"plugins:\n- {name: a, program: x, isolate: no}":                  `plugins[0].isolate: found the text "no", expected true or false. Write false`,
		"plugins:\n- {name: a, url: 'tcp:x:1', permit: {connect: [443]}}": `plugins[0].permit: found permit beside url, expected none`,
		"plugins:\n- {name: a, url: 'tcp:x:1', keys: [" + aKey + "]}":     `plugins[0].keys: found keys beside url, expected none. Take it out: only what is installed from a registry is verified.`,
		"plugins:\n- {name: a, program: x, url: 'tcp:x:1'}":               `2:30: plugins[0].url: found url beside program, expected one of the two`,
		"plugins:\n- {name: a, args: [x]}":                                `2:19: plugins[0].args: found args without program, expected it beside program. Take it out, or add program:.`,
		"plugins:\n- {name: a, program: x, tls: true}":                    `plugins[0].tls: found tls without url`,
		"plugins:\n- {name: a, url: 'unix:/x', tls: true}":                `plugins[0].tls: found tls for a url that is not tcp:`,
		"plugins:\n- {name: a, url: 'tcp:x:1', tls: false, ca: x}":        `plugins[0].ca: found ca without tls, expected tls: true beside it, or an https: url. Add tls: true.`,
		"plugins:\n- {name: a, ca: x}":                                    `2:17: plugins[0].ca: found ca without url`,
		"plugins:\n- {name: a, url: 'unix:/x', ca: x}":                    `plugins[0].ca: found ca without tls, expected tls: true beside it, or an https: url. Take it out`,
		"plugins:\n- {name: a, url: 'https://x', tls: true}":              `2:36: plugins[0].tls: found tls for a url that is not tcp:, expected it beside a tcp: url. Take it out: https: is spoken by TLS anyway.`,
		"plugins:\n- {name: a, url: 'http://x', tls: true}":               `plugins[0].tls: found tls for a url that is not tcp:, expected it beside a tcp: url. Take it out, and write https: in the url.`,
		"plugins:\n- {name: a, url: 'http://x', ca: x}":                   `plugins[0].ca: found ca without tls`,
		"plugins:\n- {name: a, url: 'http+unix:x', data: y}":              `2:39: plugins[0].data: found data for an HTTP server, expected none. Take it out: HTTP has no way to give it that`,
		"plugins:\n- {name: a, url: 'https://x', config: {y: z}}":         `plugins[0].config: found config for an HTTP server`,
		"plugins:\n- {name: a, url: 'https://x', isolate: true}":          `plugins[0].isolate: found isolate beside url`,
		"plugins:\n- {name: a, url: 'https://x', args: [y]}":              `plugins[0].args: found args without program`,
		"plugins:\n- {name: a, url: 'https:x'}":                           `plugins[0].url: found the text "https:x", expected unix: and a path, tcp: with a host and a port, http://, https:// or http+unix: as an HTTP server has it, nats://, tls://, mqtt:// or mqtts:// with a broker and the plug-in's name, fifo: and two paths with a comma between them, or npipe: and a name. Write it as https://host:port.`,
		"plugins:\n- {name: a, url: 'https://x:1/%zz'}":                   `plugins[0].url: found the text "https://x:1/%zz", expected unix:`,
		"plugins:\n- {name: a, url: 'https://me:s3cr3t@x'}":               `2:18: plugins[0].url: found an address with a user, expected unix:`,
		"plugins:\n- {name: a, url: 'tcp:me:s3cr3t@x:1'}":                 `plugins[0].url: found an address with a user, expected unix:`,
		"plugins:\n- {name: a, url: 'http://x/?token=s3cr3t'}":            `plugins[0].url: found an address with a query, expected unix:`,
		"plugins:\n- {name: a, url: 'tpc:x:1'}":                           `plugins[0].url: found the text "tpc:x:1", expected unix: and a path, tcp: with a host and a port, http://, https://`,
		"plugins:\n- {name: a, url: 'nats://x:1'}":                        `plugins[0].url: found the text "nats://x:1", expected unix:`,
		"plugins:\n- {name: a, url: 'mqtt://x:1/a b'}":                    `Write it as nats://host:port/name, or nats://host:port/name@^2.`,
		"plugins:\n- {name: a, url: 'mqtt://me:s3cr3t@x/a'}":              `2:18: plugins[0].url: found an address with a user, expected unix:`,
		"plugins:\n- {name: a, url: 'mqtts://x,me:s3cr3t@y:1/a@^2'}":      `plugins[0].url: found an address with a user`,
		"plugins:\n- {name: a, url: 'nats://x/a@^2', config: {y: z}}":     `2:43: plugins[0].config: found config for a plug-in that a broker reaches, expected none. Take it out: its nodes have that (ferrule serve --config).`,
		"plugins:\n- {name: a, url: 'nats://x/a', data: y}":               `plugins[0].data: found data for a plug-in that a broker reaches`,
		"plugins:\n- {name: a, url: 'nats://x/a', token-file: y}":         `plugins[0].token-file: found token-file for a plug-in that a broker reaches, expected none. Take it out: the application gives credentials`,
		"plugins:\n- {name: a, url: 'nats://x/a', tls: true}":             `plugins[0].tls: found tls for a plug-in that a broker reaches, expected none. Take it out, and write tls://, or mqtts://, in the url.`,
		"plugins:\n- {name: a, url: 'mqtt://x/a', ca: y}":                 `plugins[0].ca: found ca for a plug-in that a broker reaches`,
		"plugins:\n- {name: a, url: 'mqtt://x/a', isolate: true}":         `plugins[0].isolate: found isolate beside url`,
		"plugins:\n- {name: a, url: /run/x.sock}":                         `plugins[0].url: found the text "/run/x.sock", expected unix: and a path`,
		"plugins:\n- {name: a, program: x, env: {K: [s3cr3t]}}":           `plugins[0].env.K: found a list, expected a text`,
		"plugins:\n- {name: a, program: x, env: {K: true}}":               `plugins[0].env.K: found a value`,
		"plugins:\n- {name: a, program: x, args: x}":                      `plugins[0].args: found the text "x", expected a list of texts. Put it in brackets: [x].`,
	} {
		c, err := config.Parse("", []byte(text))
		assert.Nil(t, c)
		e, ok := errors.AsType[*config.Error](err)
		if assert.True(t, ok, "%.80q: %v", text, err) {
			assert.Contains(t, "config:"+e.Error(), want, "%.80q", text)
			assert.Len(t, e.Faults, 1, "%.80q: %v", text, err)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := config.Parse("app/config.yaml", []byte("hooks: 3\nplugins:\n- {name: a, limit: 5, grnat: [x]}\n- name: b\n  name: c\nlogging: {level: LOUD}\n"))
	assert.EqualError(t, err, `app/config.yaml:1:8: hooks: found the number 3, expected a mapping of points to lists of plug-ins
app/config.yaml:3:20: plugins[0].limit: found the number 5, expected more than 0 with a unit, such as 50ms, 2s or 1m30s. Say the unit: 5ms, or 5s.
app/config.yaml:3:23: plugins[0].grnat: found the unknown key "grnat", expected name, version, program, interpreter, args, env, url, token-file, tls, ca, grant, permit, limit, isolate, data, required, enabled, keys or config. Did you mean grant?
app/config.yaml:5:3: plugins[1]: found the key "name" a second time, expected each key once. Make one of the two.
app/config.yaml:6:18: logging.level: found the text "LOUD", expected CRITICAL, ERROR, WARNING, INFO or DEBUG`)

	_, err = config.Parse("", []byte("plugins:\n"+strings.Repeat("- 7\n", 30)))
	require.Error(t, err)
	assert.Len(t, err.(*config.Error).Faults, 30)
	assert.True(t, strings.HasSuffix(err.Error(), "\n… and 10 more"))
}

// Aliases, and merges of merges, that stand for more than memory holds are counted before they are followed.
func TestBombs(t *testing.T) {
	aliases := "plugins: [{name: a, config: [&a0 [x]"
	merges := "plugins: [{name: a, config: [&a0 {x: y}"
	for i := 1; i < 40; i++ {
		aliases += fmt.Sprintf(", &a%d [*a%d, *a%d]", i, i-1, i-1)
		merges += fmt.Sprintf(", &a%d {<<: [*a%d, *a%d]}", i, i-1, i-1)
	}
	for _, text := range []string{aliases + "]}]", merges + "]}]", "plugins: [" + strings.Repeat("{},", 200_000) + "]"} {
		_, err := config.Parse("", []byte(text))
		require.Error(t, err)
		assert.Contains(t, err.Error(), "found more than 100000 values, with those that aliases stand for, expected fewer. Use fewer aliases of large values.")
	}
}

// Whatever is wrong in or around a plug-in's settings, no value of them is shown.
func TestNoErrorShowsSettings(t *testing.T) {
	for _, written := range []string{"*s3cr3t", "!s3cr3t", "!<s3cr3t> x", "@s3cr3t", "`s3cr3t", "%s3cr3t", `"s3cr3t`, "'s3cr3t", `"s3cr3t\q"`, "[s3cr3t", "{a: s3cr3t", "s3cr3t: x: y",
		"\ts3cr3t", "&s3cr3t .inf", "{<<: s3cr3t}", "{<<: [s3cr3t]}", "{a: s3cr3t, a: s3cr3t}", "{[s3cr3t]: 1}", "|s3cr3t", "s3cr3t\n---\ns3cr3t", "s3cr3t\n   bad", "s3cr3t\x01", "&s3cr3t [*s3cr3t]"} {
		for _, entry := range []string{"{name: a, config: {k: %s}}", "\n    name: a\n    config: %s", "\n    name: a\n    config:\n      k: %s\n      l: m"} {
			text := "plugins:\n  - " + strings.Replace(entry, "%s", written, 1) + "\n"
			_, err := config.Parse("", []byte(text))
			if err != nil {
				assert.NotContains(t, err.Error(), "s3cr3t", "%s", text)
			}
		}
	}
	_, err := config.Parse("", []byte("registry: {url: 'ftp://user:s3cr3t@x', mirrors: ['https://user:s3cr3t@x y', 's3cr3t']}"))
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "s3cr3t")
}

func TestValue(t *testing.T) {
	v := parse(t, "plugins:\n- name: a\n  config:\n    b: [1, {'c d': ~}]\n    e: {x: 0x1F, y: 1_000, z: 1.10, big: 123456789012345678901234567890, t: 2024-01-01, b: True, s: \"<\\u2028>\"}\n").Plugins[0].Config
	assert.Equal(t, `{"b":[1,{"c d":null}],"e":{"x":31,"y":1000,"z":1.10,"big":123456789012345678901234567890,"t":"2024-01-01","b":true,"s":"<\u2028>"}}`, string(v.JSON()))
	for _, c := range []struct {
		path         []string
		where        string
		line, column int
	}{
		{nil, "plugins[0].config", 4, 5},
		{[]string{"b", "1", "c d"}, `plugins[0].config.b[1]["c d"]`, 4, 20},
		{[]string{"e", "gone", "below"}, "plugins[0].config.e.gone.below", 5, 8},
	} {
		line, column := v.Position(c.path...)
		assert.Equal(t, []int{c.line, c.column}, []int{line, column}, c.where)
		assert.Equal(t, c.where, v.Where(c.path...))
	}
}

// TestGranted: what is granted is a name, or what begins so.
func TestGranted(t *testing.T) {
	p := &config.Plugin{Grant: []string{"cart_*", "points"}}
	for offer, want := range map[string]string{"points": "points", "cart_total": "cart_*", "cart_": "cart_*", "cart": "", "pointss": "", "point": ""} {
		by, ok := p.Granted(offer)
		assert.Equal(t, want, by, offer)
		assert.Equal(t, want != "", ok, offer)
	}
	_, ok := (*config.Plugin)(nil).Granted("points")
	assert.False(t, ok)
	_, ok = (&config.Plugin{Grant: []string{"*"}}).Granted("points")
	assert.True(t, ok)
}

// TestCovers: a folder covers what is beneath, and not what only begins like it; what may be written may be read; ports are numbers.
func TestCovers(t *testing.T) {
	abs := func(parts ...string) string {
		return filepath.Join(append([]string{string(filepath.Separator)}, parts...)...)
	}
	p := config.Permit{Read: []string{abs("etc")}, Write: []string{abs("data", "a")}, Connect: []int{443}, Listen: []int{0}}
	for _, c := range []struct {
		what, item string
		want       bool
	}{
		{"read", abs("etc"), true}, {"read", abs("etc", "x", "y"), true}, {"read", abs("etcetera"), false}, {"read", abs("data", "a", "b"), true}, {"read", abs("etc", "..", "home"), false},
		{"write", abs("etc"), false}, {"write", abs("data", "a") + string(filepath.Separator), true}, {"write", abs("data"), false},
		{"connect", "443", true}, {"connect", "0443", true}, {"connect", "80", false}, {"connect", "0", false}, {"connect", "x", false}, {"connect", "65979", false},
		{"listen", "0", true}, {"listen", "443", false}, {"memory", "1", false},
	} {
		assert.Equal(t, c.want, p.Covers(c.what, c.item), "%s %s", c.what, c.item)
	}
}

package config_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// open writes a file and opens it.
func open(t *testing.T, text string) (f *config.File, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o640))
	f, err := config.OpenFile(path)
	require.NoError(t, err)
	return f, path
}

func TestEdits(t *testing.T) {
	enable := func(f *config.File) error { return f.SetEnabled("a", true) }
	disable := func(f *config.File) error { return f.SetEnabled("a", false) }
	grant := func(f *config.File) error { return f.Grant("a", "x", "y_*") }
	deny := func(f *config.File) error { return f.Deny("a", "x", "y_*") }
	add := func(f *config.File) error { return f.Add("n", "^2") }
	remove := func(f *config.File) error { return f.Remove("a") }
	for _, c := range []struct {
		text string
		do   func(*config.File) error
		want string
	}{
		{"plugins:\n  # all\n  - a # one\n  - b\n", disable, "plugins:\n  # all\n  - {name: a, enabled: false} # one\n  - b\n"},
		{"plugins:\n  - 'a'\n", disable, "plugins:\n  - {name: 'a', enabled: false}\n"},
		{"plugins: [b, a]", disable, "plugins: [b, {name: a, enabled: false}]"},
		{"plugins: [a]", enable, "plugins: [a]"},
		{"plugins:\r\n- name: a\r\n  limit: 1s\r\n", disable, "plugins:\r\n- name: a\r\n  enabled: false\r\n  limit: 1s\r\n"},
		{"plugins:\n- name: a", disable, "plugins:\n- name: a\n  enabled: false"},
		{"plugins:\n- limit: 1s\n  name: \"a\" # so\n", disable, "plugins:\n- limit: 1s\n  name: \"a\" # so\n  enabled: false\n"},
		{"plugins: [{name: a, enabled: false, limit: 1s}]\n", enable, "plugins: [{name: a, limit: 1s}]\n"},
		{"folders: [é, ü]\nplugins: [a]\n", disable, "folders: [é, ü]\nplugins: [{name: a, enabled: false}]\n"},
		{"{folders: [é, ü], plugins: [a]}\n", disable, "{folders: [é, ü], plugins: [{name: a, enabled: false}]}\n"},
		{"\ufeffplugins: [{name: a, enabled: false}]", enable, "\ufeffplugins: [{name: a}]"},
		{"plugins: [{enabled: false, name: a}]", enable, "plugins: [{name: a}]"},
		{"plugins: [{name: a, enabled: false }]", enable, "plugins: [{name: a }]"},
		{"plugins:\n- name: a\n  enabled: false # till May\n  limit: 1s\n", enable, "plugins:\n- name: a\n  limit: 1s\n"},
		{"plugins:\r\n- name: a\r\n  enabled: false\r\n- b", enable, "plugins:\r\n- name: a\r\n- b"},
		{"plugins:\n- name: a\n  enabled: false", enable, "plugins:\n- name: a\n"},
		{"plugins:\n- enabled: false\n  name: a\n", enable, "plugins:\n- name: a\n"},
		{"plugins:\n- enabled: false\n  # the best\n  name: a\n", enable, "plugins:\n- enabled: true\n  # the best\n  name: a\n"},
		{"plugins:\n- name: a\n  limit: 1s\n\n  # till May\n  enabled: false\n\n# in\nfolders: []\n", enable, "plugins:\n- name: a\n  limit: 1s\n\n  # till May\n\n# in\nfolders: []\n"},
		{"plugins:\n- &e {name: b, enabled: false}\n- {<<: *e, name: a}\n", enable, "plugins:\n- &e {name: b, enabled: false}\n- {<<: *e, name: a, enabled: true}\n"},
		{"plugins:\n- &e {name: a, enabled: false}\n- {<<: *e, name: b}\n", enable, ""}, // b would be enabled, too
		{"plugins: &l\n- &e {name: a, limit: 1s}\n- {<<: *e, name: b}\n", disable, ""},  // b would be disabled, too
		{"plugins:\n- &e {name: a, limit: 1s}\n- {<<: *e, name: b, enabled: true}\n", disable, "plugins:\n- &e {name: a, enabled: false, limit: 1s}\n- {<<: *e, name: b, enabled: true}\n"},

		{"plugins:\n- a\n", grant, "plugins:\n- {name: a, grant: [x, y_*]}\n"},
		{"plugins:\n- name: a\n  grant: [x]\n", grant, "plugins:\n- name: a\n  grant: [x, y_*]\n"},
		{"plugins:\n- name: a\n  grant: []\n", grant, "plugins:\n- name: a\n  grant: [x, y_*]\n"},
		{"plugins:\n- name: a\n  grant:\n  limit: 1s\n", grant, "plugins:\n- name: a\n  grant: [x, y_*]\n  limit: 1s\n"},
		{"plugins:\n- name: a\n  grant: # to give\n", grant, "plugins:\n- name: a\n  grant: [x, y_*] # to give\n"},
		{"plugins:\n- name: a\n  grant: ~\n", grant, "plugins:\n- name: a\n  grant: [x, y_*]\n"},
		{"plugins:\n- name: a\n  grant:\n    - w # why\n    # not v\n  limit: 1s\n", grant, "plugins:\n- name: a\n  grant:\n    - w # why\n    # not v\n    - x\n    - y_*\n  limit: 1s\n"},
		{"plugins:\n- name: a\n  grant:\n  - w\n- b\n", grant, "plugins:\n- name: a\n  grant:\n  - w\n  - x\n  - y_*\n- b\n"},
		{"plugins:\n- name: a\n  grant:\n  - w\n\n# where\nfolders: []\n", grant, "plugins:\n- name: a\n  grant:\n  - w\n  - x\n  - y_*\n\n# where\nfolders: []\n"},
		{"plugins:\n- &e {name: b, grant: [w]}\n- {<<: *e, name: a}\n", grant, "plugins:\n- &e {name: b, grant: [w]}\n- {<<: *e, name: a, grant: [w, x, y_*]}\n"},

		{"plugins: [{name: a, grant: [w, x, y_*]}]", deny, "plugins: [{name: a, grant: [w]}]"},
		{"plugins: [{name: a, grant: [x, w]}]", deny, "plugins: [{name: a, grant: [w]}]"},
		{"plugins: [{name: a, grant: [x, y_*]}]", deny, "plugins: [{name: a}]"},
		{"plugins:\n- &e {name: b, grant: [w]}\n- {<<: *e, name: a, grant: [x]}\n", deny, "plugins:\n- &e {name: b, grant: [w]}\n- {<<: *e, name: a, grant: []}\n"},
		{"plugins: [a]", deny, "plugins: [a]"},
		{"plugins:\n- name: a\n  grant:\n    # the best\n    - x # one\n    - w\n    - y_*\n# end\n", deny, "plugins:\n- name: a\n  grant:\n    # the best\n    - w\n# end\n"},
		{"plugins:\n- name: a\n  grant:\n    - x # one\n  limit: 1s", deny, "plugins:\n- name: a\n  limit: 1s"},
		{"plugins: [{name: a, grant: ['*']}]", deny, ""},

		{"", add, "plugins:\n  - {name: n, version: '^2'}\n"},
		{"# mine\nfolders: []", add, "# mine\nfolders: []\nplugins:\n  - {name: n, version: '^2'}"},
		{"{folders: [x]}", add, "{plugins: [{name: n, version: '^2'}], folders: [x]}"},
		{"{}", add, "{plugins: [{name: n, version: '^2'}]}"},
		{"plugins:\nfolders: []\n", add, "plugins: [{name: n, version: '^2'}]\nfolders: []\n"},
		{"plugins: []\n", add, "plugins: [{name: n, version: '^2'}]\n"},
		{"plugins: [{name: a, config: {x: 'it''s ]'}}]\n", add, "plugins: [{name: a, config: {x: 'it''s ]'}}, {name: n, version: '^2'}]\n"},
		{"plugins:\n  - a\n  # - c\n\n# in\nfolders:\n  - x\n", add, "plugins:\n  - a\n  # - c\n  - {name: n, version: '^2'}\n\n# in\nfolders:\n  - x\n"},
		{"plugins:\n- name: a\n  config:\n    text: |\n      # no comment\n\n    more: 1\n# in\nfolders:\n", add, "plugins:\n- name: a\n  config:\n    text: |\n      # no comment\n\n    more: 1\n- {name: n, version: '^2'}\n# in\nfolders:\n"},
		{"plugins:\n- a\n", func(f *config.File) error { return f.Add("7", "") }, "plugins:\n- a\n- '7'\n"},

		{"plugins: [a, b]", remove, "plugins: [b]"},
		{"plugins: [b, a]", remove, "plugins: [b]"},
		{"plugins: [a]", remove, "plugins: []"},
		{"plugins:\n  # the first\n  - a\n  # the second\n  - b\n", remove, "plugins:\n  # the first\n  # the second\n  - b\n"},
		{"plugins:\n- b\n- name: a\n  grant:\n  - x\n\n# in\nfolders: []\n", remove, "plugins:\n- b\n\n# in\nfolders: []\n"},
		{"plugins:\n-\n  name: a\n  limit: 1s\n- b\n", remove, "plugins:\n- b\n"},
		{"plugins:\n- a\nfolders: []\n", remove, "plugins:\nfolders: []\n"},
		{"plugins:\n- &e {name: a}\n- {<<: *e, name: b}\n", remove, ""},
	} {
		if c.want == "" {
			c.want = c.text
			f, _ := open(t, c.text)
			err := c.do(f)
			var e *config.Error
			require.ErrorAs(t, err, &e, "%q", c.text)
			assert.Equal(t, c.text, string(f.Bytes()))
			continue
		}
		f, _ := open(t, c.text)
		if assert.NoError(t, c.do(f), "%q", c.text) {
			assert.Equal(t, c.want, string(f.Bytes()), "%q", c.text)
		}
	}
}

func TestEditsThatAreRefused(t *testing.T) {
	f, path := open(t, "plugins:\n- name: sample\n  grant: [loyalty_*]\n")
	for want, do := range map[string]func() error{
		`1:1: found no plug-in "simple" in the file, expected one of its plug-ins. Did you mean sample?`:                                                 func() error { return f.SetEnabled("simple", true) },
		`2:3: found "loyalty_points" granted to sample by "loyalty_*", expected a grant of its own. Deny loyalty_*, and grant those that it is to keep.`: func() error { return f.Deny("sample", "loyalty_points") },
		`found the text "a-b", expected a function's name`:                                                                                               func() error { return f.Grant("sample", "fine", "a-b") },
		`found the text "a b", expected a plug-in's name`:                                                                                                func() error { return f.Add("a b", "") },
		`found the text "two", expected a range of versions`:                                                                                             func() error { return f.Add("b", "two") },
		`2:3: found the plug-in sample, expected one that is not in the file yet`:                                                                        func() error { return f.Add("sample", "") },
		`found no plug-in "other" in the file, expected one of its plug-ins. Add it to plugins:.`:                                                        func() error { return f.Remove("other") },
	} {
		var e *config.Error
		require.ErrorAs(t, do(), &e)
		assert.Contains(t, e.Error(), want)
		assert.Equal(t, path, e.Path)
	}
	assert.Equal(t, "plugins:\n- name: sample\n  grant: [loyalty_*]\n", string(f.Bytes()))
}

func TestSave(t *testing.T) {
	f, path := open(t, "plugins: [a]\n")
	if runtime.GOOS != "windows" { // links need a right there
		link := filepath.Join(t.TempDir(), "link.yaml")
		require.NoError(t, os.Symlink(path, link))
		var err error
		f, err = config.OpenFile(link)
		require.NoError(t, err)
		defer func() {
			to, err := os.Readlink(link)
			require.NoError(t, err, "the link is one no more")
			assert.Equal(t, path, to)
		}()
	}
	require.NoError(t, f.SetEnabled("a", false))
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, f.Save())
	after, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, before.Mode(), after.Mode())
	assert.False(t, os.SameFile(before, after), "written in place: who reads may see half of it")
	c, err := config.Load(path)
	require.NoError(t, err)
	assert.False(t, c.Plugin("a").Enabled)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // where the lock's file stays: its name cannot go while another process has it open
		assert.Len(t, entries, 1)
	}

	require.NoError(t, f.SetEnabled("a", true))
	require.NoError(t, f.Save(), "what Save wrote itself is no change of somebody else's")
	require.NoError(t, f.Grant("a", "x"))
	require.NoError(t, os.WriteFile(path, []byte("plugins: [b]\n"), 0o600))
	require.ErrorIs(t, f.Save(), config.ErrChanged)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "plugins: [b]\n", string(text))
}

// TestSaveAfterOneThatWasKilled: a copy of the configuration that a save has left when it was killed goes with the next one, and nothing else does.
func TestSaveAfterOneThatWasKilled(t *testing.T) {
	f, path := open(t, "plugins: [a]\n")
	folder := filepath.Dir(path)
	others := []string{".config.yaml.123", ".config.yaml.save-mine", ".config.yaml.save-", ".other.yaml.save-123", "config.yaml.save-123"}
	for _, name := range append(others, ".config.yaml.save-123") {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("plugins: [{name: a, config: {password: secret}}]\n"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(folder, ".config.yaml.save-456"), 0o700))
	require.NoError(t, f.Grant("a", "x"))
	require.NoError(t, f.Save())
	assert.NoFileExists(t, filepath.Join(folder, ".config.yaml.save-123"))
	for _, name := range others {
		assert.FileExists(t, filepath.Join(folder, name))
	}
	assert.DirExists(t, filepath.Join(folder, ".config.yaml.save-456"))
}

// TestSaveTogether: of edits at the same time each is in the file, or its Save says that it is not; and what they lock is gone behind them.
func TestSaveTogether(t *testing.T) {
	_, path := open(t, "plugins: [a]\n")
	const editors, each = 8, 20
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			for n := range each {
				for {
					f, err := config.OpenFile(path)
					if !assert.NoError(t, err) || !assert.NoError(t, f.Grant("a", fmt.Sprintf("x%d_%d", i, n))) {
						return
					}
					if err = f.Save(); err == nil {
						break
					}
					if !assert.ErrorIs(t, err, config.ErrChanged) {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	c, err := config.Load(path)
	require.NoError(t, err)
	assert.Len(t, c.Plugin("a").Grant, editors*each)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Len(t, entries, 1)
	}
}

// TestSaveWhereNobodyMayWrite: a guard that another user has left is one that may not be written. In a folder that may not be written the error names the file that cannot be made, and a save of nothing needs none.
func TestSaveWhereNobodyMayWrite(t *testing.T) {
	if !fixture.Unprivileged(t) {
		return
	}
	f, path := open(t, "plugins: [a]\n")
	guard := filepath.Join(filepath.Dir(path), ".config.yaml.save") // of another user, who was killed
	require.NoError(t, os.WriteFile(guard, nil, 0o444))
	require.NoError(t, f.Grant("a", "w"))
	require.NoError(t, f.Save())
	assert.NoFileExists(t, guard)
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o500))
	defer os.Chmod(filepath.Dir(path), 0o700)
	require.NoError(t, f.Save())
	require.NoError(t, f.Grant("a", "x"))
	err := f.Save()
	require.ErrorIs(t, err, fs.ErrPermission)
	assert.ErrorContains(t, err, filepath.Dir(path))
}

// TestQuoteList: what is written into a file is read as what it was, whatever it is; so is the entry of a program, whatever its file is called.
func TestQuoteList(t *testing.T) {
	for _, item := range []string{"/etc/hosts", "/a], write: [/", "a, b", "/a # b", "/a: b", "*", "on_*", "~", "null", "true", "1e3", ".5", "0x1F", "", "it's", `C:\a`, "- a", "&a", "!a", "/é", "/a\nb", "/\u2028", "\t",
		"\x01", "{}", "[", "?", "|", "'", `"`, " a ", "a:", "%a", "@a", "`a", "2024-01-01", "..."} {
		c, err := config.Parse("", []byte("plugins: [{name: a, config: {all: "+config.QuoteList([]string{"x", item})+", one: "+config.Quote(item)+"}}]"))
		require.NoError(t, err, "%q", item)
		want, err := json.Marshal(map[string]any{"all": []string{"x", item}, "one": item})
		require.NoError(t, err)
		assert.JSONEq(t, string(want), string(c.Plugin("a").Config.JSON()), "%q", item)
	}
	for _, name := range []string{"7", "-1", "007", "1_0", "0o7", "a"} { // a name is text, whatever it looks like
		c, err := config.Parse("", []byte("plugins: [{name: a, config: {name: "+config.QuoteText(name)+"}}]"))
		require.NoError(t, err, name)
		assert.JSONEq(t, `{"name": "`+name+`"}`, string(c.Plugin("a").Config.JSON()))
	}
	for _, name := range []string{"a", "7", "-1", "null", "a.b", strings.Repeat("x", 128)} {
		c, err := config.Parse("", []byte("plugins:\n  - "+config.ProgramEntry(name, "/a b")))
		require.NoError(t, err, name)
		assert.Equal(t, "a b", filepath.Base(c.Plugin(name).Sidecar.Program), name)
	}
	for _, name := range []string{"", "my prog", "a+b", "é", "..", "\xff", "{", strings.Repeat("x", 129)} { // of files, and no plug-in's
		entry, says := strings.CutSuffix(config.ProgramEntry(name, "/a b"), ", with the name that it says")
		assert.True(t, says, "%q", name)
		c, err := config.Parse("", []byte("plugins:\n  - "+entry))
		require.NoError(t, err, "%q", name)
		assert.Equal(t, "a b", filepath.Base(c.Plugin("NAME").Sidecar.Program), "%q", name)
	}
	assert.Equal(t, "[/etc/hosts, 443, '/a, b']", config.QuoteList([]string{"/etc/hosts", "443", "/a, b"}))
}

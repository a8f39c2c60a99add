package inspect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// readScript reads a script that is in memory.
func readScript(text string) (*inspect.Library, error) {
	return inspect.Read(strings.NewReader(text), int64(len(text)))
}

// textOf is the text with these keys and values.
func textOf(pairs ...string) (text abi.Text) {
	for pair := range slices.Chunk(pairs, 2) {
		text = append(text, abi.KeyValue{Key: pair[0], Value: pair[1]})
	}
	return text
}

// A script's header says all that a library in C can say.
func TestScript(t *testing.T) {
	const header = `#!/usr/bin/env node
/* Copyright of somebody's.
   ferrule: this is no header */ // and this is a comment

// ferrule: name=discount version=1.2.0 description="5 % off, \"for all\"" license=MIT authors='A, B' homepage=https://example.org
// ferrule: state=s-1 services=configure,save services="resume stop" health=well x-mine= host.shop=">=1.0.0 <2"
// ferrule: requires="tax ^1" requires=loyalty provides=prices conflicts=a conflicts=b permit.read=data permit.read=/etc/x permit.memory=1048576
//ferrule:config-schema='{"type": "object",' config-schema=' "required": ["percent"]}'
  //   ferrule:  fn=well fn=before_checkout in=json out=json doc="What a cart costs\nless" stream=both idempotent=yes in-schema='{"type": "object"}'
// what is no header may stand between
// ferrule: hook=paid in=text out=bytes order=first before=tax before=mail priority=3 wrap=yes optional=yes	quick=yes
// ferrule: import=points in=application/x.points doc=… version=">=1" from=crm import=audit want=upper why=it's
import "ferrule"; // ferrule: name=other
// ferrule: fn=no_more
`
	for name, text := range map[string]string{
		"as it is": header, "a mark of the order of bytes": "\ufeff" + strings.TrimPrefix(header, "#!/usr/bin/env node\n"), "lines of Windows": strings.ReplaceAll(header, "\n", "\r\n"), "of an old Macintosh": strings.ReplaceAll(header, "\n", "\r"),
		"in Python": regexp.MustCompile(`(?m)^#!.*\n/\*.*\n.*$`).ReplaceAllString(strings.ReplaceAll(strings.TrimPrefix(header, ""), "//", "#"), "#!/usr/bin/python3\n# coding: utf-8"),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "in Python" {
				text = strings.Replace(text, "homepage=https:#", "homepage=https://", 1)
			}
			lib, err := readScript(text)
			require.NoError(t, err)
			format := inspect.JavaScript
			if name == "in Python" {
				format = inspect.Python
			}
			assert.Equal(t, format, inspect.ScriptOf([]byte(text)))
			assert.Equal(t, format, lib.Format)
			assert.Equal(t, []any{"", "", string(format), []string{string(format)}, int64(len(text))}, []any{lib.OS, lib.Arch, lib.Machine, lib.Archs, lib.Size})
			m := lib.Manifest
			assert.Equal(t, []string{"discount", "1.2.0", `5 % off, "for all"`, "s-1"}, []string{m.Name, m.Version, m.Description, m.State})
			assert.Equal(t, abi.Serial, m.Threads)
			assert.Equal(t, textOf("ferrule", "1", "name", "discount", "version", "1.2.0", "description", `5 % off, "for all"`, "license", "MIT", "authors", "A, B", "homepage", "https://example.org",
				"state", "s-1", "health", "well", "x-mine", "", "host.shop", ">=1.0.0 <2", "requires", "tax ^1\nloyalty", "provides", "prices", "conflicts", "a\nb",
				"permit.read", "data\n/etc/x", "permit.memory", "1048576"), m.Keys)
			assert.Equal(t, "{\"type\": \"object\",\n \"required\": [\"percent\"]}", lib.ConfigSchema)
			assert.Equal(t, []bool{true, true, true, true, true, false}, []bool{lib.HasStart, lib.HasStop, lib.HasConfigure, lib.HasSave, lib.HasResume, lib.HasBatch})
			in := textOf("in", "application/json", "out", "application/json", "doc", "What a cart costs\nless", "stream", "both", "idempotent", "yes", "in-schema", `{"type": "object"}`)
			assert.Equal(t, []abi.Symbol{{Name: "before_checkout", In: "application/json", Out: "application/json", Doc: "What a cart costs\nless", Stream: abi.StreamBoth, Keys: in}, {Name: "well"}}, lib.Funcs)
			on := textOf("in", "text/plain", "out", "application/octet-stream", "order", "first", "before", "tax\nmail", "priority", "3", "wrap", "yes", "optional", "yes", "quick", "yes")
			assert.Equal(t, []abi.Symbol{{Name: "paid", In: "text/plain", Out: "application/octet-stream", Keys: on}}, lib.Hooks)
			assert.Equal(t, []abi.Symbol{{Name: "audit"}, {Name: "points", In: "application/x.points", Doc: "…", Keys: textOf("in", "application/x.points", "doc", "…", "version", ">=1", "from", "crm")}}, lib.Imports)
			assert.Equal(t, []abi.Symbol{{Name: "upper", Keys: textOf("why", "it's")}}, lib.Wants)
			assert.Nil(t, lib.NotPlugin)
			assert.Empty(t, lib.Reserved)
		})
	}
}

// What is wrong with a header is said with its line, what was expected and what to do.
func TestFaultyHeaders(t *testing.T) {
	const keyValue = `key=value, or key="a value with spaces"`
	for name, c := range map[string]struct{ header, found, expected, remedy string }{
		"no name":            {"version=1", "line 1: the header's end, and no name=", "name= and version=", "Write name= into the header"},
		"no version":         {"name=a\n// ferrule: fn=f", "line 2: the header's end, and no version=", "name= and version=", "Write version= into the header"},
		"an empty name":      {"name= version=1", "line 1: name=: no name", "one (rule R1)", "Correct the script's header"},
		"a bad name":         {"version=1\n// ferrule: name='a b'\n// ferrule: fn=f", `line 2: name=: "a b"`, "1 to 128 letters, digits, _, - or . (rule R1)", "Correct the script's header"},
		"a bad state":        {"name=a version=1 state='a b'", `line 1: state=: "a b"`, "1 to 128 letters, digits, _, - or . (rule R29)", "Correct the script's header"},
		"a word":             {"name=a version=1\n// ferrule: fn", `line 2: "fn"`, keyValue, "Correct the script's header"},
		"a word behind":      {"name=a version=1 off", `line 1: "off"`, keyValue, "Correct the script's header"},
		"nothing before =":   {"=a", `line 1: "=a"`, keyValue, "Correct the script's header"},
		"a space before =":   {"name =a", `line 1: "name"`, keyValue, "Correct the script's header"},
		"a key":              {"Name=a", `line 1: the key "Name"`, "1 to 64 bytes of a-z, 0-9, _, - and . (rule R3)", "Correct the key"},
		"a key with a NUL":   {"name=a \x00name=b", "line 1: the key \"\\x00name\"", "1 to 64 bytes of a-z, 0-9, _, - and . (rule R3)", "Correct the key"},
		"a long key":         {strings.Repeat("k", 65) + "=a", `line 1: the key "` + strings.Repeat("k", 65) + `"`, "1 to 64 bytes of a-z, 0-9, _, - and . (rule R3)", "Correct the key"},
		"open quotes":        {`name="a version=1`, `line 1: "name=\"a version=1", whose quotes do not end on the line`, "a value in quotes with both", "Close the quotes"},
		"open single quotes": {`name='a version=1`, `line 1: "name='a version=1", whose quotes do not end on the line`, "a value in quotes with both", "Close the quotes"},
		"an escaped end":     {`name="a\"`, `line 1: "name=\"a\\\"", whose quotes do not end on the line`, "a value in quotes with both", "Close the quotes"},
		"behind quotes":      {`name="a"b`, `line 1: "b" right behind the quotes of name`, "a space, or the line's end", "Correct the script's header"},
		"no text in quotes":  {`name=a description="\x41"`, `line 1: "\x41" of description`, "a text as JSON has it", "Correct what stands behind the backslash, or use single quotes, between which everything is as it stands"},
		"no UTF-8":           {"name=a description=\xff", `line 1: description="\xff"`, "UTF-8 without NUL", "Write the value in UTF-8"},
		"no UTF-8 in quotes": {"name=a description=\"\xff\"", `line 1: description="\xff"`, "UTF-8 without NUL", "Write the value in UTF-8"},
		"a NUL":              {"name=a\x00b", `line 1: name="a\x00b"`, "UTF-8 without NUL", "Write the value in UTF-8"},
		"a NUL in JSON":      {`name="a\u0000b"`, `line 1: name="a\x00b"`, "UTF-8 without NUL", "Write the value in UTF-8"},
		"a key twice":        {"name=a\n// ferrule: version=1 name=b", "line 2: name= for the second time", "each key once, but for those of lists", "Leave one of them out"},
		"a license twice":    {"name=a license=MIT license=BSD", "line 1: license= for the second time", "each key once, but for those of lists", "Leave one of them out"},
		"a symbol's twice":   {"name=a version=1 fn=f doc=a doc=b", "line 1: doc= for the second time", "each key once, but for those of lists", "Leave one of them out"},
		"a function twice":   {"name=a version=1 fn=f fn=g\n// ferrule: fn=f", "line 2: fn=f, which is in line 1, too", "each once", "Leave one of them out"},
		"a function's name":  {"fn=1x", `line 1: fn="1x"`, "a name of letters, digits and _, 128 bytes at most, that no digit begins", "Correct the name"},
		"no function's name": {"fn=", `line 1: fn=""`, "a name of letters, digits and _, 128 bytes at most, that no digit begins", "Correct the name"},
		"a long name":        {"import=" + strings.Repeat("i", 129), `line 1: import="` + strings.Repeat("i", 129) + `"`, "a name of letters, digits and _, 128 bytes at most, that no digit begins", "Correct the name"},
		"a stream":           {"fn=f stream=sideways", `line 1: fn=f with stream=: "sideways"`, "in, out or both (rule R24)", "Correct the script's header"},
		"import and want":    {"name=a version=1 import=x\n// ferrule: want=x", "line 2: want=x, and import=x", "one of the two (rule R23)", "Want what the script can do without, and import what it cannot"},
		"func":               {"name=a version=1 func=f", "line 1: the key func", "fn=", "Write fn= instead of it, or x-func= for a key of your own"},
		"config_schema":      {"name=a version=1 config_schema={}", "line 1: the key config_schema", "config-schema=", "Write config-schema= instead of it, or x-config_schema= for a key of your own"},
		"threads":            {"name=a version=1 threads=concurrent", "line 1: the key threads", "it left out: the engine says it", "Leave it out"},
		"ferrule":            {"ferrule=1 name=a", "line 1: the key ferrule", "it left out: the engine says it", "Leave it out"},
		"the whole's behind": {"name=a version=1 fn=f services=stop", "line 1: services= behind fn=f", "there what is about f alone", "Write it before fn=, hook=, import= and want=, or on a line of its own"},
		"a permit behind":    {"name=a version=1 import=f permit.read=x", "line 1: permit.read= behind import=f", "there what is about f alone", "Write it before fn=, hook=, import= and want=, or on a line of its own"},
		"a range behind":     {"name=a version=1 hook=f host.shop=1", "line 1: host.shop= behind hook=f", "there what is about f alone", "Write it before fn=, hook=, import= and want=, or on a line of its own"},
		"about nothing":      {"name=a version=1 fn=f\n// ferrule: in=json", "line 2: in=, and before it no fn=, hook=, import= or want= on its line", "it behind what it is about", "Write it on the line of that"},
		"a service":          {"name=a version=1\n// ferrule: services=start", `line 2: "start" among services`, "stop, configure, save and resume, each once", "Correct the script's header"},
		"a service twice":    {"name=a version=1 services=stop,stop", `line 1: "stop" among services`, "stop, configure, save and resume, each once", "Correct the script's header"},
		"services twice":     {"name=a version=1 services=stop\n// ferrule: services=stop", `line 1: "stop" among services`, "stop, configure, save and resume, each once", "Correct the script's header"},
		"state alone":        {"name=a version=1\n// ferrule: state=s", "line 2: state= alone", "state=, and save and resume among services, together (rule R29)", "Add what is missing, or leave out the rest"},
		"save alone":         {"name=a version=1 services=save", "line 1: save among services alone", "state=, and save and resume among services, together (rule R29)", "Add what is missing, or leave out the rest"},
		"no resume":          {"name=a version=1 services=save state=s", "line 1: save among services and state= alone", "state=, and save and resume among services, together (rule R29)", "Add what is missing, or leave out the rest"},
		"64 KiB of comments": {"name=a version=1\n" + strings.Repeat("// and so on\n", 6000), "65536 bytes of comments, and no statement", "the first statement among them", "Move the comments that are no header below it"},
		"a long line":        {"name=a version=1 x-a=" + strings.Repeat("a", 70_000), "65536 bytes of comments, and no statement", "the first statement among them", "Move the comments that are no header below it"},
		"half a comment":     {"name=a version=1\n" + strings.Repeat(" ", 64<<10-len("// ferrule: name=a version=1\n")-1) + "// ferrule: fn=f\n", "65536 bytes of comments, and no statement", "the first statement among them", "Move the comments that are no header below it"},
		"a block unclosed":   {"name=a version=1\n/*" + strings.Repeat("\n", 64<<10), "65536 bytes of comments, and no statement", "the first statement among them", "Move the comments that are no header below it"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "// ferrule: " + c.header + "\n1;\n"
			want := inspect.Error{Kind: inspect.ErrManifest, Found: c.found, Expected: c.expected, Remedy: c.remedy}
			_, err := readScript(text)
			var found *inspect.Error
			require.ErrorAs(t, err, &found)
			assert.Equal(t, want, *found)
			path := filepath.Join(t.TempDir(), "a.js")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			want.Path = path
			_, err = inspect.File(path)
			require.ErrorAs(t, err, &found)
			assert.Equal(t, want, *found)
			lib, err := inspect.Describe(path)
			require.NoError(t, err, "a faulty header is a fact of the file")
			assert.Equal(t, &want, lib.NotPlugin)
			assert.Equal(t, abi.Description{}, lib.Description)
			assert.Equal(t, inspect.JavaScript, lib.Format)
		})
	}
}

// What begins with no header is no script, whatever it is called, and so is another language's that has comments alike.
func TestNoScripts(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":               "1;\n",
		"a header behind":       "import 'ferrule';\n// ferrule: name=a version=1\n",
		"a string":              "\"use strict\";\n// ferrule: name=a version=1\n",
		"within a comment":      "/* ferrule: name=a version=1\n * ferrule: name=a version=1\n */\n1;\n",
		"on a comment's line":   "/* a */ 1; // ferrule: name=a version=1\n",
		"no words":              "// ferrule:\n// ferrule: \t\n",
		"another word":          "// ferrules: name=a\n//ferrule name=a\n// Ferrule: name=a\n/// ferrule: name=a\n",
		"a shell's":             "#!/bin/sh\n# ferrule: name=a version=1\n",
		"Perl's":                "#!/usr/bin/env perl\n# ferrule: name=a version=1\n",
		"a docstring":           "\"\"\"About it.\"\"\"\n# ferrule: name=a version=1\n",
		"#! not in its line":    "\n#!/usr/bin/env node\n// ferrule: name=a version=1\n",
		"behind the first 4096": "//" + strings.Repeat(" ", 4094) + "\n// ferrule: name=a version=1\n",
		"NULs":                  "\x00\x00// ferrule: name=a version=1\n",
		"UTF-16":                "\xff\xfe/\x00/\x00 \x00f\x00",
	} {
		t.Run(name, func(t *testing.T) {
			assert.Empty(t, inspect.ScriptOf([]byte(text)[:min(len(text), 4096)]))
			_, err := readScript(text)
			require.ErrorIs(t, err, inspect.ErrNotLibrary)
			path := filepath.Join(t.TempDir(), "a.js")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			_, err = inspect.File(path)
			require.ErrorIs(t, err, inspect.ErrNotLibrary)
			if utf8.ValidString(text) && !strings.Contains(text, "\x00") {
				assert.ErrorContains(t, err, "or a script that begins with // ferrule: name=… version=….")
				assert.ErrorContains(t, err, "Where it is a plug-in for script.Engine(), write that header before its first statement")
			}
		})
	}
	path := filepath.Join(t.TempDir(), "a.py")
	require.NoError(t, os.WriteFile(path, []byte("x = 1\n"), 0o600))
	_, err := inspect.File(path)
	assert.ErrorContains(t, err, "or a script that begins with # ferrule: name=… version=….")
	assert.ErrorContains(t, err, "where it is a sidecar, begin it with #! and what runs it.")
	for name, text := range map[string]string{"side.py": "#!/usr/bin/env python3\nx = 1\n", "side.js": "#!/usr/bin/env node\nx\n"} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
		_, err := inspect.File(path)
		assert.ErrorContains(t, err, "write that header before its first statement; where it is a sidecar, open it with sidecar.Program().", "it begins with #!")
	}
	for _, first := range []string{"#!/usr/bin/python3\n", "#!/usr/bin/env -S uv run --script\n", "#!/usr/bin/env pypy\n", "# -*- coding: utf-8 -*-\n\n"} {
		assert.Equal(t, inspect.Python, inspect.ScriptOf([]byte(first+"# ferrule: name=a")), first)
	}
	for _, first := range strings.Split("/opt/bin/python3.12|/usr/bin/env python|/usr/bin/env -S python3 -u|/usr/bin/env -Spypy3.10|/usr/bin/env -S uvx --from a b|/usr/bin/env -S 'uv' run|/usr/bin/python3.13t|C:\\Windows\\py.exe -3|ipython3|"+
		"/usr/bin/env PYTHONUTF8=1 python3|/usr/bin/env -S poetry run python|/opt/maya/bin/mayapy|/usr/bin/env -S sage -python|/home/a=b/bin/python3|/usr/bin/env -vS -u PYTHONPATH A=b -i python3 -I|"+
		"/usr/bin/env --split-string=--chdir=/tmp \"python3\" -u|/usr/bin/env bpython|/opt/houdini/bin/hython3.10|ipy64.exe|C:\\Windows\\pyw.exe|/usr/bin/nix-shell -i python3 -p python3", "|") {
		assert.Equal(t, inspect.Python, inspect.ScriptOf([]byte("#!"+first+"\n# ferrule: name=a")), first)
	}
	for _, first := range strings.Split("/bin/happy|/usr/bin/xcopy|/opt/copy/bin/ruby|/usr/bin/env -S pipx run|/srv/uv/bin/perl|/usr/bin/env PYTHON=/usr/bin/python3 ruby|/bin/pyre/node|/usr/bin/env -S node --x py|/usr/bin/env -S ruby python|"+
		"/usr/bin/env -u python3 perl|/usr/bin/env -S hatch run serve|/usr/bin/env|/usr/bin/env -u python3|/usr/bin/env -S python=3", "|") {
		text := []byte("#!" + first + "\n# ferrule: name=a version=1\n")
		assert.Empty(t, inspect.ScriptOf(text), first)
		path := filepath.Join(t.TempDir(), "other.py")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		_, err := inspect.File(path)
		assert.ErrorIs(t, err, inspect.ErrNotLibrary)
		assert.ErrorContains(t, err, "a script whose first line names no Python that is known, "+strconv.Quote("#!"+first)+", expected a first line that names Python")
	}
	for _, first := range []string{"#!/usr/bin/env deno\n", "/**/", "/* a */ /* b\n*/\t", "//\n\n", "\ufeff"} {
		assert.Equal(t, inspect.JavaScript, inspect.ScriptOf([]byte(first+"// ferrule: name=a")), first)
	}
}

// A header's first line may begin at the end of the first 4 KiB, and its others as far as 64 KiB, where a script of any size goes on.
func TestHeaderFarDown(t *testing.T) {
	far := "//" + strings.Repeat("-", 4096-len("//\n// ferrule: n")) + "\n// ferrule: name=a version=1\n"
	far += "//" + strings.Repeat("-", 64<<10-len(far)-len("//\n// ferrule: fn=f\n1")) + "\n// ferrule: fn=f\n1" + strings.Repeat("+ 1", 1<<20)
	lib, err := readScript(far)
	require.NoError(t, err)
	assert.Equal(t, []abi.Symbol{{Name: "f"}}, lib.Funcs)
}

// A long header is read in a time that grows as it does: each of these has thousands of what a quadratic reader would look at in pairs.
func TestLongHeaders(t *testing.T) {
	for name, make := range map[string]func(i int) string{
		"keys": func(i int) string { return fmt.Sprintf("k%d=", i) }, "functions": func(i int) string { return fmt.Sprintf("fn=f%d", i) },
		"items": func(int) string { return "permit.read=a" }, "pieces": func(int) string { return "config-schema='{'" },
	} {
		text := strings.Builder{}
		text.WriteString("# ferrule: name=a version=1")
		n := 0
		for ; text.Len() < 60<<10; n++ {
			text.WriteString(" " + make(n))
		}
		lib, err := readScript(text.String())
		require.NoError(t, err, name)
		assert.Equal(t, n, max(len(lib.Manifest.Keys)-3, len(lib.Funcs), 1+strings.Count(lib.ConfigSchema, "\n"), 1+strings.Count(lib.Manifest.Keys.Get("permit.read"), "\n")), name)
	}
}

// words are keys of a header, by what they are about.
var (
	wordsOfAll    = strings.Fields("name version description homepage license authors state health provides requires conflicts services config-schema")
	wordsOfOne    = strings.Fields("doc in out schema in-schema out-schema stream since deprecated idempotent quick order before after priority wrap optional from why")
	wordsOfLists  = strings.Fields("provides requires conflicts permit.read permit.write permit.connect permit.listen before after config-schema schema in-schema out-schema")
	wordsOfErrors = strings.Fields("func function def hooks imports wants service config_schema config ferrule threads")
)

var errSlow = errors.New("refused")

// namesPython is slowly's word on a first line, of which it takes away from the front what is no program.
func namesPython(line string) bool {
	line = " " + strings.Join(strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(strings.TrimSpace(line)[len("#!"):])), " ") + " "
	if env := regexp.MustCompile(`^ (\S*[/\\])?env `); env.MatchString(line) {
		line = env.ReplaceAllString(line, " ")
		for none := regexp.MustCompile(`^ ((-[uCaP]|--unset|--chdir|--argv0) (\S+ )?|--split-string=|-([^-S ][^S ]*)?S|-\S* |[^- ]\S*=\S* |=\S* | )`); none.MatchString(line); {
			line = " " + none.ReplaceAllString(line, "")
		}
	}
	const python = `(\S*[/\\])?(?i:\w*python\w?|pypy|graalpy|pyston|\w*pyw?|uv[xw]?)[0-9.]*t?(-\w+)?(\.(?i:exe))? `
	return regexp.MustCompile(`^ ` + python + `|^ (\S*[/\\])?(?i:poetry|pipenv|pdm|hatch|rye|pixi|conda|mamba|micromamba|sage|nix-shell)(\.(?i:exe))? (.* )?-*` + python).MatchString(line)
}

// slowly reads a script's header as docs/scripts.md has it, and as simply as can be.
func slowly(text string) (*abi.Description, error) {
	whole := text
	text = text[:min(len(text), 64<<10)]
	text = strings.TrimPrefix(text, "\ufeff")
	for _, comment := range []string{"//", "#"} {
		var words []string
		var at, statement int
		if strings.HasPrefix(strings.TrimLeft(strings.SplitAfterN(strings.ReplaceAll(text, "\r", "\n"), "\n", 2)[0], " \t\v\f\u0085\u00a0\u2028\u2029"), "#!") {
			end := strings.IndexAny(text, "\r\n")
			if end < 0 {
				end = len(text)
			}
			if comment == "#" && !namesPython(text[:end]) {
				continue
			}
			at = end
		}
		statement = -1
	comments:
		for at < len(text) {
			c, size := utf8.DecodeRuneInString(text[at:])
			end := at + strings.IndexAny(text[at:]+"\n", "\r\n")
			switch {
			case strings.TrimSpace(string(c)) == "" && !(c == utf8.RuneError && size == 1):
				at += size
				continue
			case comment == "//" && strings.HasPrefix(text[at:], "/*"):
				if n := strings.Index(text[at+2:], "*/"); n >= 0 {
					at += 2 + n + 2
				} else {
					at = len(text)
				}
				continue
			case strings.HasPrefix(text[at:], comment):
				line := strings.TrimSpace(text[at+len(comment) : end])
				if own, ok := strings.CutPrefix(line, "ferrule:"); ok && strings.TrimSpace(own) != "" {
					words = append(words, strings.TrimSpace(own))
				}
				at = end
				continue
			}
			statement = at
			break comments
		}
		if len(words) == 0 {
			continue
		}
		if len(whole) > 64<<10 && (statement < 0 || statement == len(text)-1 && text[statement] == '/' && comment == "//") {
			return nil, errSlow
		}
		return slowWords(words)
	}
	return nil, fs.ErrNotExist
}

var slowPair = regexp.MustCompile(`^([a-z0-9_.-]{1,64})=("(?:[^"\\]|\\.)*"|'[^']*'|(?:[^ \t"'][^ \t]*)?)(?:[ \t]+|$)`)

func slowWords(lines []string) (*abi.Description, error) {
	type about struct {
		kind, name string
		keys       abi.Text
	}
	all := []*about{{}}
	for _, line := range lines {
		on := all[0]
		for line != "" {
			m := slowPair.FindStringSubmatch(line)
			if m == nil {
				return nil, errSlow
			}
			line = line[len(m[0]):]
			key, value := m[1], m[2]
			if value != "" && value[0] == '\'' {
				value = value[1 : len(value)-1]
			} else if value != "" && value[0] == '"' {
				var ok bool
				if value, ok = slowJSON(value[1 : len(value)-1]); !ok {
					return nil, errSlow
				}
			}
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) || slices.Contains(wordsOfErrors, key) {
				return nil, errSlow
			}
			if slices.Contains([]string{"fn", "hook", "import", "want"}, key) {
				if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`).MatchString(value) || slices.ContainsFunc(all, func(a *about) bool { return a.kind == key && a.name == value }) {
					return nil, errSlow
				}
				on = &about{kind: key, name: value}
				all = append(all, on)
				continue
			}
			if on.kind == "" && slices.Contains(wordsOfOne, key) ||
				on.kind != "" && key != "version" && (slices.Contains(wordsOfAll, key) || strings.HasPrefix(key, "host.") || strings.HasPrefix(key, "permit.")) {
				return nil, errSlow
			}
			if on.kind != "" && (key == "in" || key == "out") {
				value = map[string]string{"text": "text/plain", "json": "application/json", "bytes": "application/octet-stream"}[value] + map[bool]string{true: "", false: value}[value == "text" || value == "json" || value == "bytes"]
			}
			if i := slices.IndexFunc(on.keys, func(kv abi.KeyValue) bool { return kv.Key == key }); i < 0 {
				on.keys = append(on.keys, abi.KeyValue{Key: key, Value: value})
			} else if key == "services" && on.kind == "" {
				on.keys[i].Value += " " + value
			} else if slices.Contains(wordsOfLists, key) {
				on.keys[i].Value += "\n" + value
			} else {
				return nil, errSlow
			}
		}
	}
	d := &abi.Description{HasStart: true, ConfigSchema: all[0].keys.Get("config-schema")}
	for _, service := range regexp.MustCompile(`[^, ]+`).FindAllString(all[0].keys.Get("services"), -1) {
		has, ok := map[string]*bool{"stop": &d.HasStop, "configure": &d.HasConfigure, "save": &d.HasSave, "resume": &d.HasResume}[service]
		if !ok || *has {
			return nil, errSlow
		}
		*has = true
	}
	text := "ferrule=1\x00"
	for _, kv := range all[0].keys {
		if kv.Key != "services" && kv.Key != "config-schema" {
			text += kv.Key + "=" + kv.Value + "\x00"
		}
	}
	var err error
	if d.Manifest, err = abi.ParseManifest([]byte(text + "\x00")); err != nil || (d.Manifest.State != "") != d.HasSave || d.HasSave != d.HasResume {
		return nil, errSlow
	}
	slices.SortFunc(all, func(a, b *about) int { return strings.Compare(a.name, b.name) })
	for _, a := range all {
		if a.kind == "" {
			continue
		}
		length := 1
		for _, kv := range a.keys {
			length += len(kv.Key) + len(kv.Value) + 2
		}
		s := abi.Symbol{Name: a.name}
		if s.Describe(a.keys) != nil || length > abi.MaxText {
			return nil, errSlow
		}
		to := map[string]*[]abi.Symbol{"fn": &d.Funcs, "hook": &d.Hooks, "import": &d.Imports, "want": &d.Wants}[a.kind]
		*to = append(*to, s)
		if other := map[string]string{"import": "want", "want": "import"}[a.kind]; slices.ContainsFunc(all, func(b *about) bool { return b.kind == other && other != "" && b.name == a.name }) {
			return nil, errSlow
		}
	}
	return d, nil
}

// slowJSON is what JSON has between quotes.
func slowJSON(s string) (string, bool) {
	var b []byte
	hex := func(s string) (rune, bool) {
		if len(s) < 6 || s[:2] != `\u` {
			return 0, false
		}
		n, err := strconv.ParseUint(s[2:6], 16, 16)
		return rune(n), err == nil
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] < ' ':
			return "", false
		case s[i] != '\\':
			b = append(b, s[i])
		case i+1 < len(s) && strings.IndexByte(`"\/bfnrt`, s[i+1]) >= 0:
			i++
			b = append(b, "\"\\/\b\f\n\r\t"[strings.IndexByte(`"\/bfnrt`, s[i])])
		default:
			r, ok := hex(s[i:])
			if !ok {
				return "", false
			}
			i += 5
			if utf16.IsSurrogate(r) {
				second, _ := hex(s[i+1:])
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					i += 6
				}
			}
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b), true
}

// written is the header of a script that says this.
func written(d *abi.Description, comment string) string {
	quoted := func(kv abi.KeyValue) string {
		value, _ := json.Marshal(kv.Value)
		return " " + kv.Key + "=" + string(value)
	}
	text := comment + " ferrule:"
	for _, kv := range d.Manifest.Keys[1:] {
		text += quoted(kv)
	}
	for service, has := range map[string]bool{"stop": d.HasStop, "configure": d.HasConfigure, "save": d.HasSave, "resume": d.HasResume} {
		if has {
			text += " services=" + service
		}
	}
	text += quoted(abi.KeyValue{Key: "config-schema", Value: d.ConfigSchema})
	for kind, symbols := range map[string][]abi.Symbol{"fn": d.Funcs, "hook": d.Hooks, "import": d.Imports, "want": d.Wants} {
		for _, s := range symbols {
			text += "\n" + comment + " ferrule: " + kind + "=" + s.Name
			for _, kv := range s.Keys {
				text += quoted(kv)
			}
		}
	}
	return text + "\n"
}

// checkHeader holds what is read of a script against what a slow reader finds, and writes down what was accepted: it is read to the same again.
func checkHeader(t *testing.T, text string) {
	t.Helper()
	if len(text) == 0 || inspect.Recognises([]byte(text)) || inspect.IsWasm([]byte(text)) {
		return
	}
	lib, err := readScript(text)
	want, slow := slowly(text)
	format := inspect.ScriptOf([]byte(text)[:min(len(text), 4096)])
	if format == "" {
		require.ErrorIs(t, err, inspect.ErrNotLibrary)
		if len(text) <= 4096 {
			require.ErrorIs(t, slow, fs.ErrNotExist)
		}
		return
	}
	if slow != nil {
		var fault *inspect.Error
		require.ErrorAs(t, err, &fault, "%q", text)
		require.Equal(t, inspect.ErrManifest, fault.Kind)
		require.NotEmpty(t, fault.Found)
		require.NotEmpty(t, fault.Expected)
		require.NotEmpty(t, fault.Remedy)
		require.True(t, utf8.ValidString(fault.Error()))
		return
	}
	require.NoError(t, err, "%q", text)
	require.Equal(t, format, lib.Format)
	require.Equal(t, *want, lib.Description, "%q", text)
	for _, comment := range map[inspect.Format][]string{inspect.JavaScript: {"//"}, inspect.Python: {"#"}}[format] {
		again := written(&lib.Description, comment)
		if len(again) > 60<<10 { // quotes make it longer
			return
		}
		same, err := readScript(again + "1")
		require.NoError(t, err, again)
		require.Equal(t, format, same.Format)
		require.Equal(t, lib.Description, same.Description)
	}
}

var headerSeeds = []string{
	"// ferrule: name=a version=1 fn=f in=json", "#!/usr/bin/python3\r\n# ferrule: name=a\r# ferrule: version='1'\nx", "/* a\n*/ /**/ // ferrule: name=\"\\ud83d\\ude00\\u0041\" version=1",
	"// ferrule: name=a version=1 services=save,resume state=s config-schema='{' config-schema='}' fn=f before=a before=b\n1", "\ufeff//ferrule:name=a version=1 import=b want=b", "# ferrule: fn=f stream=in\x00",
	"// ferrule: name=a version=1 permit.read=a permit.read=b host.b=1 x-=",
}

// Any sequence of pieces that headers are made of is read as a slow reader reads it.
func TestHeadersAsSlowly(t *testing.T) {
	pieces := []string{"// ferrule: ", "# ferrule: ", "//", "#", "#!", "/*", "*/", "\n", "\r", "\r\n", " ", "\t", "=", "'", "\"", "\\", "\\u00e9", "\\ud800", ",", "name=a ", "version=1 ", "fn=f ", "fn=g ", "hook=f ", "import=i ", "want=i ",
		"in=json ", "out=x ", "stream=both ", "state=s ", "services=save,resume ", "services=stop ", "config-schema='{}' ", "before=a ", "permit.read=b ", "host.a=1 ", "x-y=z ", "é", "\u2028", "\ufeff", "\xff", "\x00", "1", "py", "threads=serial "}
	accepted := map[inspect.Format]int{}
	for seed := range uint64(12_000) {
		x := seed*0x9e3779b97f4a7c15 + 1
		next := func(n int) int {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			return int(x % uint64(n))
		}
		var b bytes.Buffer
		if next(4) > 0 {
			b.WriteString([]string{"// ferrule: name=a version=1 ", "# ferrule: name=a version=1 "}[next(2)])
		}
		for range next(14) {
			b.WriteString(pieces[next(len(pieces))])
			if next(6) == 0 {
				b.WriteString([]string{"\n// ferrule: ", "\n# ferrule: "}[next(2)])
			}
		}
		checkHeader(t, b.String())
		if lib, err := readScript(b.String() + " "); err == nil {
			accepted[lib.Format]++
		}
	}
	for _, format := range []inspect.Format{inspect.JavaScript, inspect.Python} {
		assert.Greater(t, accepted[format], 200, "too few that say something: %v", slices.Collect(maps.Keys(accepted)))
	}
}

// FuzzScript reads what is no header as a slow reader does, and what is one to what it says.
func FuzzScript(f *testing.F) {
	for _, seed := range headerSeeds {
		f.Add(seed)
	}
	f.Fuzz(checkHeader)
}

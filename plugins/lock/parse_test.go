package lock_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Each line of the sample is replaced by others, one at a time.
func TestWhatIsNoLock(t *testing.T) {
	files := `      linux/amd64: {digest: "` + digest("1") + `", size: 16384}`
	for _, c := range []struct{ line, by, where, found, expected string }{
		{"format: 1", "format: 2", "3:9", "format 2", "format 1. A newer version has written it: update the application, or what reads the lock"},
		{"format: 1", "format: 0", "3:9", `"0"`, "a format's number from 1 to"},
		{"format: 1", "format: 1,", "3:9", `"1,"`, "a format's number"},
		{"format: 1", "format: 1.0", "3:9", `"1.0"`, "a format's number"},
		{"format: 1", "", "34:1", `no line "format: 1"`, "a lock, which has one"},
		{"format: 1", "format: 1\nformat: 1", "4:1", `"format" a second time, first in line 3`, "one. Delete one of the two, as after a merge that took both"},
		{"format: 1", "format: 1\nplugin:", "4:1", `the key "plugin" at the top`, "one of format, plugins, indexes. Was the file written by a newer version?"},
		{"plugins:", "", "6:3", `"discount" below no section`, "plugins: or indexes: before it"},
		{"plugins:", "plugins: {}", "5:10", `"{}"`, "nothing more in this line"},
		{"  discount:", "  ../discount:", "6:3", `"../discount:"`, "a key"},
		{"  discount:", `  "../discount":`, "6:3", `"../discount"`, "a plug-in's name: 1 to 128 letters, digits, _, - and ., not beginning with . or -, not ending with ."},
		{"  discount:", `  "-rf":`, "6:3", `"-rf"`, "not beginning with . or -"},
		{"  discount:", `  "..":`, "6:3", `".."`, "a plug-in's name"},
		{"  discount:", "  " + strings.Repeat("x", 129) + ":", "6:3", `"xxx`, "a plug-in's name"},
		{"  discount:", "  tax:", "22:3", `"tax" a second time, first in line 6`, "one. Delete one of the two"},
		{"  discount:", "", "7:5", `"version" below no name`, "the name of a plug-in or source before it"},
		{"    version: 1.2.0", "", "6:3", `"discount" without version`, "version, kind and files of a plug-in"},
		{"    version: 1.2.0", "    version: 1.2.0\n    version: 1.2.1", "8:5", `"version" of "discount" a second time, first in line 7`, "one"},
		{"    version: 1.2.0", `    version: "1.2"`, "7:14", `"1.2"`, "a version as in 1.2.3 or 1.2.3-rc.1"},
		{"    version: 1.2.0", "    version: 1.2", "7:14", `"1.2"`, `a version, in " where it is no simple text`},
		{"    version: 1.2.0", "    version:1.2.0", "7:5", `"version:1.2.0"`, "a key, and a : behind it"},
		{"    version: 1.2.0", "    version 1.2.0", "7:5", `"version 1.2.0"`, "a key, and a : behind it"},
		{"    version: 1.2.0", "    version: 1.2.0 # the newest", "7:14", `"1.2.0 # the newest"`, "a comment has a line of its own"},
		{"    version: 1.2.0", "    version: '1.2.0'", "7:14", `"'1.2.0'"`, "a version, in \" where"},
		{"    version: 1.2.0", "    version:  1.2.0", "7:14", `" 1.2.0"`, "a version"},
		{"    version: 1.2.0", "   version: 1.2.0", "7:4", "an indentation of", "2, 4 or 6 spaces"},
		{"    version: 1.2.0", "\tversion: 1.2.0", "7:1", `an indentation of "\t"`, "2, 4 or 6 spaces"},
		{"    version: 1.2.0", "        version: 1.2.0", "7:9", "an indentation of", "2, 4 or 6 spaces"},
		{"    version: 1.2.0", "      version: 1.2.0", "7:7", `"version" in a place that has no such lines`, "lines of requires or files"},
		{"    version: 1.2.0", "    version: 1.2.0\n    url: x", "8:5", `the key "url" of a plug-in`, "one of version, kind"},
		{"    version: 1.2.0", "    version: *one", "7:14", `"*one"`, "a version"},
		{"    version: 1.2.0", "    version: !!str 1.2.0", "7:14", `"!!str 1.2.0"`, "a version"},
		{"    version: 1.2.0", "    version: \xff", "7:1", "bytes that are not UTF-8", "a text"},
		{"    kind: library", "    kind: plugin", "8:11", `"plugin"`, "one of library, wasm, script, program, javascript or python"},
		{"    source: oci://registry.example.com/plugins", "    source: https://user:secret@example.com", "9:13", `"https://user:secret@example.com"`, "a source without a password"},
		{"    source: oci://registry.example.com/plugins", `    source: "oci://x\u001b[2J"`, "9:13", "", "without what cannot be seen"},
		{"    source: oci://registry.example.com/plugins", `    source: "oci://x`, "9:13", "", `a source in quotes`},
		{"    source: oci://registry.example.com/plugins", `    source: ""`, "9:13", `""`, "a text of 1 to 1000 bytes"},
		{"    digest: " + digest("a"), "    digest: sha256:" + strings.Repeat("A", 64), "10:13", "", "sha256: and 64 hexadecimal digits, with small letters"},
		{"    digest: " + digest("a"), "    digest: md5:d41d8cd98f00b204e9800998ecf8427e", "10:13", "", "sha256: and 64 hexadecimal digits"},
		{"    pinned: true", "    pinned: false", "12:13", `"false"`, ""},
		{"      tax: 1.3.0-rc.1", "      tax: ^1.3", "14:12", `"^1.3"`, "a version"},
		{"      tax: 1.3.0-rc.1", "      tax: 1.3.0\n      tax: 1.3.0", "15:7", `"tax" in requires of "discount" a second time, first in line 14`, "one"},
		{"      - connect 443", "      - connect 443\n      - connect 443", "17:7", `the grant "connect 443" of "discount" a second time, first in line 16`, "one"},
		{"      - connect 443", "    - connect 443", "16:5", "an item of a list", "one below grants: or says:, behind 6 spaces"},
		{"      any: {digest: \"" + digest("3") + "\", size: 1}", "", "22:3", `"tax" without files`, "version, kind and files of a plug-in"},
		{files, files + "\n" + files, "21:7", `"linux/amd64" in files of "discount" a second time, first in line 20`, "one"},
		{files, strings.Replace(files, "linux/amd64", "../linux", 1), "20:7", `"../linux`, "a key"},
		{files, strings.Replace(files, "linux/amd64", "linux/../x", 1), "20:7", `"linux/../x"`, registry.PlatformRule},
		{files, strings.Replace(files, "linux/amd64", "linux", 1), "20:7", `"linux"`, registry.PlatformRule},
		{files, strings.Replace(files, "16384", "0", 1), "20:110", `"0}"`, "a size in bytes from 1 to 1099511627776"},
		{files, strings.Replace(files, "16384", "-1", 1), "20:110", `"-1}"`, "a size in bytes from 1 to"},
		{files, strings.Replace(files, "16384", "016384", 1), "20:110", `"016384}"`, "a size in bytes from 1 to"},
		{files, strings.Replace(files, "16384", "1e3", 1), "20:110", `"1e3}"`, "a size in bytes from 1 to"},
		{files, strings.Replace(files, "16384", "99999999999999999999", 1), "20:110", `"99999999999999999999}"`, "a size in bytes from 1 to"},
		{files, strings.Replace(files, "16384", "1099511627777", 1), "20:110", `"1099511627777}"`, "a size in bytes from 1 to"},
		{files, strings.Replace(files, "size: 16384", "length: 16384", 1), "20:102", `", length: 16384}"`, `", size: " as in {digest`},
		{files, strings.Replace(files, "}", "", 1), "20:115", "the end of the line", ""},
		{files, strings.Replace(files, "}", ", size: 1}", 1), "20:115", "", ""},
		{files, strings.Replace(files, "}", `, url: "https://a:b@c"}`, 1), "20:122", "", "without a password"},
		{files, strings.Replace(files, "}", ", signature: 1}", 1), "20:128", `"1}"`, "a signature"},
		{files, strings.Replace(files, "}", `, signature: ""}`, 1), "20:128", `""`, "a signature of 1 to 4096 bytes of UTF-8"},
		{files, strings.Replace(files, "}", `, signature: "\ud800"}`, 1), "20:128", "", "a signature of 1 to 4096 bytes of UTF-8"},
		{files, strings.Replace(files, "}", `, signature: "`+strings.Repeat("x", registry.MaxSignature+1)+`"}`, 1), "20:128", "", "a signature of 1 to 4096 bytes of UTF-8"},
		{files, strings.Replace(files, "}", `, signature: "\t"}`, 1), "20:128", "", `a signature in quotes, with \", \\, \n and \u0000 as in JSON`},
		{files, strings.Replace(files, "}", `, signature: "a", url: "b"}`, 1), "20:131", `", url: \"b\"}"`, "} as in {digest"},
		{files, strings.Replace(files, "}", `, signature: "a", signature: "a"}`, 1), "20:131", `", signature: \"a\"}"`, "} as in {digest"},
		{files, strings.Replace(files, "1111", "", 1), "20:29", "", "sha256: and 64 hexadecimal digits"},
		{files, "<<<<<<< HEAD\n" + files + "\n=======\n" + files + "\n>>>>>>> theirs", "20:1", "a conflict of a merge", "one side of it. Take one side (git checkout --ours or --theirs)"},
		{files, "=======", "20:1", "a conflict of a merge", ""},
		{"    name: registry.example.com/plugins", "", "30:3", `without name`, ""},
		{"    name: registry.example.com/plugins", "    name: a/../b", "31:11", `"a/../b"`, "a registry's name"},
		{"    name: registry.example.com/plugins", `    name: "a: b"`, "31:11", `"a: b"`, "a registry's name"},
		{"    serial: 12", "    serial: 18446744073709551616", "32:13", "", "a number from 0 to 18446744073709551615"},
		{"    serial: 12", "", "30:3", `without serial`, ""},
		{"    serial: 12", "    serial: 12\n    version: 1", "33:5", `the key "version" of an index`, "one of name, serial, date"},
		{`    date: "2026-11-01T12:00:00Z"`, `    date: "2026-11-01"`, "33:11", `"2026-11-01"`, "a date as in 2026-01-31T12:00:00Z"},
		{`    date: "2026-11-01T12:00:00Z"`, `    date: "2026-11-01T12:00:00+01:00"`, "33:11", "", "a date as in"},
	} {
		t.Run(c.by, func(t *testing.T) {
			require.Contains(t, sampleText, c.line+"\n")
			_, err := lock.Parse("ferrule.lock", []byte(strings.Replace(sampleText, c.line+"\n", c.by+"\n", 1)))
			var e *registry.Error
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, registry.ErrLock)
			assert.Equal(t, "ferrule.lock:"+c.where, e.Path, err.Error())
			assert.Contains(t, e.Found, c.found)
			assert.Contains(t, e.Expected+". "+e.Remedy, c.expected)
			assert.NotEmpty(t, e.Remedy, "an error says what to do")
		})
	}
}

func TestLocksWithoutPlugins(t *testing.T) {
	for _, text := range []string{"format: 1", "format: 1\n", "format: 1\nplugins:\n", "# a comment\n\nformat: 1\r\nplugins:\r\nindexes:\r\n"} {
		l, err := lock.Parse("", []byte(text))
		require.NoError(t, err, "%q", text)
		assert.Equal(t, &lock.Lock{Plugins: map[string]*lock.Entry{}, Indexes: map[string]lock.Index{}}, l)
	}
	_, err := lock.Parse("ferrule.lock", nil)
	assert.ErrorContains(t, err, `ferrule.lock:1:1: found no line "format: 1"`)
}

// Order, line ends and comments of their own lines are a person's, or git's.
func TestTheSameContent(t *testing.T) {
	want := string(sample().Text())
	for _, text := range []string{
		strings.ReplaceAll(sampleText, "\n", "\r\n"),
		strings.ReplaceAll(sampleText, "\n", "\n\n      # why\n"),
		strings.TrimSuffix(sampleText, "\n"),
		strings.Replace(sampleText, "      - connect 443\n      - function loyalty_points\n", "      - function loyalty_points\n      - \"connect 443\"\n", 1),
		strings.Replace(sampleText, `"8F2A6C0E11D4B7A3"`, `"\u0038F2A6C0E11D4B7A3"`, 1),
	} {
		l, err := lock.Parse("", []byte(text))
		require.NoError(t, err)
		assert.Equal(t, want, string(l.Text()))
	}
}

// What YAML refuses, or takes for the end of a line, stands nowhere in a lock: a comment could say to one reader what it does not say to another.
func TestCharactersThatMayStandInALine(t *testing.T) {
	all := []rune{0xd7ff, 0xe000, 0xfefe, 0xfeff, 0xff00, 0xfffd, 0xfffe, 0xffff, 0x10000, 0x1f600, 0xe0001, utf8.MaxRune}
	for r := range rune(0x3000) {
		all = append(all, r)
	}
	for _, r := range all {
		if r == '\n' {
			continue
		}
		text := "format: 1\n# a" + string(r) + "plugins: 1\n"
		var tree struct {
			Format  int
			Plugins any
		}
		other := yaml.Unmarshal([]byte(text), &tree)
		l, err := lock.Parse("ferrule.lock", []byte(text))
		if other == nil && tree.Plugins == nil {
			require.NoError(t, err, "%U, of which YAML makes %v", r, tree)
			assert.Empty(t, l.Plugins)
			continue
		}
		require.ErrorIs(t, err, registry.ErrLock, "%U, of which YAML makes %v and %v", r, tree, other)
		assert.ErrorContains(t, err, fmt.Sprintf("ferrule.lock:2:4: found the character %U", r))
	}
	_, err := lock.Parse("ferrule.lock", []byte(strings.Replace(sampleText, `"8F2A6C0E11D4B7A3"`, "\"8F2A\u20286C0E\"", 1)))
	assert.ErrorContains(t, err, "found the character U+2028", "in quotes as well: a file has it escaped")
}

// A hostile text costs time and memory in proportion to its length.
func TestHostileTexts(t *testing.T) {
	_, err := lock.Parse("", bytes.Repeat([]byte("#"), lock.MaxSize+1))
	assert.ErrorContains(t, err, fmt.Sprintf("found more than %d bytes", lock.MaxSize))
	for _, unit := range []string{"[", "{", "- ", "  ", "a: ", "\"", "\\", "\n", "&a *a ", "format: 1\nplugins:\n  a:\n    grants:\n      - ", "\x00", "\xff", "x"} {
		text := []byte(strings.Repeat(unit, (1<<20)/len(unit)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := lock.Parse("", text)
		runtime.ReadMemStats(&after)
		assert.ErrorIs(t, err, registry.ErrLock, "%q", unit)
		assert.Less(t, len(err.Error()), 2000)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "%q", unit)
	}
}

// What Parse takes, every reader of YAML takes, and reads the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sampleText))
	f.Add([]byte("format: 1\nplugins:\n  a:\n    version: 1.0.0\n    kind: wasm\n    files:\n      any: {digest: \"" + digest("0") + "\", size: 1, signature: \"" + strings.Repeat(`\n\u000d\u007f é\u2028`, 400) + "\"}\n"))
	f.Add([]byte("format: 1\nplugins:\n  a:\n    version: 1.0.0\n    kind: wasm\n    key: \"\\u00e9 yes\"\n    grants:\n      - y\n    files:\n      any: {digest: \"" + digest("0") + "\", size: 1, url: a.so}\n"))
	f.Add([]byte("format: 1\n# a\x05b\n"))
	f.Add([]byte("format: 1\n# a\rplugins: 1\n"))
	f.Add([]byte("format: 1\nindexes:\n  \"\\\"\":\n    name: a/b\n    serial: 0\n    date: \"2026-11-01T12:00:00.5Z\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := lock.Parse("ferrule.lock", text)
		if err != nil {
			var e *registry.Error
			if !errors.As(err, &e) || !errors.Is(err, registry.ErrLock) || e.Remedy == "" || !strings.HasPrefix(e.Path, "ferrule.lock:") {
				t.Fatalf("found %#v, expected an error that says where and what to do", err)
			}
			return
		}
		again, err := lock.Parse("ferrule.lock", l.Text())
		if err != nil {
			t.Fatalf("%v\n%s", err, l.Text())
		}
		if !reflect.DeepEqual(l, again) {
			t.Fatalf("found %s, expected %s", again.Text(), l.Text())
		}
		if !bytes.Equal(l.Text(), again.Text()) {
			t.Fatal("found other bytes for the same content")
		}
		var tree struct {
			Format  int
			Plugins map[string]struct {
				Version, Kind, Source, Tag, Digest, Key string
				Pinned                                  bool
				Requires                                map[string]string
				Grants                                  []string
				Files                                   map[string]struct {
					registry.File `yaml:",inline"`
					Signature     string
				}
			}
			Indexes map[string]struct {
				Name   string
				Serial uint64
				Date   string
				Digest string
			}
		}
		for _, text := range [][]byte{l.Text(), text} {
			decoder := yaml.NewDecoder(bytes.NewReader(text))
			decoder.KnownFields(true)
			if err := decoder.Decode(&tree); err != nil {
				t.Fatalf("YAML: %v\n%s", err, text)
			}
			if len(tree.Plugins) != len(l.Plugins) || len(tree.Indexes) != len(l.Indexes) {
				t.Fatalf("found %v in YAML, expected %s", tree, l.Text())
			}
			for name, e := range l.Plugins {
				got := tree.Plugins[name]
				want := lock.Entry{Version: got.Version, Kind: registry.Kind(got.Kind), Source: got.Source, Tag: got.Tag, Digest: got.Digest, Key: got.Key,
					Pinned: got.Pinned, Requires: e.Requires, Grants: e.Grants, Files: map[string]registry.File{}}
				for on, f := range got.Files {
					want.Files[on] = f.File
					if f.Signature != "" {
						if want.Signatures == nil {
							want.Signatures = map[string]string{}
						}
						want.Signatures[on] = f.Signature
					}
				}
				if !reflect.DeepEqual(*e, want) || len(got.Grants) != len(e.Grants) || len(got.Requires) != len(e.Requires) {
					t.Fatalf("found %v in YAML, expected %v", got, e)
				}
			}
		}
	})
}

// Whatever a text is made of, it is written so that it is read again, or refused.
func FuzzText(f *testing.F) {
	f.Add("v1", "oci://example.com/a b", "8F2A", "connect 443", "a.so", "untrusted comment: a\nRUQ=\n", "acme", uint64(1), int64(0))
	f.Add("yes", "- a", "\"'", "a: b", "#", "\r\n\t\x00", "yes/no", uint64(0), int64(1))
	f.Add("0x1", "1:30", "1e3", "~", "{a}", " \"\\n\u2028\ufeff ", "0x1", uint64(1<<63), int64(-1))
	f.Add("\u2028", "\\", "\ufeff", " a", "é\U0001f600", "\U000e0001\x7f\u0085", "1e3", uint64(2), int64(253402300799))
	f.Add("null", "2026-01-01", ".inf", "<<", "=", "null", "a: b", uint64(2), int64(1<<60))
	f.Fuzz(func(t *testing.T, tag, source, key, grant, url, signature, index string, serial uint64, seconds int64) {
		want := sample()
		e := want.Plugins["tax"]
		e.Tag, e.Source, e.Key, e.Grants = tag, source, key, []string{grant}
		e.Files["any"] = registry.File{Digest: digest("3"), Size: 1, URL: url}
		if signature != "" {
			e.Signatures = map[string]string{"any": signature}
		}
		want.Indexes["https://example.com"] = lock.Index{Name: index, Serial: serial, Date: time.Unix(seconds, 0).UTC()}
		got, err := lock.Parse("ferrule.lock", want.Text())
		fit := grant != "" && seconds >= -62167219200 && seconds <= 253402300799 // the years 0 to 9999
		fit = fit && registry.ValidIndex(index) && (signature == "" || lock.ValidSignature(signature))
		for _, s := range []string{tag, source, key, grant, url} {
			fit = fit && len(s) <= 1000 && utf8.ValidString(s) && strings.TrimSpace(s) == s && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
		}
		if fit && strings.ContainsAny(source+url, "@\ufffd") || strings.ContainsRune(tag+key+grant+signature, '\ufffd') {
			t.Skip() // either may be
		}
		if (err == nil) != fit {
			t.Fatalf("found %v, expected %v\n%s", err, fit, want.Text())
		}
		if fit && !reflect.DeepEqual(want, got) {
			t.Fatalf("found\n%s\nexpected\n%s", got.Text(), want.Text())
		}
		if fit {
			var tree map[string]any
			if err := yaml.Unmarshal(want.Text(), &tree); err != nil {
				t.Fatalf("YAML: %v\n%s", err, want.Text())
			}
			tax := tree["plugins"].(map[string]any)["tax"].(map[string]any)
			for name, text := range map[string]string{"tag": tag, "source": source, "key": key} {
				if text != "" && tax[name] != any(text) {
					t.Fatalf("found %#v in YAML, expected the %s %q", tax[name], name, text)
				}
			}
			if any := tax["files"].(map[string]any)["any"].(map[string]any); signature != "" && any["signature"] != signature {
				t.Fatalf("found %#v in YAML, expected the signature %q", any["signature"], signature)
			}
		}
	})
}

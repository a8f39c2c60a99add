package abi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
)

func TestParseText(t *testing.T) {
	for _, c := range []struct {
		name string
		data string
		want abi.Text
	}{
		{"empty", "\x00", nil},
		{"one", "doc=Counts.\x00\x00", abi.Text{{Key: "doc", Value: "Counts."}}},
		{"order", "b=1\x00a=2\x00\x00", abi.Text{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}}},
		{"what follows the end", "a=1\x00\x00b=2", abi.Text{{Key: "a", Value: "1"}}},
		{"empty value", "a=\x00\x00", abi.Text{{Key: "a", Value: ""}}},
		{"equals sign in the value", "a=b=c\x00\x00", abi.Text{{Key: "a", Value: "b=c"}}},
		{"newlines and UTF-8 in the value", "doc=Zählt.\nÜber Zeilen.\x00\x00",
			abi.Text{{Key: "doc", Value: "Zählt.\nÜber Zeilen."}}},
		{"all of a key", "az09_-.=1\x00\x00", abi.Text{{Key: "az09_-.", Value: "1"}}},
		{"the longest key", strings.Repeat("k", 64) + "=1\x00\x00", abi.Text{{Key: strings.Repeat("k", 64),
			Value: "1"}}},
		{"the longest text", "k=" + strings.Repeat("v", abi.MaxText-4) + "\x00\x00",
			abi.Text{{Key: "k", Value: strings.Repeat("v", abi.MaxText-4)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := abi.ParseText([]byte(c.data))
			require.NoError(t, err)
			require.Equal(t, c.want, text)
		})
	}
}

func TestParseTextErrors(t *testing.T) {
	for _, c := range []struct {
		name            string
		data            string
		rule, key, want string // want stands in the error's text
	}{
		{"no bytes", "", "R1", "", "no empty text that ends it"},
		{"no NUL", "a=1", "R1", "", "no empty text that ends it"},
		{"one NUL", "a=1\x00", "R1", "", "no empty text that ends it"},
		{"too long", "k=" + strings.Repeat("v", abi.MaxText-3) + "\x00\x00", "R1", "", "within 65536 bytes"},
		{"no equals sign", "a\x00\x00", "R3", "", `found "a", expected key=value`},
		{"no key", "=1\x00\x00", "R3", "", `the key ""`},
		{"capital letter", "Doc=1\x00\x00", "R3", "", `the key "Doc"`},
		{"space", "a b=1\x00\x00", "R3", "", `the key "a b"`},
		{"key of 65 bytes", strings.Repeat("k", 65) + "=1\x00\x00", "R3", "", "1 to 64 bytes"},
		{"not UTF-8", "a=\xff\x00\x00", "R1", "a", `key "a": found "\xff", expected UTF-8`},
		{"twice", "a=1\x00b=2\x00a=1\x00\x00", "R3", "a", `found the key "a" twice, expected each key once`},
		{"long value in the message", "a=" + strings.Repeat("x", 100) + "\xff\x00\x00", "R1", "a", "x…"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := abi.ParseText([]byte(c.data))
			require.Nil(t, text)
			var e *abi.TextError
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.rule, e.Rule)
			require.Equal(t, c.key, e.Key)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "(rule "+c.rule+")")
			require.Less(t, len(err.Error()), 300)
		})
	}
}

func TestTextGet(t *testing.T) {
	text := abi.Text{{Key: "a", Value: "1"}, {Key: "b", Value: ""}}
	require.Equal(t, "1", text.Get("a"))
	require.Empty(t, text.Get("b"))
	require.Empty(t, text.Get("c"))
	require.Empty(t, abi.Text(nil).Get("a"))
}

const head = "ferrule=1\x00name=p\x00version=1\x00"

func TestParseManifest(t *testing.T) {
	m, err := abi.ParseManifest([]byte("ferrule=1\x00version=1.0.0\x00name=My_plug-in.2\x00threads=pinned\x00" +
		"description=Does it.\x00x-new=kept\x00\x00and what follows"))
	require.NoError(t, err)
	require.Equal(t, &abi.Manifest{Name: "My_plug-in.2", Version: "1.0.0", Threads: abi.Pinned, Description: "Does it.",
		Keys: abi.Text{{Key: "ferrule", Value: "1"}, {Key: "version", Value: "1.0.0"}, {Key: "name",
			Value: "My_plug-in.2"},
			{Key: "threads", Value: "pinned"}, {Key: "description", Value: "Does it."}, {Key: "x-new",
				Value: "kept"}}}, m)

	for word, want := range map[string]abi.Threads{"": abi.Serial, "threads=\x00": abi.Serial, "threads=serial\x00": abi.Serial,
		"threads=concurrent\x00": abi.Concurrent, "threads=pinned\x00": abi.Pinned} {
		m, err := abi.ParseManifest([]byte(head + word + "\x00"))
		require.NoError(t, err, word)
		require.Equal(t, want, m.Threads, word)
	}

	m, err = abi.ParseManifest([]byte("ferrule=1\x00name=" + strings.Repeat("n", 128) + "\x00version=1\x00\x00"))
	require.NoError(t, err)
	require.Len(t, m.Name, 128)
}

func TestParseManifestErrors(t *testing.T) {
	for _, c := range []struct {
		name            string
		data            string
		rule, key, want string
	}{
		{"no bytes", "", "R1", "", `found "" as its first text`},
		{"empty", "\x00", "R1", "", `found "" as its first text`},
		{"ferrule is not first", "name=p\x00ferrule=1\x00version=1\x00\x00", "R1", "", `"name=p" as its first text`},
		{"no major", "ferrule=\x00\x00", "R1", "ferrule", "a major version"},
		{"major is no number", "ferrule=one\x00\x00", "R1", "ferrule", `found "one"`},
		{"major is negative", "ferrule=-1\x00\x00", "R1", "ferrule", `found "-1"`},
		{"major is too large", "ferrule=99999999999999999999\x00\x00", "R1", "ferrule", "a major version"},
		{"no end", "ferrule=1\x00name=p\x00version=1", "R1", "", "no empty text that ends it"},
		{"no name", "ferrule=1\x00version=1\x00\x00", "R1", "name", `found no name, expected one (rule R1)`},
		{"name with a space", "ferrule=1\x00name=a b\x00version=1\x00\x00", "R1", "name", `found "a b"`},
		{"name with an umlaut", "ferrule=1\x00name=ä\x00version=1\x00\x00", "R1", "name", `found "ä"`},
		{"name with a slash", "ferrule=1\x00name=a/b\x00version=1\x00\x00", "R1", "name", `found "a/b"`},
		{"name of 129 bytes", "ferrule=1\x00name=" + strings.Repeat("n", 129) + "\x00version=1\x00\x00", "R1", "name",
			"1 to 128"},
		{"no version", "ferrule=1\x00name=p\x00\x00", "R1", "version", "found none"},
		{"empty version", "ferrule=1\x00name=p\x00version=\x00\x00", "R1", "version", "found none"},
		{"unknown threads", head + "threads=many\x00\x00", "R13", "threads", `found "many"`},
		{"threads in capitals", head + "threads=Serial\x00\x00", "R13", "threads", `found "Serial"`},
		{"key twice", head + "name=q\x00\x00", "R3", "name", `the key "name" twice`},
		{"bad key", head + "Key=1\x00\x00", "R3", "", `the key "Key"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := abi.ParseManifest([]byte(c.data))
			require.Nil(t, m)
			var e *abi.TextError
			require.ErrorAs(t, err, &e)
			require.Equal(t, [2]string{c.rule, c.key}, [2]string{e.Rule, e.Key})
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestTextErrorRemedy: what is to be done is true for each cause.
func TestTextErrorRemedy(t *testing.T) {
	const macros = ""
	for data, remedy := range map[string]string{
		"name=p\x00\x00":                             macros,
		"ferrule=one\x00\x00":                        macros,
		"ferrule=1\x00name=p\x00version=1":           macros,
		head + "text\x00\x00":                        macros,
		head + "Key=1\x00\x00":                       "Correct the key",
		head + "a=1\x00a=1\x00\x00":                  "Leave one of them out",
		head + "a=\xff\x00\x00":                      "Write the value in UTF-8",
		"ferrule=1\x00version=1\x00\x00":             "Add FERRULE_NAME",
		"ferrule=1\x00name=p\x00\x00":                "Add FERRULE_VERSION",
		"ferrule=1\x00name=a b\x00version=1\x00\x00": "Correct the value",
		head + "threads=many\x00\x00":                "Correct the value",
		head + "state=a b\x00\x00":                   "Correct the value",
	} {
		_, err := abi.ParseManifest([]byte(data))
		var e *abi.TextError
		require.ErrorAs(t, err, &e, "%q", data)
		require.Equal(t, remedy, e.Remedy, "%q", data)
	}
	var e *abi.TextError
	require.ErrorAs(t, new(abi.Symbol).Describe(abi.Text{{Key: "stream", Value: "up"}}), &e)
	require.Equal(t, "Correct the value", e.Remedy)
}

// TestParseManifestMajor: another major version may have another syntax, so nothing behind its number is judged.
func TestParseManifestMajor(t *testing.T) {
	for _, data := range []string{"ferrule=2", "ferrule=2\x00no end", "ferrule=2\x00\xff\xff", "ferrule=2\x00\x00"} {
		_, err := abi.ParseManifest([]byte(data))
		var e *abi.MajorError
		require.ErrorAs(t, err, &e, data)
		require.Equal(t, "2", e.Found)
		require.EqualError(t, err, "the manifest says ferrule=2, this host speaks ferrule=1")
	}
	_, err := abi.ParseManifest([]byte("ferrule=0\x00\x00"))
	require.ErrorContains(t, err, "ferrule=0")
}

func TestThreadsString(t *testing.T) {
	require.Equal(t, "serial concurrent pinned threads 7",
		fmt.Sprint(abi.Serial, " ", abi.Concurrent, " ", abi.Pinned, " ", abi.Threads(7)))
}

// FuzzParseText: what is accepted can be written down again and reads the same; the rest gets a *TextError.
func FuzzParseText(f *testing.F) {
	for _, seed := range []string{"", "\x00", "a=1\x00\x00", "a=1\x00a=2\x00\x00",
		"doc=Zählt.\x00in=text/plain\x00\x00tail", "=\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := abi.ParseText(data)
		if err != nil {
			requireTextError(t, err)
			return
		}
		written := write(text)
		if string(data[:len(written)]) != written {
			t.Fatalf("%q was read from %q", text, data)
		}
		seen := map[string]bool{}
		for _, kv := range text {
			if seen[kv.Key] || kv.Key == "" || !utf8.ValidString(kv.Value) || text.Get(kv.Key) != kv.Value {
				t.Fatalf("%q in %q", kv, text)
			}
			seen[kv.Key] = true
		}
	})
}

// FuzzParseManifest: what is accepted has what rules R1 and R13 ask for, and its keys are the text's.
func FuzzParseManifest(f *testing.F) {
	for _, seed := range []string{head + "\x00", head + "threads=pinned\x00\x00", "ferrule=2\x00\x00", "ferrule=x",
		head} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := abi.ParseManifest(data)
		if err != nil {
			if major := (*abi.MajorError)(nil); !errors.As(err, &major) {
				requireTextError(t, err)
			}
			return
		}
		text, err := abi.ParseText(data)
		if err != nil || write(text) != write(m.Keys) {
			t.Fatalf("%q and %v from %q", m.Keys, err, data)
		}
		if m.Keys[0].Key != "ferrule" || m.Name == "" || len(m.Name) > 128 || m.Version == "" ||
			m.Threads > abi.Pinned || m.Name != text.Get("name") || m.Version != text.Get("version") || m.Description != text.Get("description") {
			t.Fatalf("%#v", m)
		}
	})
}

func requireTextError(t *testing.T, err error) {
	var e *abi.TextError
	if !errors.As(err, &e) || e.Rule == "" || e.Found == "" || e.Expected == "" || !utf8.ValidString(err.Error()) {
		t.Fatalf("%#v", err)
	}
}

// write is the text as a library has it.
func write(text abi.Text) string {
	var b strings.Builder
	for _, kv := range text {
		b.WriteString(kv.Key + "=" + kv.Value + "\x00")
	}
	return b.String() + "\x00"
}

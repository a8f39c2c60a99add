package layout_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	linux := layout.Where{Plugin: "sample", Version: "1.2.0", Tag: "v1.2.0", Platform: "linux/amd64"}
	for _, c := range []struct {
		text         string
		files, index []string
		change       func(*layout.Where)
	}{
		{"https://x/{tag}", []string{"https://x/v1.2.0/sample-linux-amd64.so"}, []string{"https://x/v1.2.0/sample.json"}, nil},
		{"https://x/{tag}/", []string{"https://x/v1.2.0/sample-linux-amd64.so"}, []string{"https://x/v1.2.0/sample.json"}, nil},
		{"https://x/{version}/{plugin}_{os}.{ext}", []string{"https://x/1.2.0/sample_linux.so"}, []string{"https://x/1.2.0/sample.json"}, nil},
		{"https://x/{plugin}/{os}/{arch}/lib{plugin}.{ext}?a=b", []string{"https://x/sample/linux/amd64/libsample.so?a=b"}, []string{"https://x/sample/sample.json?a=b"}, nil},
		{"https://x/{tag}?v={version}", []string{"https://x/v1.2.0/sample-linux-amd64.so?v=1.2.0%2Bb"}, []string{"https://x/v1.2.0/sample.json?v=1.2.0%2Bb"}, func(w *layout.Where) { w.Version += "+b" }},
		{"https://x/{tag}", []string{"https://x/v1.2.0/sample-darwin-arm64.dylib"}, []string{"https://x/v1.2.0/sample.json"}, func(w *layout.Where) { w.Platform = "darwin/arm64" }},
		{"https://x/{tag}", []string{"https://x/v1.2.0/sample-windows-amd64.dll"}, []string{"https://x/v1.2.0/sample.json"}, func(w *layout.Where) { w.Platform = "windows/amd64" }},
		{"https://x/{tag}", []string{"https://x/v1.2.0/sample-any.wasm"}, []string{"https://x/v1.2.0/sample.json"}, func(w *layout.Where) { w.Platform, w.Kind = "any", registry.Wasm }},
		{"https://x/{tag}", []string{"https://x/v1.2.0/sample-linux-amd64"}, []string{"https://x/v1.2.0/sample.json"}, func(w *layout.Where) { w.Kind = registry.Program }},
		{"https://x/{tag}", []string{"https://x/latest/sample-linux-amd64.so"}, []string{"https://x/latest/sample.json"}, func(w *layout.Where) { w.Tag = "latest" }},
		{"https://x/{version}", []string{"https://x/latest/sample-linux-amd64.so"}, []string{"https://x/latest/sample.json"}, func(w *layout.Where) { w.Version = "" }},
		{"https://x/a/b/releases/download/{tag}",
			[]string{"https://x/a/b/releases/latest/download/sample-linux-amd64.so", "https://x/a/b/releases/download/latest/sample-linux-amd64.so"},
			[]string{"https://x/a/b/releases/latest/download/sample.json", "https://x/a/b/releases/download/latest/sample.json"}, func(w *layout.Where) { w.Tag = "latest" }},
		{"https://x/a/b/releases/download/{tag}", []string{"https://x/a/b/releases/download/sample/v1/sample-linux-amd64.so"},
			[]string{"https://x/a/b/releases/download/sample/v1/sample.json"}, func(w *layout.Where) { w.Tag = "sample/v1" }},
	} {
		tmpl, err := layout.ParseTemplate(c.text)
		require.NoError(t, err)
		w := linux
		if c.change != nil {
			c.change(&w)
		}
		assert.Equal(t, c.files, tmpl.File(w, "", "").Addresses, c.text)
		assert.Equal(t, c.index, tmpl.Index(w).Addresses, c.text)
	}
	tmpl, err := layout.ParseTemplate("https://x/{tag}/{plugin}.{ext}?a=b")
	require.NoError(t, err)
	assert.Equal(t, []string{"https://x/v1.2.0/other.bin.minisig?a=b"}, tmpl.File(linux, "other.bin", ".minisig").Addresses)
	for _, bad := range []string{"https://x/{}", "https://x/{Tag}", "https://x/{tag", "https://x/tag}", "https://x/{{tag}}", "https://x/#a"} {
		_, err := layout.ParseTemplate(bad)
		assert.ErrorIs(t, err, registry.ErrMalformed, bad)
	}
}

// The tag that was reached, by the addresses on the way.
func TestReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, hop, tag string }{
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/v1.2.0/sample.json", "v1.2.0"},
		{"https://x/a/b/releases/download/{tag}", "https://x/new/name/releases/download/v1.2.0/sample.json?token=x", "v1.2.0"},
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/sample%2Fv1/sample.json", "sample/v1"},
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/sample/v1/sample.json", "sample/v1"},
		{"https://x/a/b/releases/download/{tag}", "https://y/a/b/releases/download/v1.2.0/sample.json", ""},
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/v1.2.0/other.json", ""},
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/latest/sample.json", ""},
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/../sample.json", ""},
		{"https://x/a/b/releases/download/{tag}", "https://x/a/b/releases/download/a%00b/sample.json", ""},
		{"https://x/{tag}", "https://x/2024-01-01/sample.json", "2024-01-01"},
		{"https://x/{plugin}", "https://x/sample/sample.json", ""},
		// {tag} in the query only, and more than once in the path: all are the same.
		{"https://x/a?tag={tag}", "https://x/a/sample.json?tag=v1", ""},
		{"https://x/releases/download/a?tag={tag}", "https://x/b/releases/download/a/sample.json", ""},
		{"https://x/{tag}/b/{tag}", "https://x/v1/b/v1/sample.json", "v1"},
		{"https://x/{tag}/b/{tag}", "https://x/v1/b/v2/sample.json", ""},
		{"https://x/{tag}/{tag}", "https://x/a/b/a/b/sample.json", "a/b"},
		{"https://x/{tag}/{tag}", "https://x/a/b/a/sample.json", ""},
		{"https://x/{tag}/releases/download/{tag}", "https://x/v1/releases/download/v1/sample.json", "v1"},
		{"https://x/{tag}", "https://x//sample.json", ""},
		{"https://x/{tag}", "https://x/sample.json", ""},
		{"https://x/{tag}", "https://x/.new/sample.json", ""},
	} {
		tmpl, err := layout.ParseTemplate(c.text)
		require.NoError(t, err)
		assert.Equal(t, c.tag, tmpl.Index(layout.Where{Plugin: "sample", Tag: "latest"}).Reached([]string{"https://x/", "::", c.hop}), c.hop)
	}
}

// Whatever the address of a registry and that of a redirect: nothing panics, and what is found is a tag that leads there.
func FuzzReached(f *testing.F) {
	for _, text := range []string{"https://x/a/releases/download/{tag}", "https://x/{tag}/b/{tag}", "https://x/?t={tag}", "https://x/%7Btag%7D/{tag}{tag}/{plugin}.{ext}"} {
		f.Add(text, "https://x/a/releases/download/v1/sample.json")
		f.Add(text, "https://x/v1/b/v1/sample.json")
	}
	f.Fuzz(func(t *testing.T, text, hop string) {
		tmpl, err := layout.ParseTemplate(text)
		if err != nil {
			return
		}
		w := layout.Where{Plugin: "sample", Version: "1.0.0", Tag: "latest", Platform: "linux/amd64"}
		for _, at := range []func(layout.Where) layout.Place{tmpl.Index, func(w layout.Where) layout.Place { return tmpl.File(w, "", ".minisig") }} {
			tag := at(w).Reached([]string{hop})
			if tag == "" {
				continue
			}
			require.NoError(t, layout.CheckTag(tag))
			require.NotEqual(t, layout.Latest, tag)
			reached, err := url.Parse(hop)
			require.NoError(t, err)
			require.Contains(t, reached.Path, tag)
			there := w
			there.Tag = tag
			addresses := at(there).Addresses
			want, err := url.Parse(addresses[len(addresses)-1])
			require.NoError(t, err)
			if !strings.Contains(want.Path, "/releases/download/") { // there owner and repository may be others
				require.Equal(t, strings.ReplaceAll(want.Path, "{tag}", tag), reached.Path)
			}
		}
	})
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// index is an index of one release, with something replaced.
func index(old, new string) string {
	text := `{"format":1,"name":"sample","releases":[{"name":"sample","version":"1.0.0","files":{"linux/amd64":{"digest":"` + digest + `","size":5}},"tag":"v1.0.0"}]}`
	if !strings.Contains(text, old) {
		panic(old)
	}
	return strings.Replace(text, old, new, 1)
}

func TestParseIndex(t *testing.T) {
	t.Parallel()
	x, err := layout.ParseIndex([]byte(index("", "")))
	require.NoError(t, err)
	assert.Equal(t, []*registry.Release{{Name: "sample", Version: "1.0.0", Tag: "v1.0.0", Files: map[string]registry.File{"linux/amd64": {Digest: digest, Size: 5}}}}, x.Releases)
	for text, words := range map[string]string{
		"":                                  "EOF",
		"null":                              "format 0",
		"[]":                                "array",
		index(`"format":1`, `"format":2`):   "A newer version of this program may read it",
		index(`"format":1`, `"format":-1`):  "format -1",
		index(`"format":1`, `"format":1.5`): "1.5",
		index(`{"format":1`, `{"format":1,"more":1`):                      "unknown field",
		index(`"tag"`, `"Tag":"v2","tag"`):                                "twice",
		index(`"size":5`, `"size":5,"size":6`):                            "twice",
		index(`"linux/amd64":`, `"linux/amd64":{},"linux/amd64":`):        "twice",
		index(`"name":"sample","version"`, `"name":"other","version"`):    "found the name other",
		index(`"sample"`, `"../sample"`):                                  `"../sample"`,
		index(`"1.0.0"`, `"../1.0.0"`):                                    `"../1.0.0"`,
		index(`"1.0.0"`, `".."`):                                          `".."`,
		index(`"1.0.0"`, `""`):                                            "the version",
		index(`"v1.0.0"`, `"../x"`):                                       `"../x"`,
		index(`"v1.0.0"`, `"a/../x"`):                                     `"a/../x"`,
		index(`"v1.0.0"`, `"/x"`):                                         `"/x"`,
		index(`"v1.0.0"`, `"Latest"`):                                     "the tag of one release",
		index(`"v1.0.0"`, `".new"`):                                       "a dot before or behind",
		index(`"v1.0.0"`, `"a/.new"`):                                     "a dot before or behind",
		index(`"v1.0.0"`, `"v1."`):                                        "a dot before or behind",
		index(`"sample"`, `".sample"`):                                    "not beginning with . or -",
		index(`"size":5`, `"size":5,"url":".lock"`):                       "the url",
		index(`"linux/amd64"`, `"linux"`):                                 "the platform",
		index(`"linux/amd64"`, `"../../amd64"`):                           "the platform",
		index(digest, "sha256:0"):                                         "the digest",
		index(digest, ""):                                                 "the digest",
		index(digest, strings.ToUpper(digest)):                            "the digest",
		index(`"size":5`, `"size":0`):                                     "0 bytes",
		index(`"size":5`, `"size":-5`):                                    "-5 bytes",
		index(`"size":5`, `"size":5000000000`):                            "5000000000 bytes",
		index(`"size":5`, `"size":1e400`):                                 "1e400",
		index(`"size":5`, `"size":5,"url":"https://x/y"`):                 "the url",
		index(`"size":5`, `"size":5,"url":"../y"`):                        "the url",
		index(`"size":5`, `"size":5,"url":"a?b"`):                         "the url",
		index(`"tag"`, `"kind":"virus","tag"`):                            "the kind",
		index(`"tag"`, `"digest":"md5:0","tag"`):                          "the digest",
		index(`{"linux/amd64":{"digest":"`+digest+`","size":5}}`, `null`): "no files",
		index(`[{`, `[null,{`):                                            "releases[0]: found null",
		index("", "") + "{}":                                              "behind its end",
		index("", "")[1:]:                                                 "behind its end",
		strings.Repeat("[", 100):                                          "levels",
		strings.Repeat(" ", layout.MaxIndex+1):                            "more than",
	} {
		_, err := layout.ParseIndex([]byte(text))
		require.ErrorIs(t, err, registry.ErrMalformed, "%.200s", text)
		assert.ErrorContains(t, err, words, "%.200s", text)
		assert.Less(t, len(err.Error()), 600)
	}
	one := index("", "")
	release := one[strings.Index(one, `[{`)+1 : strings.Index(one, `]}`)]
	_, err = layout.ParseIndex([]byte(index(release, release+","+release)))
	assert.ErrorContains(t, err, "1.0.0 for the second time")
}

func TestFind(t *testing.T) {
	t.Parallel()
	x := &layout.Index{Name: "sample"}
	for _, version := range []string{"1.9.0", "2024-01", "1.10.0", "2.0.0-rc.1", "1.10.0+b", "0.9"} {
		x.Releases = append(x.Releases, &registry.Release{Name: "sample", Version: version, Files: map[string]registry.File{"any": {Digest: digest, Size: 1}}})
	}
	text, err := x.Text()
	require.NoError(t, err)
	got, err := layout.ParseIndex(text)
	require.NoError(t, err)
	var versions []string
	for _, r := range got.Releases {
		versions = append(versions, r.Version)
	}
	assert.Equal(t, []string{"2.0.0-rc.1", "1.10.0+b", "1.10.0", "1.9.0", "0.9"}, versions[:5])
	assert.Equal(t, "1.10.0+b", got.Find("").Version)
	assert.Equal(t, "2.0.0-rc.1", got.Find("2.0.0-rc.1").Version)
	assert.Nil(t, got.Find("1"))
}

func TestComment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"untrusted comment: x\nRU\ntrusted comment: ferrule sample 1.0.0 linux/amd64\nAA\n": "sample 1.0.0 linux/amd64",
		"untrusted comment: trusted comment: ferrule a 1 any\n":                             "",
		"trusted comment: ferrule sample 1.0.0\n":                                           "",
		"trusted comment: ferrule ../a 1.0.0 linux/amd64\n":                                 "",
		"trusted comment: ferrule a ../1 linux/amd64\n":                                     "",
		"trusted comment: ferrule a 1 ../../x\n":                                            "",
		"trusted comment: timestamp:1 file:a hashed b\n":                                    "",
		"": "",
	} {
		name, version, platform, ok := layout.Comment([]byte(text))
		assert.Equal(t, want != "", ok)
		assert.Equal(t, want, strings.TrimSpace(name+" "+version+" "+platform))
	}
}

// Whatever the text: what is read out of it is safe to make paths and addresses of, and means the same when it is written and read again.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(index("", "")))
	f.Add([]byte(index(`"size":5`, `"size":5,"url":"sub/y.js"`)))
	f.Add([]byte(index(`"v1.0.0"`, `"a/v1@~+"`)))
	tmpl, err := layout.ParseTemplate("{tag}")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := layout.ParseIndex(text)
		if err != nil {
			require.ErrorIs(t, err, registry.ErrMalformed)
			return
		}
		for _, r := range x.Releases {
			for platform, file := range r.Files {
				tag := r.Tag
				if tag == "" {
					tag = layout.Latest
				}
				for _, address := range tmpl.File(layout.Where{Plugin: r.Name, Version: r.Version, Tag: tag, Platform: platform, Kind: r.Kind}, file.URL, ".minisig").Addresses {
					require.Equal(t, path.Clean(address), address)
					require.False(t, strings.HasPrefix(address, "/") || strings.HasPrefix(address, "../"), address)
					u, err := url.Parse("https://x/" + address)
					require.NoError(t, err)
					require.Equal(t, "/"+address, u.EscapedPath())
				}
			}
		}
		out, err := x.Text()
		require.NoError(t, err)
		again, err := layout.ParseIndex(out)
		require.NoError(t, err)
		require.True(t, json.Valid(out))
		twice, err := again.Text()
		require.NoError(t, err)
		require.True(t, bytes.Equal(out, twice))
	})
}

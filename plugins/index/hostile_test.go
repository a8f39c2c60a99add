package index_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// rootText is index.json as docs/distribution.md has it.
type rootText struct {
	Format  int         `json:"format"`
	Name    string      `json:"name,omitempty"`
	Serial  uint64      `json:"serial"`
	Date    string      `json:"date"`
	Plugins int         `json:"plugins"`
	Revoked any         `json:"revoked,omitempty"`
	Keys    any         `json:"revoked_keys,omitempty"`
	Names   []shardText `json:"names"`
	Words   []shardText `json:"words"`
}

type shardText struct {
	From   *string `json:"from,omitempty"`
	SHA256 string  `json:"sha256"`
	Size   int     `json:"size"`
}

func parse(t testing.TB, root []byte) (r rootText) {
	t.Helper()
	require.NoError(t, json.Unmarshal(root, &r))
	return r
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return text
}

func zip(t testing.TB, lines string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, lines)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

func refer(shard []byte, from ...string) shardText {
	sum := sha256.Sum256(shard)
	s := shardText{SHA256: hex.EncodeToString(sum[:]), Size: len(shard)}
	if from != nil {
		s.From = &from[0]
	}
	return s
}

// hostile has an index of two shards, whatever they are.
func hostile(t testing.TB, names, words []byte) *source {
	r := rootText{Format: 1, Name: acme, Serial: 1, Date: "2026-03-01T12:00:00Z", Names: []shardText{refer(names)}, Words: []shardText{refer(words, "")}}
	return &source{root: encode(t, r), shards: map[string][]byte{"sha256:" + r.Names[0].SHA256: names, "sha256:" + r.Words[0].SHA256: words}}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHostileRoots(t *testing.T) {
	good := parse(t, build(t, entry("tax", "")).Root)
	root := func(change func(*rootText)) string {
		r := good
		r.Names, r.Words = append([]shardText(nil), good.Names...), append([]shardText(nil), good.Words...)
		change(&r)
		return string(encode(t, r))
	}
	from := func(text string) *string { return &text }
	for found, text := range map[string]string{
		"unexpected end of JSON":  string(build(t).Root[:100]),
		"invalid character":       "<html>",
		"after top-level value":   string(build(t).Root) + "{}",
		"format 2":                root(func(r *rootText) { r.Format = 2 }),
		`registry's name ""`:      root(func(r *rootText) { r.Name = "" }),
		`registry's name "a b"`:   root(func(r *rootText) { r.Name = "a b" }),
		`registry's name "a 7 20`: root(func(r *rootText) { r.Name = "a 7 2026-03-01T12:00:00Z" }), // would be a comment's other words
		`registry's name "../a"`:  root(func(r *rootText) { r.Name = "../a" }),
		`name "a\x1b[2J"`:         root(func(r *rootText) { r.Name = "a\x1b[2J" }),
		`registry's name "xxxxxx`: root(func(r *rootText) { r.Name = strings.Repeat("x", 129) }),
		"serial 0":                root(func(r *rootText) { r.Serial = 0 }),
		"the date":                root(func(r *rootText) { r.Date = "2026-03-01T12:00:00+01:00" }),
		"parsing time":            root(func(r *rootText) { r.Date = "yesterday" }),
		"-1 plug-ins":             root(func(r *rootText) { r.Plugins = -1 }),
		"0 shards by name":        root(func(r *rootText) { r.Names = []shardText{} }),
		"3 shards by name":        root(func(r *rootText) { r.Names = append(r.Names, r.Names[0], r.Names[0]) }),
		"8192 shards by name":     root(func(r *rootText) { r.Names = repeat(r.Names[0], 8192) }),
		"4097 shards by word":     root(func(r *rootText) { r.Words = repeat(r.Words[0], 4097) }),
		`by word begins with "x"`: root(func(r *rootText) { r.Words[0].From = from("x") }),
		`shard 1 by word begins`:  root(func(r *rootText) { r.Words = append(r.Words, r.Words[0]) }),
		`shard 2 by word begins`: root(func(r *rootText) {
			r.Words = append(r.Words, shardText{from("b"), r.Words[0].SHA256, 1}, shardText{from("a"), r.Words[0].SHA256, 1})
		}),
		`digest "../../etc`:        root(func(r *rootText) { r.Names[0].SHA256 = "../../etc/passwd" }),
		"a shard has 0 bytes":      root(func(r *rootText) { r.Names[0].Size = 0 }),
		"a shard has -1 bytes":     root(func(r *rootText) { r.Words[0].Size = -1 }),
		"a shard has 1048577 byte": root(func(r *rootText) { r.Names[0].Size = index.MaxShard + 1 }),
		"no list":                  root(func(r *rootText) { r.Revoked = "all" }),
		"neither a digest nor":     root(func(r *rootText) { r.Revoked = []any{nil} }),
		"improper constraint":      root(func(r *rootText) { r.Revoked = []index.Revocation{{Name: "x", Versions: "><", Why: "x"}} }),
		"a revoked key has":        root(func(r *rootText) { r.Keys = []index.RevokedKey{{ID: "0123456789abcdef", Why: "x"}} }),
		"more than 4194304 bytes":  strings.Repeat(" ", index.MaxRoot+1),
	} {
		_, err := index.Open(t.Context(), &source{root: []byte(text)}, index.Options{Now: now})
		e := kind(t, err, registry.ErrMalformed)
		assert.Contains(t, err.Error(), found)
		assert.NotEmpty(t, e.Remedy)
		assert.NotEmpty(t, e.Source)
	}
}

func repeat(s shardText, n int) (all []shardText) {
	for range n {
		all = append(all, s)
	}
	return all
}

// What fills a root is refused at its first entry.
func TestRootsTakeLittleMemory(t *testing.T) {
	for _, part := range []string{`"names":[`, `"words":[`, `"revoked":[`, `"revoked_keys":[`} {
		text := []byte(`{"format":1,` + part + strings.Repeat("{},", (index.MaxRoot-50)/3) + `{}]}`)
		took := allocated(func() {
			_, err := index.Open(t.Context(), &source{root: text}, index.Options{Now: now})
			kind(t, err, registry.ErrMalformed)
		})
		assert.Less(t, took, uint64(32<<20), part)
	}
}

func TestHostileShards(t *testing.T) {
	const tax = `{"plugin":{"name":"tax","version":"1.0.0"}}`
	good := zip(t, `{"name":"tax","versions":["1.0.0"]}`)
	goodWords := zip(t, tax+`{"word":"tax","in":[0]}`)
	x := open(t, hostile(t, good, goodWords), index.Options{})
	_, err := x.Lookup(t.Context(), "tax")
	require.NoError(t, err)
	found, err := x.Search(t.Context(), "tax", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"tax"}, names(found))

	keywords := func(n, length int) string { return strings.Repeat(`"`+strings.Repeat("k", length)+`",`, n-1) + `"k"` }
	for what, lines := range map[string]string{
		"invalid character":             `{"name":"tax","versions":["1.0.0"]} <html>`,
		"unexpected EOF":                `{"name":"tax"`,
		"cannot unmarshal":              `{"name":1}`,
		"it inflates to more":           `{"name":"tax","versions":["1.0.0"]}` + strings.Repeat(" ", 4<<20),
		`the name "../x"`:               `{"name":"../x","versions":["1.0.0"]}`,
		`the name ""`:                   `null`,
		"tax comes after tax":           `{"name":"tax","versions":["1.0.0"]}{"name":"tax","versions":["2.0.0"]}`,
		"audit comes after tax":         `{"name":"tax","versions":["1.0.0"]}{"name":"audit","versions":["2.0.0"]}`,
		"tax has no version":            `{"name":"tax"}`,
		"a summary of 201 bytes":        `{"name":"tax","summary":"` + strings.Repeat("x", 201) + `"}`,
		"and 17 keywords":               `{"name":"tax","keywords":[` + keywords(17, 1) + `]}`,
		"a keyword of 33":               `{"name":"tax","keywords":[` + keywords(2, 33) + `]}`,
		"a summary of 0 bytes and 5000": `{"name":"tax","keywords":[` + keywords(500_000, 1) + `]}`,
	} {
		var err error
		took := allocated(func() {
			_, err = open(t, hostile(t, zip(t, lines), goodWords), index.Options{}).Lookup(t.Context(), "tax")
		})
		kind(t, err, registry.ErrMalformed)
		assert.Contains(t, err.Error(), what)
		assert.Less(t, took, uint64(96<<20), what)
	}
	many := ""
	for i := range index.MaxHits + 1 {
		many += fmt.Sprintf(`{"plugin":{"name":"p%03d","version":"1","summary":"word"}}`, i)
	}
	in := strings.Trim(fmt.Sprint(make([]int, index.MaxHits+1)), "[]")
	for what, lines := range map[string]string{
		"it inflates to more":                    tax + strings.Repeat("\n", 4<<20),
		`the name "a/b"`:                         `{"plugin":{"name":"a/b","version":"1"}}`,
		"tax comes after tax":                    tax + tax,
		"tax has no version":                     `{"plugin":{"name":"tax"}}`,
		"stands among words":                     tax + `{"word":"tax","in":[0]}{"plugin":{"name":"xax","version":"1.0.0"}}`,
		`a word is ""`:                           `{}`,
		`a word is "Tax"`:                        tax + `{"word":"Tax","in":[0]}`,
		`a word is "a b"`:                        tax + `{"word":"a b","in":[0]}`,
		"the word tax comes after tax":           tax + `{"word":"tax","in":[0]}{"word":"tax","in":[0]}`,
		"the word tax has 0 plug-ins":            tax + `{"word":"tax","in":[]}`,
		"the word tax has 1 plug-ins of 1":       tax + `{"word":"tax","in":[0],"of":1}`,
		"the word tax has plug-in number 1":      tax + `{"word":"tax","in":[1]}`,
		"the word tax has plug-in number -1":     tax + `{"word":"tax","in":[-1]}`,
		"the word tax has plug-in number 0":      tax + `{"word":"tax","in":[0,0]}`,
		"tax does not have the word other":       tax + `{"word":"other","in":[0]}`,
		"1 plug-ins have no word in it":          `{"plugin":{"name":"eu","version":"1.0.0"}}` + tax + `{"word":"tax","in":[1]}`,
		"the word word has 501 plug-ins of 0":    many + `{"word":"word","in":[` + strings.ReplaceAll(in, " ", ",") + `]}`,
		"a summary of 0 bytes and 500000 keywor": `{"plugin":{"name":"tax","version":"1","keywords":[` + keywords(500_000, 1) + `]}}`,
	} {
		var err error
		took := allocated(func() {
			_, err = open(t, hostile(t, good, zip(t, lines)), index.Options{}).Search(t.Context(), "tax", 1)
		})
		kind(t, err, registry.ErrMalformed)
		assert.Contains(t, err.Error(), what)
		assert.Less(t, took, uint64(96<<20), what)
	}

	// A shard of the same index in another's place.
	b := build(t, simulated(3000)...)
	r := parse(t, b.Root)
	require.Greater(t, len(r.Names), 1)
	require.Greater(t, len(r.Words), 2)
	r.Names[0], r.Names[1] = r.Names[1], r.Names[0]
	r.Words[1].SHA256, r.Words[1].Size, r.Words[2].SHA256, r.Words[2].Size = r.Words[2].SHA256, r.Words[2].Size, r.Words[1].SHA256, r.Words[1].Size
	s := serve(t, b)
	s.root = encode(t, r)
	x = open(t, s, index.Options{})
	failed := 0
	for i := range 100 {
		if _, err := x.Lookup(t.Context(), fmt.Sprintf("no-%d", i)); err != nil && strings.Contains(err.Error(), "does not belong to it") {
			kind(t, err, registry.ErrMalformed)
			failed++
		}
	}
	assert.NotZero(t, failed)
	for _, at := range []int{1, 2} {
		_, err = x.Search(t.Context(), *r.Words[at].From, 1)
		kind(t, err, registry.ErrMalformed)
		assert.Contains(t, err.Error(), "does not belong to it")
	}
}

// Bytes that are not those of the digest are looked at no further, and not kept.
func TestOtherBytes(t *testing.T) {
	b := build(t, entry("tax", ""))
	for what, change := range map[string]func([]byte) []byte{
		"changed":   func(s []byte) []byte { s[len(s)/2] ^= 1; return s },
		"truncated": func(s []byte) []byte { return s[:len(s)-1] },
		"longer":    func(s []byte) []byte { return append(s, 0) },
		"none":      func([]byte) []byte { return nil },
		"long":      func([]byte) []byte { return make([]byte, 4<<20) },
	} {
		s := serve(t, b)
		s.shards = map[string][]byte{}
		for digest, shard := range b.Shards() {
			s.shards[digest] = change(bytes.Clone(shard))
		}
		x := open(t, s, index.Options{Cache: t.TempDir()})
		for range 2 {
			_, err := x.Lookup(t.Context(), "tax")
			e := kind(t, err, registry.ErrDigest)
			assert.Contains(t, e.Remedy, "another source", what)
			_, err = x.Search(t.Context(), "tax", 1)
			kind(t, err, registry.ErrDigest)
		}
		_, err := x.Lookup(t.Context(), "taxx")
		kind(t, err, registry.ErrDigest)
	}
}

func FuzzRoot(f *testing.F) {
	b, err := index.Build(acme, 7, day, []index.Entry{entry("tax", "x")}, []index.Revocation{{Name: "tax", Versions: "<1", Why: "x"}}, []index.RevokedKey{{ID: "0123456789ABCDEF", Why: "x"}})
	require.NoError(f, err)
	f.Add(b.Root)
	f.Add(build(f, simulated(100)...).Root)
	f.Add(bytes.Replace(b.Root, []byte(acme), []byte("a 7 2026-03-01T12:00:00Z"), 1))
	f.Add(bytes.Replace(b.Root, []byte(acme), []byte(`\n\u202e`), 1))
	f.Add([]byte(`{"format":1,"names":[null],"words":{},"revoked":[[]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := index.Open(t.Context(), &source{root: text}, index.Options{Now: now, MaxAge: -1})
		if err != nil {
			kind(t, err, registry.ErrMalformed)
			return
		}
		assert.NotZero(t, x.Seen().Serial)
		assert.True(t, registry.ValidIndex(x.Name()), "%q", x.Name())
		_ = x.Revoked("tax", "1.0.0")
		_, err = x.Lookup(t.Context(), "tax")
		kind(t, err, registry.ErrNotFound)
		_, err = x.Search(t.Context(), "tax ax", 10)
		if err != nil {
			kind(t, err, registry.ErrNotFound)
		}
	})
}

// FuzzShard has lines that are compressed, or a shard as it is.
func FuzzShard(f *testing.F) {
	b := build(f, entry("tax", "Adds the tax", "vat"), entry("tax-eu", ""))
	for _, shard := range b.Shards() {
		z, err := gzip.NewReader(bytes.NewReader(shard))
		require.NoError(f, err)
		text, err := io.ReadAll(z)
		require.NoError(f, err)
		f.Add(text, true)
		f.Add(shard, false)
	}
	f.Fuzz(func(t *testing.T, shard []byte, compress bool) {
		if compress {
			shard = zip(t, string(shard))
		}
		if len(shard) == 0 {
			return
		}
		x := open(t, hostile(t, shard, shard), index.Options{})
		e, err := x.Lookup(t.Context(), "tax")
		if err == nil {
			assert.Equal(t, "tax", e.Name)
			assert.NotEmpty(t, e.Latest())
		} else if e := kindOf(t, err); e != registry.ErrNotFound {
			assert.Equal(t, registry.ErrMalformed, e)
		}
		found, err := x.Search(t.Context(), "tax add", 10)
		if err != nil {
			assert.Equal(t, registry.ErrMalformed, kindOf(t, err))
			return
		}
		for _, h := range found.Hits {
			assert.True(t, registry.ValidName(h.Name))
		}
	})
}

func kindOf(t *testing.T, err error) error {
	var e *registry.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// FuzzWords: what is built is found again, by each word of it.
func FuzzWords(f *testing.F) {
	f.Add("Adds the tax", "VAT")
	f.Add("İSTANBUL ǅ ß ſ K", "ⅷ\u0307x")
	f.Add(strings.Repeat("äa", 40), "\xff\x00")
	f.Fuzz(func(t *testing.T, summary, keyword string) {
		x := open(t, serve(t, build(t, entry("tax", summary, keyword))), index.Options{})
		e, err := x.Lookup(t.Context(), "tax")
		require.NoError(t, err)
		for _, query := range append(strings.Fields(e.Summary), e.Keywords...) {
			found, err := x.Search(t.Context(), "tax "+query, 1)
			require.NoError(t, err)
			require.Equal(t, []string{"tax"}, names(found), "%q", query)
		}
	})
}

package index_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// day is when the tests' indexes are made.
var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// source has an index in memory, and counts what is fetched.
type source struct {
	root, signature []byte
	shards          map[string][]byte
	err             error // of Root

	mu           sync.Mutex
	roots        int
	names, words int // shards of each family
	bytes        int
	isName       map[string]bool
}

func (s *source) String() string { return "https://plugins.example/index" }

func (s *source) Root(context.Context) (root, signature []byte, err error) {
	s.roots++
	return s.root, s.signature, s.err
}

func (s *source) Shard(_ context.Context, digest string, size int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isName[digest] {
		s.names++
	} else {
		s.words++
	}
	s.bytes += int(size)
	shard, ok := s.shards[digest]
	if !ok {
		return nil, &registry.Error{Kind: registry.ErrNotFound, Found: "no shard " + digest}
	}
	return shard, nil
}

// took returns how many shards were fetched since it was called last.
func (s *source) took() (names, words, bytes int) {
	defer func() { s.names, s.words, s.bytes = 0, 0, 0 }()
	return s.names, s.words, s.bytes
}

// serve has an index that was built.
func serve(t testing.TB, b *index.Built) *source {
	s := &source{root: b.Root, shards: b.Shards(), isName: map[string]bool{}}
	for _, ref := range parse(t, b.Root).Names {
		s.isName["sha256:"+ref.SHA256] = true
	}
	return s
}

// acme is the registry that the tests have an index of.
const acme = "registry.example/acme"

// build makes an index of day, with serial 7.
func build(t testing.TB, plugins ...index.Entry) *index.Built {
	t.Helper()
	b, err := index.Build(acme, 7, day, plugins, nil, nil)
	require.NoError(t, err)
	return b
}

func now() time.Time { return day.Add(time.Hour) }

func open(t testing.TB, from index.Fetcher, o index.Options) *index.Index {
	t.Helper()
	o.Now = now
	x, err := index.Open(t.Context(), from, o)
	require.NoError(t, err)
	return x
}

// kind returns the error that is of a kind.
func kind(t testing.TB, err, kind error) *registry.Error {
	t.Helper()
	var e *registry.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, kind, "%v", err)
	return e
}

// entry is a plug-in with one version.
func entry(name, summary string, keywords ...string) index.Entry {
	return index.Entry{Name: name, Summary: summary, Keywords: keywords, Versions: []string{"1.0.0"}}
}

func names(found *index.Found) (all []string) {
	for _, h := range found.Hits {
		all = append(all, h.Name)
	}
	return all
}

func TestLookup(t *testing.T) {
	tax := index.Entry{Name: "tax", Summary: "Adds\n the  tax\x1b[31m of each country", Kind: registry.Wasm, License: "MIT", Keywords: []string{"VAT", "", "money"},
		Versions:  []string{"1.2.0", "2.0.0-rc.1", "nonsense", "1.10.0", "1.2.0", "v1.11.0"},
		Platforms: []string{"linux/arm64", "any"}, Host: map[string]string{"shop": "^2"}, Weight: 9}
	b := build(t, tax, entry("audit", ""))
	s := serve(t, b)
	x := open(t, s, index.Options{})
	assert.Equal(t, 2, x.Len())
	got, err := x.Lookup(t.Context(), "tax")
	require.NoError(t, err)
	assert.Equal(t, &index.Entry{Name: "tax", Summary: "Adds the tax [31m of each country", Kind: registry.Wasm, License: "MIT", Keywords: []string{"vat", "money"},
		Versions: []string{"2.0.0-rc.1", "1.10.0", "1.2.0"}, Platforms: []string{"any", "linux/arm64"}, Host: map[string]string{"shop": "^2"}, Weight: 9}, got)
	assert.Equal(t, "1.10.0", got.Latest())
	assert.Equal(t, []string{`tax: version "nonsense": it is no semantic version`, `tax: version "v1.11.0": it is no semantic version`}, b.Cut)
	nameShards, wordShards, _ := s.took()
	assert.Equal(t, []int{1, 0}, []int{nameShards, wordShards})

	_, err = x.Lookup(t.Context(), "taxx")
	e := kind(t, err, registry.ErrNotFound)
	assert.Equal(t, "Did you mean tax?", e.Remedy)
	assert.Equal(t, "https://plugins.example/index", e.Source)
	nameShards, wordShards, _ = s.took()
	assert.Equal(t, []int{1, 1}, []int{nameShards, wordShards}, "two shards at most")

	_, err = x.Lookup(t.Context(), "../tax")
	kind(t, err, registry.ErrNotFound)
	_, err = x.Lookup(t.Context(), "___")
	assert.Equal(t, "Look for it: ferrule search ___", kind(t, err, registry.ErrNotFound).Remedy)

	assert.Equal(t, "1.0.0-b", (&index.Entry{Versions: []string{"1.0.0-b", "1.0.0-a"}}).Latest())
	assert.Empty(t, (&index.Entry{}).Latest())
}

// All that Search says about order is in one list: each is better than the next for the words "tax rate".
func TestRanking(t *testing.T) {
	heavy := entry("z-light", "the rate of a tax")
	heavy.Weight = 10
	inOrder := []index.Entry{
		entry("tax-rate", ""),                       // both words and no others
		entry("tax-rate-eu", ""),                    // both in the name
		entry("tax-rates", ""),                      // one is a beginning
		entry("tax-one", "", "rate"),                // name and keyword
		entry("tax-two", "", "rates"),               // name and the beginning of a keyword
		entry("tax-three", "Each rate"),             // name and summary
		entry("tax-four", "All rates"),              // name and the beginning of one in the summary
		entry("eu", "", "tax", "rate"),              // keywords
		heavy,                                       // summary, with weight
		entry("a-light", "the rate of a tax"),       // without; the name decides
		entry("b-light", "the rate of a TAX, Rate"), // a word counts once
	}
	other := []index.Entry{entry("tax-none", "nothing else"), entry("rate-none", ""), entry("none", "pretax prorate")}
	want := make([]string, len(inOrder))
	for i, e := range inOrder {
		want[i] = e.Name
	}
	all := slices.Concat(inOrder, other)
	for range 5 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		x := open(t, serve(t, build(t, all...)), index.Options{})
		found, err := x.Search(t.Context(), "rate tax", 100)
		require.NoError(t, err)
		assert.Equal(t, want, names(found), "the order of the words says nothing")
		found, err = x.Search(t.Context(), "Tax, RATE!", 100)
		require.NoError(t, err)
		assert.Equal(t, want, names(found))
		assert.Equal(t, len(want), found.Total)
		assert.False(t, found.Cut)
		found, err = x.Search(t.Context(), "tax-rate", 3)
		require.NoError(t, err)
		assert.Equal(t, want[:3], names(found))
		assert.Equal(t, len(want), found.Total)
	}
}

func TestSearchWords(t *testing.T) {
	x := open(t, serve(t, build(t, entry("go", "golang, or Go"), entry("gopher", ""), entry("oel", "Öl, Heizöl für ÄPFEL"), entry("tokyo", "東京 税"))), index.Options{})
	for query, want := range map[string][]string{
		"go":                          {"go"}, // too short for a beginning
		"gop":                         {"gopher"},
		"äpfel":                       {"oel"},
		"äpf für":                     {"oel"},
		"東京":                          {"tokyo"},
		"":                            nil,
		" -- ":                        nil,
		"gopherx":                     nil,
		"go nothing":                  nil,
		"\xff\x00go":                  {"go"},
		strings.Repeat("go ", 1<<20):  {"go"},
		strings.Repeat("go", 1<<20):   nil,
		strings.Repeat("a b c ", 1e5): nil,
	} {
		found, err := x.Search(t.Context(), query, 10)
		require.NoError(t, err)
		assert.Equal(t, want, names(found), "%.20q", query)
	}
	found, err := x.Search(t.Context(), "go", -1)
	require.NoError(t, err)
	assert.Equal(t, &index.Found{Total: 1}, found)
}

// A word that all plug-ins have keeps the best of them, and does not keep what has another word from being found.
func TestCommonWords(t *testing.T) {
	const n = 2000
	var all []index.Entry
	for i := range n {
		e := entry(fmt.Sprintf("p%04d", i), fmt.Sprintf("A common plugin, number%d", i))
		e.Weight = uint32(i)
		all = append(all, e)
	}
	all[3].Keywords = []string{"common"}
	all[4].Name = "common-p0004"
	b := build(t, all...)
	assert.Equal(t, []string{"word a: 500 of 2000 plug-ins", "word common: 500 of 2000 plug-ins", "word plugin: 500 of 2000 plug-ins"}, b.Cut)
	s := serve(t, b)
	x := open(t, s, index.Options{})

	found, err := x.Search(t.Context(), "common", 4)
	require.NoError(t, err)
	assert.Equal(t, []string{"common-p0004", "p0003", "p1999", "p1998"}, names(found))
	assert.True(t, found.Cut)
	assert.Equal(t, index.MaxHits, found.Total)

	s.took()
	found, err = x.Search(t.Context(), "common plugin number17", 10)
	require.NoError(t, err)
	assert.False(t, found.Cut, "the rare word has all its plug-ins")
	assert.Equal(t, "p0017", found.Hits[0].Name)
	assert.Equal(t, 1+10+100, found.Total, "17, 170 to 179, 1700 to 1799")
	nameShards, wordShards, _ := s.took()
	assert.Zero(t, nameShards)
	assert.LessOrEqual(t, wordShards, 2)
	for _, shard := range b.Shards() {
		assert.Less(t, len(shard), 64<<10)
	}
}

func TestRevoked(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	b, err := index.Build(acme, 1, day, nil, []index.Revocation{
		{Name: "tax", Versions: "<1.2.4", Why: "reads past its buffer", Remedy: "Update to 1.2.4"},
		{Name: "audit", Versions: "2.0.0", Why: "stolen key"},
		{Name: "gone", Versions: "*", Why: "all of it"},
		{Digest: digest, Why: "malware"},
	}, []index.RevokedKey{{ID: "0123456789ABCDEF", Why: "lost"}})
	require.NoError(t, err)
	x := open(t, serve(t, b), index.Options{})
	for _, release := range []string{"tax 1.2.3", "tax 1.2.3-rc.1", "tax 1.2.4-rc.1", "tax not-a-version", "audit 2.0.0", "gone 0.0.1-a", "other 1 " + digest} {
		part := append(strings.Fields(release), "")
		e := kind(t, x.Revoked(part[0], part[1], part[2]), registry.ErrRevoked)
		assert.NotEmpty(t, e.Remedy)
		assert.Equal(t, part[0], e.Plugin)
	}
	assert.EqualError(t, x.Revoked("tax", "1.2.3"),
		"tax 1.2.3: https://plugins.example/index: found a version that was revoked: reads past its buffer, expected another. Update to 1.2.4")
	for _, release := range []string{"tax 1.2.4", "tax 1.3.0-rc.1", "audit 2.0.1", "TAX 1.0.0", "other 1.0.0"} {
		part := strings.Fields(release)
		assert.NoError(t, x.Revoked(part[0], part[1], "sha256:"+strings.Repeat("cd", 32)), release)
	}
	kind(t, x.RevokedKey("0123456789ABCDEF"), registry.ErrRevokedKey)
	assert.NoError(t, x.RevokedKey("FEDCBA9876543210"))
}

// signer signs as a registry does.
type signer struct{ sign.PrivateKey }

func newSigner(t testing.TB) signer {
	k, err := sign.Generate()
	require.NoError(t, err)
	return signer{k}
}

// trust takes what the signer has signed, and nothing else.
func (s signer) trust(t testing.TB) *sign.Trust {
	trust, err := sign.NewTrust([]string{s.Public().String()}, nil, nil)
	require.NoError(t, err)
	return trust
}

func (s signer) sign(t testing.TB, b *index.Built) []byte { return s.over(t, b.Root, b.Comment) }

func (s signer) over(t testing.TB, text []byte, comment string) []byte {
	signature, err := sign.SignComment(s.PrivateKey, comment, bytes.NewReader(text))
	require.NoError(t, err)
	return signature
}

func TestOpen(t *testing.T) {
	key := newSigner(t)
	trust := key.trust(t)
	b := build(t, entry("tax", ""))
	s := serve(t, b)
	x := open(t, s, index.Options{})
	require.Len(t, x.Warnings(), 1)
	kind(t, x.Warnings()[0], registry.ErrUnsigned)
	assert.Empty(t, x.Key())

	s.signature = key.sign(t, b)
	assert.Equal(t, "ferrule-index registry.example/acme 7 2026-03-01T12:00:00Z", b.Comment)
	x = open(t, s, index.Options{Verifier: trust})
	assert.Empty(t, x.Warnings())
	assert.Equal(t, key.ID(), x.Key())
	assert.Equal(t, lock.Index{Name: acme, Serial: 7, Date: day, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(b.Root))}, x.Seen())
	open(t, s, index.Options{Verifier: trust, Seen: x.Seen()})
	open(t, s, index.Options{Verifier: trust, Seen: x.Seen()})
	open(t, s, index.Options{Verifier: trust, Seen: lock.Index{Serial: 6, Date: day.Add(-1)}})

	assert.Equal(t, acme, x.Name())
	open(t, s, index.Options{Verifier: trust, Name: acme, Seen: x.Seen()})
	renamed := x.Seen()
	renamed.Name, renamed.Serial, renamed.Date = "registry.example/old", 9, day.Add(time.Hour)
	x = open(t, s, index.Options{Verifier: trust, Name: acme, Seen: renamed})
	assert.Equal(t, acme, x.Seen().Name, "what was seen of another registry counts for nothing where the name is known")

	other := []byte(strings.Replace(string(b.Root), `"plugins":1`, `"plugins":2`, 1))
	selfRevoked, err := index.Build(acme, 8, day, nil, nil, []index.RevokedKey{{ID: key.ID(), Why: "stolen", Remedy: "Take key FEDCBA9876543210"}})
	require.NoError(t, err)
	plugin, err := sign.Sign(key.PrivateKey, sign.Subject{Name: "tax", Version: "1.0.0", Platform: "any"}, bytes.NewReader(b.Root))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		root, signature []byte
		o               index.Options
		kind            error
		remedy          string
	}{
		"no signature":        {b.Root, nil, index.Options{}, registry.ErrUnsigned, ""},
		"another key":         {b.Root, newSigner(t).sign(t, b), index.Options{}, registry.ErrKey, ""},
		"changed":             {other, key.sign(t, b), index.Options{}, registry.ErrSignature, ""},
		"a plug-in's comment": {b.Root, plugin, index.Options{}, registry.ErrSubject, ""},
		"another's comment":   {b.Root, key.over(t, b.Root, "ferrule-index registry.example/acme 8 2026-03-01T12:00:00Z"), index.Options{}, registry.ErrComment, "something else"},
		"another name in it":  {b.Root, key.over(t, b.Root, "ferrule-index registry.example/shop 7 2026-03-01T12:00:00Z"), index.Options{}, registry.ErrComment, "something else"},
		"no name in it":       {b.Root, key.over(t, b.Root, "ferrule-index 7 2026-03-01T12:00:00Z"), index.Options{}, registry.ErrComment, "something else"},
		"another registry's":  {b.Root, key.sign(t, b), index.Options{Name: "registry.example/shop"}, registry.ErrIndex, "write index: registry.example/acme"},
		"not the one seen":    {b.Root, key.sign(t, b), index.Options{Seen: lock.Index{Name: "registry.example/shop", Serial: 6, Date: day.Add(-1)}}, registry.ErrIndex, "another registry's index in its place"},
		"in another case":     {b.Root, key.sign(t, b), index.Options{Name: "registry.example/Acme"}, registry.ErrIndex, ""},
		"named, and not seen": {b.Root, key.sign(t, b), index.Options{Name: "registry.example/shop", Seen: x.Seen()}, registry.ErrIndex, ""},
		"serial back":         {b.Root, key.sign(t, b), index.Options{Seen: lock.Index{Serial: 8, Date: day}}, registry.ErrStale, "ask another source. If the registry itself began anew, delete its entry below indexes: of the lock"},
		"date back":           {b.Root, key.sign(t, b), index.Options{Seen: lock.Index{Serial: 6, Date: day.Add(1)}}, registry.ErrStale, "ask another source"},
		"two of one moment":   {b.Root, key.sign(t, b), index.Options{Seen: lock.Index{Serial: 7, Date: day, Digest: "sha256:" + strings.Repeat("ab", 32)}}, registry.ErrStale, "two indexes of one serial"},
		"two of one serial":   {b.Root, key.sign(t, b), index.Options{Seen: lock.Index{Serial: 7, Date: day.Add(-1)}}, registry.ErrStale, "two indexes of one serial number. Tell those who publish it: ferrule index makes one of the next number"},
		"future":              {b.Root, key.sign(t, b), index.Options{Now: func() time.Time { return day.Add(-2 * time.Hour) }}, registry.ErrMalformed, "clock"},
		"too old":             {b.Root, key.sign(t, b), index.Options{RefuseOld: true, Now: func() time.Time { return day.Add(31 * 24 * time.Hour) }}, registry.ErrStale, "holds back"},
		"revokes its own key": {selfRevoked.Root, key.sign(t, selfRevoked), index.Options{}, registry.ErrRevokedKey, "Take key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, b)
			s.root, s.signature = c.root, c.signature
			c.o.Verifier = trust
			if c.o.Now == nil {
				c.o.Now = now
			}
			_, err := index.Open(t.Context(), s, c.o)
			e := kind(t, err, c.kind)
			assert.Contains(t, e.Remedy, c.remedy)
			assert.Contains(t, e.Source, "plugins.example")
		})
	}

	old := func() time.Time { return day.Add(31 * 24 * time.Hour) }
	x, err = index.Open(t.Context(), s, index.Options{Verifier: trust, Now: old})
	require.NoError(t, err)
	require.Len(t, x.Warnings(), 1)
	assert.Contains(t, kind(t, x.Warnings()[0], registry.ErrStale).Error(), "31 days old, expected one of at most 30 days")
	x, err = index.Open(t.Context(), s, index.Options{Verifier: trust, Now: old, MaxAge: -1, RefuseOld: true})
	require.NoError(t, err)
	assert.Empty(t, x.Warnings())
}

// Two registries have one key: the index of one, with its signature, is none of the other, whether what is expected is known beforehand or from the
// first time, and in either direction.
func TestTwoRegistriesOfOneKey(t *testing.T) {
	key := newSigner(t)
	trust := key.trust(t)
	named := map[string]*source{}
	for serial, name := range []string{"registry.example/shop", acme} {
		b, err := index.Build(name, uint64(serial+1), day, nil, []index.Revocation{{Name: "tax", Versions: "*", Why: name}}, nil)
		require.NoError(t, err)
		s := serve(t, b)
		s.signature = key.sign(t, b)
		named[name] = s
	}
	for expected := range named {
		seen := open(t, named[expected], index.Options{Verifier: trust}).Seen()
		for name, from := range named {
			for _, o := range []index.Options{{Name: expected}, {Seen: seen}, {Name: expected, Seen: seen}} {
				for _, verifier := range []index.Verifier{trust, nil} { // a name is compared where nobody looks at the signature, too
					o.Verifier, o.Now = verifier, now
					x, err := index.Open(t.Context(), from, o)
					if name == expected {
						require.NoError(t, err)
						assert.Equal(t, name, x.Name())
						continue
					}
					e := kind(t, err, registry.ErrIndex)
					assert.Equal(t, "the index of the registry "+name, e.Found)
					assert.Equal(t, "that of "+expected, e.Expected)
					assert.NotEmpty(t, e.Remedy)
				}
			}
		}
	}
}

// A registry that publishes a new index between the root and its signature is asked once more.
type publishing struct {
	source
	then *source
}

func (p *publishing) Root(ctx context.Context) (root, signature []byte, err error) {
	if p.roots++; p.roots == 1 {
		return p.root, p.then.signature, nil
	}
	return p.then.Root(ctx)
}

func TestPublishedMeanwhile(t *testing.T) {
	key := newSigner(t)
	trust := key.trust(t)
	before, after := build(t, entry("tax", "")), build(t, entry("tax", ""), entry("audit", ""))
	s := &publishing{source: source{root: before.Root}, then: serve(t, after)}
	s.then.signature = key.sign(t, after)
	x := open(t, s, index.Options{Verifier: trust})
	assert.Equal(t, 2, x.Len())
}

func TestCache(t *testing.T) {
	key := newSigner(t)
	trust := key.trust(t)
	b := build(t, entry("tax", ""), entry("audit", ""))
	s := serve(t, b)
	s.signature = key.sign(t, b)
	cache := filepath.Join(t.TempDir(), "a [1]", "cache")
	o := index.Options{Verifier: trust, Cache: cache}
	for i := range 3 {
		x := open(t, s, o)
		_, err := x.Lookup(t.Context(), "tax")
		require.NoError(t, err)
		_, err = x.Search(t.Context(), "audit", 1)
		require.NoError(t, err)
		nameShards, wordShards, _ := s.took()
		want := 0
		if i == 0 {
			want = 1
		}
		assert.Equal(t, []int{want, want}, []int{nameShards, wordShards})
	}

	// A shard that was changed on the disk is fetched again, and mended.
	kept, err := fs.Glob(os.DirFS(cache), "index/*")
	require.NoError(t, err)
	require.Len(t, kept, 2)
	for _, name := range kept {
		path := filepath.Join(cache, name)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		text[len(text)/2] ^= 1
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
	x := open(t, s, o)
	for _, want := range []int{1, 0} {
		_, err = x.Lookup(t.Context(), "tax")
		require.NoError(t, err)
		nameShards, _, _ := s.took()
		assert.Equal(t, want, nameShards)
	}

	// Without the source what was fetched is used, and it is said.
	s.err = &registry.Error{Kind: registry.ErrUnavailable, Found: "no route"}
	x = open(t, s, o)
	require.Len(t, x.Warnings(), 1)
	assert.Contains(t, kind(t, x.Warnings()[0], registry.ErrUnavailable).Error(), "no route")
	_, err = x.Lookup(t.Context(), "tax")
	require.NoError(t, err)
	o.Seen = lock.Index{Name: acme, Serial: 8, Date: day}
	_, err = index.Open(t.Context(), s, o)
	kind(t, err, registry.ErrStale)
	o.Seen.Name = "registry.example/shop"
	_, err = index.Open(t.Context(), s, o)
	kind(t, err, registry.ErrIndex)
	_, err = index.Open(t.Context(), s, index.Options{Cache: t.TempDir()})
	kind(t, err, registry.ErrUnavailable)
	assert.Contains(t, err.Error(), "no route")

	// What a newer root does not name goes, and so do old halves; nothing else does.
	foreign, half, fresh := filepath.Join(cache, "index", "notes"), filepath.Join(cache, "index", ".new-1"), filepath.Join(cache, ".new-2")
	for _, path := range []string{foreign, half, fresh} {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	require.NoError(t, os.Chtimes(half, yesterday, yesterday))
	empty := build(t)
	s = serve(t, empty)
	open(t, s, index.Options{Cache: cache})
	left, err := fs.Glob(os.DirFS(cache), "index/*")
	require.NoError(t, err)
	assert.Equal(t, []string{"index/notes"}, left)
	assert.NoFileExists(t, half)
	assert.FileExists(t, fresh)

	// A cache that cannot be made is as none.
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	x = open(t, s, index.Options{Cache: file})
	_, err = x.Lookup(t.Context(), "tax")
	kind(t, err, registry.ErrNotFound)
}

// Several processes may share a cache: here, goroutines with an Index each.
func TestCacheShared(t *testing.T) {
	b := build(t, entry("tax", ""), entry("audit", ""))
	cache := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s := serve(t, b)
			for range 20 {
				x, err := index.Open(t.Context(), s, index.Options{Cache: cache, Now: now})
				if assert.NoError(t, err) {
					_, err = x.Lookup(t.Context(), "tax")
					assert.NoError(t, err)
				}
			}
		})
	}
	all.Wait()
}

func TestFolder(t *testing.T) {
	key := newSigner(t)
	trust := key.trust(t)
	dir := filepath.Join(t.TempDir(), "published")
	b := build(t, entry("tax", "Adds tax"), entry("audit", ""))
	require.NoError(t, b.Write(dir, key.sign(t, b)))
	from := index.Folder(dir)
	assert.Equal(t, dir, from.String())
	x := open(t, from, index.Options{Verifier: trust})
	_, err := x.Lookup(t.Context(), "tax")
	require.NoError(t, err)
	found, err := x.Search(t.Context(), "adds", 1)
	require.NoError(t, err)
	assert.Equal(t, []string{"tax"}, names(found))

	// A newer one is written beside it; who has the old root still finds its shards.
	newer, err := index.Build(acme, 8, day, []index.Entry{entry("tax", "Adds taxes")}, nil, nil)
	require.NoError(t, err)
	require.NoError(t, newer.Write(dir, nil))
	_, err = x.Lookup(t.Context(), "audit")
	require.NoError(t, err)
	_, err = index.Open(t.Context(), from, index.Options{Verifier: trust})
	kind(t, err, registry.ErrUnsigned)

	_, err = index.Open(t.Context(), index.Folder(t.TempDir()), index.Options{})
	assert.Contains(t, kind(t, err, registry.ErrNotFound).Error(), "found no file index.json, expected one")
	_, err = from.Shard(t.Context(), "sha256:../../etc/passwd", 10)
	kind(t, err, registry.ErrMalformed)
	_, err = from.Shard(t.Context(), "sha256:"+strings.Repeat("0", 64), 10)
	kind(t, err, registry.ErrNotFound)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = index.Open(ended, from, index.Options{})
	assert.ErrorIs(t, err, context.Canceled)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), make([]byte, index.MaxRoot+1), 0o600))
	_, err = index.Open(t.Context(), from, index.Options{})
	kind(t, err, registry.ErrMalformed)
	require.NoError(t, os.Remove(filepath.Join(dir, "index.json")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "index.json"), 0o700))
	_, err = index.Open(t.Context(), from, index.Options{})
	kind(t, err, registry.ErrUnavailable)
}

// The same plug-ins give the same bytes in any order, and a change of one plug-in changes the shards that have it.
func TestDeterministicAndIncremental(t *testing.T) {
	all := simulated(1500)
	before := build(t, all...)
	shuffled := slices.Clone(all)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	again := build(t, shuffled...)
	assert.Equal(t, string(before.Root), string(again.Root))
	assert.Equal(t, before.Cut, again.Cut)

	changed := func(plugins []index.Entry) (n int) {
		for digest := range build(t, plugins...).Shards() {
			if _, ok := before.Shards()[digest]; !ok {
				n++
			}
		}
		return n
	}
	assert.Zero(t, changed(all))
	more := append(slices.Clone(all), entry("brandnewname", ""))
	assert.LessOrEqual(t, changed(more), 1+1, "its shard by name, and that of its word")
	require.Greater(t, len(before.Shards()), 20)
	reworded := slices.Clone(all)
	reworded[700].Summary = "xylophone"
	words := len(strings.Fields(all[700].Summary+" "+strings.Join(all[700].Keywords, " "))) + strings.Count(all[700].Name, "-") + 1
	assert.LessOrEqual(t, changed(reworded), 1+2*(words+1))
}

func TestBuildRefuses(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	long := strings.Repeat("x", 301)
	none := []index.Entry(nil)
	for found, build := range map[string]func() (*index.Built, error){
		"the registry's name \"\"":    func() (*index.Built, error) { return index.Build("", 1, day, nil, nil, nil) },
		"the registry's name \"a b\"": func() (*index.Built, error) { return index.Build("a b", 1, day, nil, nil, nil) },
		"serial 0":                    func() (*index.Built, error) { return index.Build(acme, 0, day, nil, nil, nil) },
		"the date 0001":               func() (*index.Built, error) { return index.Build(acme, 1, time.Time{}, nil, nil, nil) },
		`with the name "../x"`: func() (*index.Built, error) {
			return index.Build(acme, 1, day, []index.Entry{entry("../x", "")}, nil, nil)
		},
		"tax is there twice": func() (*index.Built, error) {
			return index.Build(acme, 1, day, []index.Entry{entry("tax", ""), entry("tax", "x")}, nil, nil)
		},
		"tax has no version": func() (*index.Built, error) { return index.Build(acme, 1, day, []index.Entry{{Name: "tax"}}, nil, nil) },
		"neither a digest nor a name": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Why: "x"}}, nil)
		},
		"does not say why": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Digest: digest}}, nil)
		},
		"versions and a digest": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Name: "x", Digest: digest, Versions: "1", Why: "x"}}, nil)
		},
		`has the digest "abc"`: func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Digest: "abc", Why: "x"}}, nil)
		},
		`has the name "a b"`: func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Name: "a b", Why: "x"}}, nil)
		},
		"improper constraint": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Name: "x", Versions: "><", Why: "x"}}, nil)
		},
		"more than 300 bytes": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, []index.Revocation{{Name: "x", Versions: "*", Why: long}}, nil)
		},
		`has the id "abc"`: func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, nil, []index.RevokedKey{{ID: "abc", Why: "x"}})
		},
		"of key 00000000000000AA": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, nil, []index.RevokedKey{{ID: "00000000000000AA"}})
		},
		"5001 revocations": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, slices.Repeat([]index.Revocation{{Digest: digest, Why: "x"}}, index.MaxRevoked+1), nil)
		},
		"a root of 7": func() (*index.Built, error) {
			return index.Build(acme, 1, day, none, slices.Repeat([]index.Revocation{{Name: long[:128], Versions: "*", Why: long[:300], Remedy: long[:300]}}, index.MaxRevoked),
				slices.Repeat([]index.RevokedKey{{ID: "00000000000000AA", Why: long[:300], Remedy: long[:300]}}, index.MaxRevoked))
		},
	} {
		_, err := build()
		e := kind(t, err, registry.ErrMalformed)
		assert.Contains(t, err.Error(), found)
		assert.NotEmpty(t, e.Remedy)
	}
}

// A plug-in that says too much is cut, and it is said what.
func TestCut(t *testing.T) {
	e := index.Entry{Name: "tax", Summary: strings.Repeat("ä", 200), License: strings.Repeat("l", 301), Kind: registry.Kind(strings.Repeat("k", 33))}
	e.Host = map[string]string{}
	for i := range 1_000_000 {
		e.Keywords = append(e.Keywords, fmt.Sprintf("word%d", i))
	}
	e.Keywords[0] = strings.Repeat("Ⱥ", 16) // in lower case each takes three bytes
	for i := range 100 {
		e.Versions = append(e.Versions, fmt.Sprintf("1.%d.0", i))
		e.Platforms = append(e.Platforms, fmt.Sprintf("linux/p%d", i))
		e.Host[fmt.Sprintf("app%02d", i)] = strings.Repeat("1", 129)
	}
	b := build(t, e)
	assert.Subset(t, b.Cut, []string{"tax: 16 of 1000000 keywords", "tax: 16 of 100 platforms", "tax: 64 of 100 versions", "tax: 16 of 100 applications",
		"tax: summary: 200 of 400 bytes", "tax: license: 300 of 301 bytes", "tax: kind: 32 of 33 bytes", "tax: host version: 128 of 129 bytes"})
	got, err := open(t, serve(t, b), index.Options{}).Lookup(t.Context(), "tax")
	require.NoError(t, err)
	assert.Equal(t, "1.99.0", got.Versions[0])
	assert.Len(t, got.Versions, index.MaxVersions)
	assert.Equal(t, strings.Repeat("ⱥ", 10), got.Keywords[0])
	assert.Len(t, e.Keywords[0], 32, "the input is as it was")
}

// One cancelled context ends all.
func TestErrorsOfTheSource(t *testing.T) {
	s := serve(t, build(t, entry("tax", "")))
	x := open(t, s, index.Options{})
	s.shards = nil
	_, err := x.Lookup(t.Context(), "tax")
	kind(t, err, registry.ErrNotFound)
	_, err = x.Search(t.Context(), "tax", 1)
	kind(t, err, registry.ErrNotFound)
	s.err = errors.New("odd")
	_, err = index.Open(t.Context(), s, index.Options{})
	assert.ErrorIs(t, err, s.err)
}

package index

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Verifier says whether a signature is good for a root, by a key that counts for the registry: *sign.Trust is one.
type Verifier interface {
	// VerifyComment returns the id of the key and the trusted comment. what says in errors, which are *registry.Error, what it is about.
	VerifyComment(ctx context.Context, what string, file io.Reader, signature []byte) (key, comment string, err error)
}

// DefaultMaxAge is how old an index may be before Open says something.
const DefaultMaxAge = 30 * 24 * time.Hour

// ahead is how far in the future an index may be dated: clocks differ.
const ahead = time.Hour

// Options are how Open takes an index. The zero Options take one without a signature.
type Options struct {
	Verifier  Verifier         // nil: no signature is asked for, which is one of Index.Warnings
	Name      string           // the registry's, where it is known without Seen; "": Seen's, and where that has none whatever the index says
	Seen      lock.Index       // what Index.Seen returned in the run before; zero at the first. One of another name than Name counts for nothing
	MaxAge    time.Duration    // of the index; 0 is DefaultMaxAge, less is none
	RefuseOld bool             // that is older: an error, not one of Index.Warnings
	Cache     string           // a folder for this source alone, where shards are kept; made when it is missing. "": nothing is kept
	Now       func() time.Time // nil: time.Now
}

// Index is an index that was opened. Its methods may be called from several goroutines at a time.
type Index struct {
	from     Fetcher
	root     *root
	digest   string // of the root's bytes
	key      string
	cache    string
	warnings []*registry.Error
}

// Open fetches the root of an index and says whether it is to be believed: that it is signed by a key that counts, is of the registry that it is asked
// for, and no older than the one that was seen before. Errors are *registry.Error: those of the Fetcher and of the Verifier, ErrComment where the signature is
// another index's, ErrMalformed where it is none or is dated in the future, ErrIndex where it is another registry's, ErrStale where serial or date went back or, with RefuseOld, where it is too old, and ErrRevokedKey where
// it revokes the key that has signed it. Where the source cannot be reached, the index that was seen last is taken from Options.Cache, and is one of Warnings.
//
// An attacker who holds back new indexes can do so for MaxAge at most until it is noticed. So a registry signs a new one from time to time even when
// nothing has changed.
func Open(ctx context.Context, from Fetcher, o Options) (*Index, error) {
	x := &Index{from: from, cache: o.Cache}
	text, signature, err := from.Root(ctx)
	cached := Folder(o.Cache)
	if o.Cache != "" && errors.Is(err, registry.ErrUnavailable) && ctx.Err() == nil {
		unreachable := err
		if text, signature, err = cached.Root(ctx); err != nil {
			return nil, unreachable
		}
		x.warn(&registry.Error{Kind: registry.ErrUnavailable, Err: unreachable, Remedy: "The index that was fetched last is used"})
	} else if err != nil {
		return nil, err
	}
	comment := ""
	if o.Verifier != nil {
		what := "the index of " + from.String()
		x.key, comment, err = o.Verifier.VerifyComment(ctx, what, bytes.NewReader(text), signature)
		if errors.Is(err, registry.ErrSignature) {
			// Between the two the registry may have published a new one.
			if text, signature, err = from.Root(ctx); err != nil {
				return nil, err
			}
			x.key, comment, err = o.Verifier.VerifyComment(ctx, what, bytes.NewReader(text), signature)
		}
		if err != nil {
			return nil, err
		}
	} else {
		x.warn(&registry.Error{Kind: registry.ErrUnsigned, Found: "an index whose signature nobody looks at", Expected: "one that is signed by a key that counts",
			Remedy: "Ask those who publish it for their public key, and write it to registry.keys of config.yaml"})
	}
	if x.root, err = parseRoot(text); err != nil {
		var e *registry.Error
		if !errors.As(err, &e) {
			e = &registry.Error{Kind: registry.ErrMalformed, Err: fmt.Errorf("index.json: %w", err), Remedy: "Tell those who publish it"}
		}
		return nil, x.about(e)
	}
	if o.Verifier != nil && comment != x.root.comment() {
		return nil, x.fail(registry.ErrComment, fmt.Sprintf("the trusted comment %.100q", comment), fmt.Sprintf("%q", x.root.comment()),
			"Do not use it: the key has signed these bytes as something else. Tell those who publish it")
	}
	x.digest = fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	if err := x.believe(o); err != nil {
		return nil, err
	}
	if o.Cache != "" {
		x.keep(text, signature)
	}
	return x, nil
}

// parseRoot reads index.json.
func parseRoot(text []byte) (*root, error) {
	if len(text) > MaxRoot {
		return nil, fmt.Errorf("it has more than %d bytes", MaxRoot)
	}
	var version struct{ Format int }
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, err
	} else if version.Format != format {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("an index of format %d", version.Format), Expected: fmt.Sprintf("format %d", format),
			Remedy: "Update this program"}
	}
	r := &root{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	return r, r.check()
}

// believe compares name, serial, date and key with what is known.
func (x *Index) believe(o Options) error {
	r, now := x.root, time.Now
	if o.Now != nil {
		now = o.Now
	}
	if known := cmp.Or(o.Name, o.Seen.Name); known != "" && r.Name != known {
		return x.fail(registry.ErrIndex, "the index of the registry "+r.Name, "that of "+known, "Somebody serves another registry's index in its place, or the address is another registry's: "+
			"correct it, or ask another source. If the registry has the name "+r.Name+" now, write index: "+r.Name+" to registry of config.yaml")
	}
	if o.Seen.Name != "" && o.Seen.Name != r.Name {
		o.Seen = lock.Index{} // of another registry, whose serials say nothing of this one's
	}
	is := fmt.Sprintf("index %d of %s", r.Serial, r.Date.Format(time.DateTime))
	seen := fmt.Sprintf("%d of %s", o.Seen.Serial, o.Seen.Date.UTC().Format(time.DateTime))
	const old = "Somebody serves an old index again, or a mirror is behind: ask another source. If the registry itself began anew, delete its entry below indexes: of the lock, ferrule.lock"
	switch age := now().Sub(r.Date); {
	case r.Serial < o.Seen.Serial || r.Date.Before(o.Seen.Date):
		return x.fail(registry.ErrStale, is, "none before "+seen+", which was seen already", old)
	case r.Serial == o.Seen.Serial && (!r.Date.Equal(o.Seen.Date) || o.Seen.Digest != "" && o.Seen.Digest != x.digest):
		return x.fail(registry.ErrStale, "another "+is, seen+", which was seen already", "There are two indexes of one serial number. Tell those who publish it: "+
			"ferrule index makes one of the next number, which is taken")
	case age < -ahead:
		return x.fail(registry.ErrMalformed, is, "one that is not dated in the future", "Is the clock of this machine right? It says "+
			now().UTC().Format(time.DateTime)+". If it is, tell those who publish it")
	case o.MaxAge >= 0 && age > cmp.Or(o.MaxAge, DefaultMaxAge):
		fault := &registry.Error{Kind: registry.ErrStale, Found: fmt.Sprintf("%s, %s old", is, sentence.Count(age/(24*time.Hour), "day")),
			Expected: fmt.Sprintf("one of at most %s", sentence.Count(cmp.Or(o.MaxAge, DefaultMaxAge)/(24*time.Hour), "day")),
			Remedy:   "A mirror is behind, or somebody holds back what is new, revocations too: ask another source, or those who publish it for a new one"}
		if o.RefuseOld {
			return x.about(fault)
		}
		x.warn(fault)
	}
	if x.key != "" {
		return x.RevokedKey(x.key)
	}
	return nil
}

// about names the source in an error.
func (x *Index) about(e *registry.Error) *registry.Error {
	e.Source = x.from.String()
	return e
}

func (x *Index) warn(e *registry.Error) { x.warnings = append(x.warnings, x.about(e)) }

func (x *Index) fail(kind error, found, expected, remedy string) error {
	return x.about(&registry.Error{Kind: kind, Found: found, Expected: expected, Remedy: remedy})
}

// Seen returns what is to be kept, in the lock, for Options.Seen of the next run.
func (x *Index) Seen() lock.Index {
	return lock.Index{Name: x.root.Name, Serial: x.root.Serial, Date: x.root.Date, Digest: x.digest}
}

// Name returns the registry's name, as the index has it.
func (x *Index) Name() string { return x.root.Name }

// Key returns the id of the key that has signed the index; "" where no signature was asked for.
func (x *Index) Key() string { return x.key }

// Len returns how many plug-ins the index says it has.
func (x *Index) Len() int { return x.root.Plugins }

// Warnings returns what is wrong but no error: no signature, an old index, one from the cache. It is a copy.
func (x *Index) Warnings() []*registry.Error { return slices.Clone(x.warnings) }

// AnotherVersion is the remedy of a revocation that has none of its own. How another version is had depends on what is installed, which an index does not know.
const AnotherVersion = "Install another version"

// Revoked returns an *registry.Error of the kind ErrRevoked where a release is revoked, by its version or by one of the digests (sha256:…) that are given, which
// are its files'; nil where it is not. It fetches nothing. Its Remedy is what the index says, or AnotherVersion.
func (x *Index) Revoked(name, version string, digests ...string) error {
	for i := range x.root.Revoked {
		if r := &x.root.Revoked[i]; r.has(name, version, digests) {
			return x.about(&registry.Error{Plugin: name, Version: version, Kind: registry.ErrRevoked, Found: "a version that was revoked: " + r.Why,
				Expected: "another", Remedy: cmp.Or(r.Remedy, AnotherVersion)})
		}
	}
	return nil
}

// RevokedKey returns an *registry.Error of the kind ErrRevokedKey where a minisign key is revoked, by its id; nil where it is not.
func (x *Index) RevokedKey(id string) error {
	for _, k := range x.root.RevokedKeys {
		if k.ID == id {
			return x.fail(registry.ErrRevokedKey, "a signature of key "+id+", which was revoked: "+k.Why, "another key's",
				cmp.Or(k.Remedy, "Ask those who publish it for the key that they have now, and write it to keys of config.yaml"))
		}
	}
	return nil
}

// Revocations returns all that is revoked: for who builds the index after this one. They are copies.
func (x *Index) Revocations() ([]Revocation, []RevokedKey) {
	return slices.Clone(x.root.Revoked), slices.Clone(x.root.RevokedKeys)
}

// Lookup finds a plug-in by its name. It fetches one shard. Where the name is not there it fetches one more at most, to say what may be meant, and
// the error is ErrNotFound.
func (x *Index) Lookup(ctx context.Context, name string) (*Entry, error) {
	missing := &registry.Error{Plugin: name, Kind: registry.ErrNotFound, Found: "no plug-in of that name in the index"}
	if !registry.ValidName(name) {
		missing.Plugin, missing.Found = "", fmt.Sprintf("the name %.140q", name)
		missing.Expected = fmt.Sprintf("1 to %d letters, digits, _, - or .", registry.MaxName)
		return nil, x.about(missing)
	}
	n := len(x.root.Names)
	at := nameShard(name, n)
	shard, err := x.shard(ctx, x.root.Names[at])
	if err != nil {
		return nil, err
	}
	entry, err := readNames(shard, at, n, name)
	if err != nil {
		return nil, x.malformed(x.root.Names[at], err)
	}
	if entry != nil {
		return entry, nil
	}
	missing.Remedy = "Look for it: ferrule search " + name
	if near := x.near(ctx, name); near != "" {
		missing.Remedy = "Did you mean " + near + "?"
	}
	return nil, x.about(missing)
}

// near returns a plug-in whose name is almost the same, among those whose words are beside the name's longest.
func (x *Index) near(ctx context.Context, name string) string {
	words := longestFirst(split(name))
	if len(words) == 0 || len(x.root.Words) == 0 {
		return ""
	}
	s, err := x.words(ctx, x.wordShard(words[0]))
	if err != nil {
		return "" // that the name is not there is what counts
	}
	names := make([]string, len(s.plugins))
	for i, h := range s.plugins {
		names[i] = h.Name
	}
	return abi.Nearest(name, names)
}

func longestFirst(words []string) []string {
	words = slices.Clone(words)
	slices.SortStableFunc(words, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return words
}

// How much a search fetches and reads.
const (
	queryLimit  = 1 << 10 // bytes of what is searched for
	queryWords  = 16      // of these words
	listedWords = 4       // whose lists are fetched, the longest
	perWord     = 2       // shards for one word
)

// Found is what a search finds.
type Found struct {
	Hits  []Hit // the best first
	Total int   // how many match, of which Hits are the first
	Cut   bool  // there may be more, and better by Weight: all the words are of so many plug-ins that the index has only the best of each
}

// Search finds the plug-ins that have all words of the query in their name, keywords or summary, and returns the limit best. A word of three letters or more
// stands for those that begin with it, too. The best have all the query's words, and no others, in the name; then each word counts by its best
// place: the name before the keywords before the summary, whole words before beginnings; then the greater Weight; then the name decides.
//
// Words are runs of letters and digits in any case; the first 16 count. It fetches shards by word only: those of the longest word, which are two at most,
// and those of the next, for four words at most, where of one the index has only the best.
func (x *Index) Search(ctx context.Context, query string, limit int) (*Found, error) {
	if len(query) > queryLimit {
		query = query[:strings.LastIndexFunc(cut(query, queryLimit), isBetween)+1] // whole words
	}
	all := split(query)
	all = all[:min(len(all), queryWords)]
	found := &Found{}
	if len(all) == 0 || len(x.root.Words) == 0 {
		return found, nil
	}
	candidates := map[string]*Hit{}
	found.Cut = true
	words := longestFirst(all)
	for _, w := range words[:min(len(words), listedWords)] {
		hits, whole, err := x.find(ctx, w)
		if err != nil {
			return nil, err
		}
		if whole { // what has all the words is among these
			clear(candidates)
			found.Cut = false
		}
		for _, h := range hits {
			candidates[h.Name] = h
		}
		if whole {
			break
		}
	}
	var best []ranked
	for _, h := range candidates {
		terms := h.terms()
		if score := terms.score(all); score > 0 {
			best = append(best, ranked{h, score})
		}
	}
	slices.SortFunc(best, ranked.compare)
	found.Total = len(best)
	for _, r := range best[:min(len(best), max(limit, 0))] {
		found.Hits = append(found.Hits, *r.Hit)
	}
	return found, nil
}

// wordShard returns the number of the shard that a word is in.
func (x *Index) wordShard(word string) int {
	at, exact := slices.BinarySearchFunc(x.root.Words, word, func(s wordsFrom, w string) int { return cmp.Compare(s.From, w) })
	if exact {
		return at
	}
	return at - 1 // the first shard is from "" on
}

// find returns the plug-ins of a word and of those that begin with it, and whether these are all.
func (x *Index) find(ctx context.Context, word string) (hits []*Hit, whole bool, err error) {
	whole = true
	for at, n := x.wordShard(word), 0; at < len(x.root.Words); at, n = at+1, n+1 {
		if n > 0 && !isPrefix(word, x.root.Words[at].From) {
			break
		}
		if n == perWord {
			return hits, false, nil
		}
		s, err := x.words(ctx, at)
		if err != nil {
			return nil, false, err
		}
		more, all := s.find(word)
		hits, whole = append(hits, more...), whole && all
	}
	return hits, whole, nil
}

// words fetches a shard by word.
func (x *Index) words(ctx context.Context, at int) (*wordShard, error) {
	r, below := x.root.Words[at], ""
	if at+1 < len(x.root.Words) {
		below = x.root.Words[at+1].From
	}
	shard, err := x.shard(ctx, r.reference)
	if err != nil {
		return nil, err
	}
	s, err := readWords(shard, r.From, below)
	if err != nil {
		return nil, x.malformed(r.reference, err)
	}
	return s, nil
}

func (x *Index) malformed(r reference, err error) error {
	return x.about(&registry.Error{Kind: registry.ErrMalformed, Err: fmt.Errorf("shard %s of the index: %w", r.SHA256, err), Remedy: "Tell those who publish it"})
}

// shard returns the bytes of a shard, from the cache or the source. They are those that the root says.
func (x *Index) shard(ctx context.Context, r reference) ([]byte, error) {
	path := filepath.Join(x.cache, ShardFolder, r.SHA256)
	if x.cache != "" {
		if text, ok := readWhole(path, r.SHA256, r.Size); ok {
			return text, nil
		}
	}
	text, err := x.from.Shard(ctx, "sha256:"+r.SHA256, r.Size)
	if err != nil {
		return nil, err
	}
	if !isOf(text, r.SHA256, r.Size) {
		return nil, x.fail(registry.ErrDigest, fmt.Sprintf("other bytes of the index, %d of them", len(text)), fmt.Sprintf("the %s of sha256:%s", sentence.Count(r.Size, "byte"), r.SHA256),
			"Try again. If it stays so, a mirror is broken, or somebody changes what is on the way: ask another source")
	}
	if x.cache != "" {
		_ = writeFile(path, text) // one that cannot be written costs a transfer the next time
	}
	return text, nil
}

// keep keeps the root in the cache, and deletes what it does not name. What fails there costs a transfer the next time.
func (x *Index) keep(text, signature []byte) {
	folder := filepath.Join(x.cache, ShardFolder)
	if os.MkdirAll(folder, 0o755) != nil {
		return
	}
	write := func(name string, text []byte) {
		if old, err := readFile(filepath.Join(x.cache, name), MaxRoot); err != nil || !bytes.Equal(old, text) {
			_ = writeFile(filepath.Join(x.cache, name), text)
		}
	}
	write(SignatureFile, signature)
	write(RootFile, text)
	named := map[string]bool{}
	for _, r := range x.root.Names {
		named[r.SHA256] = true
	}
	for _, r := range x.root.Words {
		named[r.SHA256] = true
	}
	files, _ := os.ReadDir(folder)
	for _, f := range files { // nothing but shards: the folder may turn out to be somebody's
		if registry.Hex("sha256:"+f.Name()) != "" && !named[f.Name()] {
			_ = os.Remove(filepath.Join(folder, f.Name()))
		}
	}
	for _, folder := range []string{x.cache, folder} {
		halves, _ := fs.Glob(os.DirFS(folder), temporary) // which takes no sign of the folder's own name for one of a pattern
		for _, name := range halves {                     // of processes that were killed; a day old, for others still write
			path := filepath.Join(folder, name)
			if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
				_ = os.Remove(path)
			}
		}
	}
}

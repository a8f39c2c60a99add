package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// How large shards become: as many bytes of lines, before compression.
const (
	nameTarget = 192 << 10 // or less, to less than half
	nameMax    = 3 * nameTarget
	wordTarget = 96 << 10
	wordMin    = wordTarget / 2
	wordMax    = wordTarget * 3 / 2
)

// Build makes the index of a registry's plug-ins. name is the registry's, as registry.ValidIndex takes it: readers that know it refuse the index of another
// name, so it stays the same for the registry's life, and no two registries of one key have the same. The same input gives the same bytes, in whatever order the plug-ins come (the compression is Go's: another
// version of Go may give other bytes, which mean the same). Where little changes between two indexes, most shards stay as they are: one plug-in is in one
// shard by name, and in as many by word as it has words, at most. Serial and date are to be greater than in the index before; the date is taken in UTC, to
// the second.
//
// What does not fit is cut, and Built.Cut says so: of a word that more than MaxHits plug-ins have the best stay, those that have it in the name before
// keywords before the summary, and among these the greater Weight. A name that is none, or is there twice, and a revocation that says nothing are
// errors: an *registry.Error.
func Build(name string, serial uint64, date time.Time, plugins []Entry, revoked []Revocation, revokedKeys []RevokedKey) (*Built, error) {
	r := &root{Format: format, Name: name, Serial: serial, Date: date.UTC().Truncate(time.Second), Plugins: len(plugins), Revoked: revoked, RevokedKeys: revokedKeys}
	b := &Built{shards: map[string][]byte{}}
	refuse := func(err error, remedy string) (*Built, error) {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: "what no index can have", Err: err, Remedy: remedy}
	}
	for i := range revoked {
		if err := revoked[i].check(); err != nil {
			return refuse(err, "Mend the list of what is revoked")
		}
	}
	for i := range revokedKeys {
		if err := revokedKeys[i].check(); err != nil {
			return refuse(err, "Mend the list of revoked keys")
		}
	}
	plugins = slices.Clone(plugins)
	slices.SortStableFunc(plugins, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for i := range plugins {
		if err := b.fit(&plugins[i]); err != nil {
			return refuse(err, "Leave the plug-in out, or mend it")
		}
		if i > 0 && plugins[i].Name == plugins[i-1].Name {
			return refuse(fmt.Errorf("%s is there twice", plugins[i].Name), "Put all versions of a plug-in into one entry")
		}
	}
	names, err := byName(plugins)
	if err != nil {
		return refuse(err, "Split the registry")
	}
	words := b.byWord(plugins)
	lines := slices.Concat(names, words.lines)
	refs, packed := make([]reference, len(lines)), make([][]byte, len(lines))
	each(len(lines), func(i int) {
		packed[i] = deflate(lines[i])
		sum := sha256.Sum256(packed[i])
		refs[i] = reference{hex.EncodeToString(sum[:]), int64(len(packed[i]))}
	})
	for i, ref := range refs {
		b.shards["sha256:"+ref.SHA256] = packed[i]
		if i < len(names) {
			r.Names = append(r.Names, ref)
		} else {
			r.Words = append(r.Words, wordsFrom{words.from[i-len(names)], ref})
		}
	}
	var text bytes.Buffer
	appendLine(&text, r)
	if err := r.check(); err != nil {
		return refuse(fmt.Errorf("%w is not possible", err), "Give the registry's name, such as registry.example/acme, a serial from 1 on and the date; for limits see package index")
	} else if text.Len() > MaxRoot {
		return refuse(fmt.Errorf("a root of %s, more than %d", sentence.Count(text.Len(), "byte"), MaxRoot), "Revoke by ranges of versions, or split the registry")
	}
	b.Root, b.Comment, b.Name, b.Serial, b.Date = text.Bytes(), r.comment(), r.Name, r.Serial, r.Date
	return b, nil
}

// Built is an index that was made.
type Built struct {
	Root    []byte   // index.json, to be signed
	Comment string   // the trusted comment of its signature
	Cut     []string // what was cut, a line each, sorted

	Name   string    // the registry's, as it was given to Build
	Serial uint64    // as it was given to Build
	Date   time.Time // in UTC, whole seconds

	shards map[string][]byte
}

// Shards returns the shards by their digest, sha256:…, in no order that counts. It is the Built's: only read it.
func (b *Built) Shards() map[string][]byte { return b.shards }

// Write publishes the index in a folder, so that Folder, and a web server over that folder, has it: index/<SHA-256> for each shard, index.json.minisig, and
// index.json, which comes last. Shards that are there stay, and so do those of older indexes, for readers that are at it: delete them a day later. A nil
// signature leaves none.
func (b *Built) Write(folder string, signature []byte) error {
	if err := os.MkdirAll(filepath.Join(folder, ShardFolder), 0o777); err != nil {
		return err
	}
	for _, digest := range slices.Sorted(maps.Keys(b.shards)) {
		hex := registry.Hex(digest)
		path := filepath.Join(folder, ShardFolder, hex)
		if _, ok := readWhole(path, hex, int64(len(b.shards[digest]))); ok {
			continue
		}
		if err := writeFile(path, b.shards[digest]); err != nil {
			return err
		}
	}
	if signature == nil {
		if err := os.Remove(filepath.Join(folder, SignatureFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	} else if err := writeFile(filepath.Join(folder, SignatureFile), signature); err != nil {
		return err
	}
	return writeFile(filepath.Join(folder, RootFile), b.Root)
}

// cutting notes what is cut.
func (b *Built) cutting(format string, args ...any) {
	b.Cut = append(b.Cut, fmt.Sprintf(format, args...))
}

// line makes one line of a text, of limit bytes at most, whose characters are visible.
func (b *Built) line(name, what, text string, limit int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, " "))), " ")
	short := cut(text, limit)
	if short != text {
		b.cutting("%s: %s: %d of %s", name, what, len(short), sentence.Count(len(text), "byte"))
	}
	return short
}

// firsts returns the first of a list.
func firsts[T any](b *Built, name, what string, all []T, limit int) []T {
	if len(all) > limit {
		b.cutting("%s: %d of %d %s", name, limit, len(all), what)
	}
	return slices.Clone(all[:min(limit, len(all))])
}

// fit makes an entry what a shard may have.
func (b *Built) fit(e *Entry) error {
	if !registry.ValidName(e.Name) {
		return fmt.Errorf("found a plug-in with the name %.140q, expected letters, digits, _, - and ., 1 to %d of them", e.Name, registry.MaxName)
	}
	e.Summary = b.line(e.Name, "summary", e.Summary, MaxSummary)
	e.License = b.line(e.Name, "license", e.License, maxText)
	e.Kind = registry.Kind(b.line(e.Name, "kind", string(e.Kind), MaxWord))

	e.Keywords = firsts(b, e.Name, "keywords", e.Keywords, MaxKeywords)
	for i := range e.Keywords {
		e.Keywords[i] = strings.ToLower(b.line(e.Name, "keyword", e.Keywords[i], MaxWord))
		e.Keywords[i] = cut(e.Keywords[i], MaxWord) // some letters are longer in lower case
	}
	e.Keywords = slices.DeleteFunc(e.Keywords, func(k string) bool { return k == "" })
	e.Platforms = firsts(b, e.Name, "platforms", e.Platforms, MaxKeywords)
	for i := range e.Platforms {
		e.Platforms[i] = b.line(e.Name, "platform", e.Platforms[i], 2*MaxWord)
	}
	slices.Sort(e.Platforms)
	hosts := firsts(b, e.Name, "applications", slices.Sorted(maps.Keys(e.Host)), MaxKeywords)
	host := map[string]string{}
	for _, app := range hosts {
		host[b.line(e.Name, "application", app, registry.MaxName)] = b.line(e.Name, "host version", e.Host[app], registry.MaxName)
	}
	e.Host = host

	versions := newestFirst(e.Versions, func(text string) {
		b.cutting("%s: version %.140q: it is no semantic version", e.Name, text)
	})
	e.Versions = nil
	for _, v := range firsts(b, e.Name, "versions", versions, MaxVersions) {
		e.Versions = append(e.Versions, v.Original())
	}
	if len(e.Versions) == 0 {
		return fmt.Errorf("%s has no version", e.Name)
	}
	return nil
}

// byName returns the lines of the shards by name. There are twice as many as long as one is too large: their number changes seldom, and a registry whose
// names were chosen to be in one shard still has an index.
func byName(plugins []Entry) ([][]byte, error) {
	all := make([][]byte, len(plugins))
	each(len(plugins), func(i int) {
		var b bytes.Buffer
		appendLine(&b, &plugins[i])
		all[i] = b.Bytes()
	})
	total := 0
	for _, line := range all {
		total += len(line)
	}
	for n := 1; n <= MaxShards; n *= 2 {
		if n*nameTarget < total {
			continue
		}
		shards := make([][]byte, n)
		largest := 0
		for i, line := range all {
			at := nameShard(plugins[i].Name, n)
			shards[at] = append(shards[at], line...)
			largest = max(largest, len(shards[at]))
		}
		if largest <= nameMax {
			return shards, nil
		}
	}
	return nil, fmt.Errorf("%d plug-ins do not fit into %d shards by name", len(plugins), MaxShards)
}

// wordShards are lines of shards, and the word that each begins with.
type wordShards struct {
	lines [][]byte
	from  []string
}

// byWord returns the shards by word. Where one ends is said by its words, not by what comes before, so that a new word moves no shards but those beside it:
// a word that is chosen by its hash begins a shard, more likely the more its plug-ins take.
func (b *Built) byWord(plugins []Entry) wordShards {
	type place struct{ plugin, score int }
	places := map[string][]place{}
	hits, sizes := make([]Hit, len(plugins)), make([]int, len(plugins))
	for i := range plugins {
		e := &plugins[i]
		hits[i] = Hit{e.Name, e.Latest(), e.Summary, e.Keywords, e.Weight}
		sizes[i] = len(e.Name) + len(e.Summary) + len(strings.Join(e.Keywords, `","`)) + 64
		terms := hits[i].terms()
		terms.words(func(w string, score int) { places[w] = append(places[w], place{i, score}) })
	}
	words := slices.Sorted(maps.Keys(places))
	lists := make([]wordLine, len(words)) // In is numbers of plugins yet
	costs := make([]int, len(words))
	each(len(words), func(i int) {
		all := places[words[i]]
		slices.SortFunc(all, func(p, q place) int {
			return ranked{&hits[p.plugin], p.score}.compare(ranked{&hits[q.plugin], q.score})
		})
		lists[i] = wordLine{Word: words[i], In: make([]int, 0, min(len(all), MaxHits))}
		if len(all) > MaxHits {
			lists[i].Of = len(all)
			all = all[:MaxHits]
		}
		for _, p := range all {
			lists[i].In = append(lists[i].In, p.plugin)
			costs[i] += sizes[p.plugin]
		}
	})
	var s wordShards
	begin, size := 0, 0
	finish := func(end int) {
		from := lists[begin].Word
		if len(s.from) == 0 {
			from = ""
		}
		s.from, s.lines = append(s.from, from), append(s.lines, wordLines(hits, lists[begin:end]))
		begin, size = end, 0
	}
	for i, w := range words {
		if lists[i].Of > 0 {
			b.cutting("word %s: %d of %d plug-ins", w, MaxHits, lists[i].Of)
		}
		sum := sha256.Sum256([]byte(w))
		chosen := uint64(binary.BigEndian.Uint32(sum[:]))*wordTarget < uint64(costs[i])<<32
		if i > begin && (size+costs[i] > wordMax || chosen && size >= wordMin) {
			finish(i)
		}
		size += costs[i]
	}
	if begin < len(words) {
		finish(len(words))
	}
	slices.Sort(b.Cut)
	return s
}

// wordLines returns the lines of one shard by word.
func wordLines(hits []Hit, words []wordLine) []byte {
	number := map[int]int{}
	for _, w := range words {
		for _, i := range w.In {
			number[i] = 0
		}
	}
	var b bytes.Buffer
	for n, i := range slices.Sorted(maps.Keys(number)) { // plugins are sorted by name
		number[i] = n
		appendLine(&b, wordLine{Plugin: &hits[i]})
	}
	for _, w := range words {
		for k, i := range w.In {
			w.In[k] = number[i]
		}
		appendLine(&b, w)
	}
	return b.Bytes()
}

// each calls do with 0 to n-1, in as many goroutines as there are processors.
func each(n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

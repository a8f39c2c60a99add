package index_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
)

// simulated makes plug-ins that look like those of a large registry: words that are as frequent as in a language (Zipf), names of one to three of them,
// and words that nearly all have. The same number gives the same plug-ins.
func simulated(n int) []index.Entry {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	syllables := strings.Fields("ba co di fu ga he in jo ka le ma no or pa qui ra sa te un va wo xe yo zi st tr pl gr ch sh ex con pro ver ter ing ion ment able")
	vocabulary := make([]string, 30_000)
	for i := range vocabulary {
		for range 2 + r.IntN(3) {
			vocabulary[i] += syllables[r.IntN(len(syllables))]
		}
	}
	zipf := rand.NewZipf(r, 1.05, 3, uint64(len(vocabulary)-1))
	word := func() string { return vocabulary[zipf.Uint64()] }
	words := func(n int) (all []string) {
		for range n {
			all = append(all, word())
		}
		return all
	}
	seen := map[string]bool{}
	all := make([]index.Entry, n)
	for i := range all {
		e := &all[i]
		e.Name = strings.Join(words(1+r.IntN(3)), "-")
		if seen[e.Name] {
			e.Name += "-" + strconv.Itoa(i)
		}
		seen[e.Name] = true
		e.Summary = "A plugin for " + strings.Join(words(3+r.IntN(8)), " ")
		e.Keywords = words(r.IntN(5))
		e.License = "Apache-2.0"
		for v := range 1 + r.IntN(12) {
			e.Versions = append(e.Versions, fmt.Sprintf("%d.%d.%d", r.IntN(3), v, r.IntN(5)))
		}
		e.Platforms = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}
		e.Host = map[string]string{"shop": "^" + strconv.Itoa(1+r.IntN(3))}
		e.Weight = uint32(r.ExpFloat64() * 1000)
	}
	return all
}

// many is how many plug-ins TestOfMany has: FERRULE_INDEX, or what takes some seconds, also under the race detector, which has little to see there.
func many(t testing.TB) int {
	some := "3000"
	if raceDetector {
		some = "800"
	}
	n, err := strconv.Atoi(cmp.Or(os.Getenv("FERRULE_INDEX"), some))
	require.NoError(t, err)
	return n
}

// An index of many plug-ins has small shards; a name takes one shard and a word two at most, and both are found as by looking at all plug-ins.
// Its numbers are for who reads them: no time is a failure.
func TestOfMany(t *testing.T) {
	n := many(t)
	all := simulated(n)
	begin := time.Now()
	b := build(t, all...)
	t.Logf("%d plug-ins: built in %v", n, time.Since(begin).Round(time.Millisecond))
	report(t, b)

	s := serve(t, b)
	begin = time.Now()
	x := open(t, s, index.Options{})
	t.Logf("opened in %v: a root of %d bytes", time.Since(begin).Round(10*time.Microsecond), len(b.Root))

	r := rand.New(rand.NewPCG(2, 2))
	const times = 100
	var bytes []int
	begin = time.Now()
	for range times {
		e := &all[r.IntN(n)]
		got, err := x.Lookup(t.Context(), e.Name)
		require.NoError(t, err)
		require.Equal(t, e.Name, got.Name)
		require.Equal(t, e.Summary, got.Summary)
		nameShards, wordShards, took := s.took()
		require.Equal(t, []int{1, 0}, []int{nameShards, wordShards})
		bytes = append(bytes, took)
	}
	t.Logf("by name: %v each, bytes %s", (time.Since(begin) / times).Round(time.Microsecond), spread(bytes))

	bytes = nil
	begin = time.Now()
	for range times {
		_, err := x.Lookup(t.Context(), all[r.IntN(n)].Name+"x")
		if err == nil {
			continue // there is one
		}
		nameShards, wordShards, took := s.took()
		require.Equal(t, 1, nameShards)
		require.LessOrEqual(t, wordShards, 1)
		bytes = append(bytes, took)
	}
	t.Logf("by a name that is not there: %v each, bytes %s", (time.Since(begin) / times).Round(time.Microsecond), spread(bytes))

	bytes = nil
	var most, cut, none int
	m := modelOf(all)
	var took time.Duration
	for i := range times {
		e := &all[r.IntN(n)]
		words := strings.Fields(e.Summary)[1:]
		query := words[r.IntN(len(words))]
		if i%2 == 0 {
			query += " " + words[r.IntN(len(words))]
		}
		begin := time.Now()
		found, err := x.Search(t.Context(), query, n)
		took += time.Since(begin)
		require.NoError(t, err)
		nameShards, wordShards, size := s.took()
		require.Zero(t, nameShards)
		require.LessOrEqual(t, wordShards, 2*len(strings.Fields(query)))
		bytes, most = append(bytes, size), max(most, wordShards)
		want := m.matching(query)
		for _, name := range names(found) {
			require.True(t, want[name], "%s: %s", query, name)
		}
		if !found.Cut {
			require.Len(t, found.Hits, len(want), query)
			continue
		}
		cut++
		if len(found.Hits) == 0 {
			none++
		}
	}
	t.Logf("by one or two words: %v each, bytes %s, shards at most %d", (took / times).Round(time.Microsecond), spread(bytes), most)
	t.Logf("all words are of more than %d plug-ins: %d of %d searches, of which %d found none", index.MaxHits, cut, times, none)
	assert.Less(t, cut, times)
}

// model has the words of all plug-ins, each with the names of those that have it.
type model map[string][]string

func modelOf(all []index.Entry) model {
	m := model{}
	for i := range all {
		e := &all[i]
		words := strings.FieldsFunc(strings.ToLower(e.Name+" "+e.Summary+" "+strings.Join(e.Keywords, " ")), func(r rune) bool { return r == ' ' || r == '-' })
		slices.Sort(words)
		for _, w := range slices.Compact(words) {
			m[w] = append(m[w], e.Name)
		}
	}
	return m
}

// matching finds plug-ins by looking at all words: how many of the query's words each has is to be all.
func (m model) matching(query string) map[string]bool {
	found := map[string]bool{}
	for i, q := range strings.Fields(strings.ToLower(query)) {
		have := map[string]bool{}
		for w, names := range m {
			if w == q || len(q) >= 3 && strings.HasPrefix(w, q) {
				for _, name := range names {
					have[name] = i == 0 || found[name]
				}
			}
		}
		maps.DeleteFunc(have, func(_ string, all bool) bool { return !all })
		found = have
	}
	return found
}

// report says how large shards are.
func report(t testing.TB, b *index.Built) {
	root := parse(t, b.Root)
	var byName, byWord []int
	for _, ref := range root.Names {
		byName = append(byName, ref.Size)
	}
	for _, ref := range root.Words {
		byWord = append(byWord, ref.Size)
	}
	t.Logf("shards by name: %s; by word: %s; %d words are cut", spread(byName), spread(byWord), len(b.Cut))
	for _, size := range slices.Concat(byName, byWord) {
		assert.Less(t, size, 128<<10)
	}
}

// spread says the least, the middle and the most.
func spread(all []int) string {
	slices.Sort(all)
	sum := 0
	for _, n := range all {
		sum += n
	}
	return fmt.Sprintf("%d/%d/%d (min/median/max of %d, %d in all)", all[0], all[len(all)/2], all[len(all)-1], len(all), sum)
}

func BenchmarkBuild(b *testing.B) {
	all := simulated(100_000)
	var built *index.Built
	for b.Loop() {
		built = build(b, all...)
	}
	report(b, built)
}

func BenchmarkLookup(b *testing.B) {
	all := simulated(100_000)
	s := serve(b, build(b, all...))
	x := open(b, s, index.Options{})
	var n, bytes int
	for b.Loop() {
		_, err := x.Lookup(b.Context(), all[n*7919%len(all)].Name)
		require.NoError(b, err)
		n++
	}
	_, _, bytes = s.took()
	b.ReportMetric(float64(bytes)/float64(n), "fetched-B/op")
}

func BenchmarkSearch(b *testing.B) {
	all := simulated(100_000)
	s := serve(b, build(b, all...))
	x := open(b, s, index.Options{})
	var n, bytes int
	for b.Loop() {
		words := strings.Fields(all[n*7919%len(all)].Summary)
		_, err := x.Search(b.Context(), words[len(words)-1], 20)
		require.NoError(b, err)
		n++
	}
	_, _, bytes = s.took()
	b.ReportMetric(float64(bytes)/float64(n), "fetched-B/op")
}

package main

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What README and docs/speed.md say of speed is what RESULTS.md has: whoever writes new results looks at the sentences, too.
func TestPagesSayWhatWasMeasured(t *testing.T) {
	results, err := os.ReadFile("RESULTS.md")
	require.NoError(t, err)
	text := ""
	for _, name := range []string{"README.md", "docs/speed.md"} {
		page, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		require.NoError(t, err)
		text += strings.Join(strings.Fields(string(page)), " ") + " "
	}
	// in returns a column of a part's table of all figures.
	in := func(part string, column int, contenders string, cases ...string) (figures []float64) {
		chosen, err := choose(part)
		require.NoError(t, err)
		for line := range strings.Lines(chosen[0].between(string(results))) {
			cells := strings.Split(line, " | ")
			if len(cells) < 7 || !slices.Contains(cases, strings.TrimPrefix(cells[0], "| ")) || !regexp.MustCompile(contenders).MatchString(cells[1]) {
				continue
			}
			number, unit, _ := strings.Cut(cells[column], " ")
			figure, err := strconv.ParseFloat(number, 64)
			require.NoError(t, err, line)
			figures = append(figures, figure*map[string]float64{"ns": 1e-3, "µs": 1, "ms": 1e3, "s": 1e6, "×": 1}[unit])
		}
		require.NotEmpty(t, figures, "%s in %q", contenders, cases)
		return figures
	}
	// rows is of that of all peers: 2 is the time, in µs, 4 the ratio to cgo, 5 that to Ferrule.
	rows := func(column int, contenders string, cases ...string) []float64 {
		return in("peers", column, contenders, cases...)
	}
	const direct, isolated = "^Ferrule `Append`$", "^Ferrule `Append`, isolated$"
	large := in("sizes", 2, isolated, "echo, 256 MiB")[0] / in("sizes", 2, "`Stream`, isolated", "echo, 256 MiB")[0]
	small, parallel := []string{"echo, 64 B", "count_vowels, 64 B"}, []string{"echo, 64 B, parallel", "count_vowels, 64 B, parallel"}
	for sentence, figures := range map[string][]float64{
		`calls it in some (\S+)() ns, `:                                 {1e3 * rows(2, "^Ferrule `Append`$", "echo, 64 B")[0]},
		`ns, (\S+)() times a call by hand-written cgo`:                  rows(4, "^Ferrule `Append`$", "echo, 64 B"),
		`a call costs (\S+) to (\S+) times one that is written by hand`: rows(4, "^Ferrule `Append`$", small...),
		`By go-plugin it takes (\S+) to (\S+) times as long`:            rows(5, "^go-plugin", small...),
		`compiled to WebAssembly, (\S+) to (\S+) times`:                 rows(5, "^Extism, the same C", small...),
		`it takes (\S+) to (\S+) times as long as the same C`:           rows(5, "^Extism, the same C", append(small, "count_vowels, 1 MiB")...),
		`counting vowels in 1 MiB: (\S+) to (\S+) and`:                  rows(5, "^go-plugin", "count_vowels, 1 MiB"),
		`counting vowels in 1 MiB: \S+ to \S+ and (\S+)() times`:        rows(5, "^Extism, the same C", "count_vowels, 1 MiB"),
		`a worker process a call costs (\S+)() µs`:                      rows(2, "isolated$", small...),
		`a call takes (\S+)() µs over shared memory`:                    rows(2, "isolated$", small...),
		`a call of 256 MiB takes (\S+)() times as long as a stream`:     {large},
		`callers make (\S+)() times as many`:                            in("callers", 5, direct, "64"),
		`in the process, and (\S+)() times as many isolated`:            in("callers", 5, isolated, "64"),
		`share the cores: (\S+)() times what go-plugin`:                 in("callers", 4, isolated, "64"),
		`and (\S+) to (\S+) µs where two cores make calls in parallel`:  rows(2, "isolated$", parallel...),
	} {
		found := regexp.MustCompile(sentence).FindStringSubmatch(text)
		require.NotNil(t, found, sentence)
		least := number(t, found[1])
		most := least
		if found[2] != "" {
			most = number(t, found[2])
		}
		near := func(said, is float64) bool { return math.Abs(said-is) <= 0.15*is }
		require.True(t, near(least, slices.Min(figures)) && near(most, slices.Max(figures)), "%q; RESULTS.md: %.3g", found[0], figures)
	}

	// What is said without a number of its own.
	for _, same := range in("sizes", 4, direct, "echo, 1 MiB", "echo, 16 MiB", "echo, 256 MiB") {
		require.InDelta(t, 1, same, 0.15, "docs/speed.md: a call in the process costs what it does by cgo")
	}
	require.InDelta(t, 0.25, in("callers", 4, "`Stream`, isolated", "64")[0], 0.06, "docs/speed.md: a quarter of what go-plugin does")
	for _, p := range parts {
		for picture := range p.pictures {
			require.Contains(t, text, "](../bench/"+picture+")")
		}
	}

	streams, err := os.ReadFile("STREAMS.md")
	require.NoError(t, err)
	for sentence, row := range map[string]string{
		`and back has (\S+) times the throughput of gRPC`:       "(?m)^\\| pipe, .* \\| Ferrule `Stream`, isolated \\| .* \\| ([0-9.]+) × \\| \\d+ \\|$",
		`digest of a stream, isolated, (\S+) times that in the`: "(?m)^\\| sha256, .* \\| Ferrule `Stream`, isolated \\| .* \\| ([0-9.]+) × \\| [0-9.]+ × \\| \\d+ \\|$",
	} {
		said, measured := regexp.MustCompile(sentence).FindStringSubmatch(text), regexp.MustCompile(row).FindSubmatch(streams)
		require.NotNil(t, said, sentence)
		require.NotNil(t, measured, row)
		require.InEpsilon(t, number(t, string(measured[1])), number(t, said[1]), 0.15, said[0])
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	require.NoError(t, err)
	return n
}

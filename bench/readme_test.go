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
	text, lines := "", ""
	for _, name := range []string{"README.md", "docs/speed.md", "docs/wasm.md"} {
		page, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		require.NoError(t, err)
		text += strings.Join(strings.Fields(string(page)), " ") + " "
		lines += string(page)
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
	// times is how many times as long as the contender another one takes, in the part of WebAssembly: 5 is the peer's ratio.
	times := func(contender string, cases ...string) (figures []float64) {
		for _, figure := range in("wasm", 5, contender, cases...) {
			figures = append(figures, 1/figure)
		}
		return figures
	}
	const module, sameC, pdk = "^Ferrule, WebAssembly$", "^Ferrule, the same C for Extism$", "^Ferrule, a plug-in of extism-pdk$"
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
		`a call costs (\S+) to (\S+) times one of the library, `:        in("wasm", 6, module, small...),
		`library, (\S+) to (\S+) times one that is written by hand`:     in("wasm", 5, module, small...),
		`A call of 64 bytes takes (\S+) to (\S+) times as long as one`:  in("wasm", 6, module, small...),
		`Extism's SDK for Go takes (\S+) to (\S+) times as long`:        times(sameC, small...),
		`for a plug-in of extism-pdk (\S+) to (\S+) times`:              times(pdk, small...),
		`for the module that comes with it (\S+)() times`:               times("^Ferrule, Extism's own module$", "count_vowels, 64 B"),
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

	// The tables of WebAssembly: a row for each contender, a column for each case.
	cases := []string{"count_vowels, 64 B", "echo, 64 B", "open to first result, empty cache", "open to first result, warm cache"}
	for label, contender := range map[string]string{
		"a library":                       direct,
		"a module, with fuel":             module,
		"… by wazero alone, without fuel": "^wazero by hand, the same file$",
		"a module of C for Extism":        sameC,
		"… by Extism's SDK":               "^Extism, the same C$",
		"a plug-in of extism-pdk":         pdk,
		"… by Extism's SDK, extism-pdk":   "^Extism, a plug-in of extism-pdk$",
		"the module of Extism's SDK":      "^Ferrule, Extism's own module$",
		"… by Extism's SDK, its own":      "^Extism, its own module$",
	} {
		found := 0
		for line := range strings.Lines(lines) {
			row, ok := strings.CutPrefix(line, "| "+label+" |")
			if !ok {
				continue
			}
			found++
			for i, cell := range strings.Split(strings.TrimSuffix(strings.TrimSpace(row), "|"), "|") {
				said := strings.Fields(cell)
				if len(said) == 0 {
					continue // it has none, or is not what the row is about
				}
				require.Len(t, said, 2, line)
				us := number(t, said[0]) * map[string]float64{"ns": 1e-3, "µs": 1, "ms": 1e3}[said[1]]
				require.InEpsilon(t, in("wasm", 2, contender, cases[i])[0], us, 0.15, "%s, %s", label, cases[i])
			}
		}
		require.Positive(t, found, label)
	}
	_, goals, _ := strings.Cut(string(results), "| goal |")
	for _, fn := range []string{"count_vowels", "echo"} {
		gain := regexp.MustCompile(`(?m)^\| ` + fn + `, 64 B, gain by .* \| ≥ \S+ × \| (\S+) × \| `).FindStringSubmatch(goals)
		said := regexp.MustCompile("gains (\\S+) times as much as by hand for `count_vowels` and (\\S+) times for `echo`").FindStringSubmatch(text)
		require.NotNil(t, gain, fn)
		require.NotNil(t, said, fn)
		require.InEpsilon(t, number(t, gain[1]), number(t, said[map[string]int{"count_vowels": 1, "echo": 2}[fn]]), 0.15, fn)
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

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample is a small comparison with known figures.
func sample() *results {
	return &results{
		plan: plan{rounds: 3, cases: []work{{fn: "count_vowels", size: 64}, {fn: "ask", size: 64}},
			contenders: []*contender{
				{name: subject, label: "Ferrule `Append`", build: workerCgo, ours: true, work: "C"},
				{name: baseline, label: "cgo by hand", build: workerCgo, work: "C"},
				{name: "slow", label: "slow & <far>", build: workerCgo, work: "Go"},
			}},
		cells: [][]cell{
			{{ns: []float64{40, 50, 60}}, {ns: []float64{80, 100, 120}}, {ns: []float64{4e4, 5e4, 6e4}, allocs: 13}},
			{{ns: []float64{40, 50, 60}}, {ns: []float64{80, 100, 120}}, {why: "it has none"}},
		},
	}
}

var sampleMachine = &machine{lines: [][2]string{{"CPU", "a <CPU>"}, {"Go", "go1.26"}}}

func TestTable(t *testing.T) {
	require.Equal(t, strings.Join([]string{
		"| case | contender | median | quartiles | to cgo by hand | to Ferrule | allocations |",
		"|---|---|--:|--:|--:|--:|--:|",
		"| count_vowels, 64 B | Ferrule `Append` | 50.0 ns | 45.0 ns to 55.0 ns | 0.500 × | 1.00 × | 0 |",
		"| count_vowels, 64 B | cgo by hand | 100 ns | 90.0 ns to 110 ns | 1.00 × | 2.00 × | 0 |",
		"| count_vowels, 64 B | slow & <far> | 50.0 µs | 45.0 µs to 55.0 µs | 500 × | 1000 × | 13 |",
		"| host function, 64 B | Ferrule `Append` | 50.0 ns | 45.0 ns to 55.0 ns | 0.500 × | 1.00 × | 0 |",
		"| host function, 64 B | cgo by hand | 100 ns | 90.0 ns to 110 ns | 1.00 × | 2.00 × | 0 |",
		"| host function, 64 B | slow & <far> | none: it has none | | | | |",
		"",
	}, "\n"), sample().table())
}

func TestReportIsReproducible(t *testing.T) {
	first, second := sample().peerReport(sampleMachine), sample().peerReport(sampleMachine)
	require.Equal(t, first, second)
	require.Contains(t, first, "| CPU | a <CPU> |")
	require.Contains(t, first, "| slow & <far> | Go | 50.0 µs | |")
	require.Contains(t, first, sample().table())
}

// The drawing is well-formed XML, every bar starts at the axis, and its length follows the logarithm.
func TestChart(t *testing.T) {
	svg := sample().chart(work{fn: "count_vowels", size: 64}, sampleMachine)
	var text strings.Builder
	var widths []float64
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case xml.StartElement:
			for _, a := range token.Attr {
				if token.Name.Local == "rect" && a.Name.Local == "width" {
					w, err := strconv.ParseFloat(a.Value, 64)
					require.NoError(t, err)
					widths = append(widths, w)
				}
			}
		}
	}
	require.Len(t, widths, 3)
	// 50 ns and 50 µs are three decades apart, 50 ns and 100 ns 0.301 of one.
	decade := (widths[2] - widths[0]) / 3
	require.InDelta(t, 0.301*decade, widths[1]-widths[0], 0.2)
	for _, want := range []string{"50.0 ns", "100 ns", "50.0 µs", "Ferrule Append", "slow & <far>", "a <CPU>"} {
		require.Contains(t, text.String(), want)
	}
	require.Contains(t, svg, "prefers-color-scheme: dark")
	require.Empty(t, sample().chart(work{fn: "echo", size: 64}, sampleMachine), "a case that was not measured")
}

// What is faster has a ratio of more than 1, and a higher throughput.
func TestStreamTable(t *testing.T) {
	r := &results{
		plan: plan{rounds: 3, cases: streamCases, contenders: []*contender{
			{name: atOnce, label: "at once", build: workerCgo}, {name: inProcess, label: "stream", build: workerCgo},
			{name: overGRPC, label: "gRPC", build: workerCgo}}},
		cells: [][]cell{
			{{ns: []float64{32 << 20}}, {ns: []float64{40 << 20}, allocs: 3}, {ns: []float64{320 << 20}}},
			{{why: "it has none"}, {ns: []float64{16 << 20}}, {ns: []float64{320 << 20}}},
		},
	}
	require.Equal(t, strings.Join([]string{
		"| case | contender | MB/s | quartiles | to all bytes at once | to `Stream` in process | to gRPC | allocations |",
		"|---|---|--:|--:|--:|--:|--:|--:|",
		"| sha256, 32 MiB | at once | 1000 | 1000 to 1000 | 1.00 × | 1.25 × | 10.0 × | 0 |",
		"| sha256, 32 MiB | stream | 800 | 800 to 800 | 0.800 × | 1.00 × | 8.00 × | 3 |",
		"| sha256, 32 MiB | gRPC | 100 | 100 to 100 | 0.100 × | 0.125 × | 1.00 × | 0 |",
		"| pipe, 32 MiB | at once | none: it has none | | | | | |",
		"| pipe, 32 MiB | stream | 2000 | 2000 to 2000 |  | 1.00 × | 20.0 × | 0 |",
		"| pipe, 32 MiB | gRPC | 100 | 100 to 100 |  | 0.0500 × | 1.00 × | 0 |",
		"",
	}, "\n"), r.streamTable())
	require.Contains(t, r.streamReport(sampleMachine), "| CPU | a <CPU> |")
	require.Contains(t, r.streamReport(sampleMachine), r.streamTable())
}

// A ratio is that of the leasts; a goal is met or missed by it, and left out where there is nothing to say.
func TestWasmTable(t *testing.T) {
	one, both := work{fn: "count_vowels", size: 64}, work{fn: "count_vowels", size: 64, callers: perCore}
	r := &results{
		plan: plan{rounds: 2, cases: []work{one, both, {fn: opening, cache: warmCache}}, contenders: []*contender{
			{name: subject, label: "native", build: workerCgo},
			{name: ofTheFile, label: "module", build: workerCgo, peer: byHand},
			{name: byHand, label: "by hand", build: workerCgo}}},
		cells: [][]cell{
			{{ns: []float64{50, 80}}, {ns: []float64{300, 200}, allocs: 1}, {ns: []float64{100, 400}}},
			{{ns: []float64{25, 25}}, {ns: []float64{150, 125}}, {ns: []float64{50, 60}}},
			{{why: "it has none"}, {ns: []float64{2e6}}, {ns: []float64{1e6}}},
		},
	}
	require.Equal(t, strings.Join([]string{
		"| case | contender | least | median | quartiles | to the peer | to Ferrule, native | to wazero by hand | allocations |",
		"|---|---|--:|--:|--:|--:|--:|--:|--:|",
		"| count_vowels, 64 B | native | 50.0 ns | 65.0 ns | 57.5 ns to 72.5 ns |  | 1.00 × | 0.500 × | 0 |",
		"| count_vowels, 64 B | module | 200 ns | 250 ns | 225 ns to 275 ns | 2.00 × | 4.00 × | 2.00 × | 1 |",
		"| count_vowels, 64 B | by hand | 100 ns | 250 ns | 175 ns to 325 ns |  | 2.00 × | 1.00 × | 0 |",
		"| count_vowels, 64 B, parallel | native | 25.0 ns | 25.0 ns | 25.0 ns to 25.0 ns |  | 1.00 × | 0.500 × | 0 |",
		"| count_vowels, 64 B, parallel | module | 125 ns | 138 ns | 131 ns to 144 ns | 2.50 × | 5.00 × | 2.50 × | 0 |",
		"| count_vowels, 64 B, parallel | by hand | 50.0 ns | 55.0 ns | 52.5 ns to 57.5 ns |  | 2.00 × | 1.00 × | 0 |",
		"| open to first result, warm cache | native | none: it has none | | | | | | |",
		"| open to first result, warm cache | module | 2.00 ms | 2.00 ms | 2.00 ms to 2.00 ms | 2.00 × |  | 2.00 × | 0 |",
		"| open to first result, warm cache | by hand | 1.00 ms | 1.00 ms | 1.00 ms to 1.00 ms |  |  | 1.00 × | 0 |",
		"",
		"| goal | bound | measured | |",
		"|---|--:|--:|---|",
		"| count_vowels, 64 B, beside wazero by hand | ≤ 2.50 × | 2.00 × | met |",
		"| count_vowels, 64 B, gain by a caller for each core, beside wazero by hand | ≥ 0.950 × | 0.800 × | missed |",
		"",
	}, "\n"), r.wasmTable())
	require.Contains(t, r.wasmReport(sampleMachine), "| CPU | a <CPU> |")
	require.Contains(t, r.wasmReport(sampleMachine), r.wasmTable())
}

// What is not a time is in bytes; why there is no figure stands in its place.
func TestGoTable(t *testing.T) {
	one := work{fn: "count_vowels", size: 64}
	r := &results{
		plan: plan{rounds: 2, cases: []work{one, {fn: crashing}, {fn: fileSize}}, contenders: []*contender{
			{name: goInterface, label: "interface", build: workerCgo},
			{name: goBuiltin, label: "compiled in", build: workerCgo},
			{name: goSidecarOf, label: "sidecar", build: workerCgo},
			{name: overGRPC, label: "gRPC", build: workerCgo}}},
		cells: [][]cell{
			{{ns: []float64{50, 80}}, {ns: []float64{100, 200}, allocs: 1}, {ns: []float64{10_000, 40_000}}, {ns: []float64{20_000, 30_000}}},
			{{why: "the host ends"}, {why: "the host ends"}, {ns: []float64{2e6}}, {ns: []float64{8e6}}},
			{{why: "it has none"}, {why: "it has none"}, {ns: []float64{3 << 20}}, {ns: []float64{999}}},
		},
	}
	require.Equal(t, strings.Join([]string{
		"| case | contender | least | median | quartiles | to gRPC | to an interface | allocations |",
		"|---|---|--:|--:|--:|--:|--:|--:|",
		"| count_vowels, 64 B | interface | 50.0 ns | 65.0 ns | 57.5 ns to 72.5 ns | 0.00250 × | 1.00 × | 0 |",
		"| count_vowels, 64 B | compiled in | 100 ns | 150 ns | 125 ns to 175 ns | 0.00500 × | 2.00 × | 1 |",
		"| count_vowels, 64 B | sidecar | 10.0 µs | 25.0 µs | 17.5 µs to 32.5 µs | 0.500 × | 200 × | 0 |",
		"| count_vowels, 64 B | gRPC | 20.0 µs | 25.0 µs | 22.5 µs to 27.5 µs | 1.00 × | 400 × | 0 |",
		"| a panic in another goroutine, to the next result | interface | none: the host ends | | | | | |",
		"| a panic in another goroutine, to the next result | compiled in | none: the host ends | | | | | |",
		"| a panic in another goroutine, to the next result | sidecar | 2.00 ms | 2.00 ms | 2.00 ms to 2.00 ms | 0.250 × |  |  |",
		"| a panic in another goroutine, to the next result | gRPC | 8.00 ms | 8.00 ms | 8.00 ms to 8.00 ms | 1.00 × |  |  |",
		"| file | interface | none: it has none | | | | | |",
		"| file | compiled in | none: it has none | | | | | |",
		"| file | sidecar | 3.00 MiB | 3.00 MiB | 3.00 MiB to 3.00 MiB | 3149 × |  |  |",
		"| file | gRPC | 999 B | 999 B | 999 B to 999 B | 1.00 × |  |  |",
		"",
		"| goal | bound | measured | |",
		"|---|--:|--:|---|",
		"| compiled in: count_vowels, 64 B, time beside a call through an interface | ≤ 3.00 × | 2.00 × | met |",
		"| sidecar: count_vowels, 64 B, time beside gRPC | ≤ 0.200 × | 0.500 × | missed |",
		"",
	}, "\n"), r.goTable())
	require.Contains(t, r.goReport(sampleMachine), "| CPU | a <CPU> |")
	require.Contains(t, r.goReport(sampleMachine), r.goTable())
}

func TestDecades(t *testing.T) {
	for _, c := range []struct {
		in        []float64
		low, high float64
	}{{[]float64{50}, 1, 2}, {[]float64{10}, 1, 2}, {[]float64{5, 2e5}, 0, 6}} {
		low, high := decades(c.in)
		require.Equal(t, []float64{c.low, c.high}, []float64{low, high}, "%v", c.in)
	}
}

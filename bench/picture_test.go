package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// element is one of a drawing's, with the text in it.
type element struct {
	name, text string
	attributes map[string]string
}

func (e element) number(t *testing.T, attribute string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(e.attributes[attribute], 64)
	require.NoError(t, err, "%v", e)
	return n
}

// elements reads a drawing, which has to be well-formed.
func elements(t *testing.T, svg string) (all []element) {
	t.Helper()
	var open []int
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			require.Empty(t, open)
			return all
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			e := element{token.Name.Local, "", make(map[string]string)}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
			}
			open, all = append(open, len(all)), append(all, e)
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

// box is where something is in a drawing.
type box struct {
	left, top, right, bottom float64
	what                     string
}

func (b box) overlaps(o box) bool {
	return b.left < o.right && o.left < b.right && b.top < o.bottom && o.top < b.bottom
}

// texts are the boxes of all texts. A character is taken to be as wide as 0.55 of its height, bold 0.6: more than the
// average in DejaVu Sans,
// the widest of the usual fonts.
func texts(t *testing.T, all []element) (boxes []box) {
	t.Helper()
	for _, e := range all {
		if e.name != "text" {
			continue
		}
		class := strings.Fields(e.attributes["class"])
		size, width := 13.0, 0.55
		if slices.Contains(class, "tick") || slices.Contains(class, "level") {
			size = 11
		}
		if slices.Contains(class, "head") {
			size = 15
		}
		if slices.Contains(class, "head") || slices.Contains(class, "ours") {
			width = 0.6
		}
		long := float64(utf8.RuneCountInString(e.text)) * size * width
		x, y := e.number(t, "x"), e.number(t, "y")
		switch {
		case slices.Contains(class, "tick"):
			x -= long / 2
		case slices.Contains(class, "level"), slices.Contains(class, "name"):
			x -= long
		}
		boxes = append(boxes, box{x, y - 0.8*size, x + long, y + 0.25*size, e.text})
	}
	return boxes
}

// legible fails where texts are outside of the drawing or over one another.
func legible(t *testing.T, svg, which string) {
	t.Helper()
	all := elements(t, svg)
	whole := box{0, 0, all[0].number(t, "width"), all[0].number(t, "height"), "all"}
	boxes := texts(t, all)
	require.NotEmpty(t, boxes)
	for i, b := range boxes {
		inside := b.left >= 0 && b.top >= 0 && b.right <= whole.right && b.bottom <= whole.bottom
		require.True(t, inside, "%s: %q is outside: %+v", which, b.what, b)
		for _, other := range boxes[:i] {
			require.False(t, b.overlaps(other), "%s: %q is over %q", which, b.what, other.what)
		}
	}
}

// costs is a plan with figures, from one for each contender and case.
func costs(cases []work, ns func(i, k int) float64) *results {
	r := &results{plan: plan{rounds: 2, contenders: costContenders, cases: cases}, cells: make([][]cell, len(cases))}
	for i := range cases {
		for k := range costContenders {
			v := ns(i, k)
			r.cells[i] = append(r.cells[i], cell{ns: []float64{v, v}, allocs: float64(k)})
		}
	}
	return r
}

// pictures draws both.
func pictures(ns func(i, k int) float64, m *machine) map[string]string {
	return map[string]string{
		"sizes":   costs(sizeCases, ns).sizePicture(m),
		"callers": costs(callerCases, ns).callerPicture(m),
	}
}

// No label is over another, wherever the lines end: at one point, at the upper edge, at the lower one, or anywhere.
func TestPicturesAreLegible(t *testing.T) {
	ends := map[string]func(i, k int) float64{
		"equal":   func(int, int) float64 { return 100 },
		"highest": func(i, k int) float64 { return []float64{1, 1e10}[min(1, i)] },
		"lowest":  func(i, k int) float64 { return []float64{1e10, 1}[min(1, i)] },
		"groups":  func(_, k int) float64 { return []float64{1, 1e5, 1e10}[k%3] },
	}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		ends[fmt.Sprint("seed ", seed)] = func(int, int) float64 { return math.Pow(10, 10*r.Float64()) }
	}
	long := &machine{cores: 2, lines: [][2]string{{"CPU", "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz"}, {"Go", "go1.26.8"}}}
	for name, ns := range ends {
		for which, svg := range pictures(ns, long) {
			legible(t, svg, which+", "+name)
		}
	}
}

// What was measured and is shown is legible, too.
func TestMeasuredPicturesAreLegible(t *testing.T) {
	for _, p := range parts {
		for file := range p.pictures {
			svg, err := os.ReadFile(file)
			require.NoError(t, err)
			legible(t, string(svg), file)
		}
	}
}

// A line goes through its values on logarithmic axes, and ends at its name.
func TestPicture(t *testing.T) {
	ns := func(i, k int) float64 { return math.Pow(10, float64(k+1)) * float64(i+1) }
	all := elements(t, costs(sizeCases, ns).sizePicture(sampleMachine))
	var lines [][][2]float64
	places := make(map[string]box)
	for _, e := range all {
		if e.name == "polyline" && strings.HasPrefix(e.attributes["class"], "line") {
			var line [][2]float64
			for at := range strings.FieldsSeq(e.attributes["points"]) {
				x, y, _ := strings.Cut(at, ",")
				line = append(line, [2]float64{number(t, x), number(t, y)})
			}
			lines = append(lines, line)
		}
	}
	for _, b := range texts(t, all) {
		places[b.what] = b
	}
	require.Len(t, lines, len(costContenders))
	decade := lines[0][0][1] - lines[1][0][1] // from 10 ns to 100 ns
	require.Greater(t, decade, 20.0)
	for k, line := range lines {
		require.Len(t, line, len(sizeCases))
		for i, at := range line {
			require.InDelta(t, -decade*math.Log10(float64(i+1)), at[1]-line[0][1], 0.2, "line %d, point %d", k, i)
			tick := places[bytesText(sizeCases[i].size)]
			require.InDelta(t, (tick.left+tick.right)/2, at[0], 0.2)
		}
		name := places[plain(costContenders[k].label)]
		require.Greater(t, name.left, line[len(line)-1][0])
		require.InDelta(t, line[len(line)-1][1], (name.top+name.bottom)/2, 3)
	}
	step := lines[0][2][0] - lines[0][1][0] // from 64 B to 1 KiB, which is a factor of 16, as is 16 KiB to 256 KiB
	require.InDelta(t, step, lines[0][4][0]-lines[0][3][0], 0.2)
	require.InDelta(t, step/2, lines[0][5][0]-lines[0][4][0], 0.2, "256 KiB to 1 MiB is a factor of 4")

	require.Empty(t, costs(nil, ns).sizePicture(sampleMachine), "nothing was measured")
	require.Empty(t, costs(nil, ns).callerPicture(sampleMachine), "nothing was measured")
}

// Who does not see a picture is told what it shows; who does not tell colours apart has dashes and marks.
func TestPicturesAreAccessible(t *testing.T) {
	for name, svg := range pictures(func(i, k int) float64 { return float64(100 * (k + 1)) }, sampleMachine) {
		byID := make(map[string]element)
		all := elements(t, svg)
		for _, e := range all {
			byID[e.attributes["id"]] = e
		}
		require.Equal(t, "img", all[0].attributes["role"], name)
		for _, id := range strings.Fields(all[0].attributes["aria-labelledby"]) {
			require.NotEmpty(t, byID[id].text, "%s, %s", name, id)
		}
		for _, c := range costContenders {
			require.Contains(t, byID["desc"].text, plain(c.label)+": ", name)
		}
	}
	seen := make(map[string]bool)
	for _, c := range costContenders {
		l, ok := looks[c.id()]
		require.True(t, ok, c.id())
		require.Equal(t, strings.Contains(c.id(), "isolated"), l.dash != "", "what is isolated is dashed: %s", c.id())
		key := fmt.Sprint(l)
		require.False(t, seen[key], "%s looks like another", c.id())
		seen[key] = true
	}
}

// Every colour can be told from the page: by the ratios of WCAG 2, 4.5 for texts and 3 for lines and marks; where the theme
// is not known, one grey must do on both pages, and 4 is what there is.
func TestContrast(t *testing.T) {
	white, dark := "#ffffff", "#0d1117"
	rule := regexp.MustCompile(`([a-z0-9.]+) \{[^{}]*?(?:fill|stroke): (#[0-9a-f]{6})[^{}]*\}`)
	for name, svg := range pictures(func(i, k int) float64 { return float64(100 * (k + 1)) }, sampleMachine) {
		var style string
		for _, e := range elements(t, svg) {
			if e.name == "style" {
				style = e.text
			}
		}
		checked := 0
		for line := range strings.Lines(style) {
			pages, least := []string{white, dark}, 4.0
			if strings.Contains(line, "prefers-color-scheme") {
				least = 4.5
				pages = pages[:1]
				if strings.Contains(line, "dark") {
					pages = []string{dark}
				}
			}
			for _, found := range rule.FindAllStringSubmatch(line, -1) {
				selector, colour := found[1], found[2]
				if selector == "line" {
					continue // the grid, which is behind what is read
				}
				want := least
				if selector != "text" {
					want = 3
				}
				for _, page := range pages {
					require.GreaterOrEqual(t, contrast(t, colour, page), want, "%s: %s %s on %s", name, selector, colour, page)
					checked++
				}
			}
		}
		require.Equal(t, 4*(1+2*len(costContenders)), checked, name)
	}
}

// contrast is WCAG's ratio of two colours.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(colour string) (sum float64) {
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
			require.NoError(t, err)
			c := float64(n) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// Names are apart, within bounds, in the order of what they name, and where they want to be if there is room.
func TestApart(t *testing.T) {
	require.Equal(t, []float64{10, 50, 90}, apart([]float64{10, 50, 90}, 20, 0, 100))
	require.Equal(t, []float64{20, 40, 60}, apart([]float64{40, 40, 40}, 20, 0, 100))
	require.Equal(t, []float64{0, 20, 40}, apart([]float64{-10, 0, 1}, 20, 0, 100))
	require.Equal(t, []float64{80, 100}, apart([]float64{99, 100}, 20, 0, 100))
	require.Equal(t, []float64{40, 60, 0}, apart([]float64{45, 55, 0}, 20, 0, 100))
}

// The table has throughputs, to go-plugin and to one caller; a percentile is of its own cases.
func TestCallerTable(t *testing.T) {
	r := costs(callerCases, func(i, k int) float64 {
		w := callerCases[i]
		return float64(100*(k+1))/float64(w.callers) + float64(w.percent)
	})
	table := r.callerTable()
	require.Contains(t, table, "| 1 | Ferrule `Append` | 10.0 M | 10.0 M to 10.0 M | 6.00 × | 1.00 × | 150 ns | 199 ns |\n")
	require.Contains(t, table, "| 64 | Ferrule `Append`, isolated | 320 M | 320 M to 320 M | 3.00 × | 64.0 × | 53.1 ns | 102 ns |\n")
	require.Equal(t, 2+len(callerCounts)*len(costContenders), strings.Count(table, "\n"))
}

// Figures of a machine that nobody had are said to be missing, wherever figures are; where there is one nothing is said.
func TestNotHad(t *testing.T) {
	r := costs(callerCases, func(i, k int) float64 { return 100 })
	for cores, missing := range map[int]bool{2: true, 15: true, 16: false, 64: false} {
		m := &machine{cores: cores, lines: sampleMachine.lines}
		require.Equal(t, missing, strings.Contains(r.callerReport(m), "16 cores: not had"), cores)
		require.Equal(t, missing, strings.Contains(r.callerPicture(m), "16 cores: not had"), cores)
	}
}

// A part is written between its marks, and nothing else of the file changes.
func TestSplice(t *testing.T) {
	p := part{name: "sizes", file: "RESULTS.md"}
	begin, end := p.marks()
	whole, err := p.splice("before\n"+begin+"old\n"+end+"after\n", "new\n")
	require.NoError(t, err)
	require.Equal(t, "before\n"+begin+"new\n"+end+"after\n", whole)
	require.Equal(t, "new\n", p.between(whole))
	for _, text := range []string{"", begin, end, end + begin} {
		_, err = p.splice(text, "new\n")
		require.ErrorContains(t, err, "RESULTS.md has no lines", "%q", text)
	}
}

// The files have the marks of every part, and what is between them is of the part as it is: with its contenders and cases.
func TestFilesHaveEveryPart(t *testing.T) {
	for _, p := range parts {
		text, err := os.ReadFile(p.file)
		require.NoError(t, err)
		report := p.between(string(text))
		_, err = p.splice(string(text), "")
		require.NoError(t, err)
		for _, c := range p.plan.contenders {
			require.Contains(t, report, "| "+c.label+" |", p.name)
		}
		for picture := range p.pictures {
			require.Contains(t, report, "]("+picture+")", p.name)
		}
	}
}

func TestPerSecond(t *testing.T) {
	for ns, want := range map[float64]string{1: "1000 M", 20: "50.0 M", 1e3: "1.00 M", 1000.4: "1.00 M", 1e4: "100 k",
		1e6: "1.00 k", 1e9: "1.00"} {
		require.Equal(t, want, rate(ns), ns)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int]string{0: "0 B", 64: "64 B", 1 << 10: "1 KiB", 256 << 10: "256 KiB", 1 << 20: "1 MiB",
		256 << 20: "256 MiB"} {
		require.Equal(t, want, bytesText(n))
	}
}

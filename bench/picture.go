package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// picture is lines over a common axis, both axes logarithmic. Each line has its name where it ends, so that nobody has to
// compare colours with a legend, and a dash or a mark of its own, so that nobody has to tell colours apart.
type picture struct {
	title  string
	notes  []string             // two lines
	x      []mark               // in the order of their places
	unit   func(float64) string // a value, for the description
	tick   func(float64) string // a power of ten, on the axis
	series []series
}

// mark is a place on the axis, in any unit, and what stands there.
type mark struct {
	at   float64
	text string
}

// point is a value at a place.
type point struct{ at, value float64 }

// series is one line; without points it is not drawn.
type series struct {
	contender *contender
	points    []point
}

// look is how a contender's line looks. Its three colours are for readers of whom no theme is known, for a light one and
// for a dark one.
type look struct {
	colours [3]string
	dash    string
	square  bool // its points are squares, otherwise circles
}

// hue is one colour in the three shades of look.
type hue = [3]string

var (
	orange  = hue{"#c4701c", "#bc5a00", "#f0883e"}
	magenta = hue{"#c2569b", "#a0307f", "#f778ba"}
	blue    = hue{"#3b82d6", "#0969da", "#58a6ff"}
	green   = hue{"#2f8f46", "#1a7f37", "#3fb950"}
	purple  = hue{"#8f6bd8", "#6e40c9", "#bc8cff"}
)

// looks are by contender: what is Ferrule's is of warm colours, and isolated it is dashed.
var looks = map[string]look{
	subject:                   {colours: orange},
	"ferrule-isolated":        {colours: orange, dash: "7 4", square: true},
	inProcess:                 {colours: magenta},
	"ferrule-stream-isolated": {colours: magenta, dash: "7 4", square: true},
	baseline:                  {colours: blue},
	overGRPC:                  {colours: green, square: true},
	"extism":                  {colours: purple},
}

// Where things are in a picture.
const (
	plotLeft, plotRight = 74.0, 624.0
	plotTop             = 82.0
	plotBottom          = 442.0
	pictureWidth        = 860.0
	pictureHeight       = plotBottom + 32
	nameLeft            = plotRight + 26
	nameStep            = 18.0 // between the lines of two names
)

// String draws it. It is empty where there is nothing to draw.
func (p picture) String() string {
	var values []float64
	var drawn []series
	for _, s := range p.series {
		for _, at := range s.points {
			values = append(values, at.value)
		}
		if len(s.points) > 0 {
			drawn = append(drawn, s)
		}
	}
	if len(drawn) == 0 {
		return ""
	}
	low, high := decades(values)
	first, last := p.x[0].at, p.x[len(p.x)-1].at
	x := func(at float64) float64 {
		return plotLeft + 8 + (plotRight-plotLeft-8)*(at-first)/max(1, last-first)
	}
	y := func(value float64) float64 {
		return plotBottom - (plotBottom-plotTop)*(math.Log10(value)-low)/(high-low)
	}

	var style strings.Builder
	style.WriteString(".level { text-anchor: end; font-size: 11px; }\n.line { fill: none; stroke-width: 2; }\n" +
		".leader { fill: none; stroke-width: 1; }\n")
	for theme, format := range []string{"%s\n", "@media (prefers-color-scheme: light) { %s }\n",
		"@media (prefers-color-scheme: dark) { %s }\n"} {
		var rules []string
		for i, s := range drawn {
			colour := looks[s.contender.id()].colours[theme]
			rules = append(rules, fmt.Sprintf(".s%d { stroke: %s; } .p%d { fill: %s; }", i, colour, i, colour))
		}
		fmt.Fprintf(&style, format, strings.Join(rules, " "))
	}
	var s strings.Builder
	begin(&s, pictureWidth, pictureHeight, p.title, p.description(drawn), p.notes, style.String())
	for d := low; d <= high; d++ {
		at := y(math.Pow(10, d))
		fmt.Fprintf(&s, "<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\"/>\n", plotLeft, at, plotRight, at)
		fmt.Fprintf(&s, "<text class=\"level\" x=\"%.0f\" y=\"%.1f\">%s</text>\n", plotLeft-8, at+4, p.tick(math.Pow(10, d)))
	}
	for _, m := range p.x {
		fmt.Fprintf(&s, "<line x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\"/>\n", x(m.at), plotBottom, x(m.at), plotBottom+4)
		fmt.Fprintf(&s, "<text class=\"tick\" x=\"%.1f\" y=\"%.0f\">%s</text>\n", x(m.at), plotBottom+18,
			html.EscapeString(m.text))
	}
	ends := make([]float64, len(drawn))
	for i, one := range drawn {
		ends[i] = y(one.points[len(one.points)-1].value)
	}
	names := apart(ends, nameStep, plotTop, plotBottom)
	for i, one := range drawn {
		look := looks[one.contender.id()]
		dash := ""
		if look.dash != "" {
			dash = fmt.Sprintf(" stroke-dasharray=\"%s\"", look.dash)
		}
		var path []string
		for _, at := range one.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(at.at), y(at.value)))
		}
		fmt.Fprintf(&s, "<polyline class=\"line s%d\"%s points=\"%s\"/>\n", i, dash, strings.Join(path, " "))
		for _, at := range one.points {
			if look.square {
				fmt.Fprintf(&s, "<rect class=\"p%d\" x=\"%.1f\" y=\"%.1f\" width=\"6\" height=\"6\"/>\n", i, x(at.at)-3,
					y(at.value)-3)
			} else {
				fmt.Fprintf(&s, "<circle class=\"p%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\"/>\n", i, x(at.at), y(at.value))
			}
		}
		ours := ""
		if one.contender.ours {
			ours = " class=\"ours\""
		}
		end := x(one.points[len(one.points)-1].at)
		fmt.Fprintf(&s, "<polyline class=\"leader s%d\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n", i, end, ends[i],
			nameLeft-10, names[i], nameLeft-4, names[i])
		fmt.Fprintf(&s, "<text%s x=\"%.0f\" y=\"%.1f\">%s</text>\n", ours, nameLeft, names[i]+4.5,
			html.EscapeString(plain(one.contender.label)))
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// description says in words how each line begins and ends.
func (p picture) description(drawn []series) string {
	text := func(at float64) string {
		return p.x[slices.IndexFunc(p.x, func(m mark) bool { return m.at == at })].text
	}
	var lines []string
	for _, s := range drawn {
		first, last := s.points[0], s.points[len(s.points)-1]
		lines = append(lines, fmt.Sprintf("%s: %s at %s, %s at %s", plain(s.contender.label), p.unit(first.value),
			text(first.at), p.unit(last.value), text(last.at)))
	}
	return strings.Join(lines, "; ") + "."
}

// apart returns places as near to the wanted ones as they can be, in their order, with step between each two, from least
// to most. There must be room for them.
func apart(wanted []float64, step, least, most float64) []float64 {
	order := make([]int, len(wanted))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(wanted[a], wanted[b]) })
	// Those that touch are a group, in whose middle they want to be. A group that comes to touch the one before joins it.
	type group struct {
		members []int
		sum     float64 // of where each member wants the first one to be
	}
	top := func(g group) float64 {
		room := most - step*float64(len(g.members)-1)
		return max(least, min(room, g.sum/float64(len(g.members))))
	}
	var groups []group
	for _, i := range order {
		g := group{[]int{i}, wanted[i]}
		for len(groups) > 0 {
			before := groups[len(groups)-1]
			if top(before)+step*float64(len(before.members)) <= top(g) {
				break
			}
			sum := before.sum + g.sum - step*float64(len(before.members)*len(g.members))
			g = group{append(before.members, g.members...), sum}
			groups = groups[:len(groups)-1]
		}
		groups = append(groups, g)
	}
	places := make([]float64, len(wanted))
	for _, g := range groups {
		for k, i := range g.members {
			places[i] = top(g) + step*float64(k)
		}
	}
	return places
}

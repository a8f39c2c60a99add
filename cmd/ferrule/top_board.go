package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// boardLine is a plug-in as a line of the table.
type boardLine struct {
	*monitor.Plugin
	rate  float64
	rated bool
}

// boardColumn is a column of the table.
type boardColumn struct {
	title string
	sort  string // its name for --sort; "" where nobody sorts by it
	key   rune
	leave int // the order in which columns are left out where there is no room for all; the name is in no such order
	left  bool
	text  func(*boardLine) string                   // "" is not known
	order func(a, b *boardLine) int                 // what comes first where nobody has turned it round
	known func(*boardLine) bool                     // whether there is something to sort by; nil is always
	paint func(*boardLine) (colour string, is bool) // or nil
}

// counted reports whether calls of a plug-in are counted.
func counted(l *boardLine) bool { return l.Calls != nil }

// timed reports whether calls of a plug-in were timed.
func timed(l *boardLine) bool { return l.Calls != nil && l.Calls.Timed > 0 }

// number is the text of a number of calls.
func number(of func(*monitor.Calls) uint64) func(*boardLine) string {
	return func(l *boardLine) string {
		if l.Calls == nil {
			return ""
		}
		return fmt.Sprint(of(l.Calls))
	}
}

// takes is the text of a time.
func takes(of func(*monitor.Calls) time.Duration) func(*boardLine) string {
	return func(l *boardLine) string {
		if !timed(l) {
			return ""
		}
		return nanoseconds(float64(of(l.Calls)))
	}
}

// stateOrder has what is wrong first.
var stateOrder = []plugins.State{plugins.StateFailed, plugins.StateSuspended, plugins.StateDraining, plugins.StateStarted, plugins.StateReady, plugins.StateDisabled,
	plugins.StateDiscovered, plugins.StateGone}

// boardColumns are the columns in their order.
var boardColumns = []boardColumn{
	{title: "NAME", sort: "name", key: 'n', left: true, text: func(l *boardLine) string { return l.Name },
		order: func(a, b *boardLine) int { return cmp.Compare(a.Name, b.Name) }},
	{title: "VERSION", leave: 4, left: true, text: func(l *boardLine) string { return l.Version }},
	{title: "STATE", sort: "state", key: 's', leave: 12, left: true, text: func(l *boardLine) string { return string(l.State) },
		order: func(a, b *boardLine) int {
			return cmp.Compare(slices.Index(stateOrder, a.State), slices.Index(stateOrder, b.State))
		},
		paint: func(l *boardLine) (string, bool) {
			return red, l.State == plugins.StateFailed || l.State == plugins.StateSuspended
		}},
	{title: "RUNS", leave: 5, left: true, text: func(l *boardLine) string { return cmp.Or(l.Group, l.Runs) }},
	{title: "CALLS/S", sort: "rate", key: 'p', leave: 11, known: func(l *boardLine) bool { return l.rated },
		text: func(l *boardLine) string {
			if !l.rated {
				return ""
			}
			return threeDigits(l.rate)
		},
		order: func(a, b *boardLine) int { return cmp.Compare(b.rate, a.rate) }},
	{title: "CALLS", sort: "calls", key: 'c', leave: 6, known: counted, text: number(func(c *monitor.Calls) uint64 { return c.Calls }),
		order: func(a, b *boardLine) int { return cmp.Compare(b.Calls.Calls, a.Calls.Calls) }},
	{title: "ERRORS", sort: "errors", key: 'e', leave: 10, known: counted, text: number(func(c *monitor.Calls) uint64 { return c.Failed }),
		order: func(a, b *boardLine) int { return cmp.Compare(b.Calls.Failed, a.Calls.Failed) }},
	{title: "CRASHED", leave: 3, text: number(func(c *monitor.Calls) uint64 { return c.Crashed })},
	{title: "LATE", leave: 2, text: number(func(c *monitor.Calls) uint64 { return c.Late })},
	{title: "MEAN", sort: "time", key: 't', leave: 7, known: timed, text: takes(func(c *monitor.Calls) time.Duration { return c.Mean() }),
		order: func(a, b *boardLine) int { return cmp.Compare(b.Calls.Mean(), a.Calls.Mean()) }},
	{title: "LONGEST", sort: "longest", key: 'l', leave: 1, known: timed, text: takes(func(c *monitor.Calls) time.Duration { return c.Longest }),
		order: func(a, b *boardLine) int { return cmp.Compare(b.Calls.Longest, a.Calls.Longest) }},
	{title: "RESTARTS", sort: "restarts", key: 'r', leave: 9, text: func(l *boardLine) string { return fmt.Sprint(l.Restarts) },
		order: func(a, b *boardLine) int { return cmp.Compare(b.Restarts, a.Restarts) }},
	{title: "MEMORY", sort: "memory", key: 'm', leave: 8, known: func(l *boardLine) bool { return l.Memory > 0 },
		text: func(l *boardLine) string {
			if l.Memory == 0 {
				return ""
			}
			return amountText(l.Memory)
		},
		order: func(a, b *boardLine) int { return cmp.Compare(b.Memory, a.Memory) }},
}

// sortNames are what --sort takes.
func sortNames() (names []string) {
	for _, c := range boardColumns {
		if c.sort != "" {
			names = append(names, c.sort)
		}
	}
	return names
}

// sortColumn is the column of a name of --sort; -1 of another one.
func sortColumn(name string) int {
	return slices.IndexFunc(boardColumns, func(c boardColumn) bool { return c.sort != "" && c.sort == name })
}

// board is the table as it is to be shown.
type board struct {
	paint  func(colour, text string) string
	by     int // the column by which it is sorted
	turned bool
	above  int               // how many lines are above what is shown
	page   int               // how many lines were shown the last time
	silent time.Duration     // for how long the application has not answered; 0 where it does
	socket string            // where it is asked
	seen   *monitor.Snapshot // nil before its first answer
	before *monitor.Snapshot
	now    *arranged // what was made of the last picture; nil where nothing was yet
}

// arranged is a picture as it is sorted, with its texts: a host may say much, and it is drawn often.
type arranged struct {
	by     int
	turned bool
	lines  []*boardLine
	texts  [][]string // as cells has them
	notes  []string
	widths []int // of the columns, for this width
	width  int
}

// longestShown is how many bytes of a host's text are shown.
const longestShown = 4 << 10

// shorten cuts a host's texts before anything is made of them.
func shorten(texts ...*string) {
	for _, text := range texts {
		if len(*text) > longestShown {
			*text = string([]byte((*text)[:wholeRunes([]byte((*text)[:longestShown]))])) + "…" // a copy: the rest may go
		}
	}
}

// take takes the next picture.
func (b *board) take(s *monitor.Snapshot) {
	shorten(&s.App, &s.Version)
	if s.Config != nil {
		shorten(&s.Config.Error)
	}
	for i := range s.Plugins {
		p := &s.Plugins[i]
		shorten(&p.Name, &p.Version, (*string)(&p.State), &p.Runs, &p.Group, &p.Error)
		for j := range p.Counted {
			shorten(&p.Counted[j].Point, &p.Counted[j].Error)
		}
	}
	b.before, b.seen, b.now = b.seen, s, nil
}

// arrange returns the picture as it is sorted now, with the columns for a width.
func (b *board) arrange(width int) *arranged {
	if a := b.now; a == nil || a.by != b.by || a.turned != b.turned {
		lines := b.lines()
		b.now = &arranged{by: b.by, turned: b.turned, lines: lines, texts: cells(lines), notes: notes(lines), width: -1}
	}
	if b.now.width != width {
		b.now.widths, b.now.width = fitting(b.now.texts, width), width
	}
	return b.now
}

// key does what a key asks for, if anything.
func (b *board) key(k rune) {
	page := max(1, b.page)
	if b.seen == nil {
		return // there is no table yet
	}
	switch k {
	case 'i':
		b.turned = !b.turned
	case keyUp, 'k':
		b.above--
	case keyDown, 'j':
		b.above++
	case keyPageUp:
		b.above -= page
	case keyPageDown, ' ':
		b.above += page
	case keyHome:
		b.above = 0
	case keyEnd:
		b.above = len(b.seen.Plugins)
	default:
		if i := slices.IndexFunc(boardColumns, func(c boardColumn) bool { return c.key == k }); i >= 0 && k != 0 {
			b.by, b.turned, b.above = i, false, 0
		}
	}
}

// lines are the plug-ins in their order.
func (b *board) lines() []*boardLine {
	lines := make([]*boardLine, len(b.seen.Plugins))
	rate := monitor.Rates(b.before, b.seen)
	for i := range b.seen.Plugins {
		l := &boardLine{Plugin: &b.seen.Plugins[i]}
		l.rate, l.rated = rate(l.Name)
		lines[i] = l
	}
	c := &boardColumns[b.by]
	slices.SortStableFunc(lines, func(x, y *boardLine) int {
		if c.known != nil { // what is not known comes last, whatever the order
			if known, also := c.known(x), c.known(y); !known || !also {
				switch {
				case known:
					return -1
				case also:
					return 1
				}
				return cmp.Compare(x.Name, y.Name)
			}
		}
		order := c.order(x, y)
		if b.turned {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(x.Name, y.Name))
	})
	return lines
}

// head is the first line: whose plug-ins they are.
func (b *board) head() string {
	s, failed := b.seen, 0
	for i := range s.Plugins {
		if s.Plugins[i].State == plugins.StateFailed {
			failed++
		}
	}
	text := fmt.Sprintf("%s %s, process %d", escape.Line(s.App), escape.Line(s.Version), s.PID)
	if s.Memory > 0 {
		text += ", " + amountText(s.Memory)
	}
	text += ": " + plural(len(s.Plugins), "plug-in")
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	return text
}

// warnings are what there is to say above the table.
func (b *board) warnings() (all []string) {
	if b.silent > 0 {
		all = append(all, fmt.Sprintf("The application has not answered for %s: what follows is as old as that.", inSeconds(b.silent)))
	}
	if c := b.seen.Config; c != nil {
		all = append(all, "config.yaml: not taken over since "+c.Since.Local().Format(time.TimeOnly)+": "+escape.Line(strings.ReplaceAll(c.Error, "\n", "; ")))
	}
	if !b.seen.Counting {
		all = append(all, "Calls are not counted: the application has no plugins.Counting().")
	}
	return all
}

// inSeconds is a time in words.
func inSeconds(d time.Duration) string {
	if d < time.Second {
		return "less than a second"
	}
	return fmt.Sprintf("%d s", int(d.Seconds()+0.5))
}

// notes are what is wrong with plug-ins, a line each.
func notes(lines []*boardLine) (all []string) {
	for _, l := range lines {
		if l.Error != "" {
			all = append(all, escape.Line(strings.TrimPrefix(l.Error, l.Name+": "))) // the text begins with the name, too
			all[len(all)-1] = escape.Line(l.Name) + ": " + all[len(all)-1]
		}
		for _, c := range l.Counted {
			if c.LeftOut > 0 {
				note := fmt.Sprintf("%s: its hook %s is left out for %s, because it failed again and again", escape.Line(l.Name), escape.Line(c.Point), inSeconds(c.LeftOut))
				if c.Error != "" {
					note += ": " + escape.Line(c.Error)
				}
				all = append(all, note)
			}
		}
	}
	return all
}

// cells are the titles and the texts of all columns, by line; titles are the first.
func cells(lines []*boardLine) [][]string {
	all := make([][]string, len(lines)+1)
	for _, c := range boardColumns {
		all[0] = append(all[0], c.title)
		for i, l := range lines {
			all[i+1] = append(all[i+1], cmp.Or(escape.Line(c.text(l)), "-"))
		}
	}
	return all
}

const between = 2 // blanks between columns

// fitting returns how wide the columns are; -1 is one that there is no room for. A width of 0 has room for all.
func fitting(all [][]string, width int) []int {
	widths, sum := make([]int, len(boardColumns)), -between
	for i := range widths {
		for _, line := range all {
			widths[i] = max(widths[i], runewidth.StringWidth(line[i]))
		}
		if i == 0 && width > 0 {
			widths[i] = min(widths[i], max(width/2, longName)) // one long name does not push all others out
		}
		sum += widths[i] + between
	}
	for leave := 1; width > 0 && sum > width && leave < len(boardColumns); leave++ {
		i := slices.IndexFunc(boardColumns, func(c boardColumn) bool { return c.leave == leave })
		sum -= widths[i] + between
		widths[i] = -1
	}
	if width > 0 {
		widths[0] = min(widths[0], width)
	}
	return widths
}

// rows makes lines of text of the table: the titles, and those from one plug-in to before another.
func (b *board) rows(now *arranged, from, to int) []string {
	rows, widths := make([]string, 1+to-from), now.widths
	for n := range rows {
		texts := now.texts[0]
		if n > 0 {
			texts = now.texts[n+from]
		}
		var row strings.Builder
		blanks := 0 // which have to come before the next text
		for i, text := range texts {
			if widths[i] < 0 {
				continue
			}
			text = runewidth.Truncate(text, widths[i], "…")
			room := max(0, widths[i]-runewidth.StringWidth(text))
			c := &boardColumns[i]
			colour, is := bold, n == 0 && i == b.by
			if n > 0 && c.paint != nil {
				colour, is = c.paint(now.lines[n+from-1])
			}
			if is {
				text = b.paint(colour, text)
			}
			if c.left {
				row.WriteString(strings.Repeat(" ", blanks) + text)
				blanks = room
			} else {
				row.WriteString(strings.Repeat(" ", blanks+room) + text)
				blanks = 0
			}
			blanks += between
		}
		rows[n] = row.String()
	}
	return rows
}

// whole is all of it, for no terminal.
func (b *board) whole() (all []string) {
	now := b.arrange(0)
	all = append(all, b.head())
	all = append(all, b.warnings()...)
	if len(now.lines) > 0 {
		all = append(all, b.rows(now, 0, len(now.lines))...)
	}
	if len(now.notes) > 0 {
		all = append(append(all, ""), now.notes...)
	}
	return all
}

// keysHelp is the last line of the screen, from which a narrow one has the beginning.
const keysHelp = "q quit  sort: n name s state p calls/s c calls e errors t mean l longest r restarts m memory  i inverse"

// frame is what a terminal of a size shows: at most so many lines, none of them wider.
func (b *board) frame(width, height int) (all []string) {
	cut := func(text string) string { return runewidth.Truncate(text, width, "…") }
	if b.seen == nil {
		all = append(all, cut(fmt.Sprintf("Waits for the first answer at %s, for %s.", escape.Line(b.socket), inSeconds(b.silent))))
		for len(all) < height-1 {
			all = append(all, "")
		}
		all = append(all, b.paint(dim, cut("q quit")))
		return all[max(0, len(all)-max(1, height)):]
	}
	now := b.arrange(width)
	lines := now.lines
	head, clock := cut(b.head()), b.seen.Time.Local().Format(time.TimeOnly)
	if room := width - runewidth.StringWidth(head) - len(clock); room > 1 {
		head += strings.Repeat(" ", room) + clock
	}
	all = append(all, head)
	for _, w := range b.warnings() {
		all = append(all, b.paint(bold, cut(w)))
	}
	room := max(0, height-len(all)-2)
	b.page = room
	b.above = max(0, min(b.above, len(lines)-room))
	shown := lines[b.above:min(len(lines), b.above+room)]
	all = append(all, b.rows(now, b.above, b.above+len(shown))...)
	if below := now.notes; room-len(shown) > 1 && len(below) > 0 {
		all = append(all, "")
		for _, note := range below[:min(len(below), room-len(shown)-1)] {
			all = append(all, cut(note))
		}
	}
	for len(all) < height-1 {
		all = append(all, "")
	}
	last := keysHelp
	if len(shown) < len(lines) {
		last = fmt.Sprintf("%d to %d of %d  ", b.above+min(1, len(shown)), b.above+len(shown), len(lines)) + last
	}
	all = append(all, b.paint(dim, cut(last)))
	return all[max(0, len(all)-max(1, height)):]
}

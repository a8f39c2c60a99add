package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/loader/escape"
)

// What a plug-in says and what a file has in it is foreign: it may hold what steers a terminal, what cannot be seen, and
// what looks like a line of this command's. Everything foreign that is printed for people goes through package
// escape or foreignLines.

// columnWidth is how many characters of a text a table has in a column that is not the last.
const columnWidth = 64

// column is a foreign text in a table's column, cut where it would make the column wider than a screen. Where it is whole, --json has it.
func column(text string) string {
	line := []rune(escape.Line(text))
	if len(line) > columnWidth {
		return string(line[:columnWidth-1]) + "…"
	}
	return string(line)
}

// longLine is the length, in bytes, from which on a line is cut into several ones.
const longLine = 64 << 10

// keptLines is how many of the last lines are kept.
const keptLines = 20

// foreignLines writes what somebody else writes to the standard streams, in whole lines, each with who that is before it:
// so none of them mixes with a line of this command's, and none can be taken for one, whatever it looks like. It is for any
// goroutine.
//
// What cannot be written is dropped: whoever reads for it must go on to read, because the plug-in waits for that.
type foreignLines struct {
	to   io.Writer
	from string // what is before each line, with a colon

	mu   sync.Mutex
	rest []byte   // of the line that has not ended
	last []string // the last lines that have ended, as they were written
}

// Write writes the lines that have ended. It takes all that it is given, and returns no error.
func (f *foreignLines) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = append(f.rest, b...)
	var lines []byte
	for {
		line, next := bytes.IndexByte(f.rest, '\n'), 0
		switch {
		case line >= 0 && line < longLine:
			next = line + 1
		case len(f.rest) >= longLine:
			line = wholeRunes(f.rest[:longLine])
			next = line
		}
		if next == 0 {
			break
		}
		lines = append(lines, f.line(f.rest[:line])...)
		f.rest = f.rest[next:]
	}
	if len(lines) > 0 {
		f.rest = bytes.Clone(f.rest) // without what was written
		_, _ = f.to.Write(lines)
	}
	return len(b), nil
}

// wholeRunes is how much of a text to cut off so that no character is cut, where it is one of UTF-8.
func wholeRunes(b []byte) int {
	for n := len(b) - 1; n > len(b)-utf8.UTFMax; n-- {
		if utf8.RuneStart(b[n]) {
			if utf8.FullRune(b[n:]) {
				break
			}
			return n
		}
	}
	return len(b)
}

// end writes the line that has not ended.
func (f *foreignLines) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rest) > 0 {
		_, _ = f.to.Write(f.line(f.rest))
		f.rest = nil
	}
}

// line is a line as it is printed, with its newline. It keeps it, too.
func (f *foreignLines) line(line []byte) []byte {
	text := string(bytes.TrimSuffix(line, []byte("\r")))
	if len(f.last) == keptLines {
		f.last = f.last[1:]
	}
	f.last = append(f.last, text)
	return []byte(strings.TrimRight(f.from+": "+escape.Text(text, "\t"), " ") + "\n")
}

// lastLines are the last lines, as they were written.
func (f *foreignLines) lastLines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.last)
}

// escapedLines writes lines of this command's own that have foreign text in them, such as log lines.
type escapedLines struct{ to io.Writer }

// Write writes one line or some, and takes each newline for one of this command's.
func (e escapedLines) Write(b []byte) (int, error) {
	if _, err := io.WriteString(e.to, escape.Lines(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

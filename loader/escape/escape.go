// Package escape makes foreign text fit to be shown: what a plug-in says and what a file has in it may hold what steers a
// terminal, what cannot be seen, and what looks like a line of somebody else's. The errors of package loader
// hold such text escaped; a host that prints what a plug-in returns or writes escapes that itself.
//
// All functions are for any goroutine, and keep nothing of what they are given.
package escape

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Lines is a text that may have several lines. Control characters, formatting characters (they turn the direction of writing
// or have no width) and bytes that are not UTF-8 are written out. What Lines returns it leaves as it is.
func Lines(text string) string { return Text(text, "\n\t") }

// Line is a text that stays in its line.
func Line(text string) string { return Text(text, "") }

// Text is text with all that cannot be seen written out, but for the characters in keep.
func Text(text, keep string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !plain(r, keep) }) < 0 {
		return text
	}
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(text)+len(text)/4)
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1, r < 0x80 && r != '\n' && r != '\t' && !plain(r, keep):
			b = append(b, '\\', 'x', hex[text[0]>>4], hex[text[0]&0xf])
		case r == utf8.RuneError, plain(r, keep):
			b = append(b, text[:n]...)
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		default:
			b = append(strconv.AppendInt(append(b, `\u{`...), int64(r), 16), '}')
		}
		text = text[n:]
	}
	return string(b)
}

// JSON is a JSON document with all that cannot be seen written as JSON escapes, but for the newlines and tabs between its parts: it means
// the same. In a valid document other such characters are in strings only, but for carriage returns, which become spaces.
func JSON(document []byte) []byte {
	var b []byte // nil as long as nothing is hidden
	done := 0    // up to where b has the document
	for i := 0; i < len(document); {
		if c := document[i]; c >= ' ' && c < 0x7f || c == '\n' || c == '\t' { // most are
			i++
			continue
		}
		r, n := utf8.DecodeRune(document[i:])
		if r == utf8.RuneError || plain(r, "") {
			i += n
			continue
		}
		if b == nil {
			b = make([]byte, 0, len(document)+64)
		}
		b = append(b, document[done:i]...)
		if r == '\r' {
			b = append(b, ' ')
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
		}
		i += n
		done = i
	}
	if b == nil {
		return document
	}
	return append(b, document[done:]...)
}

// plain reports whether a character shows what it is.
func plain(r rune, keep string) bool {
	if r >= ' ' && r < 0x7f { // most are
		return true
	}
	if r == utf8.RuneError || r < 0x80 || strings.ContainsRune(keep, r) {
		return r != utf8.RuneError && strings.ContainsRune(keep, r)
	}
	return unicode.IsGraphic(r) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

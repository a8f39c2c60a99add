// Package count writes numbers of things for people: 1 byte, 2 bytes. What is cut says how much it was.
package count

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Of returns n of a thing, in the singular or the plural.
func Of[N ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](n N, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "ry"): // entry, directory
		thing = strings.TrimSuffix(thing, "y") + "ies"
	default:
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// Cut returns text where it has no more than n bytes, and else its beginning, with what was cut off said behind it. That is
// longer than n where n is not enough for these words.
func Cut[T ~string | ~[]byte](text T, n int) T {
	if len(text) <= n {
		return text
	}
	mark := fmt.Appendf(nil, " … (cut: it has %s)", Of(len(text), "byte"))
	end := max(0, n-len(mark))
	for back := 0; back < utf8.UTFMax && end > 0 && !utf8.RuneStart(text[end]); back++ { // not within a character
		end--
	}
	return T(append(append([]byte(nil), text[:end]...), mark...))
}

package gen

import (
	"strings"
	"unicode"
)

// snake is the name that a host calls a Go function by: CountVowels is count_vowels, ParseURL parse_url, HTTPGet http_get.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	word := func(i int) bool { // a word of small letters goes on there, and no plural ends, such as of IDs
		return i < len(runes) && unicode.IsLower(runes[i]) && (runes[i] != 's' || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
	}
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && runes[i-1] != '_' &&
			(!unicode.IsUpper(runes[i-1]) || word(i+1)) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

package abi

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNearest(t *testing.T) {
	names := []string{"count_vowels", "count_words", "x", "echo"}
	for name, want := range map[string]string{
		"count_vowel": "count_vowels", "count_wrods": "count_words", "y": "x", "ehco": "echo", "echos": "echo", "something_else": "",
		"abcd": "", "": "x", "count_": "",
	} {
		assert.Equal(t, want, Nearest(name, names), name)
	}
	assert.Empty(t, Nearest("a", nil))
}

// The distance is that of the definition, up to the limit.
func TestEditDistance(t *testing.T) {
	var plain func(a, b string) int
	plain = func(a, b string) int {
		switch {
		case a == "" || b == "":
			return len(a) + len(b)
		case a[0] == b[0]:
			return plain(a[1:], b[1:])
		}
		return 1 + min(plain(a[1:], b), plain(a, b[1:]), plain(a[1:], b[1:]))
	}
	text := func() string {
		b := make([]byte, rand.IntN(7))
		for i := range b {
			b[i] = "abc"[rand.IntN(3)]
		}
		return string(b)
	}
	for range 2000 {
		a, b := text(), text()
		limit := rand.IntN(8)
		assert.Equal(t, min(limit, plain(a, b)), editDistance(a, b, limit), "%q %q %d", a, b, limit)
	}
}

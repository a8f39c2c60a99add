package sentence_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

func TestOf(t *testing.T) {
	for want, parts := range map[string][4]string{
		"":                             {},
		"found a, expected b: c. Do d": {"a", "b", "c.", "Do d"},
		"found a, expected b. Do d":    {"a", "b", "", "Do d"},
		"found a: c. Do d":             {"a", "", "c", "Do d"},
		"expected b: c":                {"", "b", "c.", ""},
		"expected b. Did you mean d?":  {"", "b", "", "Did you mean d?"},
		"c. Do d":                      {"", "", "c.", "Do d"},
		"found a":                      {"a", "", "", ""},
		"Do d":                         {"", "", "", "Do d"},
	} {
		assert.Equal(t, want, sentence.Of(parts[0], parts[1], parts[2], parts[3]))
	}
}

func TestCount(t *testing.T) {
	assert.Equal(t, "0 bytes", sentence.Count(0, "byte"))
	assert.Equal(t, "1 byte", sentence.Count(uint64(1), "byte"))
	assert.Equal(t, "2 bytes", sentence.Count(int64(2), "byte"))
}

func TestWait(t *testing.T) {
	for want, left := range map[string]time.Duration{"0s": 0, "1ms": 1, "2ms": 1001 * time.Microsecond, "1s": time.Second, "2562047h47m16.854775807s": math.MaxInt64} {
		assert.Equal(t, want, sentence.Wait(left, time.Millisecond), left)
	}
}

func TestList(t *testing.T) {
	for want, words := range map[string][]string{"": nil, "a": {"a"}, "a and b": {"a", "b"}, "a, b and c": {"a", "b", "c"}} {
		assert.Equal(t, want, sentence.List(words, "and"))
	}
}

func TestCauses(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	assert.Equal(t, []error{a, b}, sentence.Causes(nil, a, nil, b))
	assert.Empty(t, sentence.Causes(nil, nil))
}

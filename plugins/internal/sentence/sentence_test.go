package sentence_test

import (
	"errors"
	"testing"

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

func TestCauses(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	assert.Equal(t, []error{a, b}, sentence.Causes(nil, a, nil, b))
	assert.Empty(t, sentence.Causes(nil, nil))
}

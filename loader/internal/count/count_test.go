package count_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

func TestOf(t *testing.T) {
	assert.Equal(t, "0 bytes", count.Of(0, "byte"))
	assert.Equal(t, "1 byte", count.Of(uint64(1), "byte"))
	assert.Equal(t, "2 bytes", count.Of(int64(2), "byte"))
	assert.Equal(t, "1 entry", count.Of(1, "entry"))
	assert.Equal(t, "3 entries", count.Of(uint32(3), "entry"))
}

func TestCut(t *testing.T) {
	text := []byte("äöü" + string(make([]byte, 100)))
	assert.Equal(t, text, count.Cut(text, len(text)))
	assert.Equal(t, "ä … (cut: it has 106 bytes)", string(count.Cut(text, 31)), "not within a character")
	assert.Equal(t, "äö … (cut: it has 106 bytes)", string(count.Cut(text, 32)))
	assert.Equal(t, " … (cut: it has 106 bytes)", string(count.Cut(text, 3)))
	for n := range 200 {
		cut := count.Cut(text, n)
		assert.LessOrEqual(t, len(cut), max(n, 28))
	}
	assert.Equal(t, "äöü", string(text[:6]), "text is the caller's")
}

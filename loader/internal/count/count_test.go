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

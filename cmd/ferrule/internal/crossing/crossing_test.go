package crossing_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crossing"
)

func TestBareAllocatesNothing(t *testing.T) {
	cross, err := crossing.Bare()
	require.NoError(t, err)
	allocs := testing.AllocsPerRun(1000, cross)
	if crossing.Direct {
		assert.Zero(t, allocs)
	}
}

func BenchmarkBare(b *testing.B) {
	cross, err := crossing.Bare()
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		cross()
	}
}

package soak

import (
	"bytes"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestSoakFindsWrongAnswers: one answer that is another one than the model's ends the run, with its seed, the call, and what happened before.
func TestSoakFindsWrongAnswers(t *testing.T) {
	fixture.Loadable(t)
	var answers atomic.Int64
	wrong := func(p *plugin, _ string, out []byte) []byte {
		if p.Name == "soak_python" && len(out) > 0 && answers.Add(1) == 50 {
			out = bytes.Clone(out)
			out[len(out)-1] ^= 1
		}
		return out
	}
	_, err := soaked(t, 17, time.Minute, plant{wrong: wrong})
	require.Error(t, err)
	assert.ErrorContains(t, err, "seed 17, after ")
	assert.ErrorContains(t, err, "soak_python of work: found the hash ")
	assert.ErrorContains(t, err, "what happened last:\n")
	assert.GreaterOrEqual(t, answers.Load(), int64(50))
	assert.LessOrEqual(t, answers.Load(), int64(50+2*runtime.NumCPU()), "it ends at once, but for calls that run: one of each caller")
}

// TestSoakFindsLeaks: descriptors, and memory, that stay after each disturbance are a run that is not flat, with the numbers.
func TestSoakFindsLeaks(t *testing.T) {
	fixture.Loadable(t)
	var kept []*os.File
	var memory [][]byte
	leak := func() {
		for range 6 {
			f, err := os.Open(os.DevNull)
			if assert.NoError(t, err) {
				kept = append(kept, f)
			}
		}
		memory = append(memory, bytes.Repeat([]byte{1}, 8<<20))
	}
	defer func() {
		for _, f := range kept {
			f.Close()
		}
	}()
	_, err := soaked(t, 18, 12*time.Second, plant{leak: leak})
	require.NotEmpty(t, memory)
	require.Error(t, err)
	assert.ErrorContains(t, err, "descriptors of the host is not flat: found that it grew by ")
	assert.ErrorContains(t, err, "memory of the host is not flat: found that it grew by ")
	assert.ErrorContains(t, err, " descriptors left after all was closed, expected none")
	assert.NotContains(t, err.Error(), "processes is not flat")
}

//go:build unix

package sidecar_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// Isolation counts the sidecars that took the place of one that had ended by itself, however many instances there are.
func TestIsolation(t *testing.T) {
	program := filepath.Join(fixture.Root(), "examples", "sidecar", "vowels.py")
	p, err := loader.Open(program, sidecar.Program(sidecar.WithInterpreter(fixture.Tool(t, "python3", "install Python 3.8 or later"))), loader.WithInstances(2))
	require.NoError(t, err)
	defer p.Close()
	i, ok := p.Isolation()
	require.True(t, ok)
	assert.Equal(t, 1, i.Attempt)
	assert.Positive(t, i.PID)
	for range 4 {
		_, err = p.Call(t.Context(), "count_vowels", []byte("a"))
		require.NoError(t, err)
	}
	i, _ = p.Isolation()
	assert.Equal(t, 1, i.Attempt)
	process, err := os.FindProcess(i.PID)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	require.Eventually(t, func() bool {
		_, err := p.Call(t.Context(), "count_vowels", []byte("a"))
		now, _ := p.Isolation()
		return err == nil && now.Attempt == 2
	}, time.Minute, time.Millisecond)
}

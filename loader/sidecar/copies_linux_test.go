package sidecar_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// A copy that a host has left behind, which was killed, is removed by the next one that makes one; those that are in use, or were made a moment ago, are not.
func TestCopiesOfHostsThatWereKilled(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	text := []byte("#!/bin/sh\nexec " + self(t) + " defect none\n")
	require.NoError(t, os.WriteFile(script, text, 0o700))
	sum := sha256.Sum256(text)
	folder := filepath.Join(t.TempDir(), "[1]")
	require.NoError(t, os.Mkdir(folder, 0o700))
	t.Setenv("TMPDIR", folder)
	open := func() *loader.Plugin {
		p, err := loader.Open(script, sidecar.Program(atOnce), loader.WithSHA256(hex.EncodeToString(sum[:])))
		require.NoError(t, err)
		return p
	}
	first := open()
	old := time.Now().Add(-time.Hour)
	copies, err := fs.Glob(os.DirFS(folder), "ferrule-sidecar-*")
	require.NoError(t, err)
	require.Len(t, copies, 1)
	held, left, recent := filepath.Join(folder, copies[0]), filepath.Join(folder, "ferrule-sidecar-1"), filepath.Join(folder, "ferrule-sidecar-2")
	for _, dir := range []string{left, recent} {
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), bytes.Repeat(text, 2), 0o500))
	}
	for _, dir := range []string{held, left} {
		require.NoError(t, os.Chtimes(dir, old, old))
	}
	second := open()
	assert.DirExists(t, held)
	assert.DirExists(t, recent)
	assert.NoDirExists(t, left)
	for _, p := range []*loader.Plugin{first, second} {
		assert.Equal(t, "works", call(t, p, "echo", "works"))
		require.NoError(t, p.Close())
	}
	assert.NoDirExists(t, held)
}

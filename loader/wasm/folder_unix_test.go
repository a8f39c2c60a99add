//go:build unix

package wasm_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// A named pipe, whose other side nobody opens, is refused, and waited for by no call.
func TestFolderPipe(t *testing.T) {
	in, _ := folders(t)
	require.NoError(t, syscall.Mkfifo(in+"/pipe", 0o644))
	do := asker(open(t, "wasm_files", []wasm.Option{wasm.WithFolder("/data", in, true)}))
	assert.Contains(t, do("reads", "/data/pipe"), "!")
	assert.Contains(t, do("appends", "/data/pipe x"), "!")
}

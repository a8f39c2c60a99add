package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// moduleFile is the path of a WebAssembly module that is a plug-in of Extism's, with one function and imports from these modules.
func moduleFile(t *testing.T, name, function string, modules ...string) string {
	t.Helper()
	text := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, items ...[]byte) []byte {
		body := append([]byte{byte(len(items))}, bytes.Join(items, nil)...)
		return append([]byte{id, byte(len(body))}, body...)
	}
	var imports [][]byte
	for _, m := range modules {
		imports = append(imports, slices.Concat(text(m), text("ask"), []byte{0, 0}))
	}
	file := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), section(1, []byte{0x60, 0, 1, 0x7f}), section(2, imports...), section(3, []byte{0}),
		section(7, append(text(function), 0, byte(len(modules)))), section(10, []byte{4, 0, 0x41, 0, 0x0b}))
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, file, 0o600))
	return path
}

func TestInspectWasm(t *testing.T) {
	path := moduleFile(t, "vowels.wasm", "count", "extism:host/env", "extism:host/user", "wasi_snapshot_preview1")
	stdout, stderr, code := ferrule(t, "", "inspect", path)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "vowels 0  "+path+"\n")
	assert.Contains(t, stdout, "\n  contract   Extism's\n")
	assert.Contains(t, stdout, "\n  platform   wasip1/wasm, WebAssembly (32 bit)\n")
	assert.Contains(t, stdout, "\n  needs      extism:host/env, extism:host/user, wasi_snapshot_preview1\n")
	assert.Contains(t, stdout, "\n  functions\n    count\n  imports\n    ask\n")
	assert.NotContains(t, stdout, "hardening")

	stdout, stderr, code = ferrule(t, "", "inspect", "--json", path)
	require.Zero(t, code, stderr)
	o := object(t, stdout)
	for field, want := range map[string]any{"name": "vowels", "version": "0", "extism": true, "format": "WebAssembly", "arch": "wasm", "os": "wasip1",
		"slices": []any{"wasm"}, "functions": []any{map[string]any{"name": "count"}}, "imports": []any{map[string]any{"name": "ask"}}} {
		assert.Equal(t, want, o[field], field)
	}
	assert.NotContains(t, o, "hardening")

	stdout, _, code = ferrule(t, "", "inspect", "--json", committed("elf-amd64-gcc.so"))
	require.Zero(t, code)
	assert.NotContains(t, object(t, stdout), "extism")

	_, stderr, code = ferrule(t, "", "inspect", moduleFile(t, "other.wasm", "count", "env"))
	assert.Equal(t, 3, code)
	assert.Contains(t, stderr, "ferrule_manifest")
	assert.Contains(t, stderr, "extism:host/env")
}

func TestInspectDiffWasm(t *testing.T) {
	old := moduleFile(t, "v1.wasm", "count", "extism:host/env")
	stdout, stderr, code := ferrule(t, "", "inspect", "--diff", old, moduleFile(t, "v2.wasm", "count", "extism:host/env"))
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "Nothing has changed for hosts.")

	stdout, _, code = ferrule(t, "", "inspect", "--diff", old, moduleFile(t, "v2.wasm", "vowels", "extism:host/env", "env", "extism:host/user"))
	assert.Equal(t, 1, code)
	assert.Regexp(t, `BREAKING +function count`, stdout)
	assert.Regexp(t, `ok +function vowels`, stdout)
	assert.Regexp(t, `BREAKING +import ask`, stdout)
	assert.Regexp(t, `BREAKING +needed env .*a host that does not offer the module`, stdout)
	assert.Regexp(t, `ok +needed extism:host/user`, stdout)
}

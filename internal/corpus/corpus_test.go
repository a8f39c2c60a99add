package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// TestList: the list can be read, names no package twice for a platform, and has something for each platform.
func TestList(t *testing.T) {
	items, err := readList(list)
	require.NoError(t, err)
	f := &fetcher{}
	seen, platforms := make(map[string]bool), make(map[string]bool)
	for _, i := range items {
		assert.False(t, seen[f.dir(i)], i)
		seen[f.dir(i)], platforms[i.platform] = true, true
	}
	for _, platform := range []string{"macos-x86_64", "macos-arm64", "macos-universal2", "windows-x86", "windows-x64",
		"windows-arm64", "musl", "freebsd", "glibc-amd64", "glibc-arm64", "glibc-armhf", "glibc-i386", "glibc-ppc64el",
		"glibc-s390x", "glibc-mips64el"} {
		assert.True(t, platforms[platform], platform)
	}
	for _, text := range []string{"musl npm", "musl npm a 1 tag", "musl wheel a 1", "musl gem a 1 tag"} {
		_, err := readList(text)
		assert.Error(t, err, text)
	}
}

// TestCompare: the same is no difference, and every other fact is one.
func TestCompare(t *testing.T) {
	path := filepath.Join(fixture.Root(), "loader", "inspect", "testdata", "elf-amd64-gcc.so")
	lib, err := inspect.Describe(path)
	require.NoError(t, err)
	yes, no, empty, partial := true, false, "", "partial"
	same := func() *facts {
		return &facts{Arch: "amd64", Needed: []string{"libc.so.6"}, SOName: "libprobe.so", RunPath: []string{"/opt/probe", "$ORIGIN"},
			Exports: slices.Clone(lib.Exports), MinOS: &empty, MinGlibc: &empty, StaticTLS: &no, RELRO: &partial, BindNow: &no,
			TextRel: &no, WriteExec: &no, Signed: &no, HighEntropy: &no, GuardCF: &no}
	}
	differences := func(platform string, change func(*facts)) int {
		c, want := &counts{}, same()
		change(want)
		c.compare("a library", platform, want, lib)
		return c.differences
	}
	assert.Zero(t, differences("glibc-amd64", func(*facts) {}))
	assert.Equal(t, 1, differences("musl", func(*facts) {}), "the C library")
	assert.Equal(t, 2, differences("freebsd", func(*facts) {}), "the system, and the C library")
	for i, change := range []func(*facts){
		func(f *facts) { f.Arch = "arm64" }, func(f *facts) { f.Needed = nil }, func(f *facts) { f.SOName = "" },
		func(f *facts) { f.RunPath = f.RunPath[:1] }, func(f *facts) { f.Exports = f.Exports[1:] },
		func(f *facts) { f.Exports = append(f.Exports, "zzz") }, func(f *facts) { f.MinOS = &partial },
		func(f *facts) { f.MinGlibc = &partial }, func(f *facts) { f.StaticTLS = &yes }, func(f *facts) { f.RELRO = &empty },
		func(f *facts) { f.BindNow = &yes }, func(f *facts) { f.TextRel = &yes }, func(f *facts) { f.WriteExec = &yes },
		func(f *facts) { f.Signed = &yes }, func(f *facts) { f.HighEntropy = &yes }, func(f *facts) { f.GuardCF = &yes },
	} {
		assert.Equal(t, 1, differences("glibc-amd64", change), i)
	}
}

func TestSlicesOf(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(fixture.Root(), "loader", "inspect", "testdata", "macho-fat-lipo.dylib"))
	require.NoError(t, err)
	parts := slicesOf(data)
	require.Len(t, parts, 2)
	for _, part := range parts {
		assert.Equal(t, []byte{0xcf, 0xfa, 0xed, 0xfe}, part[:4])
	}
	assert.Len(t, slicesOf(parts[0]), 1)
}

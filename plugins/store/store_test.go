package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// from fills with what a text has from the offset on.
func from(text string) store.Fill {
	return func(_ context.Context, half *store.Half, from int64) error {
		_, err := half.Write([]byte(text[from:]))
		return err
	}
}

// never is for what is there.
func never(t *testing.T) store.Fill {
	return func(context.Context, *store.Half, int64) error {
		t.Error("found a fill, expected none: the file is there")
		return nil
	}
}

func open(t *testing.T, folder string) *store.Store {
	s, err := store.Open(folder)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPutAndFind(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache", "store")
	s, text := open(t, folder), "the bytes of a library"
	digest := digestOf(text)
	_, err := s.Find(t.Context(), digest)
	assert.ErrorIs(t, err, registry.ErrNotFound)

	put, err := s.Put(t.Context(), digest, int64(len(text)), "sample.so", from(text))
	require.NoError(t, err)
	assert.Equal(t, store.File{Path: filepath.Join(s.Folder(), "sha256", digest[7:], "sample.so"), Digest: digest, Size: int64(len(text))}, put)
	got, err := os.ReadFile(put.Path)
	require.NoError(t, err)
	assert.Equal(t, text, string(got))

	for _, s := range []*store.Store{s, open(t, folder)} {
		found, err := s.Find(t.Context(), digest)
		require.NoError(t, err)
		assert.Equal(t, put, found)
		found, err = s.Put(t.Context(), digest, -1, "other.so", never(t))
		require.NoError(t, err)
		assert.Equal(t, put, found, "the bytes have one name")
	}

	unknown, err := s.Put(t.Context(), "", -1, "sample.so", from("other bytes"))
	require.NoError(t, err)
	assert.Equal(t, digestOf("other bytes"), unknown.Digest)
	again, err := s.Put(t.Context(), "", -1, "sample.so", from("other bytes"))
	require.NoError(t, err)
	assert.Equal(t, unknown, again)
	left, err := filepath.Glob(filepath.Join(folder, "[hla]*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is left of what was done")

	// Nobody uses it, and it is deleted: the next who opens it has an empty one, and the file comes to where it was.
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(folder))
	s = open(t, folder)
	_, err = s.Find(t.Context(), digest)
	assert.ErrorIs(t, err, registry.ErrNotFound)
	anew, err := s.Put(t.Context(), digest, int64(len(text)), "sample.so", from(text))
	require.NoError(t, err)
	assert.Equal(t, put, anew)
	got, err = os.ReadFile(anew.Path)
	require.NoError(t, err)
	assert.Equal(t, text, string(got))
}

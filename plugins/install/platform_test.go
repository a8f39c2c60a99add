package install_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// lockedElsewhere makes the lock that a host of another platform has written: that host's file was signed, and of the file for this platform it has what the source says.
func (p *place) lockedElsewhere(here library, signature func(path string) []byte) {
	p.t.Helper()
	p.publish(plain)
	p.ensure(p.installer(), plain.name())
	p.closed()
	require.NoError(p.t, errors.Join(os.RemoveAll(p.folder), os.RemoveAll(p.store)))
	p.pushAs(here, nil, signature)
	file, _ := p.file(here)
	data, err := os.ReadFile(file)
	require.NoError(p.t, err)
	sum := sha256.Sum256(data)
	require.NoError(p.t, lock.Update(p.t.Context(), p.lock, func(l *lock.Lock) error {
		e := l.Plugins[plain.name()]
		require.Equal(p.t, p.key.ID(), e.Key)
		e.Files = map[string]registry.File{"plan9/386": e.Files[registry.ThisPlatform()],
			registry.ThisPlatform(): {Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}}
		return nil
	}))
}

// What a key has signed is the file of one platform. The file of another one, whose digest a source has named to whoever made the lock, is verified where it comes, and where it is
// there already: at no time does it run unsigned.
func TestFilesOfOtherPlatformsAreVerified(t *testing.T) {
	evil := library{tag: "aaaa", version: "1.0.0", permit: "443"}
	for _, tt := range []struct {
		name      string
		kind      error
		signature func(p *place) func(path string) []byte
	}{
		{"no signature", registry.ErrUnsigned, func(*place) func(string) []byte { return nil }},
		{"the signature of the other platform's file", registry.ErrSignature, func(p *place) func(string) []byte {
			return func(string) []byte { return p.sign(p.key, subject(plain), p.build(plain)) }
		}},
		{"another plug-in's signature", registry.ErrName, func(p *place) func(string) []byte {
			return signedAs(p, subject(library{tag: "zzzz", version: "1.0.0"}))
		}},
		{"a foreign key", registry.ErrKey, func(p *place) func(string) []byte {
			other, err := sign.Generate()
			require.NoError(p.t, err)
			return func(path string) []byte { return p.sign(other, subject(plain), path) }
		}},
		{"its signature", nil, func(p *place) func(string) []byte { return signedAs(p, subject(plain)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.lockedElsewhere(evil, tt.signature(p))
			if tt.kind == nil {
				p.ensure(p.installer(), "dist_aaaa")
				requests := p.source.requests.Load()
				p.ensure(p.installer(), "dist_aaaa")
				r, err := p.installer(func(o *install.Options) { o.ReadOnly = true }).Ensure(t.Context(), wants("dist_aaaa"))
				require.NoError(t, errors.Join(err, r.Err()))
				assert.Equal(t, requests, p.source.requests.Load(), "the store keeps its signature")
				return
			}
			p.refused(p.installer(), tt.kind, "dist_aaaa")
			p.refused(p.installer(), tt.kind, "dist_aaaa") // now its file is in the store
			p.refused(p.installer(func(o *install.Options) { o.ReadOnly = true }), registry.ErrUnsigned, "dist_aaaa")
			r, err := p.installer().Verify(t.Context())
			require.NoError(t, err)
			assert.ErrorIs(t, r.Failed["dist_aaaa"], registry.ErrUnsigned)
			assert.NotContains(t, r.Plugins, "dist_aaaa")
		})
	}
}

// A file of the lock comes with its signature from a mirror that has it; from one that has a wrong one, or none, only the file does.
func TestSignatureOfAMirror(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	p.closed()
	require.NoError(t, os.RemoveAll(p.store))
	mirrors := map[string]*asked{}
	for _, name := range []string{"none", "wrong", "right"} {
		at := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.CopyFS(at, os.DirFS(p.folder)))
		mirrors[name] = &asked{Source: folder(t, at)}
		found, err := filepath.Glob(filepath.Join(at, "*", "*.minisig"))
		require.NoError(t, err)
		require.Len(t, found, 1)
		switch name {
		case "none":
			require.NoError(t, os.Remove(found[0]))
		case "wrong":
			text := p.sign(p.key, subject(library{tag: "zzzz", version: "1.0.0"}), p.build(plain))
			require.NoError(t, errors.Join(os.Chmod(found[0], 0o644), os.WriteFile(found[0], text, 0o644)))
		}
	}
	before := p.source.requests.Load()
	p.ensure(p.installer(func(o *install.Options) {
		o.Mirrors = []registry.Source{mirrors["none"], mirrors["wrong"], mirrors["right"]}
	}), "dist_aaaa")
	assert.Equal(t, before, p.source.requests.Load(), "the source is asked nothing")
	assert.Equal(t, int64(1), mirrors["none"].opened.Load())
	p.closed()
	require.NoError(t, os.RemoveAll(p.store))
	p.ensure(p.installer(func(o *install.Options) { o.Mirrors = []registry.Source{mirrors["wrong"]} }), "dist_aaaa")
	assert.Greater(t, p.source.requests.Load(), before, "the source has the good one")
}

// A copy has the signature of all that was signed, and a file that this application cannot read is an error.
func TestCopyOfWhatIsNotWhole(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	path := p.build(library{tag: "bbbb", version: "1.0.0"})
	r, platform, err := install.Describe(path)
	require.NoError(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	newer := filepath.Join(t.TempDir(), "newer")
	require.Equal(t, 1, bytes.Count(data, []byte("ferrule=1\x00")))
	require.NoError(t, os.WriteFile(newer, bytes.Replace(data, []byte("ferrule=1\x00"), []byte("ferrule=2\x00"), 1), 0o644))
	signature := p.sign(p.key, subject(library{tag: "bbbb", version: "1.0.0"}), path)
	p.push(r, map[string]registry.Content{platform: {Path: path, Signature: signature}, "plan9/386": {Path: newer}})
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	to, err := files.NewFolder(filepath.Join(t.TempDir(), "copy"))
	require.NoError(t, err)
	err = p.installer().Copy(t.Context(), to, []string{"dist_bbbb"}, nil)
	require.ErrorIs(t, err, registry.ErrHost)
	require.NoError(t, p.installer().Copy(t.Context(), to, []string{"dist_aaaa"}, nil))

	kept, err := filepath.Glob(filepath.Join(p.store, "signature", "*"))
	require.NoError(t, err)
	for _, path := range kept {
		require.NoError(t, os.Remove(path))
	}
	_, published := p.file(plain)
	require.NoError(t, os.Remove(published))
	err = p.installer().Copy(t.Context(), to, []string{"dist_aaaa"}, nil)
	require.ErrorIs(t, err, registry.ErrUnsigned)
	p.whole(err)
	without := newPlace(t)
	without.pushAs(plain, nil, nil)
	untrusting := without.installer(func(o *install.Options) { o.Trust = nil })
	without.ensure(untrusting, "dist_aaaa")
	to, err = files.NewFolder(filepath.Join(t.TempDir(), "unsigned"))
	require.NoError(t, err)
	require.NoError(t, untrusting.Copy(t.Context(), to, nil, nil), "nobody has signed it, and nobody has asked for that")
}

// What a release page calls the latest is copied as the version that it is.
func TestCopyOfTheLatest(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	for i, tag := range []string{"latest", "Latest", "v1.0.0"} {
		require.NoError(t, lock.Update(t.Context(), p.lock, func(l *lock.Lock) error {
			l.Plugins["dist_aaaa"].Tag = tag
			return nil
		}))
		bundle, err := files.NewBundle(filepath.Join(t.TempDir(), "shop.zip"))
		require.NoError(t, err)
		at := filepath.Join(t.TempDir(), "folder")
		to, err := files.NewFolder(at)
		require.NoError(t, err)
		for _, to := range []registry.Pusher{bundle, to} {
			require.NoError(t, p.installer().Copy(t.Context(), to, nil, nil), "%d %s", i, tag)
			elsewhere := newPlace(t)
			elsewhere.key = p.key
			elsewhere.source.Source = to
			elsewhere.ensure(elsewhere.installer(), "dist_aaaa")
			assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, elsewhere.locked())
		}
		assert.DirExists(t, filepath.Join(at, "v1.0.0"))
	}
}

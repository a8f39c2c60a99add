package install_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
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
		e.Signatures = map[string]string{"plan9/386": e.Signatures[registry.ThisPlatform()]}
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

// signedInLock writes a signature of this platform's file into the lock.
func (p *place) signedInLock(name string, text []byte) {
	p.t.Helper()
	require.NoError(p.t, lock.Update(p.t.Context(), p.lock, func(l *lock.Lock) error {
		if l.Plugins[name].Signatures[registry.ThisPlatform()] = string(text); text == nil {
			delete(l.Plugins[name].Signatures, registry.ThisPlatform())
		}
		return nil
	}))
}

// With its signature in the lock a file is one request. What anybody has written there proves nothing: the key has to
// have signed these very bytes, for this platform, whatever the registry says.
func TestSignaturesOfTheLock(t *testing.T) {
	evil := library{tag: "aaaa", version: "1.0.0", permit: "443"}
	other := subject(plain)
	other.Platform = "plan9/386"
	foreign, err := sign.Generate()
	require.NoError(t, err)
	readOnly := func(o *install.Options) { o.ReadOnly = true }
	for _, tt := range []struct {
		name string
		kind error // nil is a good one
		text func(p *place, path string) []byte
	}{
		{"its signature", nil, func(p *place, path string) []byte { return p.sign(p.key, subject(plain), path) }},
		{"that of the file that is meant", registry.ErrSignature, func(p *place, _ string) []byte { return p.sign(p.key, subject(plain), p.build(plain)) }},
		{"that of another platform", registry.ErrPlatform, func(p *place, path string) []byte { return p.sign(p.key, other, path) }},
		{"that of another version", registry.ErrVersion, func(p *place, path string) []byte {
			return p.sign(p.key, subject(library{tag: "aaaa", version: "0.9.0"}), path)
		}},
		{"a foreign key", registry.ErrKey, func(p *place, path string) []byte { return p.sign(foreign, subject(plain), path) }},
		{"nonsense", registry.ErrMalformed, func(*place, string) []byte { return []byte("nonsense\n\x1b[2J") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.lockedElsewhere(evil, nil)
			file, _ := p.file(evil)
			p.signedInLock("dist_aaaa", tt.text(p, file))
			before := p.source.requests.Load()
			if tt.kind == nil {
				text := p.text()
				p.ensure(p.installer(), "dist_aaaa")
				assert.Equal(t, int64(1), p.source.requests.Load()-before, "the file")
				p.ensure(p.installer(readOnly), "dist_aaaa")
				r, err := p.installer().Verify(t.Context())
				require.NoError(t, errors.Join(err, r.Err()))
				assert.Equal(t, int64(1), p.source.requests.Load()-before)
				assert.Equal(t, text, p.text())
				assert.NoDirExists(t, filepath.Join(p.store, "signature"), "one place is enough")
				p.refused(p.installer(func(o *install.Options) { o.Trust = p.trust(p.key.ID()) }), registry.ErrRevokedKey, "dist_aaaa")
				return
			}
			e := p.refused(p.installer(), tt.kind, "dist_aaaa")
			assert.Equal(t, p.lock, e.Path)
			p.refused(p.installer(), tt.kind, "dist_aaaa") // now its file is in the store
			p.refused(p.installer(readOnly), tt.kind, "dist_aaaa")
			r, err := p.installer().Verify(t.Context())
			require.NoError(t, err)
			assert.ErrorIs(t, r.Failed["dist_aaaa"], tt.kind)

			// It keeps nobody from the good one, which the source may have.
			require.NoError(t, os.RemoveAll(p.folder))
			p.pushAs(evil, nil, signedAs(p, subject(plain)))
			p.ensure(p.installer(), "dist_aaaa")
			p.ensure(p.installer(readOnly), "dist_aaaa")
		})
	}
}

// The lock has the signatures of the files for all platforms, as far as a key that counts has made them for those
// platforms. What is wrong with another platform's is said when it is locked.
func TestAllPlatformsAreSigned(t *testing.T) {
	p := newPlace(t)
	foreign, err := sign.Generate()
	require.NoError(t, err)
	path := p.build(plain)
	r, this, err := install.Describe(path)
	require.NoError(t, err)
	contents := map[string]registry.Content{this: {Path: path, Signature: p.sign(p.key, subject(plain), path)}}
	other := func(platform string, key *sign.PrivateKey, on string) {
		path := filepath.Join(t.TempDir(), "other")
		require.NoError(t, os.WriteFile(path, []byte("for "+platform), 0o644))
		c := registry.Content{Path: path}
		if key != nil {
			c.Signature = p.sign(*key, sign.Subject{Name: r.Name, Version: r.Version, Platform: on}, path)
		}
		contents[platform] = c
	}
	other("plan9/386", &p.key, "plan9/386")
	other("plan9/arm", &p.key, "plan9/arm")
	other("openbsd/arm64", nil, "")
	other("openbsd/386", &foreign, "openbsd/386")
	other("netbsd/386", &p.key, "netbsd/arm")
	p.push(r, contents)
	good := map[string]string{}
	for _, on := range []string{this, "plan9/386", "plan9/arm"} {
		good[on] = string(contents[on].Signature)
	}
	locked := func(result *install.Result, notices int) {
		t.Helper()
		assert.Len(t, p.plugins()["dist_aaaa"].Files, 6)
		assert.Equal(t, good, p.plugins()["dist_aaaa"].Signatures)
		var texts []string
		for _, n := range result.Notices {
			texts = append(texts, n.String())
		}
		require.Len(t, texts, notices)
		for i, words := range [][]string{{"netbsd/386", "a signature for dist_aaaa 1.0.0 for netbsd/arm"}, {"openbsd/386", foreign.ID()}, {"openbsd/arm64", "no signature"}}[:notices] {
			assert.Contains(t, texts[i], "the lock has no signature of its file for "+words[0])
			assert.Contains(t, texts[i], words[1])
		}
	}
	locked(p.ensure(p.installer(), "dist_aaaa"), 3)

	// A host of another platform verifies the bytes.
	for on, text := range p.plugins()["dist_aaaa"].Signatures {
		data, err := os.ReadFile(contents[on].Path)
		require.NoError(t, err)
		at := sign.Subject{Name: r.Name, Version: r.Version, Platform: on}
		key, err := p.trust().Verify(t.Context(), at, bytes.NewReader(data), []byte(text))
		require.NoError(t, err)
		assert.Equal(t, p.key.ID(), key)
		_, err = p.trust().Verify(t.Context(), at, bytes.NewReader(append(data, 0)), []byte(text))
		assert.ErrorIs(t, err, registry.ErrSignature)
	}

	// From the lock, with an empty store.
	p.closed()
	require.NoError(t, os.RemoveAll(p.store))
	before := p.source.requests.Load()
	locked(p.ensure(p.installer(), "dist_aaaa"), 0)
	assert.Equal(t, int64(1), p.source.requests.Load()-before)

	// Locked without keys, which came later: the lock gets them all then.
	require.NoError(t, os.Remove(p.lock))
	p.ensure(p.installer(func(o *install.Options) { o.Trust = nil }), "dist_aaaa")
	assert.Empty(t, p.plugins()["dist_aaaa"].Signatures, "nobody has verified one")
	locked(p.ensure(p.installer(), "dist_aaaa"), 3)

	// From a lock without signatures, it asks for its own.
	before = p.source.requests.Load()
	p.signedInLock("dist_aaaa", nil)
	p.closed()
	require.NoError(t, os.RemoveAll(p.store))
	text := p.text()
	p.ensure(p.installer(), "dist_aaaa")
	assert.Equal(t, int64(2), p.source.requests.Load()-before, "the file and its signature")
	assert.Equal(t, text, p.text(), "a start is no update")

	// And who locks the platform puts it into the lock.
	changes, failed, _, err := p.installer().LockPlatforms(t.Context(), this)
	require.NoError(t, err)
	assert.Empty(t, failed)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.0.0", To: "1.0.0", Platforms: []string{this}}}, changes)
	assert.Equal(t, good, p.plugins()["dist_aaaa"].Signatures)
	changes, failed, _, err = p.installer().LockPlatforms(t.Context(), this)
	require.NoError(t, err)
	assert.Empty(t, failed)
	assert.Empty(t, changes)
}

// lost is a source that is lost when it is asked for the signature of another platform's file.
type lost struct {
	*asked
	tries atomic.Int64
}

func (l *lost) Signature(ctx context.Context, r *registry.Release, platform string) ([]byte, error) {
	if platform == registry.ThisPlatform() {
		return l.asked.Signature(ctx, r, platform)
	}
	l.tries.Add(1)
	return nil, &registry.Error{Kind: registry.ErrUnavailable, Found: "nobody"}
}

// A source that makes up platforms is asked for a few of them, and one that cannot be reached any more for no more than
// are asked for at the same time. What is locked is locked.
func TestManyPlatforms(t *testing.T) {
	p := newPlace(t)
	path := p.build(plain)
	r, this, err := install.Describe(path)
	require.NoError(t, err)
	contents := map[string]registry.Content{this: {Path: path, Signature: p.sign(p.key, subject(plain), path)}}
	for i := range 100 {
		at := filepath.Join(t.TempDir(), "other")
		require.NoError(t, os.WriteFile(at, []byte{byte(i)}, 0o644))
		contents["plan9/x"+strconv.Itoa(i)] = registry.Content{Path: at}
	}
	p.push(r, contents)
	gone := &lost{asked: p.source}
	result := p.ensure(p.installer(func(o *install.Options) { o.Sources = []registry.Source{gone} }), "dist_aaaa")
	require.Len(t, result.Notices, 1)
	assert.Contains(t, result.Notices[0].String(), "nobody")
	assert.LessOrEqual(t, gone.tries.Load(), int64(4))
	assert.Len(t, p.plugins()["dist_aaaa"].Files, 101)
	assert.Equal(t, map[string]string{this: string(contents[this].Signature)}, p.plugins()["dist_aaaa"].Signatures)

	require.NoError(t, os.Remove(p.lock))
	before := p.source.requests.Load()
	p.ensure(p.installer(), "dist_aaaa")
	assert.LessOrEqual(t, p.source.requests.Load()-before, int64(70))
}

// A file of the lock whose signature is not there comes with it from a mirror that has it; from one that has a wrong
// one, or none, only the file does.
func TestSignatureOfAMirror(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	p.signedInLock("dist_aaaa", nil)
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
	at := filepath.Join(t.TempDir(), "of the lock")
	to, err = files.NewFolder(at)
	require.NoError(t, err)
	require.NoError(t, p.installer().Copy(t.Context(), to, []string{"dist_aaaa"}, nil), "the lock has it")
	copied, err := filepath.Glob(filepath.Join(at, "*", "*.minisig"))
	require.NoError(t, err)
	assert.Len(t, copied, 1)
	p.signedInLock("dist_aaaa", []byte("nonsense"))
	p.whole(p.installer().Copy(t.Context(), folder(t, t.TempDir()), []string{"dist_aaaa"}, nil)) // what would be published, and stay
	p.signedInLock("dist_aaaa", nil)
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

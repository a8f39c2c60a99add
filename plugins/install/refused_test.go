package install_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

var plain = library{tag: "aaaa", version: "1.0.0"}

// pushAs publishes a library as if it was what says says; signature may be nil.
func (p *place) pushAs(l library, change func(*registry.Release), signature func(path string) []byte) {
	p.t.Helper()
	path := p.build(l)
	r, platform, err := install.Describe(path)
	require.NoError(p.t, err)
	if change != nil {
		change(r)
	}
	content := registry.Content{Path: path}
	if signature != nil {
		content.Signature = signature(path)
	}
	p.push(r, map[string]registry.Content{platform: content})
}

func signedAs(p *place, s sign.Subject) func(path string) []byte {
	return func(path string) []byte { return p.sign(p.key, s, path) }
}

// Each thing that can be wrong with a release is an error of its own, and nothing of the release is in the lock. What is right beside it is installed.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    error
		publish func(p *place)
		change  func(o *install.Options)
		came    bool // its file has to be fetched to know
	}{
		{"a byte that was changed, and a signature of the one before", registry.ErrSignature, func(p *place) {
			p.pushAs(plain, nil, func(string) []byte {
				return p.sign(p.key, subject(plain), p.build(library{tag: "aaaa", version: "1.0.0", permit: "443"}))
			})
		}, nil, true},
		{"a byte that was changed where it lies", registry.ErrDigest, func(p *place) {
			p.publish(plain)
			file, _ := p.file(plain)
			data, err := os.ReadFile(file)
			require.NoError(p.t, err)
			data[len(data)/2] ^= 1
			require.NoError(p.t, errors.Join(os.Chmod(file, 0o644), os.WriteFile(file, data, 0o644)))
		}, nil, true},
		{"a trusted comment that was changed", registry.ErrComment, func(p *place) {
			p.publish(plain)
			_, signature := p.file(plain)
			text, err := os.ReadFile(signature)
			require.NoError(p.t, err)
			text = bytes.Replace(text, []byte("comment: ferrule dist_aaaa 1.0.0"), []byte("comment: ferrule dist_aaaa 1.0.1"), 1)
			require.NoError(p.t, errors.Join(os.Chmod(signature, 0o644), os.WriteFile(signature, text, 0o644)))
		}, nil, true},
		{"no signature", registry.ErrUnsigned, func(p *place) { p.pushAs(plain, nil, nil) }, nil, true},
		{"a foreign key", registry.ErrKey, func(p *place) {
			other, err := sign.Generate()
			require.NoError(p.t, err)
			p.pushAs(plain, nil, func(path string) []byte { return p.sign(other, subject(plain), path) })
		}, nil, true},
		{"a signature for another plug-in", registry.ErrName, func(p *place) {
			p.pushAs(plain, nil, signedAs(p, subject(library{tag: "zzzz", version: "1.0.0"})))
		}, nil, true},
		{"a signature for another version", registry.ErrVersion, func(p *place) {
			p.pushAs(plain, nil, signedAs(p, subject(library{tag: "aaaa", version: "0.9.0"})))
		}, nil, true},
		{"a signature for another platform", registry.ErrPlatform, func(p *place) {
			p.pushAs(plain, nil, signedAs(p, sign.Subject{Name: "dist_aaaa", Version: "1.0.0", Platform: "plan9/386"}))
		}, nil, true},
		{"another plug-in under the name", registry.ErrName, func(p *place) {
			p.pushAs(library{tag: "zzzz", version: "1.0.0"}, func(r *registry.Release) { r.Name = "dist_aaaa" }, signedAs(p, subject(plain)))
		}, nil, true},
		{"another version under the number", registry.ErrVersion, func(p *place) {
			p.pushAs(library{tag: "aaaa", version: "0.9.0"}, func(r *registry.Release) { r.Version = "1.0.0" }, signedAs(p, subject(plain)))
		}, nil, true},
		{"another platform's library", registry.ErrPlatform, func(p *place) { p.foreign() }, nil, true},
		{"no file for this platform", registry.ErrPlatform, func(p *place) {
			path := p.build(plain)
			r, _, err := install.Describe(path)
			require.NoError(p.t, err)
			p.push(r, map[string]registry.Content{"plan9/386": {Path: path}})
		}, nil, false},
		{"a description that says less than the library", registry.ErrMalformed, func(p *place) {
			p.pushAs(library{tag: "aaaa", version: "1.0.0", permit: "443"}, func(r *registry.Release) { r.Permits = nil }, signedAs(p, subject(plain)))
		}, nil, true},
		{"a description that requires what the library does not", registry.ErrMalformed, func(p *place) {
			p.pushAs(plain, func(r *registry.Release) { r.Requires = []string{"dist_good"} }, signedAs(p, subject(plain)))
		}, nil, true},
		{"no library", registry.ErrMalformed, func(p *place) {
			path := filepath.Join(p.t.TempDir(), "text")
			require.NoError(p.t, os.WriteFile(path, []byte("no library"), 0o644))
			p.push(&registry.Release{Name: "dist_aaaa", Version: "1.0.0"}, map[string]registry.Content{registry.ThisPlatform(): {Path: path, Signature: p.sign(p.key, subject(plain), path)}})
		}, nil, true},
		{"versions of the application that it was not made for", registry.ErrHost, func(p *place) {
			p.publish(library{tag: "aaaa", version: "1.0.0", host: ">=1.9"})
		}, nil, false},
		{"another application", registry.ErrHost, func(p *place) { p.publish(library{tag: "aaaa", version: "1.0.0", host: ">=1.1"}) },
			func(o *install.Options) { o.App = "bank" }, false},
		{"what it was not granted", registry.ErrGrant, func(p *place) { p.publish(library{tag: "aaaa", version: "1.0.0", permit: "443"}) },
			func(o *install.Options) {
				o.Granted = func(plugin, version string, ask install.Ask) bool {
					assert.Equal(t, []string{"dist_aaaa", "1.0.0", "connect 443"}, []string{plugin, version, ask.String()})
					return false
				}
			}, false},
		{"what no grant covers", registry.ErrMalformed, func(p *place) { p.publish(library{tag: "aaaa", version: "1.0.0", permit: "x43"}) }, nil, false},
		{"a kind that its file is not of", registry.ErrKind, func(p *place) {
			path := filepath.Join(p.t.TempDir(), "wasm")
			require.NoError(p.t, os.WriteFile(path, []byte("\x00asm\x01\x00\x00\x00"), 0o644))
			p.push(&registry.Release{Name: "dist_aaaa", Version: "1.0.0", Kind: registry.Script}, map[string]registry.Content{registry.AnyPlatform: {Path: path}})
		}, nil, true},
		{"a kind for which the application has no engine", registry.ErrKind, func(p *place) { p.module("1.0.0") },
			func(o *install.Options) { o.Kinds = []registry.Kind{registry.Library} }, false},
		{"another kind than its description says", registry.ErrKind, func(p *place) {
			path := p.build(plain)
			anywhere := sign.Subject{Name: "dist_aaaa", Version: "1.0.0", Platform: registry.AnyPlatform}
			p.push(&registry.Release{Name: "dist_aaaa", Version: "1.0.0", Kind: registry.Wasm}, map[string]registry.Content{registry.AnyPlatform: {Path: path, Signature: p.sign(p.key, anywhere, path)}})
		}, nil, true},
		{"a name that nobody has", registry.ErrNotFound, func(p *place) {}, nil, false},
		{"a requirement that nobody has", registry.ErrNotFound, func(p *place) { p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}) }, nil, false},
		{"a requirement in no version that fits", registry.ErrConflict, func(p *place) {
			p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "2.0.0"})
		}, nil, false},
		{"a plug-in that it cannot be beside", registry.ErrConflict, func(p *place) {
			p.publish(library{tag: "aaaa", version: "1.0.0", conflicts: "dist_good ^1"})
		}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.publish(library{tag: "good", version: "1.0.0"})
			p.ensure(p.installer(), "dist_good")
			tt.publish(p)
			opened := p.source.opened.Load()
			p.refused(p.installer(func(o *install.Options) {
				if tt.change != nil {
					tt.change(o)
				}
			}), tt.kind, "dist_aaaa", "dist_good")
			assert.Equal(t, tt.came, p.source.opened.Load() > opened, "whether the file was fetched")
			if tt.change != nil {
				return
			}
			p.publish(library{tag: "next", version: "1.0.0"})
			r, err := p.installer().Ensure(t.Context(), wants("dist_aaaa", "dist_next", "dist_good"))
			require.NoError(t, err)
			assert.ErrorIs(t, r.Failed["dist_aaaa"], tt.kind)
			assert.Len(t, r.Failed, 1)
			assert.Equal(t, map[string]string{"dist_good": "1.0.0", "dist_next": "1.0.0"}, p.locked(), "the others are installed")
		})
	}
}

// What asks for what no grant covers is said in the words of the application, is no choice beside another version, and is not asked to be granted. What a later version of the contract
// may have a manifest ask for is nothing that this one could grant, and is not in its way.
func TestUngrantable(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.1.0", permit: "x43"})
	granting := func(o *install.Options) {
		o.Granted = func(_, _ string, ask install.Ask) bool {
			assert.Fail(t, "nobody is asked", "%v", ask)
			return true
		}
	}
	const said = `found a manifest that says permit.connect="x43", expected absolute paths, ports from 1 to 65535, to listen on also 0, and a number of bytes (rule R32)`
	assert.Contains(t, p.refused(p.installer(granting), registry.ErrMalformed, "dist_aaaa").Error(), said+". Install a version of the plug-in that says so; no grant helps")
	p.publish(plain)
	p.ensure(p.installer(granting), "dist_aaaa")
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, p.locked())
	changes, notices, err := p.installer(granting).Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{})
	require.NoError(t, err)
	assert.Empty(t, changes)
	require.Len(t, notices, 1)
	assert.Equal(t, "dist_aaaa 1.1.0: newer than 1.0.0, and not taken: "+said, notices[0].String())

	for text, want := range map[string]string{"permit.memory=64MiB": `permit.memory="64MiB"`, "permit.memory=1 permit.memory=2": "", "permit.connect=0": `permit.connect="0"`, "permit.listen=0": "", "permit.read=a": `permit.read="a"`, `permit.read=C:\\a`: "", "permit.later=any": ""} {
		path := filepath.Join(t.TempDir(), "s.py")
		require.NoError(t, os.WriteFile(path, []byte("# ferrule: name=s version=1.0.0 "+text+" fn=f\ndef f(x): return x\n"), 0o600))
		_, _, err := install.Release(path)
		if want == "" && !strings.Contains(text, "memory") {
			assert.NoError(t, err, text)
			continue
		}
		assert.ErrorContains(t, err, want, text)
	}
}

// foreign publishes a library for another platform under this one.
func (p *place) foreign() {
	p.t.Helper()
	path := p.windows(plain)
	r, platform, err := install.Describe(path)
	require.NoError(p.t, err)
	require.Equal(p.t, windows, platform)
	p.push(r, map[string]registry.Content{registry.ThisPlatform(): {Path: path, Signature: p.sign(p.key, subject(plain), path)}})
}

// Keys that were revoked, or are no longer those of the plug-in, count also for what is in the lock and in the store.
func TestRevokedKey(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	revoked := func(o *install.Options) { o.Trust = p.trust(p.key.ID()) }
	p.refused(p.installer(revoked), registry.ErrRevokedKey, "dist_aaaa")
	p.ensure(p.installer(), "dist_aaaa")
	requests := p.source.requests.Load()
	p.refused(p.installer(revoked), registry.ErrRevokedKey, "dist_aaaa")
	other, err := sign.Generate()
	require.NoError(t, err)
	foreign, err := sign.NewTrust([]string{other.Public().String()}, nil, nil)
	require.NoError(t, err)
	p.refused(p.installer(func(o *install.Options) { o.Trust = foreign }), registry.ErrKey, "dist_aaaa")
	assert.Equal(t, requests, p.source.requests.Load())
}

// Without keys the digest on first use counts, and it is said.
func TestFirstUse(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	without := func(o *install.Options) { o.Trust = nil }
	r := p.ensure(p.installer(without), "dist_aaaa")
	require.Len(t, r.Notices, 1)
	assert.Contains(t, r.Notices[0].String(), "NOT VERIFIED")
	assert.Empty(t, r.Plugins["dist_aaaa"].Key)
	r = p.ensure(p.installer(without), "dist_aaaa")
	assert.Len(t, r.Notices, 1, "it is said each time")

	// Keys that are written to config.yaml later count for it, too: by the signature that came with it.
	requests := p.source.requests.Load()
	r = p.ensure(p.installer(), "dist_aaaa")
	assert.Equal(t, p.key.ID(), r.Plugins["dist_aaaa"].Key)
	assert.Contains(t, p.text(), p.key.ID())
	assert.Equal(t, requests, p.source.requests.Load())
	assert.Empty(t, r.Notices)

	// It is said, too, where keys were taken away later, whether the file is here or fetched.
	for range 2 {
		r = p.ensure(p.installer(without), "dist_aaaa")
		require.Len(t, r.Notices, 1)
		assert.Contains(t, r.Notices[0].String(), "NOT VERIFIED")
		require.NoError(t, os.RemoveAll(p.store))
	}

	unsigned := newPlace(t)
	unsigned.pushAs(plain, nil, nil)
	unsigned.ensure(unsigned.installer(without), "dist_aaaa")
	unsigned.refused(unsigned.installer(), registry.ErrUnsigned, "dist_aaaa")
}

// A source that has other bytes under a version of the lock has replaced it. A mirror that still has those of the lock does.
func TestReplaced(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	mirror := filepath.Join(t.TempDir(), "mirror")
	require.NoError(t, os.CopyFS(mirror, os.DirFS(p.folder)))
	require.NoError(t, errors.Join(os.RemoveAll(p.folder), os.RemoveAll(p.store)))
	p.publish(library{tag: "aaaa", version: "1.0.0", permit: "443"})
	p.refused(p.installer(), registry.ErrReplaced, "dist_aaaa")
	changes, _, err := p.installer().Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{})
	require.NoError(t, err)
	require.Len(t, changes, 1)
	assert.ErrorIs(t, changes[0].Err, registry.ErrReplaced)

	broken, whole := &asked{Source: folder(t, filepath.Join(t.TempDir(), "nothing"))}, &asked{Source: folder(t, mirror)}
	source := p.source.requests.Load()
	p.ensure(p.installer(func(o *install.Options) { o.Mirrors = []registry.Source{broken, whole} }), "dist_aaaa")
	assert.NotZero(t, broken.requests.Load(), "mirrors are asked in turn")
	assert.Equal(t, source, p.source.requests.Load(), "and the source is not")
}

// What is not in the lock is described by the source alone: a mirror that has a newer version, signed by a key that counts, has nobody install it.
func TestMirrorDescribesNothing(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	at := newPlace(t)
	at.key = p.key
	at.publish(library{tag: "aaaa", version: "2.0.0"})
	mirror := at.source
	p.ensure(p.installer(func(o *install.Options) { o.Mirrors = []registry.Source{mirror} }), "dist_aaaa")
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, p.locked())
	changes := p.update(p.installer(func(o *install.Options) { o.Mirrors = []registry.Source{mirror} }), install.UpdateOptions{}, wants("dist_aaaa")...)
	assert.Empty(t, changes)
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, p.locked())
}

// The lock is law: a range of config.yaml that it is not in is an error.
func TestLawOfTheLock(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "aaaa", version: "2.0.0"})
	r, err := p.installer().Ensure(t.Context(), []install.Want{{Name: "dist_aaaa", Range: "^1"}})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	for in, kind := range map[string]error{"^2": registry.ErrLock, "no range": registry.ErrMalformed} {
		r, err = p.installer().Ensure(t.Context(), []install.Want{{Name: "dist_aaaa", Range: in}})
		require.NoError(t, err)
		assert.ErrorIs(t, p.whole(r.Failed["dist_aaaa"]), kind)
	}
	r, err = p.installer().Ensure(t.Context(), []install.Want{{Name: "dist_bbbb", Range: "^1"}, {Name: "dist_aaaa"}})
	require.NoError(t, err)
	assert.ErrorIs(t, r.Failed["dist_bbbb"], registry.ErrNotFound)
	assert.Contains(t, r.Plugins, "dist_aaaa")

	require.NoError(t, os.WriteFile(p.lock, []byte("nonsense"), 0o644))
	_, err = p.installer().Ensure(t.Context(), wants("dist_aaaa"))
	assert.ErrorIs(t, err, registry.ErrLock)
}

// A lock that names another plug-in's file is found out by the file.
func TestForgedLock(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "bbbb", version: "1.0.0"})
	r := p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	a, b := r.Plugins["dist_aaaa"].Digest, r.Plugins["dist_bbbb"].Digest
	require.NoError(t, os.WriteFile(p.lock, []byte(strings.ReplaceAll(p.text(), a, b)), 0o644))
	p.refused(p.installer(), registry.ErrName, "dist_aaaa", "dist_bbbb")
}

package install_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// asked is a source that counts what it is asked.
type asked struct {
	registry.Source
	requests atomic.Int64
	opened   atomic.Int64
	open     func(ctx context.Context, r *registry.Release, platform string, from int64) (io.ReadCloser, int64, int64, error) // in the place of its own
}

func (a *asked) Versions(ctx context.Context, name string) ([]string, error) {
	a.requests.Add(1)
	return a.Source.Versions(ctx, name)
}

func (a *asked) Release(ctx context.Context, name, version string) (*registry.Release, error) {
	a.requests.Add(1)
	return a.Source.Release(ctx, name, version)
}

func (a *asked) Open(ctx context.Context, r *registry.Release, platform string, from int64) (io.ReadCloser, int64, int64, error) {
	a.requests.Add(1)
	a.opened.Add(1)
	if a.open != nil {
		return a.open(ctx, r, platform, from)
	}
	return a.Source.Open(ctx, r, platform, from)
}

func (a *asked) Signature(ctx context.Context, r *registry.Release, platform string) ([]byte, error) {
	a.requests.Add(1)
	return a.Source.Signature(ctx, r, platform)
}

// place is where plug-ins are published, and who installs them.
type place struct {
	t      testing.TB
	folder string // of the source
	source *asked
	key    sign.PrivateKey
	lock   string
	store  string
	opened []*store.Store
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{t: t, folder: filepath.Join(t.TempDir(), "releases"), lock: filepath.Join(t.TempDir(), "ferrule.lock"), store: filepath.Join(t.TempDir(), "store")}
	f, err := files.NewFolder(p.folder)
	require.NoError(t, err)
	p.source = &asked{Source: f}
	p.key, err = sign.Generate()
	require.NoError(t, err)
	return p
}

// library is what released.c is made to.
type library struct {
	tag, version string
	requires     string // such as "dist_bbbb ^1"; "" is nothing
	conflicts    string // such as "dist_cccc ^1"
	host         string // such as ">=1.1"
	permit       string // such as "443"
}

func (l library) name() string { return "dist_" + l.tag }

// build makes the library.
func (p *place) build(l library) string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "dist"+fixture.Ext())
	data, err := os.ReadFile(fixture.C(p.t, "released"))
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(path, l.of(p.t, data), 0o755))
	return path
}

// windows is the other platform that libraries are made for.
const windows = "windows/amd64"

// windows makes the library for Windows.
func (p *place) windows(l library) string {
	p.t.Helper()
	if registry.ThisPlatform() == windows {
		p.t.Skip("it is this platform")
	}
	other := fixture.Target{OS: "windows", Arch: "amd64", Dir: p.t.TempDir(), CC: []string{fixture.Tool(p.t, "x86_64-w64-mingw32-gcc", "apt-get install gcc-mingw-w64-x86-64")}}
	require.NoError(p.t, other.C("released"))
	data, err := os.ReadFile(other.Path("released"))
	require.NoError(p.t, err)
	path := filepath.Join(p.t.TempDir(), "dist.dll")
	require.NoError(p.t, os.WriteFile(path, l.of(p.t, data), 0o755))
	return path
}

// of makes the library of that of released.c.
func (l library) of(t testing.TB, data []byte) []byte {
	pairs := []string{"dist_aaaa", l.name(), "1.0.0", l.version}
	for _, key := range []struct{ is, off, value string }{{"requires=dist_bbbb ^1", "x_quires=dist_bbbb ^1", l.requires}, {"conflicts=dist_cccc ^1", "x_nflicts=dist_cccc ^1", l.conflicts},
		{"host.shop=>=1.1", "x_st.shop=>=1.1", l.host}, {"permit.connect=443", "x_rmit.connect=443", l.permit}} {
		to := key.off
		if key.value != "" {
			to = key.is[:len(key.is)-len(key.value)] + key.value
		}
		pairs = append(pairs, key.is, to)
	}
	for i := 0; i < len(pairs); i += 2 {
		from, to := []byte(pairs[i]), []byte(pairs[i+1])
		require.Len(t, to, len(from), pairs[i])
		require.True(t, bytes.Contains(data, from), pairs[i])
		data = bytes.ReplaceAll(data, from, to)
	}
	return data
}

// sign signs a file.
func (p *place) sign(key sign.PrivateKey, s sign.Subject, path string) []byte {
	p.t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(p.t, err)
	text, err := sign.Sign(key, s, bytes.NewReader(data))
	require.NoError(p.t, err)
	return text
}

func subject(l library) sign.Subject {
	return sign.Subject{Name: l.name(), Version: l.version, Platform: registry.ThisPlatform()}
}

// publish publishes libraries, signed, each as it is.
func (p *place) publish(all ...library) {
	p.t.Helper()
	for _, l := range all {
		path := p.build(l)
		r, platform, err := install.Describe(path)
		require.NoError(p.t, err)
		require.Equal(p.t, registry.ThisPlatform(), platform)
		p.push(r, map[string]registry.Content{platform: {Path: path, Signature: p.sign(p.key, subject(l), path)}})
	}
}

func (p *place) push(r *registry.Release, contents map[string]registry.Content) {
	p.t.Helper()
	f, err := files.NewFolder(p.folder)
	require.NoError(p.t, err)
	require.NoError(p.t, f.Push(p.t.Context(), r, contents))
	p.source.Source = f
}

// trust trusts the place's key.
func (p *place) trust(revoked ...string) *sign.Trust {
	p.t.Helper()
	tr, err := sign.NewTrust([]string{p.key.Public().String()}, nil, revoked)
	require.NoError(p.t, err)
	return tr
}

// installer opens the store and makes an installer, with the place's key.
func (p *place) installer(change ...func(*install.Options)) *install.Installer {
	p.t.Helper()
	s, err := store.Open(p.store)
	require.NoError(p.t, err)
	p.opened = append(p.opened, s)
	p.t.Cleanup(func() { s.Close() })
	o := install.Options{App: "shop", Version: "1.4.0", Lock: p.lock, Store: s, Sources: []registry.Source{p.source}, Trust: p.trust()}
	for _, c := range change {
		c(&o)
	}
	in, err := install.New(o)
	require.NoError(p.t, err)
	return in
}

func wants(names ...string) (all []install.Want) {
	for _, name := range names {
		all = append(all, install.Want{Name: name})
	}
	return all
}

// ensure installs, and expects all to be well.
func (p *place) ensure(in *install.Installer, names ...string) *install.Result {
	p.t.Helper()
	r, err := in.Ensure(p.t.Context(), wants(names...))
	require.NoError(p.t, err)
	require.NoError(p.t, r.Err())
	return r
}

// refused installs, and expects the first to fail with a kind, and nothing of it in the lock.
func (p *place) refused(in *install.Installer, kind error, names ...string) *registry.Error {
	p.t.Helper()
	before := p.plugins()
	r, err := in.Ensure(p.t.Context(), wants(names...))
	require.NoError(p.t, err)
	require.ErrorIs(p.t, r.Failed[names[0]], kind)
	assert.NotContains(p.t, r.Plugins, names[0])
	assert.Equal(p.t, before, p.plugins(), "the lock is as it was")
	return p.whole(r.Failed[names[0]])
}

// whole returns an error that says all that it should.
func (p *place) whole(err error) *registry.Error {
	p.t.Helper()
	var e *registry.Error
	require.ErrorAs(p.t, err, &e)
	assert.NotEmpty(p.t, e.Plugin, err)
	assert.False(p.t, e.Found == "" && e.Err == nil, err)
	assert.NotEmpty(p.t, e.Remedy, err)
	return e
}

// text is the lock's; "" where there is none.
func (p *place) text() string {
	text, _ := os.ReadFile(p.lock)
	return string(text)
}

// plugins are those of the lock; none where there is no lock.
func (p *place) plugins() map[string]*lock.Entry {
	p.t.Helper()
	l, err := lock.Load(p.lock)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]*lock.Entry{}
	}
	require.NoError(p.t, err)
	return l.Plugins
}

// locked are the versions in the lock.
func (p *place) locked() map[string]string {
	p.t.Helper()
	all := map[string]string{}
	for name, e := range p.plugins() {
		all[name] = e.Version
	}
	return all
}

// file is the path of a published file, and of its signature.
func (p *place) file(l library) (file, signature string) {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.folder, "*"+l.version, l.name()+"-*"+fixture.Ext()))
	require.NoError(p.t, err)
	require.Len(p.t, found, 1)
	return found[0], found[0] + ".minisig"
}

// folder is a source of a folder.
func folder(t testing.TB, path string) *files.Folder {
	t.Helper()
	f, err := files.NewFolder(path)
	require.NoError(t, err)
	return f
}

// closed is an installer whose store nobody else in this process uses: all that were opened before are closed.
func (p *place) closed() *install.Installer {
	p.t.Helper()
	for _, s := range p.opened {
		require.NoError(p.t, s.Close())
	}
	p.opened = nil
	return p.installer()
}

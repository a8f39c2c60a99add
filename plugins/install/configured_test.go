package install_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// TestConfigured: what a config.yaml says is options of the installer.
func TestConfigured(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "config.yaml")
	c, err := config.Parse(path, []byte(`registry: {url: 'file:///srv/releases', mirrors: ['file:///srv/mirror.zip']}
dev: {own: ./own.so}
plugins:
  - {name: tax, version: ^1, grant: [loyalty_*], permit: {connect: [443], memory: 64MiB, read: [/etc]}}
  - {name: off, enabled: false}
  - own
  - here
`))
	require.NoError(t, err)
	o, err := install.Configured(c, files.Open)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(folder, "ferrule.lock"), o.Lock)
	require.Len(t, o.Sources, 1)
	assert.Equal(t, "file:///srv/releases", o.Sources[0].String())
	require.Len(t, o.Mirrors, 1)
	assert.Equal(t, "file:///srv/mirror.zip", o.Mirrors[0].String())
	assert.Equal(t, []install.Want{{Name: "tax", Range: "^1"}}, install.Wants(c, func(name string) bool { return name == "here" }))
	for ask, granted := range map[install.Ask]bool{
		{What: "function", Item: "loyalty_points"}: true, {What: "function", Item: "other"}: false, {What: "connect", Item: "443"}: true, {What: "connect", Item: "80"}: false,
		{What: "memory", Item: "1024"}: true, {What: "memory", Item: "1099511627776"}: false, {What: "read", Item: "/etc/hosts"}: true, {What: "write", Item: "/etc/hosts"}: false,
	} {
		assert.Equal(t, granted, o.Granted("tax", "1.0.0", ask), "%v", ask)
		assert.Equal(t, ask.What == "memory", o.Granted("nobody", "1.0.0", ask), "%v: nothing in the file bounds its memory", ask)
	}

	_, err = install.Configured(c)
	require.ErrorIs(t, err, registry.ErrUnavailable)
	assert.ErrorContains(t, err, "found an address that begins with file://, expected one that this application can open")
}

// TestIndexOfASource: the index of a source is looked at, and once there was one, it may not go.
func TestIndexOfASource(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // shards are kept there
	folder := t.TempDir()
	key, err := sign.Generate()
	require.NoError(t, err)
	configure := func(from, more string) *config.Config {
		t.Helper()
		c, err := config.Parse(filepath.Join(folder, "config.yaml"), []byte("registry: {url: 'file://"+filepath.ToSlash(from)+"'"+more))
		require.NoError(t, err)
		return c
	}
	keys := ", keys: [" + key.Public().String() + "]}"
	c := configure(folder, keys)
	o, err := install.Configured(c, files.Open)
	require.NoError(t, err)
	require.NotNil(t, o.Index)
	open := func(seen lock.Index) (lock.Index, install.Revocations, error) {
		x, now, err := o.Index.Open(context.Background(), seen)
		return now, x, err
	}
	now, x, err := open(lock.Index{})
	require.NoError(t, err, "there is none, and never was")
	assert.NoError(t, x.Revoked("tax", "1.0.0"))
	assert.Equal(t, lock.Index{}, now)
	_, err = install.OpenIndex(t.Context(), c, files.Open)
	require.ErrorIs(t, err, registry.ErrNotFound)

	built, err := index.Build("registry.example/acme", 7, time.Now(), []index.Entry{{Name: "tax", Summary: "Value added tax", Versions: []string{"1.0.0"}}},
		[]index.Revocation{{Name: "tax", Versions: "<1.1", Why: "it loses money"}}, nil)
	require.NoError(t, err)
	signature, err := sign.SignComment(key, built.Comment, bytes.NewReader(built.Root))
	require.NoError(t, err)
	require.NoError(t, built.Write(folder, signature))
	now, x, err = open(lock.Index{})
	require.NoError(t, err)
	assert.Equal(t, uint64(7), now.Serial)
	require.ErrorIs(t, x.Revoked("tax", "1.0.0"), registry.ErrRevoked)
	search, err := install.OpenIndex(t.Context(), c, files.Open)
	require.NoError(t, err)
	found, err := search.Search(t.Context(), "value", 10)
	require.NoError(t, err)
	require.Len(t, found.Hits, 1)
	assert.Equal(t, "tax", found.Hits[0].Name)

	assert.Equal(t, "registry.example/acme", now.Name, "the first name is believed")
	_, _, err = open(lock.Index{Name: now.Name, Serial: 8, Date: now.Date})
	require.ErrorIs(t, err, registry.ErrStale)
	shop := lock.Index{Name: "registry.example/shop", Serial: 1, Date: now.Date.Add(-time.Hour)}
	_, _, err = open(shop)
	require.ErrorIs(t, err, registry.ErrIndex, "and from then on no other one")

	// config.yaml may say the name: before anything was seen, and in place of what was.
	for name, seen := range map[string]lock.Index{"registry.example/acme": shop, "registry.example/shop": now} {
		c = configure(folder, ", index: "+name+keys)
		o, err = install.Configured(c, files.Open)
		require.NoError(t, err)
		for _, seen := range []lock.Index{{}, seen} {
			again, _, err := open(seen)
			_, searched := install.OpenIndex(t.Context(), c, files.Open)
			if name == now.Name {
				require.NoError(t, err)
				assert.Equal(t, now, again)
				require.NoError(t, searched)
				continue
			}
			require.ErrorIs(t, err, registry.ErrIndex)
			require.ErrorIs(t, searched, registry.ErrIndex)
		}
	}
	o, err = install.Configured(configure(t.TempDir(), ", index: registry.example/acme"+keys), files.Open)
	require.NoError(t, err)
	_, _, err = open(lock.Index{})
	require.ErrorIs(t, err, registry.ErrStale)
	assert.ErrorContains(t, err, "found no index, expected that of registry.example/acme, which registry.index of config.yaml names")

	o, err = install.Configured(configure(t.TempDir(), keys), files.Open)
	require.NoError(t, err)
	_, _, err = open(now)
	require.ErrorIs(t, err, registry.ErrStale)
	assert.ErrorContains(t, err, "found no index, expected one of serial 7 or a later one, which was there before")

	// What nobody has signed revokes, and is not what later ones are to follow: its serial may be such that none can.
	unsigned := t.TempDir()
	built, err = index.Build("registry.example/acme", math.MaxUint64, time.Now(), nil, []index.Revocation{{Name: "tax", Versions: "<1.1", Why: "it loses money"}}, nil)
	require.NoError(t, err)
	require.NoError(t, built.Write(unsigned, nil))
	for name, more := range map[string]string{"no keys": "}", "a key of a single plug-in": "}\nplugins: [{name: tax, keys: [" + key.Public().String() + "]}]"} {
		o, err = install.Configured(configure(unsigned, more), files.Open)
		require.NoError(t, err)
		for _, seen := range []lock.Index{{}, now} {
			noted, x, err := open(seen)
			require.NoError(t, err, name)
			assert.Equal(t, seen, noted, name)
			require.ErrorIs(t, x.Revoked("tax", "1.0.0"), registry.ErrRevoked, name)
		}
	}
}

// away is a source of a folder that nobody reaches.
type away struct{ *files.Folder }

func (a away) Index() index.Fetcher { return a }

func (a away) fault(plugin string) error {
	return &registry.Error{Plugin: plugin, Source: a.String(), Kind: registry.ErrUnavailable, Found: "no answer", Remedy: "Try again"}
}

func (a away) Root(context.Context) (root, signature []byte, err error) { return nil, nil, a.fault("") }

func (a away) Shard(context.Context, string, int64) ([]byte, error) { return nil, a.fault("") }

func (a away) Versions(_ context.Context, name string) ([]string, error) { return nil, a.fault(name) }

func (a away) Release(context.Context, string, string) (*registry.Release, error) {
	return nil, a.fault("")
}

func (a away) Open(context.Context, *registry.Release, string, int64) (io.ReadCloser, int64, int64, error) {
	return nil, 0, 0, a.fault("")
}

func (a away) Signature(context.Context, *registry.Release, string) ([]byte, error) {
	return nil, a.fault("")
}

// A host that has the lock alone is set up while the registry is down, where a mirror has the files. A mirror that has the signed index, too, says what was revoked; where none can be
// had, that is told, and nothing new is installed.
func TestTheRegistryIsDown(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "bbbb", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	p.closed()
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	mirror := filepath.Join(t.TempDir(), "mirror")
	require.NoError(t, os.CopyFS(mirror, os.DirFS(p.folder)))
	publish := func(serial uint64, key sign.PrivateKey, revoked ...index.Revocation) {
		t.Helper()
		b, err := index.Build("registry.example/acme", serial, day.Add(time.Duration(serial)*time.Minute), nil, revoked, nil)
		require.NoError(t, err)
		signature, err := sign.SignComment(key, b.Comment, bytes.NewReader(b.Root))
		require.NoError(t, err)
		require.NoError(t, b.Write(mirror, signature))
	}
	more := "" // of registry in config.yaml
	// fresh is a host whose store has nothing.
	fresh := func() *install.Installer {
		t.Helper()
		p.closed()
		require.NoError(t, os.RemoveAll(p.store))
		c, err := config.Parse(filepath.Join(filepath.Dir(p.lock), "config.yaml"), []byte("registry: {url: 'file://"+filepath.ToSlash(p.folder)+"', mirrors: ['file://"+
			filepath.ToSlash(mirror)+"'], keys: ["+p.key.Public().String()+"]"+more+"}"))
		require.NoError(t, err)
		o, err := install.Configured(c, func(r config.Registry) (registry.Source, bool, error) {
			if strings.HasSuffix(r.URL, "/mirror") {
				return files.Open(r)
			}
			return away{folder(t, p.folder)}, true, nil
		})
		require.NoError(t, err)
		return p.installer(func(to *install.Options) { to.Sources, to.Mirrors, to.Index = o.Sources, o.Mirrors, o.Index })
	}
	told := func(in *install.Installer, names ...string) (all string) {
		t.Helper()
		for _, n := range p.ensure(in, names...).Notices {
			all += n.Text + "\n"
		}
		return all
	}

	assert.Contains(t, told(fresh(), "dist_aaaa", "dist_bbbb"), "whether what is locked was revoked is not known")
	e := p.refused(fresh(), registry.ErrUnavailable, "dist_cccc", "dist_aaaa")
	assert.Contains(t, e.Error(), "no answer")

	publish(5, p.key)
	assert.Contains(t, told(fresh(), "dist_aaaa"), "no mirror was asked", "the key has signed it, but of which registry it is nobody has said")
	assert.NotContains(t, p.text(), "serial")
	more = ", index: registry.example/shop"
	assert.Contains(t, told(fresh(), "dist_aaaa"), "found the index of the registry registry.example/acme, expected that of registry.example/shop")
	more = ", index: registry.example/acme"
	assert.Empty(t, told(fresh(), "dist_aaaa"), "the mirror has said that nothing was revoked")
	assert.Contains(t, p.text(), "serial: 5")
	more = "" // the lock has the name
	publish(6, p.key, index.Revocation{Name: "dist_aaaa", Versions: "1.0.0", Why: "it loses orders"})
	p.refused(fresh(), registry.ErrRevoked, "dist_aaaa", "dist_bbbb")
	assert.Contains(t, p.text(), "serial: 6")

	foreign, err := sign.Generate()
	require.NoError(t, err)
	publish(7, foreign)
	assert.Contains(t, told(fresh(), "dist_bbbb"), "not known", "what another key has signed says nothing")
	publish(4, p.key)
	assert.Contains(t, told(fresh(), "dist_bbbb"), "not known", "neither does an old one")
	assert.Contains(t, p.text(), "serial: 6")
}

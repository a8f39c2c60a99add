package oci_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// From a lock a start with an empty store is one request, though keys count: the lock has the signatures of all
// platforms' files, which whoever makes it asks for. Where the lock has none, the signature is asked for.
func TestRequestsFromALock(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		key, err := sign.Generate()
		require.NoError(t, err)
		signed := func(path string, at sign.Subject) registry.Content {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			text, err := sign.Sign(key, at, bytes.NewReader(data))
			require.NoError(t, err)
			return registry.Content{Path: path, Signature: text}
		}
		path := filepath.Join(t.TempDir(), "plugin"+fixture.Ext())
		fixture.Variant(t, "released", path, "requires=dist_bbbb", "x_quires=dist_bbbb", "conflicts=dist_cccc", "x_nflicts=dist_cccc")
		r, this, err := install.Describe(path)
		require.NoError(t, err)
		files := map[string]registry.Content{this: signed(path, sign.Subject{Name: r.Name, Version: r.Version, Platform: this})}
		for _, on := range []string{"plan9/386", "plan9/amd64", "plan9/arm"} {
			path := filepath.Join(t.TempDir(), "other")
			require.NoError(t, os.WriteFile(path, []byte("for "+on), 0o644))
			files[on] = signed(path, sign.Subject{Name: r.Name, Version: r.Version, Platform: on})
		}
		require.NoError(t, open(t, "oci://"+host+"/locked").Push(t.Context(), r, files))
		trust, err := sign.NewTrust([]string{key.Public().String()}, nil, nil)
		require.NoError(t, err)
		locked := filepath.Join(t.TempDir(), "ferrule.lock")
		// start installs with an empty store and a client of its own, as a host does that starts for the first time.
		start := func(trust *sign.Trust) (requests int) {
			counted := &counter{}
			s, err := store.Open(t.TempDir())
			require.NoError(t, err)
			defer s.Close()
			source := open(t, "oci://"+host+"/locked", oci.Transport(counted))
			o := install.Options{App: "shop", Version: "1.4.0", Lock: locked, Store: s, Sources: []registry.Source{source}}
			if trust != nil {
				o.Trust = trust
			}
			in, err := install.New(o)
			require.NoError(t, err)
			result, err := in.Ensure(t.Context(), []install.Want{{Name: r.Name}})
			require.NoError(t, err)
			require.NoError(t, result.Err())
			return counted.requests()
		}
		signatures := func() map[string]string {
			l, err := lock.Load(locked)
			require.NoError(t, err)
			return l.Plugins[r.Name].Signatures
		}
		const fresh, perPlatform = 5, 1 // tags, index, config, file, manifest with the signature; of another platform the manifest
		assert.Equal(t, fresh+3*perPlatform, start(trust), "who makes the lock")
		require.Len(t, signatures(), 4)
		for on, text := range signatures() {
			assert.Equal(t, string(files[on].Signature), text)
		}
		assert.Equal(t, 1, start(trust), "from the lock, with keys")
		assert.Equal(t, 1, start(nil), "from the lock, without keys")

		require.NoError(t, lock.Update(t.Context(), locked, func(l *lock.Lock) error {
			l.Plugins[r.Name].Signatures = nil
			return nil
		}))
		assert.Equal(t, 3, start(trust), "from a lock without signatures: file, index, manifest")
		assert.Empty(t, signatures(), "a start is no update")
	})
}

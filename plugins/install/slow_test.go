package install_test

import (
	"context"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// dripping reads some bytes a second.
type dripping struct{ io.ReadCloser }

func (d dripping) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return d.ReadCloser.Read(p[:min(len(p), 290)])
}

// A mirror that drips is left for the next place, which goes on with what has come. The last one may be as slow as it is.
func TestDrip(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	drips := func() *asked {
		from := p.source.Source
		return &asked{Source: from, open: func(ctx context.Context, r *registry.Release, platform string, at int64) (io.ReadCloser, int64, int64, error) {
			body, at, size, err := from.Open(ctx, r, platform, at)
			return dripping{body}, at, size, err
		}}
	}
	for _, sources := range [][]registry.Source{{p.source}, {drips()}} {
		require.NoError(t, os.RemoveAll(p.store))
		mirror := drips()
		in := p.installer(func(o *install.Options) { o.Mirrors, o.Sources = []registry.Source{mirror}, sources })
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			r, err := in.Ensure(t.Context(), wants("dist_aaaa"))
			require.NoError(t, err)
			require.NoError(t, r.Err())
			assert.Equal(t, int64(1), mirror.opened.Load())
			if sources[0] == registry.Source(p.source) {
				assert.Less(t, time.Since(began), 15*time.Second)
			}
		})
	}
}

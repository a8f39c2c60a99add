package install_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
)

// Hosts that start at the same moment are spread evenly over the time, none of them comes after it, and a context that ends ends the waiting.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts, parts = 1000, 10
		wait, begin := install.Jitter(time.Minute), time.Now()
		var mu sync.Mutex
		var group sync.WaitGroup
		var in [parts]int
		for range hosts {
			group.Go(func() {
				assert.NoError(t, wait(t.Context()))
				mu.Lock()
				defer mu.Unlock()
				in[time.Since(begin)*parts/time.Minute]++ // there is no part for who comes after the minute
			})
		}
		group.Wait()
		for _, n := range in {
			assert.InDelta(t, hosts/parts, n, hosts/parts/2, "%v", in) // five times the deviation
		}

		cause := errors.New("the application ends")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Nanosecond, func() { cancel(cause) })
		begin = time.Now()
		assert.Equal(t, cause, install.Jitter(1000*time.Hour)(ctx))
		assert.Equal(t, time.Nanosecond, time.Since(begin))
		assert.Equal(t, cause, install.Jitter(0)(ctx))
		assert.NoError(t, install.Jitter(-1)(t.Context()))
	})
}

// Who asks no source waits for nothing; who does waits before it asks, and asks nothing when that is ended.
func TestFirst(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	ended := errors.New("ended")
	waits := 0
	first := func(o *install.Options) { o.First = func(context.Context) error { waits++; return ended } }
	requests := p.source.requests.Load()
	r, err := p.installer(first).Ensure(t.Context(), wants(plain.name()))
	if err == nil {
		err = r.Err()
	}
	require.ErrorIs(t, err, ended)
	assert.Positive(t, waits)
	assert.Equal(t, requests, p.source.requests.Load())

	p.ensure(p.installer(), plain.name())
	waits = 0
	p.ensure(p.installer(first), plain.name())
	assert.Zero(t, waits)

	// A lock without its files: the first request is for one of those.
	require.NoError(t, os.RemoveAll(p.closed().Store.Folder()))
	requests = p.source.requests.Load()
	r, err = p.installer(first).Ensure(t.Context(), wants(plain.name()))
	require.NoError(t, err)
	require.ErrorIs(t, r.Err(), ended)
	assert.Equal(t, requests, p.source.requests.Load())
}

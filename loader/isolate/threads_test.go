package isolate_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// Where a worker dies while threads of a call are in host functions, the call fails, and none of them runs any more when it has.
func TestWorkerDiesWithThreadsInHostFunctions(t *testing.T) {
	const threads = 12
	for range 5 {
		var inside atomic.Int64
		release := make(chan struct{})
		p := open(t, fixture.C(t, "together"), isolate.InWorker(), loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) {
			inside.Add(1)
			defer inside.Add(-1)
			<-release
			return in, nil
		}))
		ended := make(chan error, 1)
		go func() {
			_, err := p.Call(ctx, "together", []byte{threads, 'x'})
			ended <- err
		}()
		require.Eventually(t, func() bool { return inside.Load() == threads }, time.Minute, time.Millisecond)
		isolation, ok := p.Isolation()
		require.True(t, ok)
		worker, err := os.FindProcess(isolation.PID)
		require.NoError(t, err)
		require.NoError(t, worker.Kill())
		select {
		case err := <-ended:
			t.Fatalf("it does not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		close(release)
		var crash *loader.CrashError
		assert.True(t, errors.As(<-ended, &crash))
		assert.Zero(t, inside.Load())
		assert.NoError(t, p.Close())
	}
}

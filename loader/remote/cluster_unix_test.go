//go:build unix

package remote_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote"
)

// A cluster of three servers loses one: who was connected there goes on by another.
func TestCluster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	var servers []*server.Server
	var urls, routes []string
	for i := range 3 {
		o := &server.Options{Port: -1, ServerName: "s" + strconv.Itoa(i), Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: -1}, Routes: server.RoutesFromStr(strings.Join(routes, ","))}
		s := startServerAt(t, o)
		servers, urls = append(servers, s), append(urls, strings.TrimPrefix(s.ClientURL(), "nats://"))
		routes = append(routes, "nats://"+s.ClusterAddr().String())
	}
	require.Eventually(t, func() bool {
		return servers[0].NumRoutes() > 0 && servers[1].NumRoutes() > 0 && servers[2].NumRoutes() > 0
	}, time.Minute, 10*time.Millisecond)
	for range 3 {
		_, err := inNATS.Process(t, "nats://"+strings.Join(urls, ","), "8", "ledger", path)
		require.NoError(t, err)
	}
	p, err := loader.Open("nats://"+strings.Join(urls, ",")+"/ledger", inNATS.Plugin(2*time.Second))
	require.NoError(t, err)
	defer p.Close()
	var last atomic.Int64
	var stop atomic.Bool
	var callers sync.WaitGroup
	var answered, lost atomic.Int64
	for range 16 {
		callers.Go(func() {
			for !stop.Load() {
				id := last.Add(1)
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				out, err := p.Call(ctx, "once", fmt.Appendf(nil, "%d 1", id))
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
					assert.Equal(t, strconv.Itoa(int(id)), string(out))
				case errors.Is(err, remote.ErrNodeLost), errors.Is(err, remote.ErrNoNode):
					lost.Add(1)
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("%T %v", err, err)
				}
			}
		})
	}
	for _, s := range servers[:2] {
		before := answered.Load()
		require.Eventually(t, func() bool { return answered.Load() > before+200 }, time.Minute, time.Millisecond)
		s.Shutdown()
		s.WaitForShutdown()
	}
	before := answered.Load()
	require.Eventually(t, func() bool { return answered.Load() > before+200 }, time.Minute, time.Millisecond)
	stop.Store(true)
	callers.Wait()
	t.Logf("%d answered, %d lost", answered.Load(), lost.Load())
	ran, _ := runs(t, path)
	for id, n := range ran {
		assert.Equal(t, 1, n, "call %d", id)
	}
}

package nats

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/node"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// traffic is what a server has taken, and given out, as its own numbers have it.
type traffic struct{ in, out, inBytes, outBytes int64 }

func trafficOf(t *testing.T, s *server.Server) traffic {
	v, err := s.Varz(nil)
	require.NoError(t, err)
	return traffic{v.InMsgs, v.OutMsgs, v.InBytes, v.OutBytes}
}

// during counts what goes by the server until it has been quiet for a while.
func during(t *testing.T, s *server.Server, what string, do func()) traffic {
	before := trafficOf(t, s)
	do()
	last, since := trafficOf(t, s), time.Now()
	for time.Since(since) < 200*time.Millisecond {
		time.Sleep(10 * time.Millisecond)
		if now := trafficOf(t, s); now != last {
			last, since = now, time.Now()
		}
	}
	d := traffic{last.in - before.in, last.out - before.out, last.inBytes - before.inBytes, last.outBytes - before.outBytes}
	t.Logf("%-40s in: %6d messages, %8d bytes; out: %6d messages, %8d bytes", what, d.in, d.inBytes, d.out, d.outBytes)
	return d
}

// What it costs to find nodes grows as docs/remote.md says: a node that comes, or goes, is one message to each host; a host that asks has one from each node. FERRULE_NODES is
// how many nodes there are, which are announced by some connections, and have one plug-in together; 10 hosts.
func TestManyNodes(t *testing.T) {
	const hosts, connections = 10, 20
	nodes := 100
	if n, err := strconv.Atoi(os.Getenv("FERRULE_NODES")); err == nil {
		nodes = n
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	defer s.Shutdown()
	require.True(t, s.ReadyForConnections(10*time.Second))
	share := func() *serve.Shared {
		shared, err := serve.Share(serve.Go(&builtin.Plugin{Name: "shout", Version: "1.2.0", Threads: abi.Concurrent,
			Funcs: []builtin.Function{{Name: "shout", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}}}), 8, 8, slog.Default())
		require.NoError(t, err)
		t.Cleanup(func() { _ = shared.Close() })
		return shared
	}
	type announced struct {
		*service
		node *node.Node
	}
	var all []announced
	var conns []*connection
	for range connections {
		b, err := connect(s.ClientURL(), 10*time.Second, nil)
		require.NoError(t, err)
		defer b.Close()
		conns = append(conns, b)
	}
	come := func(i int, shared *serve.Shared) {
		b := conns[i%connections]
		of := node.New(node.Options{Broker: b, Shared: shared, Sessions: 1024, Silence: 2 * time.Second})
		made, err := announce(b, shared, of)
		require.NoError(t, err)
		require.NoError(t, made.says(""))
		all = append(all, announced{made, of})
	}
	flush := func() {
		for _, b := range conns {
			require.NoError(t, b.nc.Flush())
		}
	}
	d := during(t, s, strconv.Itoa(nodes)+" nodes come, without a host", func() {
		shared := share()
		for i := range nodes {
			come(i, shared)
		}
		flush()
	})
	assert.Equal(t, traffic{int64(nodes), 0, d.inBytes, 0}, d)
	said := d.inBytes / int64(nodes)
	var open []*loader.Plugin
	d = during(t, s, "10 hosts open", func() {
		for range hosts {
			p, err := loader.Open(s.ClientURL()+"/shout", Plugin())
			require.NoError(t, err)
			t.Cleanup(func() { p.Close() })
			open = append(open, p)
		}
	})
	// Each asks once, is answered by all, and has a session, of which there are fewer than 10 messages.
	assert.GreaterOrEqual(t, d.out, int64(2*hosts*nodes))
	assert.Less(t, d.out, int64(2*hosts*nodes+hosts*20))
	one, err := connect(s.ClientURL(), 10*time.Second, nil)
	require.NoError(t, err)
	defer one.Close()
	d = during(t, s, "a host asks who is there", func() {
		var mu sync.Mutex
		seen := make(map[string]bool)
		came := func(n broker.Node) {
			mu.Lock()
			defer mu.Unlock()
			seen[n.ID] = true
		}
		stop, err := one.Watch("shout", broker.Watcher{Came: came, Went: func(string) {}, Down: func(error) {}})
		require.NoError(t, err)
		defer stop()
		found, err := one.Find(t.Context(), "shout")
		require.NoError(t, err)
		for _, n := range found {
			came(n)
		}
		assert.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == nodes }, time.Minute, time.Millisecond)
	})
	assert.InDelta(t, 1+nodes, d.in, 2*hosts, "a question, and the answers; hosts may ask about their sessions meanwhile")
	assert.InDelta(t, 2*nodes, d.out, 2*hosts)
	d = during(t, s, "10 nodes come", func() {
		shared := share() // which they leave with
		for i := range 10 {
			come(i, shared)
		}
		flush()
	})
	assert.InDelta(t, 10, d.in, 2*hosts)
	assert.InDelta(t, 10*hosts, d.out, 2*hosts)
	d = during(t, s, "10 nodes go", func() {
		for range 10 {
			last := all[len(all)-1]
			all = all[:len(all)-1]
			_ = last.service.service.Stop()
			require.NoError(t, last.node.Leave(t.Context()))
			last.stop()
			require.NoError(t, last.says("yes"))
		}
		flush()
	})
	assert.InDelta(t, 10, d.in, 2*hosts)
	assert.InDelta(t, 10*hosts, d.out, 2*hosts)
	for _, p := range open {
		out, err := p.Call(t.Context(), "shout", []byte("a"))
		require.NoError(t, err)
		assert.Equal(t, "a", string(out))
	}
	t.Logf("what a node says of itself is %d bytes long", said)
	assert.Less(t, said, int64(512))
}

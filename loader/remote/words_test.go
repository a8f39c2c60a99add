package remote_test

import (
	"context"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func init() { tests = append(tests, test{"Words", testWords}) }

// What is too long is said with both lengths, and with what sets the bound.
func TestLongWords(t *testing.T) {
	s := startServerAt(t, &server.Options{Port: -1})
	startNATSNode(t, nats.Node{Servers: s.ClientURL(), MaxBody: 1000})
	open := func(opts ...nats.Option) *loader.Plugin {
		p, err := loader.Open(s.ClientURL()+"/shout", nats.Plugin(opts...), loader.WithHostFunc("suffix", func(context.Context, []byte) ([]byte, error) { return make([]byte, 500), nil }))
		require.NoError(t, err)
		t.Cleanup(func() { p.Close() })
		return p
	}
	_, err := open().Call(t.Context(), "shout", make([]byte, 1001))
	require.ErrorIs(t, err, loader.ErrNoMemory)
	assert.ErrorContains(t, err, "the input is 1001 bytes long, and the node takes 1000 at most (MaxBody of its nats.Node, ferrule serve --max-message)")
	_, err = open(nats.WithMaxMessage(900)).Call(t.Context(), "shout", make([]byte, 901))
	require.ErrorIs(t, err, loader.ErrNoMemory)
	assert.ErrorContains(t, err, "the input is 901 bytes long, and the longest message 900 (nats.WithMaxMessage)")
	_, err = open(nats.WithMaxMessage(900)).Call(t.Context(), "with", make([]byte, 600))
	require.ErrorIs(t, err, loader.ErrNoMemory)
	assert.ErrorContains(t, err, "the output has 1100 bytes, and the host takes 900 at most (its WithMaxMessage)")
}

// A call that no node took says so, and what to do, and not that it failed.
func testWords(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	begun, ends := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(ends) })
	defer end()
	leave := k.Node(t, serve.Go(&builtin.Plugin{Name: "slow", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "wait",
		Call: func(context.Context, []byte) ([]byte, error) {
			close(begun)
			<-ends
			return nil, nil
		}}}}), node{URL: s.URL(), Workers: 1, Queue: -1})
	p, err := loader.Open(s.URL()+"/slow", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	waited := make(chan error, 1)
	go func() {
		_, err := p.Call(context.Background(), "wait", nil)
		waited <- err
	}()
	<-begun
	_, err = p.Call(t.Context(), "wait", nil)
	require.ErrorIs(t, err, remote.ErrBusy)
	require.ErrorIs(t, err, loader.ErrFailed)
	require.EqualError(t, err, "plug-in slow: wait: not called: slow: every node has as many calls as it takes; call again later, or start more nodes, or some with more workers")
	end()
	require.NoError(t, <-waited)
	leave()
	_, err = p.Call(t.Context(), "wait", nil)
	require.ErrorIs(t, err, remote.ErrNoNode)
	require.ErrorIs(t, err, loader.ErrFailed)
	assert.Contains(t, err.Error(), "plug-in slow: wait: not called: slow: no node serves the plug-in")
	assert.Contains(t, err.Error(), "; start one, or call again when there is one")
}

// Of a session whose node was killed, the call that it had says that nobody knows what it has done; later ones that the instance is gone.
func TestKilledSession(t *testing.T) {
	s := inNATS.Start(t, 0)
	n, err := inNATS.Process(t, s.URL(), "1", "shout")
	require.NoError(t, err)
	p, err := loader.Open(s.URL()+"/shout", inNATS.Plugin(0), loader.WithHostFunc("suffix", func(context.Context, []byte) ([]byte, error) {
		_ = n.Cmd.Process.Kill()
		_ = n.Cmd.Wait()
		return []byte("!"), nil
	}))
	require.NoError(t, err)
	defer p.Close()
	own, err := p.NewSession(t.Context(), nil)
	require.NoError(t, err)
	defer own.Close()
	_, err = own.Call(t.Context(), "with", nil)
	require.ErrorIs(t, err, remote.ErrNodeLost)
	assert.Contains(t, err.Error(), "the node "+n.ID+" was lost: ")
	assert.Contains(t, err.Error(), "; what the call has done is not known")
	_, err = own.Call(t.Context(), "shout", nil)
	require.ErrorIs(t, err, loader.ErrLost)
	assert.NotErrorIs(t, err, remote.ErrNodeLost)
	assert.Contains(t, err.Error(), "the worker, or the node, that it was in is gone: open a new session")
}

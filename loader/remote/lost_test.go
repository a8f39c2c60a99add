package remote_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

func init() {
	tests = append(tests, test{"BrokenConnection", testBrokenConnection}, test{"NoNodeForSession", testNoNodeForSession}, test{"StartThatHangs", testStartThatHangs},
		test{"MuteServer", testMuteServer}, test{"MuteServerOfSeveral", testMuteServerOfSeveral})
}

// breaks has the connections be lost that there are; others can be made.
func (w *way) breaks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.all {
		c.Close()
	}
	w.all = nil
}

// soonAfter is what comes of a channel, for which a test that fails does not wait for ever.
func soonAfter[T any](t testing.TB, c <-chan T) (came T) {
	t.Helper()
	select {
	case came = <-c:
	case <-time.After(time.Minute / 2):
		require.Fail(t, "nothing comes")
	}
	return came
}

// When a host's connection breaks, so do its calls, also those of a session of its own: what it has missed comes no more.
func testBrokenConnection(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	begun := make(chan struct{}, 2)
	gate := make(chan struct{})
	defer close(gate)
	k.Node(t, serve.Go(&builtin.Plugin{Name: "gate", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "wait", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
		begun <- struct{}{}
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}}}}), node{URL: s.URL(), Workers: 2})
	scheme, to := split(s.URL())
	way := newWay(t, to)
	p, err := loader.Open(scheme+"://"+way.Addr().String()+"/gate", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	own, err := p.NewSession(t.Context(), nil)
	require.NoError(t, err)
	shared, owned := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := p.Call(context.Background(), "wait", nil)
		shared <- err
	}()
	go func() {
		_, err := own.Call(context.Background(), "wait", nil)
		owned <- err
	}()
	<-begun
	<-begun
	way.breaks()
	require.ErrorIs(t, soonAfter(t, shared), remote.ErrNodeLost)
	require.ErrorIs(t, soonAfter(t, owned), remote.ErrNodeLost)
}

// A session that no node can have has no node that was lost.
func testNoNodeForSession(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	leave := k.Node(t, shout(), node{URL: s.URL()})
	p, err := loader.Open(s.URL()+"/shout", k.Plugin(0), suffix())
	require.NoError(t, err)
	defer p.Close()
	leave()
	_, err = p.NewSession(t.Context(), nil)
	require.ErrorIs(t, err, remote.ErrNoNode)
	require.NotErrorIs(t, err, remote.ErrNodeLost)
}

// Who does not wait any more for an instance of its own leaves nothing behind that waits.
func testStartThatHangs(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	var starts atomic.Int64
	begun, gate := make(chan struct{}), make(chan struct{})
	defer close(gate)
	k.Node(t, serve.Go(&builtin.Plugin{Name: "gate", Version: "1.0.0", Start: func(context.Context, []byte) (any, error) {
		if starts.Add(1) == 1 { // the node's own
			return nil, nil
		}
		close(begun)
		<-gate
		return nil, nil
	}, Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}}), node{URL: s.URL()})
	p, err := loader.Open(s.URL()+"/gate", k.Plugin(0))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := p.NewSession(ctx, nil)
		failed <- err
	}()
	<-begun
	cancel()
	require.ErrorIs(t, soonAfter(t, failed), context.Canceled)
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	require.NoError(t, soonAfter(t, closed))
}

// A node whose connection broke, and is back, has calls again: that a session with it is over says nothing of the node.
func TestNodeComesBack(t *testing.T) {
	s := inNATS.Start(t, 0)
	held, gate := make(chan string, 2), map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
	plugin := func(name string) serve.Plugin {
		return serve.Go(&builtin.Plugin{Name: "who", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
			{Name: "who", Call: func(_ context.Context, in []byte) ([]byte, error) {
				if string(in) == "hold" {
					held <- name
					<-gate[name]
				}
				return []byte(name), nil
			}}}})
	}
	_, to := split(s.URL())
	way := newWay(t, to)
	inNATS.Node(t, plugin("a"), node{URL: "nats://" + way.Addr().String(), Workers: 4})
	inNATS.Node(t, plugin("b"), node{URL: s.URL(), Workers: 4})
	p, err := loader.Open(s.URL()+"/who", nats.Plugin())
	require.NoError(t, err)
	defer p.Close()
	reaches := func(name string) func() bool {
		return func() bool {
			out, err := p.Call(t.Context(), "who", nil)
			return err == nil && string(out) == name
		}
	}
	for range 2 { // while the one has a call, the next goes to the other
		go func() { _, _ = p.Call(context.Background(), "who", []byte("hold")) }()
	}
	defer close(gate["b"])
	assert.ElementsMatch(t, []string{"a", "b"}, []string{soonAfter(t, held), soonAfter(t, held)})
	close(gate["a"])
	require.Eventually(t, reaches("a"), time.Minute, time.Millisecond)
	nc, err := client.Connect(s.URL())
	require.NoError(t, err)
	defer nc.Close()
	back, err := nc.SubscribeSync("ferrule.who.nodes")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	way.breaks()
	_, err = back.NextMsg(time.Minute)
	require.NoError(t, err)
	assert.Eventually(t, reaches("a"), time.Minute, time.Millisecond)
}

// hung is a plug-in whose function returns when it is asked to stop, and says when it has begun.
func hung(begun chan<- struct{}) serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "hung", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "hang", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			begun <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		{Name: "bare", Call: func(context.Context, []byte) ([]byte, error) { return nil, loader.Status(1234) }},
		{Name: "wordy", Call: func(context.Context, []byte) ([]byte, error) { return nil, errors.New(strings.Repeat("é", 2<<20)) }},
	}})
}

// A node that leaves ends the requests of NATS's own, too, that have not come back in time.
func TestLeavingEndsRequestsOfNATS(t *testing.T) {
	s := inNATS.Start(t, 0)
	begun, ready, done := make(chan struct{}, 1), make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- nats.Serve(ctx, hung(begun), nats.Node{Servers: s.URL(), Grace: 100 * time.Millisecond, Ready: func(id string) { ready <- id }})
	}()
	<-ready
	nc, err := client.Connect(s.URL())
	require.NoError(t, err)
	defer nc.Close()
	answers, err := nc.SubscribeSync("mine")
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest("ferrule.hung.fn.hang", "mine", nil))
	<-begun
	cancel()
	require.ErrorContains(t, soonAfter(t, done), "calls were still running")
	m, err := answers.NextMsg(time.Minute)
	require.NoError(t, err)
	assert.Equal(t, "4", m.Header.Get(micro.ErrorCodeHeader))
}

// A host that does not take its leave keeps no node from leaving, and is no call.
func TestLeavingWithoutTheHostsLeave(t *testing.T) {
	s := inNATS.Start(t, 0)
	ready, done := make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- nats.Serve(ctx, hung(nil), nats.Node{Servers: s.URL(), Grace: 100 * time.Millisecond, Ready: func(id string) { ready <- id }})
	}()
	id := <-ready
	nc, err := client.Connect(s.URL())
	require.NoError(t, err)
	defer nc.Close()
	answers, err := nc.SubscribeSync("mine")
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest("ferrule.hung."+id, "mine", []byte("OPEN 1 5\n")))
	m, err := answers.NextMsg(time.Minute)
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest(strings.Fields(string(m.Data))[1], "mine", []byte("DATA 0 0\nHELLO 1\n\n")))
	for !strings.Contains(string(m.Data), "HELLO") {
		m, err = answers.NextMsg(time.Minute)
		require.NoError(t, err)
	}
	cancel()
	require.NoError(t, soonAfter(t, done))
}

// What goes wrong without a word, or with very many, is an answer as others are.
func TestErrorsOfRequestsOfNATS(t *testing.T) {
	s := inNATS.Start(t, 0)
	inNATS.Node(t, hung(nil), node{URL: s.URL()})
	nc, err := client.Connect(s.URL())
	require.NoError(t, err)
	defer nc.Close()
	m, err := nc.Request("ferrule.hung.fn.bare", nil, time.Minute/2)
	require.NoError(t, err)
	assert.Equal(t, "1234", m.Header.Get(micro.ErrorCodeHeader))
	assert.NotEmpty(t, m.Header.Get(micro.ErrorHeader))
	m, err = nc.Request("ferrule.hung.fn.wordy", nil, time.Minute/2)
	require.NoError(t, err)
	assert.Equal(t, "1", m.Header.Get(micro.ErrorCodeHeader))
	assert.Equal(t, strings.Repeat("é", 512), m.Header.Get(micro.ErrorHeader))
}

// mute is a listener that takes connections, and says nothing.
func mute(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var all []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
		}
	}()
	return l.Addr().String()
}

// Whose context ends waits for no server that says nothing.
func testMuteServer(t *testing.T, k *kit) {
	scheme, _ := split(k.Start(t, 0).URL())
	url := scheme + "://" + mute(t)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	start := nats.WithStartTimeout(24 * time.Hour)
	engine := nats.Plugin(start)
	if scheme == "mqtt" {
		engine = mqtt.Plugin(mqtt.WithStartTimeout(24 * time.Hour))
	}
	go func() {
		_, err := loader.OpenContext(ctx, url+"/shout", engine)
		failed <- err
	}()
	served := make(chan error, 1)
	go func() { served <- k.Serve(ctx, shout(), node{URL: url}) }()
	cancel()
	require.ErrorIs(t, soonAfter(t, failed), context.Canceled)
	require.NoError(t, soonAfter(t, served))
}

// A server that says nothing leaves those beside it time to answer.
func testMuteServerOfSeveral(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	k.Node(t, shout(), node{URL: s.URL()})
	scheme, to := split(s.URL())
	engine := nats.Plugin(nats.WithStartTimeout(4 * time.Second))
	if scheme == "mqtt" {
		engine = mqtt.Plugin(mqtt.WithStartTimeout(4 * time.Second))
	}
	silent := mute(t)
	for range 4 { // in any order
		p, err := loader.Open(scheme+"://"+silent+","+to+"/shout", engine, suffix())
		require.NoError(t, err)
		require.NoError(t, p.Close())
	}
}

// A host whose credentials are refused for a while, such as by a server that has an older list of them, goes on when they are not.
func TestCredentialsComeBack(t *testing.T) {
	users := func(names ...string) (all []*server.User) {
		for _, name := range names {
			all = append(all, &server.User{Username: name, Password: name})
		}
		return all
	}
	s := startServerAt(t, &server.Options{Port: -1, Users: users("ada", "node")})
	port := s.Addr().(*net.TCPAddr).Port
	startNATSNode(t, nats.Node{Servers: s.ClientURL(), Workers: 1, Connection: []client.Option{client.UserInfo("node", "node")}})
	p, err := loader.Open(s.ClientURL()+"/shout", nats.Plugin(nats.WithConnection(client.UserInfo("ada", "ada"))), suffix())
	require.NoError(t, err)
	defer p.Close()
	s.Shutdown()
	s.WaitForShutdown()
	other := startServerAt(t, &server.Options{Port: port, Users: users("bob")})
	require.Eventually(t, func() bool {
		seen, err := other.Varz(nil)
		return err == nil && seen.TotalConnections >= 8
	}, time.Minute, time.Millisecond, "both are refused again and again")
	other.Shutdown()
	other.WaitForShutdown()
	startServerAt(t, &server.Options{Port: port, Users: users("ada", "node")})
	assert.Eventually(t, func() bool {
		_, err := p.Call(t.Context(), "shout", nil)
		return err == nil
	}, time.Minute/2, 10*time.Millisecond)
}

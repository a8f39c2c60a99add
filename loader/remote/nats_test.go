package remote_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// inNATS is NATS, with a server in this process.
var inNATS = &kit{
	Start: func(t testing.TB, longest int) running {
		s := startServerAt(t, &server.Options{Port: -1, MaxPayload: int32(longest)})
		_, port, err := net.SplitHostPort(s.Addr().String())
		require.NoError(t, err)
		n, err := strconv.Atoi(port)
		require.NoError(t, err)
		return &natsServer{s, n}
	},
	Serve: func(ctx context.Context, p serve.Plugin, n node, opts ...loader.Option) error {
		return nats.Serve(ctx, p, nats.Node{Servers: n.URL, Workers: n.Workers, Queue: n.Queue, Sessions: n.Sessions, Silence: long, Ready: n.Ready}, opts...)
	},
	Plugin: func(silence time.Duration) loader.Option {
		if silence == 0 {
			silence = long
		}
		return nats.Plugin(nats.WithSilence(silence))
	},
}

// natsServer is one in this process.
type natsServer struct {
	s    *server.Server
	port int
}

func (r *natsServer) URL() string { return "nats://127.0.0.1:" + strconv.Itoa(r.port) }

func (r *natsServer) Stop() {
	r.s.Shutdown()
	r.s.WaitForShutdown()
}

func (r *natsServer) Again(t testing.TB) { r.s = startServerAt(t, &server.Options{Port: r.port}) }

func startServerAt(t testing.TB, o *server.Options) *server.Server {
	o.Host, o.NoLog, o.NoSigs = "127.0.0.1", true, true
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(10*time.Second))
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// startNATSNode serves shout in this process until the test ends.
func startNATSNode(t testing.TB, n nats.Node) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	n.Ready = func(string) { close(ready) }
	go func() { done <- nats.Serve(ctx, shout(), n) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

package remote_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// inNATS is NATS, with a server in this process, which says its farewell when it ends; or with the program that FERRULE_NATS_SERVER names, which is killed.
var inNATS = &kit{
	Start: func(t testing.TB, longest int) running {
		if program := os.Getenv("FERRULE_NATS_SERVER"); program != "" && longest == 0 {
			return startNATSProcess(t, program)
		}
		s := startServerAt(t, &server.Options{Port: -1, MaxPayload: int32(longest)})
		_, port, err := net.SplitHostPort(s.Addr().String())
		require.NoError(t, err)
		n, err := strconv.Atoi(port)
		require.NoError(t, err)
		return &natsServer{s, n}
	},
	Serve: func(ctx context.Context, p serve.Plugin, n node, opts ...loader.Option) error {
		return nats.Serve(ctx, p, nats.Node{Servers: n.URL, Workers: n.Workers, Queue: n.Queue, Sessions: n.Sessions, Grace: n.Grace, Silence: long, Ready: n.Ready}, opts...)
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

// natsProcess is a server that is a process.
type natsProcess struct {
	program string
	port    int
	cmd     *exec.Cmd
}

func startNATSProcess(t testing.TB, program string) *natsProcess {
	r := &natsProcess{program: program, port: -1}
	r.Again(t)
	t.Cleanup(r.Stop)
	return r
}

func (r *natsProcess) URL() string { return "nats://127.0.0.1:" + strconv.Itoa(r.port) }

func (r *natsProcess) Stop() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// Again waits until the server says where it listens.
func (r *natsProcess) Again(t testing.TB) {
	r.cmd = exec.Command(r.program, "-a", "127.0.0.1", "-p", strconv.Itoa(r.port))
	said, err := r.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	lines := bufio.NewScanner(said)
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
		if where := listening.FindStringSubmatch(lines.Text()); where != nil {
			r.port, err = strconv.Atoi(where[1])
			require.NoError(t, err)
		}
		if strings.Contains(lines.Text(), "Server is ready") {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return
		}
	}
	require.Fail(t, "the server does not start", strings.Join(all, "\n"))
}

var listening = regexp.MustCompile(`Listening for client connections on \S+:(\d+)`)

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
func startNATSNode(t testing.TB, n nats.Node) { startNATSNodeOf(t, shout(), n) }

func startNATSNodeOf(t testing.TB, p serve.Plugin, n nats.Node) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	n.Ready = func(string) { close(ready) }
	go func() { done <- nats.Serve(ctx, p, n) }()
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

package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// TestMain is a node where it is asked to be one.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "node" {
		if err := runNode(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runNode serves: a URL; how many workers; "file", a path and the name of an entry of the table, or the name of one of plugins.
func runNode(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	n := nats.Node{Servers: args[0], Ready: func(id string) { fmt.Println("ready", id) }}
	if _, err := fmt.Sscan(args[1], &n.Workers); err != nil {
		return err
	}
	if args[2] != "file" {
		return nats.Serve(ctx, plugins[args[2]](args[3:]), n)
	}
	p, err := serve.File(args[3])
	if err != nil {
		return err
	}
	var opts []loader.Option
	for _, c := range transcript.Table {
		if c.Name == args[4] {
			opts = c.Node()
		}
	}
	return nats.Serve(ctx, p, n, opts...)
}

// process is a node that is one.
type process struct {
	*exec.Cmd
	id string
}

// startProcess starts a node. The error is what it says where it does not get ready.
func startProcess(t testing.TB, args ...string) (*process, error) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, append([]string{"node"}, args...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{Cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		return nil, fmt.Errorf("%s", strings.TrimSpace(said.String()))
	}
	go io.Copy(io.Discard, out)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() && said.Len() > 0 {
			t.Logf("node %s: %s", p.id, said.String())
		}
	})
	p.id = strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	return p, nil
}

// startServer starts a server in this process.
func startServer(t testing.TB) *server.Server { return startServerAt(t, &server.Options{Port: -1}) }

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

// startNode serves a plug-in in this process, and returns what has it leave.
func startNode(t testing.TB, p serve.Plugin, n nats.Node, opts ...loader.Option) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	n.Ready = func(id string) { ready <- id }
	go func() { done <- nats.Serve(ctx, p, n, opts...) }()
	select {
	case <-ready:
	case err := <-done:
		require.NoError(t, err)
	}
	left := false
	leave = func() {
		cancel()
		if !left {
			left = true
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(leave)
	return leave
}

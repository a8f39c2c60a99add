package remote_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// running is a broker that runs.
type running interface {
	URL() string      // without a plug-in's name
	Stop()            // has it be gone; what nodes and hosts had there is lost
	Again(testing.TB) // starts it anew, where it was
}

// node is what the tests say of one.
type node struct {
	URL      string
	Workers  int
	Queue    int
	Sessions int
	Grace    time.Duration
	Ready    func(id string)
}

// kit is a broker's.
type kit struct {
	Start  func(t testing.TB, longest int) running // longest is the longest message that the server takes, in bytes; 0 is its own
	Serve  func(ctx context.Context, p serve.Plugin, n node, opts ...loader.Option) error
	Plugin func(silence time.Duration) loader.Option // silence 0 is long
}

// long is how long who says nothing is waited for where a test is not about that: machines may be busy.
const long = time.Minute

// test is one of them.
type test struct {
	name string
	run  func(*testing.T, *kit)
}

var tests = []test{{"Calls", testCalls}, {"Transcripts", testTranscripts}, {"ManyCallers", testManyCallers}}

// TestBrokers runs all of them over each broker: what plug-ins beyond this machine do depends on none.
func TestBrokers(t *testing.T) {
	for _, over := range []struct {
		name string
		*kit
	}{{"NATS", inNATS}, {"Mosquitto", inMosquitto}, {"Mochi", inMochi}} {
		t.Run(over.name, func(t *testing.T) {
			for _, of := range tests {
				t.Run(of.name, func(t *testing.T) { of.run(t, over.kit) })
			}
		})
	}
}

// programs are what this program is where its first argument says so, with the rest of them.
var programs = map[string]func(args []string) error{"node": func(args []string) error {
	k := inNATS
	if strings.HasPrefix(args[0], "mqtt") {
		k = inMosquitto
	}
	return k.serve(args)
}}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && programs[os.Args[1]] != nil {
		if err := programs[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// plugins are those of nodes that are processes, made with the rest of their arguments.
var plugins = map[string]func(args []string) serve.Plugin{"shout": func([]string) serve.Plugin { return shout() }}

// serve serves: a URL; how many workers; "file", a path and the name of an entry of the table, or the name of one of plugins.
func (k *kit) serve(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	n := node{URL: args[0], Ready: func(id string) { fmt.Println("ready", id) }}
	if _, err := fmt.Sscan(args[1], &n.Workers); err != nil {
		return err
	}
	if args[2] != "file" {
		return k.Serve(ctx, plugins[args[2]](args[3:]), n)
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
	return k.Serve(ctx, p, n, opts...)
}

// process is a node that is one.
type process struct {
	*exec.Cmd
	ID string
}

// Process starts a node. The error is what it says where it does not get ready.
func (k *kit) Process(t testing.TB, args ...string) (*process, error) {
	return startProgram(t, "node", args...)
}

// startProgram starts one of programs, which prints "ready" when it is.
func startProgram(t testing.TB, name string, args ...string) (*process, error) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, append([]string{name}, args...)...)
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
			t.Logf("node %s: %s", p.ID, said.String())
		}
	})
	p.ID = strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	return p, nil
}

// Node serves a plug-in in this process, and returns what has it leave.
func (k *kit) Node(t testing.TB, p serve.Plugin, n node, opts ...loader.Option) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	n.Ready = func(id string) { ready <- id }
	go func() { done <- k.Serve(ctx, p, n, opts...) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
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

// shout is a plug-in with one function of each kind.
func shout() serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "shout", Version: "1.2.0", Threads: abi.Concurrent, Imports: []string{"suffix"},
		Funcs: []builtin.Function{
			{Name: "shout", Call: func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }},
			{Name: "with", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				out, err := builtin.Import(ctx, "suffix", in)
				return append(in, out...), err
			}},
			{Name: "fail", Call: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no") }},
			{Name: "sleep", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}},
		}})
}

// suffix is what shout imports.
func suffix() loader.Option {
	return loader.WithHostFunc("suffix", func(context.Context, []byte) ([]byte, error) { return []byte("!"), nil })
}

func testCalls(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	leave := k.Node(t, shout(), node{URL: s.URL(), Workers: 4})
	p, err := loader.Open(s.URL()+"/shout@^1", k.Plugin(0), suffix())
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "shout", []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "HELLO", string(out))
	out, err = p.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello!", string(out))
	_, err = p.Call(t.Context(), "fail", nil)
	require.EqualError(t, err, "plug-in shout: fail: failed: no")
	big := bytes.Repeat([]byte("abcdefgh"), 1<<20)
	out, err = p.Call(t.Context(), "shout", big)
	require.NoError(t, err)
	require.True(t, bytes.Equal(bytes.ToUpper(big), out))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = p.Call(ctx, "sleep", nil)
	require.ErrorIs(t, err, loader.ErrCancelled)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = loader.Open(s.URL()+"/shout@^2", k.Plugin(0), suffix())
	require.ErrorIs(t, err, remote.ErrNoNode)
	leave()
	_, err = p.Call(t.Context(), "shout", nil)
	require.ErrorIs(t, err, remote.ErrNoNode)
	_, err = loader.Open(s.URL()+"/shout", k.Plugin(0), suffix())
	require.ErrorIs(t, err, remote.ErrNoNode)
}

// testManyCallers has more calls at once than a session may have without an answer, whose host functions are answered behind the others; and one that is cancelled among them.
func testManyCallers(t *testing.T, k *kit) {
	callers := 10_000
	if raceDetector { // which knows some 8,000 goroutines
		callers = 1000
	}
	s := k.Start(t, 0)
	k.Node(t, shout(), node{URL: s.URL(), Workers: 64, Queue: callers})
	p, err := loader.Open(s.URL()+"/shout@^1", k.Plugin(0), suffix())
	require.NoError(t, err)
	defer p.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := p.Call(ended, "sleep", nil)
		cancelled <- err
	}()
	var running sync.WaitGroup
	errs := make(chan error, callers)
	for range callers {
		running.Go(func() {
			in := bytes.Repeat([]byte("a"), 1024)
			out, err := p.Call(t.Context(), "with", in)
			if err == nil && string(out) != string(in)+"!" {
				err = fmt.Errorf("found %.20q", out)
			}
			errs <- err
		})
	}
	cancel()
	require.ErrorIs(t, <-cancelled, loader.ErrCancelled)
	running.Wait()
	for range callers {
		require.NoError(t, <-errs)
	}
}

// benchEcho is of short calls: one after the other, and many at a time.
func benchEcho(b *testing.B, k *kit) {
	s := k.Start(b, 0)
	k.Node(b, shout(), node{URL: s.URL(), Workers: 64})
	p, err := loader.Open(s.URL()+"/shout@^1", k.Plugin(0), suffix())
	require.NoError(b, err)
	defer p.Close()
	in := make([]byte, 64)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Call(context.Background(), "shout", in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(16)
		b.RunParallel(func(each *testing.PB) {
			for each.Next() {
				if _, err := p.Call(context.Background(), "shout", in); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkEcho(b *testing.B) {
	b.Run("NATS", func(b *testing.B) { benchEcho(b, inNATS) })
	b.Run("Mosquitto", func(b *testing.B) { benchEcho(b, inMosquitto) })
	b.Run("Mochi", func(b *testing.B) { benchEcho(b, inMochi) })
}

// split is a URL's scheme, and its address.
func split(url string) (scheme, address string) {
	scheme, address, _ = strings.Cut(url, "://")
	return scheme, address
}

//go:build unix

package remote_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// commandOf returns NATS's own command, and skips the test where FERRULE_NATS names none: make broker does.
func commandOf(t *testing.T) string {
	t.Helper()
	program := os.Getenv("FERRULE_NATS")
	if program == "" {
		t.Skip("it needs NATS's own command, which takes long to be fetched and built: make broker")
	}
	return program
}

// NATS's own command sees a node, what it is, and what became of its calls, and calls its functions.
func TestCommandOfNATS(t *testing.T) {
	program := commandOf(t)
	url := inNATS.Start(t, 0).URL()
	home := t.TempDir() // no context of whoever runs this
	run := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append([]string{"--server", url, "--no-context"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "NATS_CONTEXT=", "NATS_URL=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) string {
		out, err := run(args...)
		require.NoError(t, err, "%v: %s", args, out)
		return out
	}
	first, err := inNATS.Process(t, url, "3", "shout")
	require.NoError(t, err)
	second, err := inNATS.Process(t, url, "3", "shout")
	require.NoError(t, err)

	var found []struct{ Name, ID, Version string }
	out := must("micro", "list", "--json")
	require.NoError(t, json.Unmarshal([]byte(out), &found), out)
	require.Len(t, found, 2, out)
	for _, f := range found {
		assert.Equal(t, "shout", f.Name)
		assert.Equal(t, "1.2.0", f.Version)
		assert.Contains(t, []string{first.ID, second.ID}, f.ID)
	}

	var said struct {
		Info struct {
			ID        string
			Metadata  map[string]string
			Endpoints []struct {
				Name, Subject string
				Queue         string `json:"queue_group"`
			}
		}
	}
	out = must("micro", "info", "shout", first.ID, "--json")
	require.NoError(t, json.Unmarshal([]byte(out), &said), out)
	info := said.Info
	assert.Equal(t, first.ID, info.ID)
	assert.Equal(t, map[string]string{"ferrule": "1", "plugin": "shout", "version": "1.2.0", "workers": "3"}, info.Metadata)
	var subjects []string
	for _, e := range info.Endpoints {
		subjects = append(subjects, e.Subject)
		assert.NotEmpty(t, e.Queue)
	}
	assert.ElementsMatch(t, []string{"ferrule.shout.fn.shout", "ferrule.shout.fn.with", "ferrule.shout.fn.fail", "ferrule.shout.fn.sleep"}, subjects)

	assert.Equal(t, "HELLO", strings.TrimSpace(must("request", "--raw", "ferrule.shout.fn.shout", "hello")))
	// What is no answer has NATS's own header of micro services.
	out = must("request", "ferrule.shout.fn.fail", "x")
	assert.Regexp(t, `Nats-Service-Error: no\b`, out)
	out = must("request", "--timeout", "30s", "--header", "Ferrule-Timeout:50", "ferrule.shout.fn.sleep", "x")
	assert.Regexp(t, `Nats-Service-Error-Code: \d`, out)

	// Either node may have had them: together they have had three.
	calls, failed := 0, 0
	for _, n := range []*process{first, second} {
		var stats []struct {
			ID        string
			Endpoints []struct {
				Name string
				Data struct{ Calls, Failed, Running int }
			}
		}
		out = must("micro", "stats", "shout", n.ID, "--json")
		require.NoError(t, json.Unmarshal([]byte(out), &stats), out)
		require.Len(t, stats, 1)
		assert.Equal(t, n.ID, stats[0].ID)
		for _, e := range stats[0].Endpoints {
			calls, failed = calls+e.Data.Calls, failed+e.Data.Failed
			assert.Zero(t, e.Data.Running)
		}
	}
	assert.Equal(t, 3, calls)
	assert.Equal(t, 2, failed)

	// One that has left is seen no more.
	require.NoError(t, first.Process.Signal(syscall.SIGTERM))
	require.NoError(t, first.Wait())
	out = must("micro", "list", "--json")
	assert.NotContains(t, out, first.ID)
	assert.Contains(t, out, second.ID)
}

// line is a way to a broker that takes as long as a long line does: each read of the one side gets to the other one in order, so much later. What TCP loses comes
// later still, with all behind it: that is what a lost packet is to who reads.
type line struct {
	url string

	mu    sync.Mutex
	conns map[net.Conn]bool // both ends of each
	held  chan struct{}     // closed when it goes on; nil where nothing is held

	breaks func(sent []byte) bool // nil is never
}

// breakAt has a connection break where breaks reports true of what its client sends, which gets nowhere.
func (l *line) breakAt(breaks func(sent []byte) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breaks = breaks
}

func (l *line) breaksAt(sent []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.breaks != nil && l.breaks(sent)
}

// cut breaks each connection.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
	clear(l.conns)
}

// hold has nothing get anywhere until goOn is called, and no connection end: as where a cable is out.
func (l *line) hold() (goOn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.held = held
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held == held {
			close(held)
			l.held = nil
		}
	}
}

func (l *line) wait(ctx context.Context) {
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case <-held:
	case <-ctx.Done():
	}
}

func (l *line) has(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.conns[c] = true
	}
}

// slowLine makes one. Of so many reads one is lost, and comes again; 0 is none.
func slowLine(t testing.TB, url string, delay, jitter, again time.Duration, lost int) *line {
	scheme, to, found := strings.Cut(url, "://")
	require.True(t, found)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	of := &line{url: scheme + "://" + l.Addr().String(), conns: make(map[net.Conn]bool)}
	var ways sync.WaitGroup
	t.Cleanup(func() { // the test's context has ended
		_ = l.Close()
		of.cut()
		ways.Wait()
	})
	type piece struct {
		at   time.Time
		data []byte
	}
	way := func(from, to net.Conn, client bool) {
		pieces := make(chan piece, 1<<12)
		ways.Go(func() {
			defer close(pieces)
			for {
				b := make([]byte, 64<<10)
				n, err := from.Read(b)
				if err != nil || client && of.breaksAt(b[:n]) {
					return
				}
				at := time.Now().Add(delay)
				if jitter > 0 {
					at = at.Add(rand.N(2*jitter) - jitter)
				}
				if lost > 0 && rand.IntN(lost) == 0 {
					at = at.Add(again)
				}
				pieces <- piece{at, b[:n]}
			}
		})
		ways.Go(func() {
			defer to.Close()
			defer from.Close()
			for p := range pieces {
				time.Sleep(time.Until(p.at))
				of.wait(t.Context())
				_, _ = to.Write(p.data) // where it is closed, what is left has an end, too
			}
			of.wait(t.Context()) // nor does the end get anywhere
		})
	}
	ways.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			of.has(a, b)
			if t.Context().Err() != nil {
				of.cut()
			}
			way(a, b, true)
			way(b, a, false)
		}
	})
	return of
}

// A node that answers later than others is found, also where it is the only one that is wanted.
func TestFarNode(t *testing.T) {
	near := inNATS.Start(t, 0).URL()
	far := slowLine(t, near, 60*time.Millisecond, 0, 0, 0).url
	plugin := func(version string) serve.Plugin {
		return serve.Go(&builtin.Plugin{Name: "which", Version: version, Threads: abi.Concurrent,
			Funcs: []builtin.Function{{Name: "version", Call: func(context.Context, []byte) ([]byte, error) { return []byte(version), nil }}}})
	}
	inNATS.Node(t, plugin("2.0.0"), node{URL: far})
	inNATS.Node(t, plugin("1.0.0"), node{URL: near})
	for _, version := range []string{"2.0.0", "1.0.0"} {
		p, err := loader.Open(near+"/which@"+version, inNATS.Plugin(0))
		require.NoError(t, err)
		out, err := p.Call(t.Context(), "version", nil)
		require.NoError(t, err)
		assert.Equal(t, version, string(out))
		require.NoError(t, p.Close())
	}
	_, err := loader.Open(near+"/which@3", inNATS.Plugin(0))
	require.ErrorIs(t, err, remote.ErrNoNode)
}

// A broker that is far away, or a busy machine, answers late, and is waited for.
func TestFarBroker(t *testing.T) {
	overSlowLines(t, func(t *testing.T, k *kit) {
		t.Parallel()
		s := k.Start(t, 0)
		k.Node(t, serve.Go(&builtin.Plugin{Name: "which", Version: "1.0.0", Threads: abi.Concurrent,
			Funcs: []builtin.Function{{Name: "version", Call: func(context.Context, []byte) ([]byte, error) { return []byte("1.0.0"), nil }}}}), node{URL: s.URL()})
		plugin := map[*kit]loader.Option{inNATS: nats.Plugin(nats.WithSilence(long), nats.WithStartTimeout(long)), inMosquitto: mqtt.Plugin(mqtt.WithSilence(long), mqtt.WithStartTimeout(long))}[k]
		p, err := loader.Open(slowLine(t, s.URL(), 600*time.Millisecond, 0, 0, 0).url+"/which", plugin)
		require.NoError(t, err)
		out, err := p.Call(t.Context(), "version", nil)
		require.NoError(t, err)
		assert.Equal(t, "1.0.0", string(out))
		require.NoError(t, p.Close())
	})
}

// overSlowLines runs a test over each kind of broker.
func overSlowLines(t *testing.T, test func(*testing.T, *kit)) {
	t.Run("NATS", func(t *testing.T) { test(t, inNATS) })
	t.Run("Mosquitto", func(t *testing.T) { test(t, inMosquitto) })
}

// A host that nothing gets to any more, and whose connection does not end, gives its calls up after the silence that it allows. What it sent meanwhile does not run when the line is
// there again: it is late by then.
func TestHeldLine(t *testing.T) {
	overSlowLines(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		path := filepath.Join(t.TempDir(), "ledger")
		k.Node(t, ledger([]string{path}), node{URL: s.URL(), Workers: 16})
		l := slowLine(t, s.URL(), 0, 0, 0, 0)
		const silence = time.Second
		p, err := loader.Open(l.url+"/ledger", k.Plugin(silence))
		require.NoError(t, err)
		defer p.Close()
		out, err := p.Call(t.Context(), "once", []byte("1 0"))
		require.NoError(t, err)
		require.Equal(t, "1", string(out))
		lost := make(chan error, 1)
		go func() {
			_, err := p.Call(context.Background(), "once", []byte("2 60000"))
			lost <- err
		}()
		require.Eventually(t, func() bool { r, _ := runs(t, path); return r[2] == 1 }, time.Minute, time.Millisecond)
		goOn := l.hold()
		defer goOn()
		var over time.Time // the last one's time
		for id := 3; id < 10; id++ {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			over, _ = ctx.Deadline()
			_, err := p.Call(ctx, "once", fmt.Appendf(nil, "%d 0", id))
			cancel()
			require.Error(t, err)
		}
		require.ErrorIs(t, <-lost, remote.ErrNodeLost)
		// The last one may have been lost with that one, before its time was over. By the node's clock that may be half a round trip later, and none takes longer than the silence.
		time.Sleep(time.Until(over.Add(silence)))
		goOn()
		require.Eventually(t, func() bool {
			out, err := p.Call(t.Context(), "again", []byte("10 0"))
			return err == nil && string(out) == "10"
		}, time.Minute, time.Millisecond)
		ran, _ := runs(t, path)
		delete(ran, 10)
		assert.Equal(t, map[int]int{1: 1, 2: 1}, ran)
	})
}

// Faults on a slow line, which is cut now and then: what holds on a quick one does here.
func TestFaultsOnASlowLine(t *testing.T) {
	overSlowLines(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		l := slowLine(t, s.URL(), 20*time.Millisecond, 5*time.Millisecond, 200*time.Millisecond, 200)
		faults(t, k, s, l.url, l.cut)
	})
}

// The same with packets that the system delays and loses: in a network of its own, where this process may have one.
func TestFaultsByNetem(t *testing.T) {
	if os.Getenv("FERRULE_NATS_SERVER") == "" {
		t.Skip("TestFaultsOnASlowLine is quicker: make broker runs both")
	}
	if os.Getenv("FERRULE_NETEM") != "" {
		testFaults(t, inNATS)
		return
	}
	const lossy = "delay 20ms 5ms loss 0.5%"
	self, err := os.Executable()
	require.NoError(t, err)
	enter := []string{"--net"}
	if os.Geteuid() != 0 {
		enter = append(enter, "--user", "--map-root-user")
	}
	out, err := exec.Command("unshare", append(enter, "sh", "-c", "ip link set lo up && tc qdisc add dev lo root netem "+lossy)...).CombinedOutput()
	if err != nil {
		t.Skipf("there is no network of its own with netem: unshare, ip and tc: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", append(enter, "sh", "-c", `ip link set lo up && tc qdisc add dev lo root netem `+lossy+` && exec "$0" "$@"`, self,
		"-test.run", "^TestFaultsByNetem$", "-test.v", "-test.count=1")...)
	cmd.Env = append(os.Environ(), "FERRULE_NETEM="+lossy)
	out, err = cmd.CombinedOutput()
	t.Log(string(out))
	require.NoError(t, err)
	require.Contains(t, string(out), "calls: map[", "the faults were tried there")
}

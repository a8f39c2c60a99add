//go:build unix

package remote_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
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

// slowLine is a way to a server that takes as long as a long line does: each read of the one side gets to the other one in order, so much later. What TCP loses comes
// later still, with all behind it: that is what a lost packet is to who reads.
func slowLine(t testing.TB, url string, delay, jitter, again time.Duration, lost int) string {
	scheme, to, found := strings.Cut(url, "://")
	require.True(t, found)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var ways sync.WaitGroup
	t.Cleanup(func() { // the test's context has ended, and with it each way
		_ = l.Close()
		ways.Wait()
	})
	type piece struct {
		at   time.Time
		data []byte
	}
	way := func(from, to net.Conn) {
		pieces := make(chan piece, 1<<12)
		ways.Go(func() {
			defer close(pieces)
			seed := uint32(time.Now().UnixNano()) | 1
			for {
				b := make([]byte, 64<<10)
				n, err := from.Read(b)
				if err != nil {
					return
				}
				seed = seed*1664525 + 1013904223
				at := time.Now().Add(delay + time.Duration(seed>>8)%(2*jitter) - jitter)
				if lost > 0 && int(seed>>8)%lost == 0 {
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
				_, _ = to.Write(p.data) // where it is closed, what is left has an end, too
			}
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
			context.AfterFunc(t.Context(), func() { _, _ = a.Close(), b.Close() })
			way(a, b)
			way(b, a)
		}
	})
	return scheme + "://" + l.Addr().String()
}

// A node that answers later than others is found, also where it is the only one that is wanted.
func TestFarNode(t *testing.T) {
	near := inNATS.Start(t, 0).URL()
	far := slowLine(t, near, 60*time.Millisecond, time.Millisecond, 0, 0)
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

// Faults on a slow line: what holds on a quick one does here.
func TestFaultsOnASlowLine(t *testing.T) {
	s := inNATS.Start(t, 0)
	faults(t, inNATS, s, slowLine(t, s.URL(), 20*time.Millisecond, 5*time.Millisecond, 200*time.Millisecond, 200), 200*time.Millisecond)
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

//go:build unix

package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// moment is how long it may take from a node's last look at a deadline to the function that it calls, on a machine that has much else to do.
const moment = 250 * time.Millisecond

// ledger is a plug-in whose functions write down each run, in a file that all nodes append to. The input is an id and how many milliseconds the work takes; the
// output is the id.
func ledger(args []string) serve.Plugin {
	file, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	work := func(ctx context.Context, in []byte) ([]byte, error) {
		var id, ms int
		if _, err := fmt.Sscan(string(in), &id, &ms); err != nil {
			return nil, err
		}
		word := "run"
		if at, ok := ctx.Deadline(); ok && time.Since(at) > moment {
			word = "late"
		}
		if _, err := fmt.Fprintf(file, "%s %d\n", word, id); err != nil {
			return nil, err
		}
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
			return fmt.Append(nil, id), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return serve.Go(&builtin.Plugin{Name: "ledger", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "once", Call: work},
		{Name: "again", Call: work, Keys: map[string]string{"idempotent": "yes"}},
	}})
}

// runs counts what the nodes have written down.
func runs(t testing.TB, path string) (runs map[int]int, late int) {
	all, err := os.ReadFile(path)
	require.NoError(t, err)
	runs = make(map[int]int)
	for line := range strings.Lines(string(all)) {
		word, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(id)
		require.True(t, ok && err == nil, "%q", line)
		runs[n]++
		if word == "late" {
			late++
		}
	}
	return runs, late
}

// soaked is for how long the faults go on.
func soaked() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("FERRULE_TEST_SOAK")); err == nil {
		return d
	}
	return 6 * time.Second
}

// Three nodes are killed, stopped and started anew, and the server is, while 64 callers call: each call ends in its own answer or in an error that says what became of it,
// soon after its deadline; none runs twice but where it may, none whose error says that it did nothing, and none begins after its deadline.
func testFaults(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	faults(t, k, s, s.URL(), nil)
}

// faults is testFaults with a server, the URL of a way to it, and what cuts that; or nil.
func faults(t *testing.T, k *kit, s running, url string, cut func()) {
	const callers = 64
	path := filepath.Join(t.TempDir(), "ledger")
	var nodes [3]*process
	begin := func(i int) {
		for range 100 {
			p, err := k.Process(t, url, "16", "ledger", path)
			if err == nil {
				nodes[i] = p
				return
			}
		}
		t.Error("a node does not start")
	}
	for i := range nodes {
		begin(i)
	}
	p, err := loader.Open(url+"/ledger@1", k.Plugin(time.Second))
	require.NoError(t, err)
	defer p.Close()

	type outcome struct {
		again bool
		err   error
	}
	var mu sync.Mutex
	outcomes := make(map[int]outcome)
	var last, answered, over, most atomic.Int64
	call := func(limit time.Duration) {
		id, again := int(last.Add(1)), rand.IntN(2) == 0
		name := "once"
		if again {
			name = "again"
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		begin := time.Now()
		out, err := p.Call(ctx, name, fmt.Appendf(nil, "%d %d", id, rand.IntN(30)))
		late := time.Since(begin) - limit
		cancel()
		if late > 200*time.Millisecond {
			over.Add(1)
		}
		most.Store(max(most.Load(), int64(late)))
		if err == nil && string(out) != strconv.Itoa(id) {
			t.Errorf("call %d was answered %q", id, out)
		}
		if err == nil {
			answered.Add(1)
		}
		mu.Lock()
		outcomes[id] = outcome{again, err}
		mu.Unlock()
	}
	// What as many calls need here, on this line and machine, before there is a fault.
	var first, calling sync.WaitGroup
	begun := time.Now()
	for range callers {
		first.Go(func() { call(time.Minute) })
	}
	first.Wait()
	need := time.Since(begun)

	const enough = callers + 100
	stop := time.Now().Add(soaked())
	far := stop.Add(2 * time.Minute)
	goesOn := func() bool {
		now := time.Now()
		return now.Before(stop) || answered.Load() <= enough && now.Before(far)
	}
	for range callers {
		calling.Go(func() {
			for goesOn() {
				call(need + time.Duration(20+rand.IntN(400))*time.Millisecond)
			}
		})
	}
	harm := map[string]int{}
	for goesOn() {
		time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
		i := rand.IntN(len(nodes))
		n := rand.IntN(10)
		if cut != nil {
			n = rand.IntN(12)
		}
		if harm["server"] == 0 && time.Until(stop) < soaked()/2 {
			n = 9
		}
		switch {
		case n < 5:
			harm["killed"]++
			_ = nodes[i].Process.Kill()
			_ = nodes[i].Wait()
			begin(i)
		case n < 9:
			harm["stopped"]++
			nodes[i].suspend(t)
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
			_ = nodes[i].Process.Signal(syscall.SIGCONT)
		case n > 9:
			harm["cut"]++
			cut()
		default:
			harm["server"]++
			s.Stop()
			time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
			s.Again(t)
		}
	}
	calling.Wait()
	for i := range nodes {
		_ = nodes[i].Process.Signal(syscall.SIGTERM)
		_ = nodes[i].Wait()
	}
	ran, late := runs(t, path)
	kinds := map[string]int{}
	for id, o := range outcomes {
		kind := ""
		switch {
		case o.err == nil:
			kind = "answered"
			assert.GreaterOrEqual(t, ran[id], 1, "call %d was answered, and no node has run it", id)
		case errors.Is(o.err, remote.ErrNodeLost):
			kind = "lost"
		case errors.Is(o.err, remote.ErrNoNode), errors.Is(o.err, remote.ErrBusy):
			kind = "no node, or busy"
			assert.Zero(t, ran[id], "call %d: %v", id, o.err)
		case errors.Is(o.err, context.DeadlineExceeded):
			kind = "late"
		default:
			t.Errorf("call %d: %T %v", id, o.err, o.err)
		}
		kinds[kind]++
		if !o.again {
			assert.LessOrEqual(t, ran[id], 1, "call %d has run twice", id)
		}
	}
	t.Logf("%v; %d calls, which need %v: %v; ended more than 200 ms after their deadline: %d, at most %v; begun after it, by the node's own clock: %d", harm, len(outcomes), need, kinds, over.Load(),
		time.Duration(most.Load()), late)
	assert.LessOrEqual(t, late, 3*harm["stopped"], "a node may be stopped between its last look and the function's")
	assert.Greater(t, kinds["answered"], enough)
	assert.Less(t, time.Duration(most.Load()), 10*time.Second)
}

// suspend stops a node, and returns when it is.
func (p *process) suspend(t testing.TB) {
	require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
}

// What a node that is stopped has not begun by its deadline is not begun when it goes on.
func testStoppedNodeBeginsNothingLate(t *testing.T, k *kit) {
	path := filepath.Join(t.TempDir(), "ledger")
	s := k.Start(t, 0)
	node, err := k.Process(t, s.URL(), "4", "ledger", path)
	require.NoError(t, err)
	p, err := loader.Open(s.URL()+"/ledger", k.Plugin(time.Minute))
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "once", []byte("1 0"))
	require.NoError(t, err)
	require.Equal(t, "1", string(out))
	node.suspend(t)
	for id := 2; id < 20; id++ {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err = p.Call(ctx, "once", fmt.Appendf(nil, "%d 0", id))
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	time.Sleep(4 * moment) // by the node's clock the time of the last one may be over as much later as half a round trip took
	require.NoError(t, node.Process.Signal(syscall.SIGCONT))
	out, err = p.Call(t.Context(), "once", []byte("20 0")) // behind the others
	require.NoError(t, err)
	require.Equal(t, "20", string(out))
	ran, late := runs(t, path)
	assert.Equal(t, map[int]int{1: 1, 20: 1}, ran)
	assert.Zero(t, late)
}

// A node that is killed while it has calls loses them, soon; what may run twice runs elsewhere.
func testKilledNode(t *testing.T, k *kit) {
	path := filepath.Join(t.TempDir(), "ledger")
	s := k.Start(t, 0)
	first, err := k.Process(t, s.URL(), "4", "ledger", path)
	require.NoError(t, err)
	p, err := loader.Open(s.URL()+"/ledger", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	type result struct {
		out []byte
		err error
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	call := func(name, in string) chan result {
		c := make(chan result, 1)
		go func() {
			out, err := p.Call(ctx, name, []byte(in))
			c <- result{out, err}
		}()
		return c
	}
	once, again := call("once", "1 60000"), call("again", "2 60000")
	require.Eventually(t, func() bool { r, _ := runs(t, path); return len(r) == 2 }, time.Minute, time.Millisecond)
	_, err = k.Process(t, s.URL(), "4", "ledger", path)
	require.NoError(t, err)
	require.NoError(t, first.Process.Kill())
	begin := time.Now()
	r := <-once
	require.ErrorIs(t, r.err, remote.ErrNodeLost)
	require.ErrorIs(t, r.err, loader.ErrCrash)
	assert.Contains(t, r.err.Error(), "the node "+first.ID)
	t.Logf("after %v: %v", time.Since(begin), r.err)
	require.Eventually(t, func() bool { r, _ := runs(t, path); return r[2] == 2 }, time.Minute, time.Millisecond)
	select {
	case r := <-again:
		t.Fatalf("%s %v", r.out, r.err)
	default:
	}
	out, err := p.Call(t.Context(), "once", []byte("3 0"))
	require.NoError(t, err)
	assert.Equal(t, "3", string(out))
	cancel()
	require.ErrorIs(t, (<-again).err, context.Canceled)
}

// A node that leaves finishes what it has; no call is lost, whenever it is made.
func testLeavingNodes(t *testing.T, k *kit) {
	path := filepath.Join(t.TempDir(), "ledger")
	s := k.Start(t, 0)
	node := func() *process {
		p, err := k.Process(t, s.URL(), "8", "ledger", path)
		require.NoError(t, err)
		return p
	}
	nodes := []*process{node(), node()}
	p, err := loader.Open(s.URL()+"/ledger", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	var last, stop atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for stop.Load() == 0 {
				id := last.Add(1)
				out, err := p.Call(context.Background(), "once", fmt.Appendf(nil, "%d 3", id))
				if !assert.NoError(t, err) || !assert.Equal(t, strconv.Itoa(int(id)), string(out)) {
					return
				}
			}
		})
	}
	for i := range 6 {
		next := node()
		left := nodes[i%2]
		require.NoError(t, left.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, left.Wait())
		nodes[i%2] = next
	}
	stop.Store(1)
	callers.Wait()
	ran, _ := runs(t, path)
	assert.Len(t, ran, int(last.Load()))
	for id, n := range ran {
		assert.Equal(t, 1, n, "call %d", id)
	}
}

// A node that has as many calls as it takes runs none of the others, and says so.
func testBusyNode(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	gate := make(chan struct{})
	begun := make(chan struct{}, 100)
	k.Node(t, serve.Go(&builtin.Plugin{Name: "gate", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "wait", Call: func(context.Context, []byte) ([]byte, error) {
			begun <- struct{}{}
			<-gate
			return nil, nil
		}},
	}}), node{URL: s.URL(), Workers: 2, Queue: 1})
	p, err := loader.Open(s.URL()+"/gate", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	errs := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := p.Call(context.Background(), "wait", nil)
			errs <- err
		}()
	}
	for range 17 {
		require.ErrorIs(t, <-errs, remote.ErrBusy)
	}
	close(gate)
	for range 3 {
		require.NoError(t, <-errs)
	}
	assert.Len(t, begun, 3)
}

// A session is an instance on one node, and is lost with it.
func testSessions(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	counter := func([]string) serve.Plugin {
		return serve.Go(&builtin.Plugin{Name: "counter", Version: "1.0.0",
			Start: func(_ context.Context, config []byte) (any, error) {
				n, err := strconv.Atoi(string(config))
				return &n, err
			},
			Funcs: []builtin.Function{{Name: "next", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				n := builtin.State(ctx).(*int)
				*n++
				return fmt.Append(nil, *n), nil
			}}}})
	}
	leave := k.Node(t, counter(nil), node{URL: s.URL()}, loader.WithConfig([]byte("100")))
	p, err := loader.Open(s.URL()+"/counter", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	a, err := p.NewSession(t.Context(), []byte("10"))
	require.NoError(t, err)
	b, err := p.NewSession(t.Context(), nil)
	require.NoError(t, err)
	for i := range 3 {
		out, err := a.Call(t.Context(), "next", nil)
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(11+i), string(out))
		out, err = b.Call(t.Context(), "next", nil)
		require.NoError(t, err)
		assert.Equal(t, strconv.Itoa(101+i), string(out))
	}
	_, err = p.NewSession(t.Context(), []byte("x"))
	require.ErrorIs(t, err, loader.ErrStart)
	out, err := p.Call(t.Context(), "next", nil)
	require.NoError(t, err)
	assert.Equal(t, "101", string(out))
	require.NoError(t, b.Close())
	leave()
	_, err = a.Call(t.Context(), "next", nil)
	require.Error(t, err)
	assert.True(t, errors.Is(err, remote.ErrNodeLost) || errors.Is(err, loader.ErrLost), "%v", err)
}

// What is longer than a message of the server's goes in pieces, both ways and at once.
func testLong(t *testing.T, k *kit) {
	s := k.Start(t, 4096)
	k.Node(t, shout(), node{URL: s.URL(), Workers: 4})
	p, err := loader.Open(s.URL()+"/shout", k.Plugin(0), suffix())
	require.NoError(t, err)
	defer p.Close()
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for _, n := range []int{0, 1, 4000, 4095, 4096, 4097, 70_000, 3 << 20} {
				in := bytes.Repeat([]byte{byte('a' + i)}, n)
				out, err := p.Call(context.Background(), "shout", in)
				if assert.NoError(t, err) {
					assert.True(t, bytes.Equal(bytes.ToUpper(in), out), "%d", n)
				}
			}
		})
	}
	callers.Wait()
}

func init() {
	plugins["ledger"] = ledger
	tests = append(tests, test{"Faults", testFaults}, test{"StoppedNodeBeginsNothingLate", testStoppedNodeBeginsNothingLate}, test{"KilledNode", testKilledNode},
		test{"LeavingNodes", testLeavingNodes}, test{"BusyNode", testBusyNode}, test{"Sessions", testSessions}, test{"Long", testLong})
}

package script_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/script"
)

// busy are two scripts that do the same.
var busy = map[string]string{
	"busy.py": `# ferrule: name=busy version=1.0.0 fn=work fn=spin fn=counts fn=nests fn=well import=square import=again
import json

import ferrule
from ferrule import host

count = 0


def work(x):
    n = 0
    for i in range(int(x) % 50):
        n += int(host.square(str(i)))
    return str(n)


def spin():
    while True:
        pass


def counts():
    global count
    count += 1
    return str(count)


async def nests(x):
    return x if x == "0" else await same(host.again(str(int(x) - 1)) + "," + x)


async def same(x):
    return x


def well(x):
    return x + "!"
`,
	"busy.js": `// ferrule: name=busy version=1.0.0 fn=work fn=spin fn=counts fn=nests fn=well import=square import=again
import { host } from "ferrule";
let count = 0;
export function work(x) {
	let n = 0;
	for (let i = 0; i < Number(x) % 50; i++) n += Number(host.square(String(i)));
	return String(n);
}
export function spin() {
	for (;;);
}
export const counts = () => String(++count);
export const nests = async (x) => (x === "0" ? x : (await host.again(String(x - 1))) + "," + x);
export const well = (x) => x + "!";
`,
}

// Sixteen goroutines call a script, with host functions, sessions, calls that come back and calls that are cancelled among them: each gets its own result.
func TestManyCallers(t *testing.T) {
	python, javascript := fixture.PythonAdapter(t), fixture.JavaScriptAdapter(t)
	for name, c := range map[string]struct {
		file string
		e    engine.Engine
	}{
		"python":           {"busy.py", script.Engine(script.WithPython(python, isolate.Engine(isolate.WithGrace(10*time.Second))))},
		"python, in place": {"busy.py", script.Engine(script.WithPython(python, loader.Native()))},
		"wasm":             {"busy.js", script.Engine(script.WithWasm(compiled()))},
		"library":          {"busy.js", script.Engine(script.WithAdapter(javascript, loader.Native()))},
		"worker":           {"busy.js", script.Engine(script.WithAdapter(javascript, isolate.Engine()))},
	} {
		t.Run(name, func(t *testing.T) {
			var p *loader.Plugin
			var served atomic.Int64
			square := func(_ context.Context, in []byte) ([]byte, error) {
				n, err := strconv.Atoi(string(in))
				served.Add(1)
				return fmt.Append(nil, n*n), err
			}
			again := func(ctx context.Context, in []byte) ([]byte, error) { return p.Call(ctx, "nests", in) }
			p = opened(t, c.e, c.file, busy[c.file], loader.WithHostFunc("square", square), loader.WithHostFunc("again", again), loader.WithInstances(4))
			var all sync.WaitGroup
			for g := range 16 {
				all.Go(func() {
					for i := range 12 {
						switch n := g*12 + i; n % 4 {
						case 0, 1:
							out, err := p.Call(t.Context(), "work", fmt.Append(nil, n))
							if assert.NoError(t, err) {
								want := 0
								for i := range n % 50 {
									want += i * i
								}
								assert.Equal(t, fmt.Sprint(want), string(out))
							}
						case 2:
							if g != 0 { // several of these would wait for each other's instances
								continue
							}
							out, err := p.Call(t.Context(), "nests", []byte("3"))
							if assert.NoError(t, err) {
								assert.Equal(t, "0,1,2,3", string(out))
							}
						case 3:
							if g%4 == 0 && i < 4 {
								ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
								_, err := p.Call(ctx, "spin", nil)
								assert.ErrorIs(t, err, context.DeadlineExceeded)
								cancel()
							}
							s, err := p.NewSession(t.Context(), nil)
							if !assert.NoError(t, err) {
								continue
							}
							for want := range 3 {
								out, err := s.Call(t.Context(), "counts", nil)
								if assert.NoError(t, err) {
									assert.Equal(t, fmt.Sprint(want+1), string(out))
								}
							}
							assert.NoError(t, s.Close())
						}
					}
				})
			}
			all.Wait()
			assert.Positive(t, served.Load())
			well(t, p)
		})
	}
}

// pythons are the ways to run Python.
func pythons(tb testing.TB) map[string]engine.Engine {
	tb.Helper()
	adapter := fixture.PythonAdapter(tb)
	return map[string]engine.Engine{
		"worker":   script.Engine(script.WithPython(adapter, nil)),
		"in place": script.Engine(script.WithPython(adapter, loader.Native())),
	}
}

// A script's own threads work, at the same time as its calls; what they ask of the host fails, with words, whose call it would be.
func TestThreadsOfAScript(t *testing.T) {
	for name, e := range pythons(t) {
		t.Run(name, func(t *testing.T) {
			p := opened(t, e, "threads.py", `# ferrule: name=threads version=1.0.0 fn=sums fn=asks fn=leaves fn=left fn=well import=double
import threading

import ferrule
from ferrule import host

results = []


def sums(n):
    threads = [threading.Thread(target=lambda i=i: results.append(i)) for i in range(int(n))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return str(sum(results))


def asks(what):
    said = []

    def ask():
        try:
            eval(what, {"ferrule": ferrule, "host": host})
            said.append("nothing")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return said[0]


gate, done = threading.Event(), threading.Event()


def leaves():
    def later():
        gate.wait()
        print("printed when no call runs")
        try:
            host.double("x")
        except RuntimeError:
            done.set()

    threading.Thread(target=later).start()


def left():
    gate.set()
    return str(done.wait(30))


def well(x):
    return host.double(x)[0] + "!"
`, loader.WithHostFunc("double", double))
			out, err := p.Call(t.Context(), "sums", []byte("20"))
			require.NoError(t, err)
			assert.Equal(t, "190", string(out))
			for _, what := range []string{"host.double('x')", "ferrule.next('x')", "ferrule.info('data')", "ferrule.remaining()", "ferrule.input.read()", "ferrule.output.write('x')", "ferrule.host", "ferrule.settings"} {
				out, err := p.Call(t.Context(), "asks", []byte(what))
				require.NoError(t, err, what)
				assert.Contains(t, string(out), "thread of the script's own, expected", what)
			}
			for _, what := range []string{"ferrule.log.info('x')", "ferrule.progress(1)", "ferrule.cancelled()", "print('x')"} {
				out, err := p.Call(t.Context(), "asks", []byte(what))
				require.NoError(t, err, what)
				assert.Equal(t, "nothing", string(out), what)
			}
			_, err = p.Call(t.Context(), "leaves", nil)
			require.NoError(t, err)
			well(t, p)
			out, err = p.Call(t.Context(), "left", nil)
			require.NoError(t, err)
			assert.Equal(t, "True", string(out))
			well(t, p)
		})
	}
}

// In this process nothing ends a function that does not return but what it raises: that comes up in the call that is not wanted, and in no other of its thread.
func TestCancelledInPlace(t *testing.T) {
	var p *loader.Plugin
	inner := make(chan error, 1)
	cancels := make(chan context.CancelFunc, 1)
	p = opened(t, pythons(t)["in place"], "cancelled.py", `# ferrule: name=cancelled version=1.0.0 fn=outer fn=inner fn=stubborn fn=cleans fn=well import=within
import time

import ferrule
from ferrule import host


def outer():
    host.within("")
    while True:
        pass


def inner():
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass
    return "whole"


def stubborn():
    for i in range(2):
        try:
            while True:
                pass
        except BaseException:
            pass
    return "caught"


cleaned = []


def cleans():
    try:
        while True:
            pass
    finally:
        cleaned.append(len(cleaned))


def well(x):
    return x + "!"
`, loader.WithHostFunc("within", func(ctx context.Context, _ []byte) ([]byte, error) {
		(<-cancels)()
		out, err := p.Call(context.WithoutCancel(ctx), "inner", nil)
		if err == nil && string(out) != "whole" {
			err = fmt.Errorf("%q", out)
		}
		inner <- err
		return nil, nil
	}), loader.WithInstances(2))
	ctx, cancel := context.WithCancel(t.Context())
	cancels <- cancel
	_, err := p.Call(ctx, "outer", nil)
	assert.ErrorIs(t, err, context.Canceled)
	assert.NoError(t, <-inner, "it is not what was cancelled")
	well(t, p)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	_, err = p.Call(ctx, "cleans", nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	cancel()
	well(t, p)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	out, err := p.Call(ctx, "stubborn", nil) // it catches what it is told, and is told again
	if assert.NoError(t, err) {
		assert.Equal(t, "caught", string(out))
	}
	cancel()
	well(t, p)
}

// A script may have the host open another one while its top level runs, on the same thread.
func TestOpenWithinOpen(t *testing.T) {
	for name, e := range pythons(t) {
		t.Run(name, func(t *testing.T) {
			other := write(t, "other.py", "# ferrule: name=other version=1 fn=well\ndef well(x):\n    return x + '!'\n")
			p := opened(t, e, "opens.py", "# ferrule: name=opens version=1 fn=well import=opens\nfrom ferrule import host\nsaid = host.opens('7')\ndef well(x):\n    return said\n",
				loader.WithHostFunc("opens", func(ctx context.Context, in []byte) ([]byte, error) {
					p, err := loader.Open(other, loader.WithEngine(e))
					if err != nil {
						return nil, err
					}
					defer p.Close()
					return p.Call(ctx, "well", in)
				}))
			well(t, p)
		})
	}
}

// gathered is what a logger has written.
type gathered struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (g *gathered) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(locked{&g.mu, &g.b}, nil))
}

func (g *gathered) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.String()
}

// Each thread's and each call's lines are whole.
func TestLinesOfThreads(t *testing.T) {
	for name, e := range pythons(t) {
		t.Run(name, func(t *testing.T) {
			var lines gathered
			p := opened(t, e, "lines.py", "# ferrule: name=lines version=1 fn=says\nimport time\ndef says(x):\n    for c in x:\n        print(c, end='')\n        time.sleep(0)\n", loader.WithLogger(lines.logger()), loader.WithInstances(8))
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for range 20 {
						_, err := p.Call(t.Context(), "says", []byte(strings.Repeat(fmt.Sprint(i), 20)))
						assert.NoError(t, err)
					}
				})
			}
			all.Wait()
			for i := range 8 {
				assert.Equal(t, 20, strings.Count(lines.String(), "msg="+strings.Repeat(fmt.Sprint(i), 20)+" "), i)
			}
		})
	}
}

package sandbox_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// openLarge opens the plug-in of large results, with a host function that returns as many MiB as it is asked for.
func openLarge(t testing.TB, opts ...isolate.Option) *loader.Plugin {
	t.Helper()
	large := loader.WithHostFunc("large", func(_ context.Context, in []byte) ([]byte, error) {
		n, err := strconv.Atoi(string(in))
		return make([]byte, n<<20), err
	})
	p, err := loader.Open(fixture.C(t, "large_results"), large, isolate.InWorker(opts...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func pid(t testing.TB, p *loader.Plugin) int {
	t.Helper()
	isolation, ok := p.Isolation()
	require.True(t, ok)
	require.NotZero(t, isolation.PID)
	return isolation.PID
}

// A result that is longer than what the worker may hold comes through, or is refused in words; it never ends the worker. So
// it is with results of host functions and with batches.
func TestLongResultsOfAWorkerWithLittleMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has memory of its own for all memory")
	}
	ctx := context.Background()
	const memory = 128 << 20
	for name, p := range map[string]*loader.Plugin{
		"MaxMessage as Memory": openLarge(t, sandbox.With(sandbox.Policy{Memory: memory})),
		"MaxMessage of 1 GiB":  openLarge(t, sandbox.With(sandbox.Policy{Memory: memory}), isolate.WithMaxMessage(1<<30)),
	} {
		t.Run(name, func(t *testing.T) {
			before := pid(t, p)
			for _, mib := range []int{10, 128, 129, 250, 1} {
				out, err := p.Call(ctx, "result", []byte(strconv.Itoa(mib)))
				if name == "MaxMessage as Memory" && mib<<20 > memory {
					assert.ErrorIs(t, err, loader.ErrNoMemory)
					assert.ErrorContains(t, err, fmt.Sprintf("an output of %d bytes: the host has no room for it (see sandbox.Policy.Memory, which", mib<<20))
				} else {
					assert.NoError(t, err, "%d MiB", mib)
					assert.Len(t, out, mib<<20)
				}
			}
			for _, mib := range []int{1, 16, 17, 60, 1} {
				_, err := p.Call(ctx, "ask", []byte(strconv.Itoa(mib)))
				if mib > 16 { // the plug-in may have no memory itself, or the worker none for the copy
					assert.ErrorIs(t, err, loader.ErrNoMemory, "%d MiB from the host", mib)
				} else {
					assert.NoError(t, err, "%d MiB from the host", mib)
				}
			}
			fn, err := p.Func("result")
			require.NoError(t, err)
			var batch loader.Batch
			for _, mib := range []string{"1", "3", "16", "100"} {
				inputs := make([][]byte, 20)
				for i := range inputs {
					inputs[i] = []byte(mib)
				}
				inputs[0] = []byte("0")
				require.NoError(t, fn.Batch(ctx, inputs, &batch))
				require.Equal(t, len(inputs), batch.Len())
				n, _ := strconv.Atoi(mib)
				for i := range inputs[1:] {
					out, err := batch.Result(i + 1)
					switch {
					case n > 16:
						assert.ErrorIs(t, err, loader.ErrNoMemory)
					case n > 3 && err != nil: // it ran in one crossing with others
						assert.ErrorIs(t, err, loader.ErrNoMemory)
					default:
						assert.NoError(t, err, "%s MiB, record %d", mib, i)
						assert.Len(t, out, n<<20)
					}
				}
			}
			assert.Equal(t, before, pid(t, p), "the worker is the same")
		})
	}
}

// Without a limit of its memory a worker hands over what the host takes: 256 MiB, unless WithMaxMessage says otherwise.
func TestLongestResult(t *testing.T) {
	p := openLarge(t)
	v, err := p.Func("result")
	require.NoError(t, err)
	view, err := v.View(context.Background(), []byte("256"))
	require.NoError(t, err)
	assert.Len(t, view.Bytes(), 256<<20)
	view.Release()
	_, err = p.Call(context.Background(), "result", []byte("257"))
	assert.ErrorIs(t, err, loader.ErrNoMemory)
}

const hostVariable = "FERRULE_TEST_HOST_MEMORY"

// The most that one call costs the host is what WithMaxMessage says: twice as much, whatever the worker returns.
func TestHostMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has memory of its own for all memory")
	}
	const mib = 64
	if os.Getenv(hostVariable) != "" {
		p := openLarge(t, isolate.WithMaxMessage(mib<<20))
		for range 4 {
			_, err := p.Call(context.Background(), "result", []byte(strconv.Itoa(mib)))
			require.NoError(t, err)
			_, err = p.Call(context.Background(), "result", []byte("2048"))
			require.ErrorIs(t, err, loader.ErrNoMemory)
			debug.FreeOSMemory() // when garbage is collected is not this test's business
		}
		status, err := os.ReadFile("/proc/self/status")
		require.NoError(t, err)
		fmt.Println(regexp.MustCompile(`VmHWM:\s+\d+`).FindString(string(status)))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHostMemory$", "-test.count=1")
	cmd.Env = append(os.Environ(), hostVariable+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	found := regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(out)
	require.NotNil(t, found, "%s", out)
	kib, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	used := kib >> 10
	t.Logf("host: %d MiB at most", used)
	const own = 64 // of the program
	assert.LessOrEqual(t, used, 2*mib+own)
}

// The page tables of mappings that are read here and there are bounded, too, which no limit of memory counts.
func TestPageTables(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has page tables of its own")
	}
	const memory = 64 << 20
	p := open(t, "sandbox_attempts", sandbox.Policy{Memory: memory})
	ctx := context.Background()
	tables := func() int {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid(t, p)))
		require.NoError(t, err)
		found := regexp.MustCompile(`VmPTE:\s+(\d+) kB`).FindSubmatch(status)
		require.NotNil(t, found)
		kib, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		return kib << 10
	}
	own := tables()
	for _, gib := range []string{"1024", "128", "16"} {
		_, err := p.Call(ctx, "map_sparsely", []byte(gib))
		assertNoMemory(t, err)
	}
	mapped := 0
	for ; mapped < 100; mapped++ {
		if _, err := p.Call(ctx, "map_sparsely", []byte("1")); err != nil {
			assertNoMemory(t, err)
			break
		}
	}
	assert.Greater(t, mapped, 8, "what is mapped honestly has room")
	assert.Less(t, mapped, 13)
	assert.LessOrEqual(t, tables()-own, memory/4+8<<20)
	assert.Equal(t, "works", func() string {
		out, err := p.Call(ctx, "local_time", []byte("UTC"))
		require.NoError(t, err)
		return strings.Replace(string(out), "15:06 UTC", "works", 1)
	}())
}

// assertNoMemory finds a plug-in's words for ENOMEM, which are glibc's or musl's.
func assertNoMemory(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	assert.Regexp(t, "Cannot allocate memory|Out of memory", err.Error())
}

// A result that the plug-in writes into room of the host's (R25) takes none of the worker's memory.
func TestRoomOfAWorkerWithLittleMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has memory of its own for all memory")
	}
	p, err := loader.Open(fixture.C(t, "services"), loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) { return nil, nil }),
		isolate.InWorker(sandbox.With(sandbox.Policy{Memory: 128 << 20}), isolate.WithMaxMessage(1<<30)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	f, err := p.Func("room")
	require.NoError(t, err)
	before := pid(t, p)
	for _, mib := range []int{100, 1, 200, 100} {
		in := []byte(strconv.Itoa(mib << 20))
		v, err := f.View(context.Background(), in)
		require.NoError(t, err, "%d MiB", mib)
		require.Len(t, v.Bytes(), mib<<20)
		for _, at := range []int{0, 12345, mib<<20 - 1} {
			assert.Equal(t, byte(at*7), v.Bytes()[at])
		}
		v.Release()
		out, err := f.Append(context.Background(), nil, in)
		require.NoError(t, err)
		assert.Len(t, out, mib<<20)
	}
	assert.Equal(t, before, pid(t, p))
}

// The folder that is the plug-in's own is there for it in a sandbox, too, and no other.
func TestDataFolder(t *testing.T) {
	folder, other := t.TempDir(), t.TempDir()
	p, err := loader.Open(fixture.C(t, "sandbox_attempts"), loader.WithDataFolder(folder), isolate.InWorker(sandbox.With(sandbox.Policy{})))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	for path, allowed := range map[string]bool{folder: true, other: false} {
		_, err := p.Call(context.Background(), "write_file", []byte(path+"/file"))
		if allowed {
			assert.NoError(t, err)
			assert.FileExists(t, path+"/file")
		} else {
			assert.Error(t, err)
			assert.NoFileExists(t, path+"/file")
		}
	}
}

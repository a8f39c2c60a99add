package isolate_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// Many workers run at once, and nothing of them is left. FERRULE_MANY_WORKERS says how many, and `make many` shows what they cost;
// where the system starts no more, Open says why, and those that run go on.
func TestManyWorkers(t *testing.T) {
	many := 12
	if text := os.Getenv("FERRULE_MANY_WORKERS"); text != "" {
		var err error
		many, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	path := fixture.C(t, "echo")
	open(t, path, isolate.InWorker()) // what the first one needs
	descriptors, threads, memory := openFiles(t), threadsOf(t, os.Getpid()), proportional(t, os.Getpid())
	var plugins []*loader.Plugin
	start := time.Now()
	for range many {
		p, err := loader.Open(path, isolate.InWorker())
		if err != nil {
			t.Logf("it ends at %d: %v", len(plugins), err)
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			require.Contains(t, e.Remedy, "ulimit")
			break
		}
		plugins = append(plugins, p)
	}
	opening, n := time.Since(start), len(plugins)
	pids := make(map[int]bool)
	workerThreads, workerMemory := 0, 0
	start = time.Now()
	for i, p := range plugins {
		out, err := p.Call(ctx, "echo", []byte(fmt.Sprint(i)))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(i), string(out))
	}
	calls := time.Since(start)
	for _, p := range plugins {
		isolation, _ := p.Isolation()
		pids[isolation.PID] = true
		workerThreads += threadsOf(t, isolation.PID)
		workerMemory += proportional(t, isolation.PID)
	}
	assert.Len(t, pids, n)
	mine := []float64{float64(openFiles(t) - descriptors), float64(threadsOf(t, os.Getpid()) - threads),
		float64(proportional(t, os.Getpid())-memory) / 1e6}
	start = time.Now()
	for _, p := range plugins {
		require.NoError(t, p.Close())
	}
	each, closing := float64(n), time.Since(start)
	t.Logf("%d workers: Open %v each, a first call %v, Close %v; a worker has %.1f threads and %.2f MB of memory; the host has %.2f descriptors, %.2f threads and %.3f MB for each",
		n, opening/time.Duration(n), calls/time.Duration(n), closing/time.Duration(n), float64(workerThreads)/each, float64(workerMemory)/1e6/each,
		mine[0]/each, mine[1]/each, mine[2]/each)
	for pid := range pids {
		assertGone(t, fmt.Sprint(pid))
	}
	require.Eventually(t, func() bool { return openFiles(t) <= descriptors }, time.Minute, 10*time.Millisecond, "descriptors: %d before", descriptors)
}

func threadsOf(t testing.TB, pid int) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	require.NoError(t, err)
	return len(entries)
}

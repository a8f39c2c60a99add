package loader_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// usage is what the process has of what a system has little of.
type usage struct{ resident, heap, mappings, descriptors, threads int }

func usageNow(t testing.TB) (u usage) {
	t.Helper()
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	descriptors, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return usage{residentBytes(t), int(heap.HeapAlloc), bytes.Count(maps, []byte("\n")), len(descriptors), len(threads)}
}

// numberOf reads how many there are to be from the environment.
func numberOf(t testing.TB, variable string, usual int) int {
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, variable)
	return n
}

// Many plug-ins are open at once, each from a file of its own. They take mappings and memory, but no descriptor and no thread, and
// give the mappings back. FERRULE_MANY says how many, and `make many` shows what they cost; where the system has no more
// mappings, Open says so, and those that are open go on.
func TestManyPlugins(t *testing.T) {
	many := numberOf(t, "FERRULE_MANY", 200)
	data, err := os.ReadFile(fixture.C(t, "echo"))
	require.NoError(t, err)
	dir := t.TempDir()
	open(t, fixture.C(t, "echo")) // what the first one needs
	before := usageNow(t)
	var opening, slowest time.Duration
	var plugins []*loader.Plugin
	for i := range many {
		path := filepath.Join(dir, strconv.Itoa(i)+".so")
		require.NoError(t, os.WriteFile(path, data, 0o700))
		start := time.Now()
		p, err := loader.Open(path, loader.WithUnload())
		took := time.Since(start)
		if err != nil {
			t.Logf("it ends at %d: %v", len(plugins), err)
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			require.Contains(t, e.Remedy, "vm.max_map_count")
			break
		}
		opening, slowest = opening+took, max(slowest, took)
		plugins = append(plugins, p)
	}
	all := usageNow(t)
	start := time.Now()
	for i, p := range plugins {
		assert.Equal(t, fmt.Sprint(i), call(t, p, "echo", fmt.Sprint(i)))
	}
	calls, n := time.Since(start), len(plugins)
	t.Logf("%d plug-ins: Open %v each, %v at most; a first call %v; each %.1f KiB of memory, of which %.1f Go's, and %.2f mappings",
		n, opening/time.Duration(n), slowest, calls/time.Duration(n), float64(all.resident-before.resident)/float64(n)/1024,
		float64(all.heap-before.heap)/float64(n)/1024, float64(all.mappings-before.mappings)/float64(n))
	start = time.Now()
	for _, p := range plugins {
		require.NoError(t, p.Close())
	}
	t.Logf("Close %v each", time.Since(start)/time.Duration(n))
	after := usageNow(t)
	assert.LessOrEqual(t, all.descriptors, before.descriptors)
	assert.Less(t, all.threads-before.threads, 20, "none for each")
	if os.Getenv(fixture.Libc) != "musl" { // which unloads nothing
		assert.Less(t, after.mappings, before.mappings+n/2)
	}
}

const mappingsVariable = "FERRULE_TEST_MAPPINGS" // the library, for a process that runs this test only

// A process that has as many mappings as the system allows is told so, and goes on.
func TestNoMappings(t *testing.T) {
	path := os.Getenv(mappingsVariable)
	if path == "" {
		if os.Getenv(fixture.Emulated) != "" || os.Getenv(fixture.Libc) == "musl" {
			t.Skip("an emulator has mappings of its own; musl has other words for it")
		}
		state := fixture.C(t, "state")
		var text []byte
		var err error
		for range 10 {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoMappings$", "-test.v")
			cmd.Env = append(os.Environ(), mappingsVariable+"="+state)
			text, err = cmd.CombinedOutput()
			if !bytes.Contains(text, []byte("fatal error: runtime: cannot allocate memory")) {
				break // else Go's own runtime wanted one first, and ends a process that has none
			}
		}
		require.NoError(t, err, "%s", text)
		require.Contains(t, string(text), "--- PASS: TestNoMappings")
		return
	}
	p := open(t, fixture.C(t, "echo"))
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	require.NoError(t, err)
	most, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	require.NoError(t, err)
	if most > 1<<20 {
		t.Skipf("this system allows a process %d mappings: it takes long to make them", most)
	}
	page := os.Getpagesize()
	pages, err := unix.Mmap(-1, 0, (most+1)*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	require.NoError(t, err)
	at := page
	for unix.Mprotect(pages[at:at+page], unix.PROT_READ) == nil { // each makes two more of one
		at += 2 * page
	}
	for n := 2; n <= 4; n += 2 { // Go itself may need some
		require.NoError(t, unix.Mprotect(pages[at-n*page:at-(n-1)*page], unix.PROT_NONE))
	}
	_, err = loader.Open(path)
	require.NoError(t, unix.Munmap(pages))
	var e *loader.OpenError
	require.ErrorAs(t, err, &e)
	assert.ErrorIs(t, err, loader.ErrLoad)
	assert.Contains(t, e.Remedy, "vm.max_map_count", "%v", err)
	assert.Equal(t, "goes on", call(t, p, "echo", "goes on"))
	open(t, path)
}

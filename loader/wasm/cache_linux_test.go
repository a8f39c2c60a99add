package wasm_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// What was compiled is freed when its plug-in is closed, also where a cache is shared by all of them.
func TestCodeIsFreed(t *testing.T) {
	engine := wasm.Engine(wasm.WithCache(t.TempDir()))
	code := func() (size int64) {
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		for line := range strings.Lines(string(maps)) {
			if strings.Contains(line, " r-xp 00000000 00:00 0") { // of no file
				var from, to int64
				_, err := fmt.Sscanf(line, "%x-%x ", &from, &to)
				require.NoError(t, err)
				size += to - from
			}
		}
		return size
	}
	cycle := func(name string) {
		p, err := loader.Open(fixture.WasmC(t, name), loader.WithEngine(engine), loader.WithHostFunc("upper", upper), loader.WithHostFunc("slow", upper),
			loader.WithHostFunc("long_result", upper), loader.WithHostFunc("again", upper))
		require.NoError(t, err)
		require.NoError(t, p.Close())
	}
	names := []string{"echo", "state", "wasm_faults", "wasm_escapes", "wasm_files", "negative_status", "null_out_with_length", "message_not_utf8"}
	settled := func() int64 {
		for range 3 { // the collector frees it, behind finalizers
			runtime.GC()
			time.Sleep(20 * time.Millisecond)
		}
		return code()
	}
	cycle("echo")
	before := settled()
	for range 3 { // more often than a page for each could go unseen
		for _, name := range names {
			cycle(name)
		}
	}
	left := settled()
	for end := time.Now().Add(time.Minute); left > before && time.Now().Before(end); left = settled() {
	}
	assert.LessOrEqual(t, left, before, "bytes of code that %d modules were compiled to", 3*len(names))
	runtime.KeepAlive(engine) // and its cache with it
}

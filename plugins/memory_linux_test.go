package plugins_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
)

// BenchmarkReplace replaces a plug-in of 16 KB as often as it is asked to, and says what stays of each version in this process: the Pss of the whole
// process, and its mappings. The numbers of docs/operating.md are from
//
//	go test -run '^$' -bench Replace -benchtime 1000x ./plugins
func BenchmarkReplace(b *testing.B) {
	fixture.Loadable(b)
	for _, engine := range []string{"in-process", "isolated"} {
		b.Run(engine, func(b *testing.B) {
			h := newHost(b, engine)
			file := filepath.Join(h.folder, "plugin_aaaa"+fixture.Ext())
			h.listed = "  - {name: plugin_aaaa}\n"
			if engine == "isolated" {
				h.listed = "  - {name: plugin_aaaa, isolate: {sandbox: none}}\n"
			}
			variant(b, "system", file)
			sys := h.new()
			require.NoError(b, sys.Start(b.Context()))
			f, err := sys.Func("plugin_aaaa", "version")
			require.NoError(b, err)
			_, err = f.Call(b.Context(), nil)
			require.NoError(b, err)
			memory, mappings := footprint(b)
			n := 0
			for b.Loop() {
				version := fmt.Sprintf("%d.%d.%d", 1+n/100%9, n/10%10, n%10) // 900 different files
				n++
				variant(b, "system", file, "1.0.0", version)
				require.NoError(b, sys.Reload(b.Context()))
				out, err := f.Call(b.Context(), nil)
				require.NoError(b, err)
				require.Equal(b, version, string(out))
			}
			p, _ := sys.Plugin("plugin_aaaa")
			require.Equal(b, plugins.StateStarted, p.State)
			after, more := footprint(b)
			b.ReportMetric(float64(after-memory)/float64(n), "B/replacement")
			b.ReportMetric(float64(more-mappings)/float64(n), "mappings/replacement")
		})
	}
}

// footprint is of this process: its share of memory in bytes, and how many mappings it has.
func footprint(b *testing.B) (bytesUsed, mappings int) {
	rollup, err := os.ReadFile("/proc/self/smaps_rollup")
	require.NoError(b, err)
	_, rest, ok := strings.Cut(string(rollup), "\nPss:")
	require.True(b, ok)
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(b, err)
	return kb << 10, bytes.Count(maps, []byte("\n"))
}

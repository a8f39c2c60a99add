// Command first counts the vowels of a text with a plug-in: with one in Go, which is compiled in, or with the library that is named to it. So it shows
// a host and a plug-in where nothing but Go is installed.
//
//	first [-plugin LIBRARY] TEXT
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// vowels is the plug-in.
var vowels = &builtin.Plugin{Name: "vowels", Version: "1.0.0", Threads: abi.Concurrent,
	Funcs: []builtin.Function{{Name: "count_vowels", Call: func(_ context.Context, text []byte) ([]byte, error) {
		n := 0
		for _, c := range text {
			if strings.IndexByte("aeiouAEIOU", c) >= 0 {
				n++
			}
		}
		return strconv.AppendInt(nil, int64(n), 10), nil
	}}}}

func main() {
	name := flag.String("plugin", vowels.Name, "the library to open")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: first [-plugin LIBRARY] TEXT")
		os.Exit(2)
	}
	if err := run(*name, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "first:", err)
		os.Exit(1)
	}
}

// run opens the plug-in in Go by its name, and any other as a library.
func run(name, text string) error {
	p, err := loader.Open(name, loader.WithEngine(builtin.Engine(vowels)), loader.WithEngine(loader.Native()))
	if err != nil {
		return err
	}
	defer p.Close()
	count, err := p.Call(context.Background(), "count_vowels", []byte(text))
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s %s: %s vowels\n", p.Name(), p.Version(), count)
	return err
}

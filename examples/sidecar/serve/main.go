// Serve is a sidecar in Go, by the package that has all of the wire.
package main

import (
	"context"
	"log"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func main() {
	plugin := &builtin.Plugin{Name: "vowels", Version: "1.0.0", Funcs: []builtin.Function{{Name: "count_vowels", Call: countVowels}}}
	if err := serve.Stdio(context.Background(), serve.Go(plugin)); err != nil {
		log.Fatal(err)
	}
}

func countVowels(_ context.Context, in []byte) ([]byte, error) {
	n := 0
	for _, c := range string(in) {
		if strings.ContainsRune("aeiouAEIOU", c) {
			n++
		}
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

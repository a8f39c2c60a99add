// Vowels is a sidecar by hand: `ferrule gen` writes the same from a package of functions.
package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
	"github.com/ferrule-dev/ferrule/sdk-go/sidecar"
)

func main() {
	sidecar.Main(plugin.New(plugin.Definition{Name: "vowels", Version: "1.0.0", Functions: []plugin.Function{{Name: "count_vowels", Call: countVowels}}}))
}

func countVowels(_ context.Context, _ any, in []byte) ([]byte, error) {
	n := 0
	for _, c := range string(in) {
		if strings.ContainsRune("aeiouAEIOU", c) {
			n++
		}
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

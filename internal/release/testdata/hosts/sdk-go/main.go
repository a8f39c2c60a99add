// A plug-in in Go, as a sidecar: what is here is what the SDK asks of a plug-in that is written without `ferrule gen`.
package main

import (
	"context"
	"strconv"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
	"github.com/ferrule-dev/ferrule/sdk-go/sidecar"
)

func main() {
	sidecar.Main(plugin.New(plugin.Definition{Name: "next", Version: "1.0.0", Functions: []plugin.Function{
		{Name: "next", Call: func(_ context.Context, _ any, in []byte) ([]byte, error) {
			n, err := strconv.Atoi(string(in))
			return strconv.AppendInt(nil, int64(n+1), 10), err
		}},
	}}))
}

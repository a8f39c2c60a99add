// Command sidecar is the discount as a program: it speaks by its standard input and output.
package main

import (
	"context"
	"log"

	"github.com/ferrule-dev/ferrule/examples/everywhere/discount"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func main() {
	if err := serve.Stdio(context.Background(), serve.Go(discount.Plugin)); err != nil {
		log.Fatal(err)
	}
}

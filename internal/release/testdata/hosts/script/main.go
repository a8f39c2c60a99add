// A host that opens a script in JavaScript.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
)

func main() {
	p, err := loader.Open("next.js", loader.WithEngine(script.Engine()))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	n, err := loader.CallJSON[int, int](context.Background(), p, "next", 41)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %d\n", p.Name(), n)
}

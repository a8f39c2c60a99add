// Command unboxed can be a worker, but no sandboxed one: it does not import package sandbox. Its main function leaves a
// file.
package main

import (
	"os"

	_ "github.com/ferrule-dev/ferrule/loader/isolate"
)

func main() {
	if err := os.WriteFile(os.Args[0]+".main-ran", nil, 0o600); err != nil {
		panic(err)
	}
}

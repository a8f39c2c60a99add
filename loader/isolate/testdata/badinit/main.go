// Command badinit can be a worker, but an init function of its own runs before.
package main

import (
	_ "github.com/ferrule-dev/ferrule/loader/isolate"
	_ "github.com/ferrule-dev/ferrule/loader/isolate/testdata/badinit/early"
)

func main() {}

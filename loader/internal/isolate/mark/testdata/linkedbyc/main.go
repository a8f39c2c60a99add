// Command linkedbyc has the mark of a worker, and is linked by the C compiler.
package main

import "C"

import "github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"

func init() { mark.OfWorker() }

func main() {}

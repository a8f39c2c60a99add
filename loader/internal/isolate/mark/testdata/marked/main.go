// Command marked has the mark of a worker, and is none.
package main

import "github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"

func init() { mark.OfWorker() }

func main() {}

package main

import (
	"golang.org/x/sys/windows"

	"context"

	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func makeFIFOs(...string) (remove func(), err error) {
	return nil, usage("--fifo on Windows", "another place to serve at: there are no FIFOs here", "Take --unix, --tcp or --stdio")
}

func serveFIFOs(context.Context, string, string, serve.Plugin, serve.Options) error { return nil }

// refusedHere is what this system says where nobody listens.
var refusedHere error = windows.WSAECONNREFUSED

// turn is nobody's here: a socket that is made at a path where there is one fails in any case.
func turn(context.Context, string) (release func(), err error) { return func() {}, nil }

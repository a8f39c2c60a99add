package sidecar_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// modes are what else the test's own program may be, by its first argument; it is given the others.
var modes = map[string]func(args []string){}

// The test's own program is a sidecar when it is asked to be: it serves the library that is named.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && modes[os.Args[1]] != nil {
		modes[os.Args[1]](os.Args[2:])
		return
	}
	if len(os.Args) < 3 || os.Args[1] != "serve" {
		os.Exit(m.Run())
	}
	if err := served(os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func served(path string, how []string) error {
	p, err := serve.Plugin{}, error(nil)
	if path == crowd {
		p = serve.Go(crowded())
	} else if p, err = serve.File(path); err != nil {
		return err
	}
	ctx := context.Background()
	switch {
	case len(how) == 0:
		return serve.Stdio(ctx, p)
	case how[0] == "plain":
		_ = os.Unsetenv("FERRULE_SIDECAR")
		return serve.Stdio(ctx, p)
	case how[0] == "fifo":
		return servedByFIFOs(ctx, p, how[1], how[2])
	}
	l, err := net.Listen(how[0], how[1])
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return serve.Listen(ctx, l, p, serve.Options{Grace: time.Second})
}

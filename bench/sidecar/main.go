// Command sidecar is the work as a sidecar in Go. Without an argument it serves the process that has started it. With unix, tcp or fifo it listens in a folder, the second
// argument, or on a port of its own, and prints the URL that a host opens as soon as it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/bench/internal/gowork"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx := context.Background()
	p := serve.Go(&builtin.Plugin{Name: "work", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"host_echo"}, Funcs: []builtin.Function{
		{Name: "echo", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
		{Name: "count_vowels", Call: func(_ context.Context, in []byte) ([]byte, error) { return gowork.CountVowels(nil, in), nil }},
		{Name: "ask", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "host_echo", in) }},
	}})
	if len(args) == 0 {
		return serve.Stdio(ctx, p)
	}
	if len(args) != 2 {
		return errors.New("expected unix, tcp or fifo, and a folder")
	}
	switch way, folder := args[0], args[1]; way {
	case "fifo":
		in, out := filepath.Join(folder, "in"), filepath.Join(folder, "out")
		for _, path := range []string{in, out} {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				return err
			}
		}
		fmt.Println("fifo:" + in + "," + out)
		return serve.FIFOs(ctx, in, out, p, serve.Options{})
	case "unix", "tcp":
		address := "127.0.0.1:0"
		if way == "unix" {
			address = filepath.Join(folder, "socket")
		}
		l, err := net.Listen(way, address)
		if err != nil {
			return err
		}
		fmt.Println(way + ":" + l.Addr().String())
		return serve.Listen(ctx, l, p, serve.Options{})
	default:
		return fmt.Errorf("found %q, expected unix, tcp or fifo", way)
	}
}

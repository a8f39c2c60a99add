package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

func init() {
	contenders["sidecar-stdio"] = func(e env) (*peer, error) { return openSidecar(e.path("go-sidecar")) }
	contenders["sidecar-python"] = func(e env) (*peer, error) {
		p, err := openSidecar(e.path("sidecar.pyz"), sidecar.WithInterpreter("python3"))
		if err != nil {
			return nil, err
		}
		every, taken := p.fn, make(map[string]bool)
		p.fn = func(name string) (call, error) {
			if taken[name] {
				return nil, unsupported("it takes one call at a time")
			}
			c, err := every(name)
			if err != nil {
				return nil, err
			}
			taken[name] = true
			return func(dst, in []byte) ([]byte, error) {
				if !slices.Contains([]int{64, 1 << 20}, len(in)) {
					return nil, unsupported("it is there for the smallest and the largest input")
				}
				return c(dst, in)
			}, nil
		}
		return p, nil
	}
	for _, way := range []string{"unix", "tcp", "fifo"} {
		contenders["sidecar-"+way] = func(e env) (*peer, error) { return connect(e, way) }
	}
}

// openSidecar opens a program, or a URL.
func openSidecar(path string, opts ...sidecar.Option) (*peer, error) {
	p, err := loader.Open(path, sidecar.Program(append(opts, sidecar.WithOutput(os.Stderr))...),
		loader.WithHostFunc("host_echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return &peer{
		fn: func(name string) (call, error) {
			f, err := p.Func(name)
			if err != nil {
				return nil, err
			}
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }, nil
		},
		close: func() { p.Close() },
	}, nil
}

// connect starts a sidecar that listens, and opens it. It ends with this process's group, or when the peer is closed.
func connect(e env, way string) (_ *peer, err error) {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(e.path("go-sidecar"), way, folder)
	cmd.Stderr = os.Stderr
	end := func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		_ = os.RemoveAll(folder)
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the sidecar has named no URL: found %q", url), err)
	}
	p, err := openSidecar(strings.TrimSpace(url))
	if err != nil {
		return nil, err
	}
	closePlugin := p.close
	p.close = func() {
		closePlugin()
		end()
	}
	return p, nil
}

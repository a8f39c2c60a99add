package main

import (
	"context"
	"os"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/wasm"

	work "github.com/ferrule-dev/ferrule/bench/sdkgo"
)

// functions is the work as a host has it that knows the package, and calls it through an interface of its own.
type functions interface {
	Echo(ctx context.Context, in []byte) ([]byte, error)
	CountVowels(ctx context.Context, in []byte) ([]byte, error)
	Fail(ctx context.Context, how []byte) ([]byte, error)
}

type ofPackage struct{}

func (ofPackage) Echo(ctx context.Context, in []byte) ([]byte, error) { return work.Echo(ctx, in) }
func (ofPackage) CountVowels(ctx context.Context, in []byte) ([]byte, error) {
	return work.CountVowels(ctx, in)
}
func (ofPackage) Fail(ctx context.Context, how []byte) ([]byte, error) { return work.Fail(ctx, how) }

// registered is where a host has it: nobody knows the type behind the interface when the call is compiled.
var registered = map[string]functions{"work": ofPackage{}}

// The source in Go in each form, opened without options that are not needed.
func init() {
	contenders["go-interface"] = func(env) (*peer, error) {
		ctx, w := context.Background(), registered["work"]
		copied := func(dst, out []byte, err error) ([]byte, error) { return append(dst, out...), err }
		return &peer{fn: func(name string) (call, error) {
			return map[string]call{
				"echo": func(dst, in []byte) ([]byte, error) {
					out, err := w.Echo(ctx, in)
					return copied(dst, out, err)
				},
				"count_vowels": func(dst, in []byte) ([]byte, error) {
					out, err := w.CountVowels(ctx, in)
					return copied(dst, out, err)
				},
				"fail": func(dst, in []byte) ([]byte, error) {
					out, err := w.Fail(ctx, in)
					return copied(dst, out, err)
				},
			}[name], nil
		}, once: true}, nil
	}
	contenders["go-builtin"] = func(env) (*peer, error) {
		return appending(builtin.Open(builtin.From(work.Plugin)))
	}
	contenders["go-sidecar"] = func(e env) (*peer, error) {
		return appending(loader.Open(e.path("sdkgo"), sidecar.Program(sidecar.WithOutput(os.Stderr))))
	}
	contenders["go-library"] = func(e env) (*peer, error) {
		return appending(loader.Open(e.path("sdkgo.so"), isolate.InWorker()))
	}
	contenders["go-wasm"] = func(e env) (*peer, error) {
		var options []wasm.Option
		if e.cache != "" {
			options = append(options, wasm.WithCache(e.cache))
		}
		p, err := appending(loader.Open(e.path("sdkgo.wasm"), loader.WithEngine(wasm.Engine(options...))))
		if err == nil {
			p.compiles = true
		}
		return p, err
	}
}

// appending makes calls by Func.Append with a background context.
func appending(p *loader.Plugin, err error) (*peer, error) {
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

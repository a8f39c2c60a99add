package main

import (
	"context"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func init() {
	contenders["ferrule-append"] = func(e env) (*peer, error) {
		return openFerrule(e, func(f *loader.Func) call {
			ctx := context.Background()
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }
		})
	}
	contenders["ferrule-isolated"] = func(e env) (*peer, error) {
		return openFerrule(e, func(f *loader.Func) call {
			ctx := context.Background()
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }
		}, isolate.InWorker())
	}
	contenders["ferrule-call"] = func(e env) (*peer, error) {
		return openFerrule(e, func(f *loader.Func) call {
			ctx := context.Background()
			return func(_, in []byte) ([]byte, error) { return f.Call(ctx, in) }
		})
	}
}

func openFerrule(e env, how func(*loader.Func) call, opts ...loader.Option) (*peer, error) {
	p, err := loader.Open(e.path("ferrule_work.so"), append(opts,
		loader.WithHostFunc("host_echo", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))...)
	if err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			f, err := p.Func(name)
			if err != nil {
				return nil, err
			}
			return how(f), nil
		},
		close: func() { p.Close() },
	}, nil
}

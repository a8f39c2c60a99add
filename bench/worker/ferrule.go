package main

import (
	"context"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func init() {
	append := func(ctx context.Context) func(*loader.Func) call {
		return func(f *loader.Func) call {
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }
		}
	}
	contenders["ferrule-append"] = func(e env) (*peer, error) {
		return openFerrule(e, "ferrule_work.so", append(context.Background()))
	}
	contenders["ferrule-cancellable"] = func(e env) (*peer, error) {
		ctx, cancel := context.WithCancel(context.Background())
		p, err := openFerrule(e, "ferrule_work.so", append(ctx))
		if err != nil {
			cancel()
			return nil, err
		}
		closePlugin := p.close
		p.close = func() {
			closePlugin()
			cancel()
		}
		return p, nil
	}
	contenders["ferrule-serial"] = func(e env) (*peer, error) {
		return openFerrule(e, "ferrule_serial.so", append(context.Background()))
	}
	contenders["ferrule-isolated"] = func(e env) (*peer, error) {
		return openFerrule(e, "ferrule_work.so", append(context.Background()), isolate.InWorker())
	}
	contenders["ferrule-call"] = func(e env) (*peer, error) {
		return openFerrule(e, "ferrule_work.so", func(f *loader.Func) call {
			ctx := context.Background()
			return func(_, in []byte) ([]byte, error) { return f.Call(ctx, in) }
		})
	}
}

func openFerrule(e env, file string, how func(*loader.Func) call, opts ...loader.Option) (*peer, error) {
	p, err := loader.Open(e.path(file), append(opts,
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

package main

import (
	"bytes"
	"context"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func init() {
	contenders["ferrule-stream"] = func(e env) (*peer, error) { return openStream(e) }
	contenders["ferrule-stream-isolated"] = func(e env) (*peer, error) { return openStream(e, isolate.InWorker()) }
	contenders["ferrule-at-once"] = func(e env) (*peer, error) { return openAtOnce(e) }
	contenders["ferrule-at-once-isolated"] = func(e env) (*peer, error) {
		return openAtOnce(e, isolate.InWorker(isolate.WithMaxMessage(1<<30)))
	}
}

// appender appends what is written. It is not one of the writers that the loader knows: it could block.
type appender struct{ to []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.to = append(a.to, p...)
	return len(p), nil
}

func openStream(e env, opts ...loader.Option) (*peer, error) {
	p, err := loader.Open(e.path("ferrule_stream.so"), opts...)
	if err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			if name == "echo" {
				name = "pipe" // the same on a stream
			}
			f, err := p.Func(name)
			if err != nil {
				return nil, err
			}
			ctx := context.Background()
			return func(dst, in []byte) ([]byte, error) {
				if name == "sha256" {
					return f.Stream(ctx, nil, bytes.NewReader(in), nil)
				}
				w := &appender{dst}
				_, err := f.Stream(ctx, nil, bytes.NewReader(in), w)
				return w.to, err
			}, nil
		},
		close: func() { p.Close() },
	}, nil
}

// openAtOnce has the digest of bytes that are all there.
func openAtOnce(e env, opts ...loader.Option) (*peer, error) {
	p, err := loader.Open(e.path("ferrule_stream.so"), opts...)
	if err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			if name != "sha256" {
				return nil, unsupported("it is for what fits into memory")
			}
			f, err := p.Func("sha256_at_once")
			if err != nil {
				return nil, err
			}
			ctx := context.Background()
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }, nil
		},
		close: func() { p.Close() },
	}, nil
}

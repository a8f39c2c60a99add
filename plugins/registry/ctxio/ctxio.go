// Package ctxio ends reading with a context.
//
// It is experimental: it may change in a minor version (docs/promises.md).
package ctxio

import (
	"context"
	"io"
)

// Reader reads from another reader until the context has ended. Then a Read returns the context's cause, and reads nothing. A Read that waits is not ended: what is
// read is to answer soon, as a file does.
func Reader(ctx context.Context, from io.Reader) io.Reader { return &reader{ctx, from} }

type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

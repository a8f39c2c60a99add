package loader

import (
	"context"
	"io"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// Stream calls a function that takes a stream, or gives one, or both (a filter), while it runs (rule R24; abi.Symbol's field Stream says which): it reads r
// as it needs it, and writes to w as it goes. args are its parameters, as in of Append, and the result is as Append's. A nil r is an empty stream,
// and a nil w takes everything. For a function that has no such stream, anything but nil is a *UsageError of the kind ErrNoStream.
// Called by Append, View, Batch and the like, a function has no streams; of one that says ErrUnsupported then, the *CallError's Remedy
// names Stream.
//
// The errors are Append's. When r or w fails, the function is told, r's failure when it comes so far. The *CallError that Stream returns then
// wraps what r or w returned, with the function's status and message, or with ErrFailed where it returned a
// result all the same. A panic of r or w is such a failure, too. When ctx ends, the function is told as well, and Stream returns when
// it returns; w may not have got all that the function wrote then. A function need not read r to its end.
//
// r is read ahead of the function, and w written to behind it, each by a goroutine of its own. Once the function has returned, whatever its
// status, Stream waits until w has taken what was written, but not for r: a Read that is in progress goes on after Stream has returned. What
// was read ahead of the function is lost to others. A *bytes.Reader, *bytes.Buffer or *strings.Reader as r, and a *bytes.Buffer,
// *strings.Builder or io.Discard as w, cannot block, and are not used after Stream has returned.
//
// Only ctx bounds the waiting for w; a limit (WithCallTimeout) is for the function, not for w. When ctx ends, Stream waits no longer. When the
// function was stopped by its limit, or its worker has ended, Stream waits for w for a second at most, so that a w that is stuck does
// not keep the error. In both cases a Write that is in progress goes on after Stream has returned, and is the last one: a w that
// is used elsewhere must allow that, or never block.
//
// An instance that is serial or pinned is in use until the function has returned, and free while w takes the rest: other calls, and Close, do not wait
// for w. Isolated, both streams go through shared memory, and r and w see memory of the
// host's alone.
func (f *Func) Stream(ctx context.Context, args []byte, r io.Reader, w io.Writer) ([]byte, error) {
	has := f.symbol().Stream
	for _, s := range []struct {
		given bool
		kind  abi.Stream
		word  string
	}{{r != nil, abi.StreamIn, "takes no input stream: pass nil for the reader, and the data as its input"},
		{w != nil, abi.StreamOut, "gives no output stream: pass nil for the writer, and take its result"}} {
		if s.given && has&s.kind == 0 {
			return nil, &UsageError{f.plugin.Name(), f.name, ErrNoStream, "it " + s.word}
		}
	}
	if has == 0 {
		return f.Append(ctx, nil, args)
	}
	st := new(stream.Streams)
	if has&abi.StreamIn != 0 {
		st.In = stream.NewReader(r)
	}
	if has&abi.StreamOut != 0 {
		st.Out = stream.NewWriter(w)
	}
	out, status, err := f.engine.Stream(ctx, f.fn, nil, args, st)
	broken := st.Err()
	if err == nil && status == 0 && broken == nil {
		return out, nil
	}
	if err == nil && status == 0 {
		return nil, &CallError{Plugin: f.plugin.Name(), Func: f.name, Status: ErrFailed, cause: broken}
	}
	err = f.streamError(status, out, err, ctx)
	if call, ok := err.(*CallError); ok && call.cause == nil {
		call.cause = broken
	}
	return nil, err
}

// symbol returns what the plug-in says of the function.
func (f *Func) symbol() *abi.Symbol {
	info := f.plugin.info
	if i := f.fn.Index - len(info.Funcs); i >= 0 {
		return &info.Hooks[i]
	}
	return &info.Funcs[f.fn.Index]
}

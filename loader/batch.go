package loader

import (
	"context"
	"errors"
	"slices"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// Batch holds the results of Func.Batch. The zero Batch is ready to use; one that is used again allocates nothing once
// it has grown to its work. It is for one goroutine at a time.
type Batch struct {
	fn     *Func
	cause  error // why the batch's context had ended, or nil
	result engine.Batch
}

// Batch calls the function with each of in, in one crossing for some hundreds of them, and keeps the results in b, whose
// earlier results it overwrites. The results are the same as from calls one by one; a record that fails does not keep
// the others from running, and its error is b.Result's.
//
// The error says why not all records ran: those that did are in b. It is a *CallError when ctx ended, a *UsageError when b or
// ctx is nil, or what Append returns when the plug-in is closed, an instance could not be started anew or the worker ended.
// in is only read, and not kept.
func (f *Func) Batch(ctx context.Context, in [][]byte, b *Batch) error {
	if b == nil {
		return &UsageError{f.plugin.Name(), f.name, ErrNilArgument, "Batch was given nil for the results: pass a *Batch, such as new(loader.Batch)"}
	}
	b.fn, b.cause = f, nil
	err := f.engine.Batch(ctx, f.fn, in, &b.result)
	if b.result.Failed && slices.ContainsFunc(b.result.Records, func(r engine.Record) bool { return r.Status == ErrCancelled }) {
		b.cause = engine.CauseOfCancelled(ctx) // the context itself is not kept
	}
	if b.cause == nil && b.result.Limit != nil {
		b.cause = b.result.Limit
	}
	if err != nil {
		return f.error(0, nil, err, ctx)
	}
	return nil
}

// Len returns how many records ran: those of the first inputs, in their order.
func (b *Batch) Len() int { return len(b.result.Records) }

// Result returns the result of record i, from 0 to Len()-1, or its error as Append has it. The result is valid until b is used
// again, also after Close, and shares memory with no other. It panics for any other i.
func (b *Batch) Result(i int) ([]byte, error) {
	r := &b.result.Records[i]
	out := b.result.Out[r.Start:r.End:r.End]
	if r.Err == nil && r.Status == 0 {
		return out, nil
	}
	var err error
	if r.Err != nil {
		err = r.Err
	}
	err = b.fn.error(r.Status, out, err, context.Background())
	if call, ok := err.(*CallError); ok && r.Status == ErrCancelled {
		call.cause = b.cause
	}
	return nil, err
}

// Err returns the errors of all records that failed, joined (errors.Join), or nil. Why others did not run is Func.Batch's error.
func (b *Batch) Err() error {
	var errs []error
	for i := range b.result.Records {
		if r := &b.result.Records[i]; r.Err != nil || r.Status != 0 {
			_, err := b.Result(i)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// View is a function's result, read where the plug-in has it instead of being copied.
type View struct {
	view *engine.View
}

// View calls the function with in and returns its result without copying it, for results that are large and read once.
// The errors are Append's.
//
// The caller calls Release when it is done. Close waits for every view to be released. Until then the view holds, isolated, one
// of the 256 places for calls and views that a worker has; in this process it holds only the memory.
func (f *Func) View(ctx context.Context, in []byte) (*View, error) {
	v, status, err := f.engine.View(ctx, f.fn, in)
	if err == nil && status == 0 {
		return &View{v}, nil
	}
	var message []byte
	if v != nil {
		message = slices.Clone(v.Bytes)
		v.Release()
	}
	return nil, f.error(status, message, err, ctx)
}

// Bytes returns the result: the plug-in's memory, to be read only, and only until Release. After Release it is nil. A
// hostile plug-in may change it while it is read, in-process and isolated: copy what is checked before it is used.
func (v *View) Bytes() []byte {
	if v.view == nil {
		return nil
	}
	return v.view.Bytes
}

// Release gives the memory back to the plug-in, whose code may run for that, on the calling goroutine's thread. It may be called
// from any goroutine, once; more often does nothing, but not at the same time.
func (v *View) Release() {
	if v.view != nil {
		release := v.view.Release
		v.view = nil
		release()
	}
}

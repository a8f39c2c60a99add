package plugins

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/ferrule-dev/ferrule/loader"
)

// Policy says what becomes of a dispatch when a hook fails. A hook that has nothing to say (rule R22) has not failed.
type Policy uint8

// The policies.
const (
	byKind Policy = iota
	Stop          // the first failure ends it, and is its error: the default of Pipe, First, Veto and Wrap
	Skip          // a failure is a line in the log, with a count of those within 10 seconds, and the others go on as if that hook was not there
	Join          // all others go on, and the failures are its error, joined: the default of Notify and Collect
)

// String returns the policy's word.
func (p Policy) String() string {
	if p > Join {
		return fmt.Sprintf("policy %d", uint8(p))
	}
	return [...]string{"default", "stop", "skip", "join"}[p]
}

// NotifyPoint tells plug-ins that something has happened.
type NotifyPoint[T any] struct {
	p     *point
	codec codec[T]
}

// Notify makes a point whose hooks are told that something has happened. What they return is dropped.
func Notify[T any](sys *System, name string, opts ...PointOption) *NotifyPoint[T] {
	p := sys.point(name, KindNotify, Join, opts)
	if own := reflect.TypeFor[T](); p.history != nil && !own.AssignableTo(p.history.of) {
		p.wrong("Keep", "a function of a "+p.history.of.String(), "one of a "+own.String()+", which the point's events are")
	}
	return &NotifyPoint[T]{p, codecFor[T](p)}
}

// Call tells all plug-ins, one after the other, or at the same time with Parallel.
func (n *NotifyPoint[T]) Call(ctx context.Context, event T) error {
	in, err := n.codec.encode(event)
	if err != nil {
		return err
	}
	if n.p.history != nil {
		return n.p.remember(ctx, any(event), in)
	}
	return n.p.notify(ctx, n.p.line.Load(), in)
}

// CollectPoint asks plug-ins for one thing each.
type CollectPoint[In, Out any] struct {
	p    *point
	in   codec[In]
	out  codec[Out]
	from string
}

// Result is what one plug-in has returned at a CollectPoint, or first at a FirstPoint.
type Result[Out any] struct {
	Plugin string // whose hook it is
	Value  Out    // what it returned; the caller's
}

// Collect makes a point whose hooks are asked for one thing each.
func Collect[In, Out any](sys *System, name string, opts ...PointOption) *CollectPoint[In, Out] {
	p := sys.point(name, KindCollect, Join, opts)
	return &CollectPoint[In, Out]{p, codecFor[In](p), codecFor[Out](p), name}
}

// Call returns what each plug-in has to say, in the order of the hooks, also where others fail, unless the policy is Stop. A result that is no Out
// is a *HookError.
func (c *CollectPoint[In, Out]) Call(ctx context.Context, in In) ([]Result[Out], error) {
	data, err := c.in.encode(in)
	if err != nil {
		return nil, err
	}
	var all []Result[Out]
	var bad outcome
	stopped := false
	err = c.p.collect(ctx, data, func(a *attachment, out []byte) {
		v, err := c.out.decode(a, out)
		if err == nil && !stopped {
			all = append(all, Result[Out]{a.entry.name, v})
		} else if err != nil && !stopped {
			stopped = bad.add(ctx, a, err)
		}
	})
	if err != nil {
		bad.errs = append(bad.errs, err)
	}
	return all, bad.error()
}

// FirstPoint asks plug-ins until one has an answer.
type FirstPoint[In, Out any] struct {
	p   *point
	in  codec[In]
	out codec[Out]
}

// First makes a point whose hooks are asked one after the other, until one has something to say.
func First[In, Out any](sys *System, name string, opts ...PointOption) *FirstPoint[In, Out] {
	p := sys.point(name, KindFirst, Stop, opts)
	return &FirstPoint[In, Out]{p, codecFor[In](p), codecFor[Out](p)}
}

// Call returns the first answer; found is false where no plug-in has one. A result that is no Out is a failure of its hook, to the policy, too.
func (f *FirstPoint[In, Out]) Call(ctx context.Context, in In) (answer Out, found bool, err error) {
	by, found, err := f.CallBy(ctx, in)
	return by.Value, found, err
}

// CallBy is Call that says whose answer it is.
func (f *FirstPoint[In, Out]) CallBy(ctx context.Context, in In) (answer Result[Out], found bool, err error) {
	data, err := f.in.encode(in)
	if err != nil {
		return answer, false, err
	}
	_, by, err := f.p.first(ctx, nil, data, func(a *attachment, out []byte) error {
		v, bad := f.out.decode(a, out)
		if bad == nil {
			answer = Result[Out]{a.entry.name, v}
		}
		return bad
	})
	return answer, by != nil, err
}

// Append is Call on bytes: it appends the answer to dst, and allocates nothing of its own.
func (f *FirstPoint[In, Out]) Append(ctx context.Context, dst, in []byte) (out []byte, found bool, err error) {
	out, by, err := f.p.first(ctx, dst, in, nil)
	return out, by != nil, err
}

// PipePoint hands a value from plug-in to plug-in.
type PipePoint[T any] struct {
	p     *point
	codec codec[T]
}

// Pipe makes a point whose hooks change a value, each what the one before it has made of it.
func Pipe[T any](sys *System, name string, opts ...PointOption) *PipePoint[T] {
	p := sys.point(name, KindPipe, Stop, opts)
	return &PipePoint[T]{p, codecFor[T](p)}
}

// Call returns what the plug-ins have made of the value. A hook that has nothing to say leaves it as it is. With an error the value is the one that
// was passed in; with the policy Join it is what the others made of it, beside the error. A value is decoded once, behind the last hook: where it is no T,
// that hook has failed, and with the policies Skip and Join what the one before it has made is taken.
func (p *PipePoint[T]) Call(ctx context.Context, value T) (T, error) {
	in, err := p.codec.encode(value)
	if err != nil {
		return value, err
	}
	if p.p.policy != Stop && p.codec.with != nil {
		return p.goOn(ctx, value, in)
	}
	out, by, err := p.p.pipe(ctx, nil, in, nil)
	if by == nil || err != nil && p.p.policy == Stop {
		return value, err
	}
	changed, bad := p.codec.decode(by, out)
	if bad != nil {
		return value, bad
	}
	return changed, err
}

// goOn is Call where others go on without a hook that has failed.
func (p *PipePoint[T]) goOn(ctx context.Context, value T, in []byte) (T, error) {
	type step struct {
		by  *attachment
		end int // of what it has made
	}
	var made []byte
	var steps []step
	_, by, err := p.p.pipe(ctx, nil, in, func(a *attachment, out []byte) {
		made = append(made, out...)
		steps = append(steps, step{a, len(made)})
	})
	if by == nil {
		return value, err
	}
	var o outcome
	if err != nil {
		o.errs = append(o.errs, err)
	}
	for i, s := range slices.Backward(steps) {
		begin := 0
		if i > 0 {
			begin = steps[i-1].end
		}
		changed, bad := p.codec.decode(s.by, made[begin:s.end])
		if bad == nil {
			return changed, o.error()
		}
		if o.add(ctx, s.by, bad) {
			break
		}
	}
	return value, o.error()
}

// Append is Call on bytes: it appends what the plug-ins have made of in to dst, and allocates nothing of its own.
func (p *PipePoint[T]) Append(ctx context.Context, dst, in []byte) ([]byte, error) {
	out, _, err := p.p.pipe(ctx, dst, in, nil)
	return out, err
}

// VetoPoint asks plug-ins whether something may be.
type VetoPoint[T any] struct {
	p     *point
	codec codec[T]
}

// Objection is the error of a VetoPoint's Call where a plug-in objects.
type Objection struct {
	Point, Plugin string // where, and who objects
	Reason        string // the plug-in's words
}

// Error says who objects, and why.
func (o *Objection) Error() string {
	return fmt.Sprintf("%s: %s objects: %s", o.Point, o.Plugin, o.Reason)
}

// Veto makes a point whose hooks may object: by a result, whose bytes are the reason in UTF-8. One that returns nothing, or has nothing to say, does not.
func Veto[T any](sys *System, name string, opts ...PointOption) *VetoPoint[T] {
	p := sys.point(name, KindVeto, Stop, opts)
	return &VetoPoint[T]{p, codecFor[T](p)}
}

// Call returns nil where no plug-in objects, and an *Objection at the first that does; the others are not asked then. With the policy Stop,
// a hook that fails is an error, too: what could not be asked has not agreed.
func (v *VetoPoint[T]) Call(ctx context.Context, value T) error {
	in, err := v.codec.encode(value)
	if err != nil {
		return err
	}
	return v.Ask(ctx, in)
}

// Ask is Call on bytes; where nobody objects, it allocates nothing of its own.
func (v *VetoPoint[T]) Ask(ctx context.Context, in []byte) error {
	by, reason, err := v.p.veto(ctx, in)
	if by != nil {
		return &Objection{v.p.name, by.entry.name, reason}
	}
	return err
}

// WrapPoint runs a function of the application with plug-ins around it.
type WrapPoint[In, Out any] struct {
	p    *point
	in   codec[In]
	out  codec[Out]
	core loader.HostFunc
}

// Wrap makes a point whose hooks stand around a function of the application: each is called with the input, and goes on by host->next (rule R33),
// once, several times or not at all. Their meta text says wrap=yes.
func Wrap[In, Out any](sys *System, name string, core func(context.Context, In) (Out, error), opts ...PointOption) *WrapPoint[In, Out] {
	p := sys.point(name, KindWrap, Stop, opts)
	w := &WrapPoint[In, Out]{p: p, in: codecFor[In](p), out: codecFor[Out](p)}
	if p.policy != Stop && w.out.with != nil {
		p.valid = func(a *attachment, out []byte) error {
			_, err := w.out.decode(a, out)
			return err
		}
	}
	w.core = func(ctx context.Context, in []byte) ([]byte, error) {
		value, err := w.in.decode(nil, in)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", loader.ErrInvalid, err)
		}
		out, err := core(ctx, value)
		if err != nil {
			return nil, err
		}
		return w.out.encode(out)
	}
	return w
}

// Call returns what the outermost hook returns, or the function itself where there is none. An error of the function reaches the caller as it is, unless a
// hook makes a result of it. A result that is no Out is a failure of its hook with the policies Skip and Join, for which each hook's result is decoded; with Stop the
// outermost one's alone is, and the error is nobody's.
func (w *WrapPoint[In, Out]) Call(ctx context.Context, in In) (out Out, err error) {
	data, err := w.in.encode(in)
	if err != nil {
		return out, err
	}
	result, err := w.p.around(ctx, nil, data, w.core)
	if result == nil && err != nil {
		return out, err
	}
	out, bad := w.out.decode(nil, result)
	if bad != nil {
		return out, &HookError{w.p.name, "", bad}
	}
	return out, err
}

// codec turns the values of one type into bytes.
type codec[T any] struct {
	with loader.Codec // nil where the values are bytes
}

func codecFor[T any](p *point) codec[T] {
	if _, raw := any(*new(T)).([]byte); raw {
		return codec[T]{}
	}
	return codec[T]{p.codec}
}

func (c codec[T]) encode(v T) ([]byte, error) {
	if c.with == nil {
		data, _ := any(v).([]byte)
		return data, nil
	}
	data, err := c.with.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("a %T cannot be encoded: %w", v, err)
	}
	return data, nil
}

// decode reads what the hook of by has returned; nil is nobody's. The bytes of a []byte are a copy.
func (c codec[T]) decode(by *attachment, data []byte) (v T, err error) {
	if c.with == nil {
		return any(bytes.Clone(data)).(T), nil
	}
	if err = c.with.Unmarshal(data, &v); err != nil {
		err = fmt.Errorf("a result that is no %T: it begins with %.40q: %w", v, data, err)
		if by != nil {
			err = by.wrong(fmt.Errorf("plug-in %s: %s: %w", by.entry.name, by.point.name, err))
		}
	}
	return v, err
}

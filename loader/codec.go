package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// Codec turns Go values into the bytes that plug-ins take and return, and back. Its methods are called from any
// goroutine at the same time.
type Codec interface {
	Marshal(v any) ([]byte, error)      // the bytes for a value, which are the caller's to keep
	Unmarshal(data []byte, v any) error // reads data into what v points to; data is only read, and not kept
}

// JSON is the codec that CallJSON and JSONFunc use, over encoding/json.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// CallJSON calls a function with in as JSON, and reads its result as JSON into an Out.
//
//	discount, err := loader.CallJSON[Cart, Discount](ctx, p, "before_checkout", cart)
//
// The errors are those of Func.Append, and *CodecError.
func CallJSON[In, Out any](ctx context.Context, p *Plugin, name string, in In) (Out, error) {
	return CallWith[In, Out](ctx, p, JSON, name, in)
}

// CallWith is CallJSON with another codec. A nil codec is a *UsageError.
func CallWith[In, Out any](ctx context.Context, p *Plugin, codec Codec, name string, in In) (out Out, err error) {
	if codec == nil {
		return out, &UsageError{p.Name(), name, ErrNilArgument, "CallWith was given nil for a codec: pass one, such as loader.JSON"}
	}
	data, err := codec.Marshal(in)
	if err != nil {
		e := &CodecError{Plugin: p.Name(), Func: name, Op: "encode", MediaType: p.symbol(name).In, Err: err,
			Found: "a Go value of the type " + reflect.TypeFor[In]().String(), Expected: "one that can be encoded as " + format(codec),
			Remedy: "call it with another type, or give this one the method that the codec looks for"}
		if e.MediaType != "" {
			e.Remedy += "; the function says that its input is " + e.MediaType
		}
		return out, e
	}
	result, err := p.Call(ctx, name, data)
	if err != nil {
		return out, err
	}
	if err := codec.Unmarshal(result, &out); err != nil {
		e := &CodecError{Plugin: p.Name(), Func: name, Op: "decode", MediaType: p.symbol(name).Out, Err: err, Found: excerpt(result),
			Expected: format(codec) + " for the Go type " + reflect.TypeFor[Out]().String(),
			Remedy:   "use a Go type and a codec for what the function gives, or Call, which gives the bytes"}
		if e.MediaType != "" {
			e.Remedy = fmt.Sprintf("the function says that its result is %s: use a Go type and a codec for that, or Call, which gives the bytes", e.MediaType)
		}
		return out, e
	}
	return out, nil
}

// symbol returns what the plug-in says of the function; nothing of one that it does not have.
func (p *Plugin) symbol(fn string) abi.Symbol {
	for _, s := range p.info.Funcs {
		if s.Name == fn {
			return s
		}
	}
	return abi.Symbol{}
}

// format names what a codec writes.
func format(codec Codec) string {
	if _, ok := codec.(jsonCodec); ok {
		return "JSON"
	}
	return fmt.Sprintf("what the codec %T writes", codec)
}

// excerpt shows the beginning of data that could not be decoded.
func excerpt(data []byte) string {
	const most = 60
	if len(data) > most {
		return fmt.Sprintf("%q… (%s)", data[:most], count.Of(len(data), "byte"))
	}
	return fmt.Sprintf("%q", data)
}

// JSONFunc makes a HostFunc of a function on Go values, which plug-ins call with JSON. The In is fn's own, and may be kept. Input
// that is no JSON for it gets the plug-in ErrInvalid, and a result that cannot be encoded ErrFailed, with a message that names
// the function; fn's own errors are as HostFunc's. Of nil it makes nil, which WithHostFunc refuses.
func JSONFunc[In, Out any](fn func(context.Context, In) (Out, error)) HostFunc {
	return FuncWith(JSON, fn)
}

// FuncWith is JSONFunc with another codec. Without a codec or a function it is nil, which WithHostFunc refuses.
func FuncWith[In, Out any](codec Codec, fn func(context.Context, In) (Out, error)) HostFunc {
	if codec == nil || fn == nil {
		return nil
	}
	return func(ctx context.Context, data []byte) ([]byte, error) {
		var in In
		if err := codec.Unmarshal(data, &in); err != nil {
			return nil, &hostCodecError{fmt.Sprintf("its input is not %s for the Go type %s: found %s: %s", format(codec), reflect.TypeFor[In](), excerpt(data), brief(err)),
				true, fmt.Errorf("%w: %w", err, ErrInvalid)}
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		data, err = codec.Marshal(out)
		if err != nil {
			return nil, &hostCodecError{fmt.Sprintf("its result is a Go value of the type %s, which cannot be encoded as %s: %v", reflect.TypeFor[Out](), format(codec), err),
				false, err}
		}
		return data, nil
	}
}

// hostCodecError says that a codec could not read a host function's input, or not write its result. The function does not know by
// which name it is offered: whoever calls it for a plug-in adds that.
type hostCodecError struct {
	what  string // what follows the name
	input bool   // whether it is about the input
	err   error
}

func (e *hostCodecError) Error() string { return "host function: " + e.what }
func (e *hostCodecError) Unwrap() error { return e.err }

// of is what the plug-in gets to read that imports the function as s.
func (e *hostCodecError) of(s abi.Symbol) string {
	text := "host function " + s.Name + ": " + e.what
	switch {
	case e.input && s.In != "":
		text += "; the plug-in says that it passes " + s.In
	case !e.input && s.Out != "":
		text += "; the plug-in says that it expects " + s.Out
	}
	return text
}

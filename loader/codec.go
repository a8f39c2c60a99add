package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
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

// CallWith is CallJSON with another codec.
func CallWith[In, Out any](ctx context.Context, p *Plugin, codec Codec, name string, in In) (out Out, err error) {
	if codec == nil {
		return out, &UsageError{p.Name(), name, ErrNilArgument, "CallWith was given nil for a codec: pass one, such as loader.JSON"}
	}
	data, err := codec.Marshal(in)
	if err != nil {
		return out, &CodecError{Plugin: p.Name(), Func: name, Op: "encode", Err: err,
			Found: "a Go value of the type " + reflect.TypeFor[In]().String(), Expected: "one that can be encoded as " + format(codec),
			Remedy: "call it with another type, or give this one the method that the codec looks for"}
	}
	result, err := p.Call(ctx, name, data)
	if err != nil {
		return out, err
	}
	if err := codec.Unmarshal(result, &out); err != nil {
		return out, &CodecError{Plugin: p.Name(), Func: name, Op: "decode", Err: err, Found: excerpt(result),
			Expected: format(codec) + " for the Go type " + reflect.TypeFor[Out]().String(), Remedy: p.decodeRemedy(name)}
	}
	return out, nil
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
		return fmt.Sprintf("%q… (%d bytes)", data[:most], len(data))
	}
	return fmt.Sprintf("%q", data)
}

// decodeRemedy says what to do about a result that could not be decoded.
func (p *Plugin) decodeRemedy(fn string) string {
	for _, s := range p.info.Funcs {
		if s.Name == fn && s.Out != "" {
			return fmt.Sprintf("the function says that its result is %s: use a Go type and a codec for that, or Call, which gives the bytes", s.Out)
		}
	}
	return "use a Go type and a codec for what the function gives, or Call, which gives the bytes"
}

// JSONFunc makes a HostFunc of a function on Go values, which plug-ins call with JSON. Of nil it makes nil, which WithHostFunc
// refuses.
func JSONFunc[In, Out any](fn func(context.Context, In) (Out, error)) HostFunc {
	return FuncWith(JSON, fn)
}

// FuncWith is JSONFunc with another codec. Input that the codec cannot decode gets the plug-in ErrInvalid. Without
// a codec or a function it is nil, which WithHostFunc refuses.
func FuncWith[In, Out any](codec Codec, fn func(context.Context, In) (Out, error)) HostFunc {
	if codec == nil || fn == nil {
		return nil
	}
	return func(ctx context.Context, data []byte) ([]byte, error) {
		var in In
		if err := codec.Unmarshal(data, &in); err != nil {
			return nil, fmt.Errorf("the host function's input: found %s, expected %s for the Go type %s: %w: %w",
				excerpt(data), format(codec), reflect.TypeFor[In](), err, ErrInvalid)
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		data, err = codec.Marshal(out)
		if err != nil {
			return nil, fmt.Errorf("the host function's result: found a Go value of the type %s, expected one that can be encoded as %s: %w",
				reflect.TypeFor[Out](), format(codec), err)
		}
		return data, nil
	}
}

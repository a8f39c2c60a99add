package loader

import (
	"context"
	"encoding/json"
	"fmt"
)

// Codec turns Go values into the bytes that plug-ins take and return, and back. Its methods are called from any
// goroutine at the same time.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
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
	data, err := codec.Marshal(in)
	if err != nil {
		return out, &CodecError{p.Name(), name, "encode", err}
	}
	result, err := p.Call(ctx, name, data)
	if err != nil {
		return out, err
	}
	if err := codec.Unmarshal(result, &out); err != nil {
		return out, &CodecError{p.Name(), name, "decode", err}
	}
	return out, nil
}

// JSONFunc makes a HostFunc of a function on Go values, which plug-ins call with JSON.
func JSONFunc[In, Out any](fn func(context.Context, In) (Out, error)) HostFunc {
	return FuncWith(JSON, fn)
}

// FuncWith is JSONFunc with another codec. Input that the codec cannot decode gets the plug-in ErrInvalid.
func FuncWith[In, Out any](codec Codec, fn func(context.Context, In) (Out, error)) HostFunc {
	return func(ctx context.Context, data []byte) ([]byte, error) {
		var in In
		if err := codec.Unmarshal(data, &in); err != nil {
			return nil, fmt.Errorf("%w: %w", err, ErrInvalid)
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		return codec.Marshal(out)
	}
}

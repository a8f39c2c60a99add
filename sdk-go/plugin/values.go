package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// Text takes an input as a string, which has to be UTF-8. The error is of Invalid.
func Text(in []byte) (string, error) {
	if !utf8.Valid(in) {
		at := 0
		for at < len(in) {
			r, n := utf8.DecodeRune(in[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return "", &wrong{fmt.Sprintf("the input is not UTF-8: the byte %#02x, after %d", in[at], at)}
	}
	return string(in), nil
}

// Bytes takes an input as bytes of its own.
func Bytes(in []byte) []byte { return append(make([]byte, 0, len(in)), in...) }

// FromJSON takes an input as a value in JSON. The error is of Invalid.
func FromJSON[T any](in []byte) (value T, err error) {
	if err := json.Unmarshal(in, &value); err != nil {
		return value, &wrong{fmt.Sprintf("the input is not JSON for the Go type %s: %v", reflect.TypeFor[T](), err)}
	}
	return value, nil
}

// Settings is FromJSON for a configuration: without one, it is the zero value.
func Settings[T any](config []byte) (value T, err error) {
	if len(config) == 0 {
		return value, nil
	}
	if err := json.Unmarshal(config, &value); err != nil {
		return value, &wrong{fmt.Sprintf("the configuration is not JSON for the Go type %s: %v", reflect.TypeFor[T](), err)}
	}
	return value, nil
}

// ToJSON makes a result of a value.
func ToJSON(value any) ([]byte, error) {
	switch v := value.(type) { // what is common, and needs no reflection
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	}
	return json.Marshal(value)
}

// wrong says that an input is not what a function takes.
type wrong struct{ text string }

func (w *wrong) Error() string { return w.text }
func (w *wrong) Unwrap() error { return Invalid }

// AskText calls a host function whose result is text.
func AskText(ctx context.Context, name string, in []byte) (string, error) {
	out, err := Ask(ctx, name, in)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(out) {
		return "", fmt.Errorf("%s: its result is not UTF-8", name)
	}
	return string(out), nil
}

// AskJSON calls a host function whose result is JSON.
func AskJSON[T any](ctx context.Context, name string, in []byte) (value T, err error) {
	out, err := Ask(ctx, name, in)
	if err != nil {
		return value, err
	}
	if err := json.Unmarshal(out, &value); err != nil {
		return value, fmt.Errorf("%s: its result is not JSON for the Go type %s: %w", name, reflect.TypeFor[T](), err)
	}
	return value, nil
}

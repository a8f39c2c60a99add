// Package work is the work as one source in Go, from which `ferrule gen` makes all forms of a plug-in.
//
//ferrule:plugin name=work version=1.0.0 threads=concurrent
package work

import (
	"context"

	"github.com/ferrule-dev/ferrule/bench/internal/gowork"
)

//go:generate go run ../../cmd/ferrule gen

// Echo returns its input.
//
//ferrule:export
func Echo(_ context.Context, in []byte) ([]byte, error) { return in, nil }

// CountVowels returns the number of vowels in its input, as eight bytes.
//
//ferrule:export
func CountVowels(_ context.Context, in []byte) ([]byte, error) {
	return gowork.CountVowels(nil, in), nil
}

// Fail panics: in the call, or, where how is "crash", in a goroutine of its own, where nothing can catch it.
//
//ferrule:export
func Fail(_ context.Context, how []byte) ([]byte, error) {
	gowork.Fail(how)
	return nil, nil
}

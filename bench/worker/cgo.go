//go:build cgo

package main

import (
	"encoding/binary"
	"slices"

	"github.com/ferrule-dev/ferrule/bench/c"
)

func init() {
	contenders["cgo"] = func(env) (*peer, error) { return openCgo(c.Echo, c.CountVowels, true) }
	contenders["cgo-annotated"] = func(env) (*peer, error) {
		return openCgo(c.EchoAnnotated, c.CountVowelsAnnotated, false)
	}
}

func openCgo(echo func(in, out []byte), countVowels func(in []byte) uint64, callbacks bool) (*peer, error) {
	return &peer{fn: func(name string) (call, error) {
		switch {
		case name == "echo":
			return func(dst, in []byte) ([]byte, error) {
				dst = slices.Grow(dst, len(in))[:len(in)]
				echo(in, dst)
				return dst, nil
			}, nil
		case name == "count_vowels":
			return func(dst, in []byte) ([]byte, error) {
				return binary.LittleEndian.AppendUint64(dst, countVowels(in)), nil
			}, nil
		case callbacks:
			return func(dst, in []byte) ([]byte, error) {
				dst = slices.Grow(dst, len(in))[:len(in)]
				return dst[:c.Ask(in, dst)], nil
			}, nil
		}
		return nil, unsupported("nocallback promises that there is none")
	}}, nil
}

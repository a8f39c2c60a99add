//go:build goplugin

// A build of its own, because importing package plugin changes how the whole program is linked.

package main

import (
	"fmt"
	"plugin"

	"github.com/ferrule-dev/ferrule/bench/internal/gowork"
)

func init() {
	contenders["goplugin"] = func(e env) (*peer, error) {
		p, err := plugin.Open(e.path("goplugin.so"))
		if err != nil {
			return nil, err
		}
		fns := make(map[string]func(dst, in []byte) []byte)
		for name, symbol := range map[string]string{"echo": "Echo", "count_vowels": "CountVowels", "ask": "Ask", "fail": "Fail"} {
			s, err := p.Lookup(symbol)
			if err != nil {
				return nil, err
			}
			switch fn := s.(type) {
			case func(dst, in []byte) []byte:
				fns[name] = fn
			case func(dst, in []byte, host func(dst, in []byte) []byte) []byte:
				fns[name] = func(dst, in []byte) []byte { return fn(dst, in, gowork.Echo) }
			default:
				return nil, fmt.Errorf("%s of the plug-in is a %T", symbol, s)
			}
		}
		return &peer{fn: func(name string) (call, error) {
			fn := fns[name]
			return func(dst, in []byte) ([]byte, error) { return fn(dst, in), nil }, nil
		}, once: true}, nil
	}
}

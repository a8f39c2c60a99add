package wasm

import (
	"errors"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

// refused says why a module was not compiled.
func refused(path string, err error) error {
	feature := ""
	if missing, ok := errors.AsType[*fuel.Unsupported](err); ok {
		feature = missing.Feature
	} else if _, text, ok := strings.Cut(err.Error(), `feature "`); ok { // of wazero
		feature, _, _ = strings.Cut(text, `" is disabled`)
	}
	if feature != "" {
		return &inspect.Error{Path: path, Kind: loader.ErrNotLibrary, Found: "a WebAssembly module that uses " + feature, Expected: "one of WebAssembly 2.0",
			Remedy: "Compile it without that"}
	}
	if broken, ok := errors.AsType[*fuel.Error](err); ok {
		return &inspect.Error{Path: path, Kind: loader.ErrMalformed, Err: broken, Remedy: "Compile it again"}
	}
	if excess, ok := errors.AsType[*fuel.Excess](err); ok {
		return &inspect.Error{Path: path, Kind: loader.ErrLoad, Found: "a module with " + excess.Found, Expected: "less: " + excess.Limit, Remedy: "Compile it from source that compilers are made for, or give it more memory (wasm.WithMemory)"}
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	if _, pages, ok := strings.Cut(text, "memory: min "); ok && strings.Contains(pages, "over limit") { // of wazero
		least, limit, _ := strings.Cut(pages, " over limit of ")
		return &inspect.Error{Path: path, Kind: loader.ErrLoad, Found: "a memory of " + least, Expected: "at most " + limit, Remedy: "Compile it with less, or give it more memory (wasm.WithMemory)"}
	}
	return &inspect.Error{Path: path, Kind: loader.ErrLoad, Found: text, Expected: "a module that is valid, and imports what hosts offer",
		Remedy: "Compile it again; see what it imports with ferrule inspect"}
}

// Package wasm opens WebAssembly modules as plug-ins, behind the same *loader.Plugin as native code.
package wasm

// Package wasm opens WebAssembly modules as plug-ins, behind the same *loader.Plugin as native code.
//
//	p, err := loader.Open("greeter.wasm", loader.WithEngine(wasm.Engine()))
//
// Two kinds of modules are plug-ins: those that keep Ferrule's contract, which the C, C++ and Rust SDKs compile from the same sources as a
// library, and Extism's, unmodified. A module runs in this process, in memory of its own, on every platform that Go has: it sees no file, no
// network and no environment, and calls what the host offers it. What it does wrong is an error of its call: a trap is loader.ErrPanic, with what
// it was and in which function, and the instance is started anew. An endless loop is ended half a second after its context, by fuel: each loop and
// each function counts down.
//
// What differs from a library:
//
//   - An instance takes one call at a time. A concurrent plug-in without a ferrule_start gets more instances by itself, one for each processor, when
//     calls need them; one with a state has as many as loader.WithInstances says.
//   - There are no threads, so nothing happens between calls (rule R27), and a quick function (rule R34) is one as any other.
//   - loader.WithPrivateCopy, WithUnload and WithExecutableStack do nothing: there is no library to load.
package wasm

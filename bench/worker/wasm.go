package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

func init() {
	contenders["ferrule-wasm"] = func(e env) (*peer, error) { return openModule(e, e.path("ferrule_work.wasm"), false) }
	contenders["ferrule-extism"] = func(e env) (*peer, error) { return openModule(e, e.path("extism.wasm"), true) }
	contenders["ferrule-extism-pdk"] = func(e env) (*peer, error) { return openModule(e, e.pdk, true) }
	contenders["ferrule-extism-own"] = func(e env) (*peer, error) {
		p, err := openModule(e, e.ownModule(), true)
		if err != nil {
			return nil, err
		}
		every := p.fn
		p.fn = func(name string) (call, error) {
			if name != "count_vowels" {
				return nil, onlyCounts
			}
			return every(name)
		}
		p.count = countInJSON
		return p, nil
	}
	contenders["ferrule-wasm-by-hand"] = openByHand
}

// plenty is more fuel than any call here uses: the counting is what is measured.
const plenty = 1 << 40

// openModule opens a module with fuel. A plug-in of Ferrule's that is concurrent gets its instances by itself. One of Extism's has one: each
// goroutine after the first has a session of its own.
func openModule(e env, path string, extism bool) (*peer, error) {
	ctx := context.Background()
	options := []wasm.Option{wasm.WithFuel(plenty)}
	if e.cache != "" {
		options = append(options, wasm.WithCache(e.cache))
	}
	echo := func(_ context.Context, in []byte) ([]byte, error) { return in, nil }
	p, err := loader.Open(path, loader.WithEngine(wasm.Engine(options...)), loader.WithHostFunc("host_echo", echo),
		loader.WithHostFunc("shout", echo), loader.WithHostFunc("tell", echo))
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool)
	return &peer{
		fn: func(name string) (call, error) {
			f, err := p.Func(name)
			if err == nil && taken[name] && extism {
				var s *loader.Session
				if s, err = p.NewSession(ctx, nil); err == nil {
					f, err = s.Func(name)
				}
			}
			if err != nil {
				return nil, err
			}
			taken[name] = true
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }, nil
		},
		compiles: true,
		close:    func() { p.Close() },
	}, nil
}

// Where the members of a ferrule_call are in the memory of a module, in bytes.
const (
	frameIn, frameInLen, frameOut, frameOutLen, frameOutCap, frameHost = 8, 12, 16, 20, 24, 32
	frameSize                                                          = 44
)

// openByHand calls the file of ferrule-wasm as somebody would who has nothing but wazero: the module is as clang has made it, without
// fuel, and a goroutine has an instance for itself, in which the frame is made once. What a call needs is written, and what it
// has left is read; nothing is checked but the status and what wazero does.
func openByHand(e env) (*peer, error) {
	ctx := context.Background()
	module, err := os.ReadFile(e.path("ferrule_work.wasm"))
	if err != nil {
		return nil, err
	}
	config, err := e.runtimeConfig()
	if err != nil {
		return nil, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return nil, err
	}
	compiled, err := rt.CompileModule(ctx, module)
	if err != nil {
		return nil, err
	}
	// The work asks the host for nothing but host_echo, which is not in this comparison: each of these fails.
	host := rt.NewHostModuleBuilder("ferrule")
	for _, f := range compiled.ImportedFunctions() {
		if from, name, ok := f.Import(); ok && from == "ferrule" {
			host.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) { panic("the host has no services") }),
				f.ParamTypes(), f.ResultTypes()).Export(name)
		}
	}
	if _, err := host.Instantiate(ctx); err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			if name == "ask" {
				return nil, unsupported("it has no host functions")
			}
			m, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
			if err != nil {
				return nil, err
			}
			alloc, fn, services := m.ExportedFunction("ferrule_alloc"), m.ExportedFunction("ferrule_fn_"+name), m.ExportedGlobal("ferrule_services")
			if alloc == nil || fn == nil || services == nil {
				return nil, fmt.Errorf("the module does not export what a call of %s needs", name)
			}
			mem, stack := m.Memory(), make([]uint64, 1)
			var frame, inAt, outAt, room uint32
			grow := func(n uint32) error {
				room = n + 64
				stack[0] = uint64(64 + 2*room)
				if err := alloc.CallWithStack(ctx, stack); err != nil {
					return err
				}
				if frame = uint32(stack[0]); frame == 0 {
					return fmt.Errorf("the module has no memory for %d bytes", n)
				}
				inAt, outAt = frame+64, frame+64+room
				area, ok := mem.Read(frame, 64)
				if !ok {
					return fmt.Errorf("the module's memory at %#x is outside of it", frame)
				}
				clear(area)
				for at, value := range map[uint32]uint32{0: frameSize, frameIn: inAt, frameOut: outAt, frameOutCap: room,
					frameHost: uint32(services.Get())} {
					mem.WriteUint32Le(frame+at, value)
				}
				return nil
			}
			return func(dst, in []byte) ([]byte, error) {
				n := uint32(len(in))
				if frame == 0 || n > room {
					if err := grow(n); err != nil {
						return nil, err
					}
				}
				if !mem.Write(inAt, in) || !mem.WriteUint32Le(frame+frameInLen, n) || !mem.WriteUint32Le(frame+frameOutLen, 0) {
					return nil, fmt.Errorf("the input of %d bytes does not fit the module's memory", n)
				}
				stack[0] = uint64(frame)
				if err := fn.CallWithStack(ctx, stack); err != nil {
					return nil, err
				}
				if status := uint32(stack[0]); status != 0 {
					return nil, fmt.Errorf("%s returned the status %d", name, status)
				}
				length, _ := mem.ReadUint32Le(frame + frameOutLen)
				out, ok := mem.Read(outAt, length)
				if !ok {
					return nil, fmt.Errorf("the result of %d bytes is outside the module's memory", length)
				}
				return append(dst, out...), nil
			}, nil
		},
		compiles: true,
		close:    func() { rt.Close(ctx) },
	}, nil
}

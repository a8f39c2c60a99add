package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

func init() { contenders["wazero"] = openWazero }

// openWazero compiles the module once; each goroutine gets an instance, because a module's memory is for one call at a
// time. The copies into and out of it are done by hand, the stack of arguments is used again.
func openWazero(e env) (*peer, error) {
	ctx := context.Background()
	wasm, err := os.ReadFile(e.path("wazero.wasm"))
	if err != nil {
		return nil, err
	}
	config, err := e.runtimeConfig()
	if err != nil {
		return nil, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, config)
	_, err = rt.NewHostModuleBuilder("host").NewFunctionBuilder().WithGoModuleFunction(
		api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) {
			in, ok := m.Memory().Read(uint32(stack[0]), uint32(stack[1]))
			if !ok || !m.Memory().Write(uint32(stack[2]), in) {
				panic("the host function's arguments are outside the memory")
			}
			stack[0] = uint64(len(in))
		}), []api.ValueType{api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).
		Export("echo").Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	compiled, err := rt.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			m, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName(""))
			if err != nil {
				return nil, err
			}
			at := func(name string) (uint32, error) {
				r, err := m.ExportedFunction(name).Call(ctx)
				if err != nil {
					return 0, err
				}
				return uint32(r[0]), nil
			}
			inAt, err := at("in")
			if err != nil {
				return nil, err
			}
			outAt, err := at("out")
			if err != nil {
				return nil, err
			}
			fn, stack := m.ExportedFunction(name), make([]uint64, 1)
			return func(dst, in []byte) ([]byte, error) {
				if !m.Memory().Write(inAt, in) {
					return nil, fmt.Errorf("the input of %d bytes does not fit the module's memory", len(in))
				}
				stack[0] = uint64(len(in))
				if err := fn.CallWithStack(ctx, stack); err != nil {
					return nil, err
				}
				out, ok := m.Memory().Read(outAt, uint32(stack[0]))
				if !ok {
					return nil, fmt.Errorf("the result of %d bytes is outside the module's memory", stack[0])
				}
				return append(dst, out...), nil
			}, nil
		},
		compiles: true,
		close:    func() { rt.Close(ctx) },
	}, nil
}

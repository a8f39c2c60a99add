package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	extism "github.com/extism/go-sdk"
	"github.com/tetratelabs/wazero"
)

func init() {
	contenders["extism"] = func(e env) (*peer, error) { return openExtism(e, e.path("extism.wasm"), nil) }
	contenders["extism-pdk"] = func(e env) (*peer, error) { return openExtism(e, e.pdk, nil) }
	contenders["extism-own"] = func(e env) (*peer, error) {
		return openExtism(e, e.ownModule(), countInJSON)
	}
}

// ownModule is the path of the module that comes with Extism's Go SDK.
func (e env) ownModule() string { return filepath.Join(e.extismSDK, "wasm", "count_vowels.wasm") }

// countInJSON is its result.
func countInJSON(out []byte) (uint64, error) {
	var result struct{ Count uint64 }
	err := json.Unmarshal(out, &result)
	return result.Count, err
}

// onlyCounts is what that module has to say of the other functions.
const onlyCounts = unsupported("the SDK comes without such a module")

// openExtism compiles the module once; each goroutine gets an instance, as the SDK's documentation says. A module with a
// count is the SDK's own, which has count_vowels only.
func openExtism(e env, path string, count func([]byte) (uint64, error)) (*peer, error) {
	ctx := context.Background()
	echo := func(_ context.Context, p *extism.CurrentPlugin, stack []uint64) {
		in, err := p.ReadBytes(stack[0])
		if err == nil {
			stack[0], err = p.WriteBytes(in)
		}
		if err != nil {
			panic(err)
		}
	}
	ignore := func(context.Context, *extism.CurrentPlugin, []uint64) {}
	block := []extism.ValueType{extism.ValueTypeI64}
	host := []extism.HostFunction{extism.NewHostFunctionWithStack("host_echo", echo, block, block),
		extism.NewHostFunctionWithStack("shout", echo, block, block), extism.NewHostFunctionWithStack("tell", ignore, block, nil)}
	config, err := e.runtimeConfig()
	if err != nil {
		return nil, err
	}
	compiled, err := extism.NewCompiledPlugin(ctx, extism.Manifest{Wasm: []extism.Wasm{extism.WasmFile{Path: path}}},
		extism.PluginConfig{EnableWasi: true, RuntimeConfig: config}, host)
	if err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			if count != nil && name != "count_vowels" {
				return nil, onlyCounts
			}
			p, err := compiled.Instance(ctx, extism.PluginInstanceConfig{ModuleConfig: wazero.NewModuleConfig()})
			if err != nil {
				return nil, err
			}
			return func(_, in []byte) ([]byte, error) {
				status, out, err := p.CallWithContext(ctx, name, in)
				if err == nil && status != 0 {
					err = fmt.Errorf("%s returned status %d", name, status)
				}
				return out, err
			}, nil
		},
		count:    count,
		compiles: true,
		close:    func() { compiled.Close(ctx) },
	}, nil
}

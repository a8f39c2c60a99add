//go:build cgo && !ferrule_portable && !goplugin

// In one build alone: what it brings takes long to compile.

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/dop251/goja"
	"modernc.org/quickjs"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

func init() {
	contenders["script-wasm"] = func(e env) (*peer, error) { return openScript(e, "work.js") }
	contenders["script-library"] = func(e env) (*peer, error) { return openScript(e, "work.js", byLibrary(e, loader.Native())) }
	contenders["script-worker"] = func(e env) (*peer, error) { return openScript(e, "work.js", byLibrary(e, isolate.Engine())) }
	contenders["script-python"] = func(e env) (*peer, error) { return openScript(e, "work.py", inPython(e, nil)) }
	contenders["script-python-here"] = func(e env) (*peer, error) { return openScript(e, "work.py", inPython(e, loader.Native())) }
	contenders["goja"] = openGoja
	contenders["quickjs"] = openQuickJS
	contenders["script-node-sidecar"] = func(e env) (*peer, error) {
		if _, err := exec.LookPath("node"); err != nil {
			return nil, unsupported("node is not there")
		}
		return openWork(e.script("sidecar.js"), sidecar.Program(sidecar.WithInterpreter("node"), sidecar.WithOutput(os.Stderr)))
	}
	contenders["script-python-sidecar"] = func(e env) (*peer, error) {
		python, err := whichPython(e)
		if err != nil {
			return nil, err
		}
		return openWork(e.script("sidecar.py"), sidecar.Program(sidecar.WithInterpreter(python), sidecar.WithOutput(os.Stderr)))
	}
}

// script is the path of a script, or of what runs one.
func (e env) script(name string) string { return e.path("../script/" + name) }

func byLibrary(e env, in engine.Engine) script.Option {
	return script.WithAdapter(e.path("script-javascript.so"), in)
}

func inPython(e env, in engine.Engine) script.Option {
	return script.WithPython(e.path("script-python.so"), in)
}

func openScript(e env, name string, opts ...script.Option) (*peer, error) {
	return openWork(e.script(name), loader.WithEngine(script.Engine(opts...)))
}

// openWork opens the work in JavaScript or Python, whatever runs it.
func openWork(path string, how loader.Option) (*peer, error) {
	p, err := loader.Open(path, how, loader.WithHostFunc("loyalty_points", func(context.Context, []byte) ([]byte, error) { return []byte("0"), nil }))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return &peer{
		fn: func(name string) (call, error) {
			f, err := p.Func(name)
			if err != nil {
				return nil, err
			}
			return func(dst, in []byte) ([]byte, error) { return f.Append(ctx, dst, in) }, nil
		},
		count: countInText,
		close: func() { p.Close() },
	}, nil
}

// countInText reads a count as a decimal number.
func countInText(out []byte) (uint64, error) { return strconv.ParseUint(string(out), 10, 64) }

// whichPython returns the path of the Python that the adapter embeds: a sidecar is compared with it on the same one.
func whichPython(e env) (string, error) {
	p, err := loader.Open(e.script("which.py"), loader.WithEngine(script.Engine(inPython(e, nil))))
	if err != nil {
		return "", err
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "which", nil)
	return string(out), err
}

// globals is the work in JavaScript without modules, for interpreters that have none: its functions, and host, are global. checkout_text has
// what a host would have to write for JSON.
func (e env) globals() (string, error) {
	text, err := os.ReadFile(e.script("work.js"))
	if err != nil {
		return "", err
	}
	before, after, ok := strings.Cut(string(text), "import { host } from \"ferrule\";\n")
	if !ok {
		return "", fmt.Errorf("%s does not import host", e.script("work.js"))
	}
	return before + strings.ReplaceAll(after, "export function", "function") +
		"function checkout_text(text) { return JSON.stringify(checkout(JSON.parse(text))); }\n" +
		"var host = { loyalty_points: (customer) => loyalty_points(customer) };\n", nil
}

// global is what a function of the work is called there.
func global(name string) string {
	if name == "checkout" {
		return "checkout_text"
	}
	return name
}

func openGoja(e env) (*peer, error) {
	text, err := e.globals()
	if err != nil {
		return nil, err
	}
	vm := goja.New()
	if err := vm.Set("loyalty_points", func(string) string { return "0" }); err != nil {
		return nil, err
	}
	if _, err := vm.RunString(text); err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			f, ok := goja.AssertFunction(vm.Get(global(name)))
			if !ok {
				return nil, fmt.Errorf("work.js has no function %s", name)
			}
			return func(dst, in []byte) ([]byte, error) {
				v, err := f(goja.Undefined(), vm.ToValue(string(in)))
				if err != nil {
					return nil, err
				}
				return append(dst, v.String()...), nil
			}, nil
		},
		count: countInText,
	}, nil
}

func openQuickJS(e env) (*peer, error) {
	text, err := e.globals()
	if err != nil {
		return nil, err
	}
	vm, err := quickjs.NewVM()
	if err != nil {
		return nil, err
	}
	if err := vm.RegisterFunc("loyalty_points", func(string) string { return "0" }, false); err != nil {
		return nil, err
	}
	if _, err := vm.Eval(text, quickjs.EvalGlobal); err != nil {
		return nil, err
	}
	return &peer{
		fn: func(name string) (call, error) {
			name = global(name)
			return func(dst, in []byte) ([]byte, error) {
				v, err := vm.Call(name, string(in))
				if err != nil {
					return nil, err
				}
				s, ok := v.(string)
				if !ok {
					return nil, fmt.Errorf("%s returned a %T, expected a string", name, v)
				}
				return append(dst, s...), nil
			}, nil
		},
		count: countInText,
		close: func() { vm.Close() },
	}, nil
}

package extism

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// signature is the type of a function.
type signature struct{ params, results []api.ValueType }

func (s signature) String() string {
	list := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = api.ValueTypeName(t)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(s.params) + " -> " + list(s.results)
}

func (s signature) equal(o signature) bool {
	return slices.Equal(s.params, o.params) && slices.Equal(s.results, o.results)
}

// imported is a function that a plug-in imports.
type imported struct {
	name    string
	ordinal uint32 // of one of the host's
	signature
}

var i64 = []api.ValueType{api.ValueTypeI64}

// sortImports returns what a plug-in imports of Extism's functions and of the host's, each once: a module may import a function twice.
func sortImports(main wazero.CompiledModule, known map[string]signature, offered []string) (env, user []imported, err error) {
	ordinals := make(map[string]uint32, len(offered))
	for i, name := range offered {
		ordinals[name] = uint32(i)
	}
	seen := make(map[[2]string]signature)
	for _, d := range main.ImportedFunctions() {
		module, name, _ := d.Import()
		f := imported{name: name, signature: signature{d.ParamTypes(), d.ResultTypes()}}
		if before, ok := seen[[2]string{module, name}]; ok {
			if !before.equal(f.signature) {
				return nil, nil, &ImportError{module, name, "it as " + before.String() + " and as " + f.String(), "one of them"}
			}
			continue
		}
		seen[[2]string{module, name}] = f.signature
		switch module {
		case moduleWASI:
		case moduleEnv:
			want, ok := known[name]
			if !ok {
				return nil, nil, &ImportError{module, name, "a function that Extism does not have", "one that its Go SDK 1.7.1 has"}
			}
			if !want.equal(f.signature) {
				return nil, nil, &ImportError{module, name, f.String(), want.String()}
			}
			env = append(env, f)
		case moduleUser:
			ordinal, ok := ordinals[name]
			if !ok {
				return nil, nil, &ImportError{module, name, "a function that the host does not offer", fmt.Sprintf("one of %q", offered)}
			}
			if !slices.Equal(f.params, i64) || len(f.results) > 0 && !slices.Equal(f.results, i64) {
				return nil, nil, &ImportError{module, name, f.String(), "(i64) -> (i64) or (i64) -> (), which carry bytes"}
			}
			f.ordinal = ordinal
			user = append(user, f)
		default:
			return nil, nil, &ImportError{module, name, "a function of another module", "functions of " + moduleEnv + ", " + moduleUser + " and " + moduleWASI}
		}
	}
	return env, user, nil
}

// shim makes a module that imports functions, those that are mine from the host and the others from the kernel, and exports them. wazero links what imports
// them from it to where they come from, so it costs nothing when they are called.
func shim(functions []imported, mine map[string]bool) []byte {
	var types, imports, exports []byte
	for i, f := range functions {
		types = append(types, 0x60)
		types = append(leb(types, len(f.params)), f.params...)
		types = append(leb(types, len(f.results)), f.results...)
		from := fromKernel
		if mine[f.name] {
			from = fromHost
		}
		imports = leb(append(text(text(imports, from), f.name), 0), i)
		exports = leb(append(text(exports, f.name), 0), i)
	}
	module := []byte("\x00asm\x01\x00\x00\x00")
	module = section(module, 1, len(functions), types)
	module = section(module, 2, len(functions), imports)
	return section(module, 7, len(functions), exports)
}

// leb appends a number in LEB128.
func leb(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func text(b []byte, s string) []byte { return append(leb(b, len(s)), s...) }

func section(b []byte, id byte, count int, body []byte) []byte {
	body = append(leb(nil, count), body...)
	return append(leb(append(b, id), len(body)), body...)
}

// instances finds an instance by its module, in the functions that it calls.
type instances struct{ all sync.Map }

func (i *instances) add(m api.Module, in *Instance) { i.all.Store(m, in) }
func (i *instances) remove(m api.Module)            { i.all.Delete(m) }
func (i *instances) of(m api.Module) *Instance {
	in, _ := i.all.Load(m)
	found, _ := in.(*Instance)
	return found
}

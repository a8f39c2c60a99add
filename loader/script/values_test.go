package script_test

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// text is a script's in a form's language.
func text(e form, js, py string) string {
	if e.ext == ".py" {
		return py
	}
	return js
}

// The bytes of an array are those that its buffer has now, and no others.
func TestResizedBuffers(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		if e.ext != ".js" {
			t.Skip("Python's buffers are not resized while somebody has them")
		}
		p, err := loader.Open(write(t, "a.js", `// ferrule: name=a version=1.0.0
// ferrule: fn=shorter fn=longer fn=cut fn=view fn=given
export function shorter() { const b = new ArrayBuffer(1e6, { maxByteLength: 1e6 }), u = new Uint8Array(b); b.resize(10); return u; }
export function longer() { const b = new ArrayBuffer(10, { maxByteLength: 100 }), u = new Uint8Array(b); b.resize(100); return u; }
export function cut() { const b = new ArrayBuffer(100, { maxByteLength: 100 }), u = new Uint8Array(b, 50, 50); b.resize(60); return u; }
export function view() { const b = new ArrayBuffer(100, { maxByteLength: 100 }), v = new DataView(b); b.resize(7); return v; }
export function given() { const b = new ArrayBuffer(100), u = new Uint8Array(b); b.transfer(); return u; }
`), loader.WithEngine(e.engine))
		require.NoError(t, err)
		defer p.Close()
		for fn, want := range map[string]int{"shorter": 10, "longer": 100, "view": 7} {
			out, err := p.Call(t.Context(), fn, nil)
			require.NoError(t, err, fn)
			assert.Equal(t, make([]byte, want), append([]byte{}, out...), fn)
		}
		for _, fn := range []string{"cut", "given"} {
			_, err := p.Call(t.Context(), fn, nil)
			assert.ErrorIs(t, err, loader.ErrFailed, fn)
			assert.ErrorContains(t, err, "ArrayBuffer is detached or resized", fn)
		}
	})
}

// What a header says of settings, states and ends is there, or the script does not open; what it does not say is not called.
func TestServicesOfTheHeader(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		for _, service := range []string{"configure", "stop"} {
			_, err := loader.Open(write(t, "a"+e.ext, text(e, "//", "#")+" ferrule: name=a version=1.0.0 services="+service+"\n"), loader.WithEngine(e.engine))
			require.ErrorIs(t, err, loader.ErrStart, service)
			assert.ErrorContains(t, err, "its header names "+service)
		}
		path := write(t, "a"+e.ext, text(e, "// ferrule: name=a version=1.0.0 fn=stop in=json\nexport const stop = (x) => x.y;\n",
			"# ferrule: name=a version=1.0.0 fn=stop in=json\ndef stop(x):\n    return x['y']\n"))
		p, err := loader.Open(path, loader.WithEngine(e.engine))
		require.NoError(t, err)
		out, err := p.Call(t.Context(), "stop", []byte(`{"y":1}`))
		require.NoError(t, err)
		assert.Equal(t, "1", string(out))
		assert.NoError(t, p.Close(), "a function of that name is none that Close calls")
	})
}

// A name that is not known while a script runs is an annotation like none, and harms no other.
func TestAnnotations(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		if e.ext != ".py" {
			t.Skip("of Python")
		}
		p, err := loader.Open(write(t, "a.py", `# ferrule: name=a version=1.0.0
# ferrule: fn=none fn=data fn=pair in=json out=json fn=future
import dataclasses
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from elsewhere import Foo

@dataclasses.dataclass
class Pair:
    items: tuple[int, str]
    more: tuple[int, ...]

def none() -> "Foo":
    return "nothing"

def data(x: bytes) -> "Foo":
    return type(x).__name__

def pair(x: Pair):
    return [x.items, x.more, type(x.items).__name__]

def future(x: "bytes", y: "Foo" = None):
    return type(x).__name__
`), loader.WithEngine(e.engine))
		require.NoError(t, err)
		defer p.Close()
		for _, c := range [][3]string{{"none", "", "nothing"}, {"data", "x", "bytes"}, {"future", "x", "bytes"}, {"pair", `{"items":[1,"a"],"more":[1,2,3]}`, `[[1,"a"],[1,2,3],"tuple"]`}} {
			out, err := p.Call(t.Context(), c[0], []byte(c[1]))
			require.NoError(t, err, c[0])
			assert.Equal(t, c[2], string(out), c[0])
		}
		_, err = p.Call(t.Context(), "pair", []byte(`{"items":[1],"more":[]}`))
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, "found 1 items, expected 2")
	})
}

// What a script imports from its folder is read when it is opened, each time that no other script of the folder is.
func TestImportsAreReadAgain(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		path := write(t, "a"+e.ext, text(e, "// ferrule: name=a version=1.0.0 fn=get\nimport { value } from \"./helper.mjs\";\nexport const get = () => String(value);\n",
			"# ferrule: name=a version=1.0.0 fn=get\nfrom helper_of_a import value\ndef get():\n    return str(value)\n"))
		for _, want := range []string{"1", "2"} {
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), text(e, "helper.mjs", "helper_of_a.py")), []byte(text(e, "export const ", "")+"value = "+want+"\n"), 0o600))
			p, err := loader.Open(path, loader.WithEngine(e.engine))
			require.NoError(t, err)
			out, err := p.Call(t.Context(), "get", nil)
			require.NoError(t, err)
			assert.Equal(t, want, string(out))
			require.NoError(t, p.Close())
		}
	})
}

// Scripts that are opened at once share what was compiled, and each has all of it.
func TestOpenedAtOnce(t *testing.T) {
	e := script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled"))))
	path := write(t, "a.js", "// ferrule: name=a version=1.0.0 fn=f\nexport const f = (x) => x + 1;\n")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 40 {
				p, err := loader.Open(path, loader.WithEngine(e))
				if !assert.NoError(t, err) {
					return
				}
				out, err := p.Call(t.Context(), "f", []byte("1"))
				assert.NoError(t, err)
				assert.Equal(t, "11", string(out))
				assert.NoError(t, p.Close())
			}
		})
	}
	all.Wait()
}

// A script in Python is UTF-8, with the mark of it or without.
func TestTextsOfPython(t *testing.T) {
	e := forms(t)["python"].engine
	p, err := loader.Open(write(t, "a.py", "\ufeff# ferrule: name=a version=1.0.0 fn=f\ndef f(): return 'é'\n"), loader.WithEngine(e))
	require.NoError(t, err)
	out, err := p.Call(t.Context(), "f", nil)
	require.NoError(t, err)
	assert.Equal(t, "é", string(out))
	require.NoError(t, p.Close())
	_, err = loader.Open(write(t, "a.py", "# -*- coding: latin-1 -*-\n# ferrule: name=a version=1.0.0 fn=f\ndef f(): return '\xe9'\n"), loader.WithEngine(e))
	require.ErrorIs(t, err, loader.ErrManifest)
	assert.ErrorContains(t, err, "line 3: bytes that are no UTF-8")
	if runtime.GOOS == "linux" {
		_, err = loader.Open(write(t, "a\xff.py", "# ferrule: name=a version=1.0.0\n"), loader.WithEngine(e))
		require.ErrorIs(t, err, loader.ErrManifest)
		assert.ErrorContains(t, err, "which is no UTF-8")
	}
}

// What a script in JavaScript imports is read by the host; one in Python has no way to have the host read a file.
func TestPythonHasNoFilesOfTheHost(t *testing.T) {
	path := write(t, "a.py", "# ferrule: name=a version=1.0.0 fn=f\nimport _ferrule\ndef f():\n    return _ferrule.Call(64, 'x')('secret.txt')\n")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "secret.txt"), []byte("SECRET"), 0o600))
	p, err := loader.Open(path, loader.WithEngine(forms(t)["python"].engine))
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Call(t.Context(), "f", nil)
	assert.ErrorIs(t, err, loader.ErrUnsupported)
}

// A host function that the header does not name is one error, with what to write.
func TestHostFunctionsThatAreNotNamed(t *testing.T) {
	each(t, func(t *testing.T, e form) {
		p, err := loader.Open(write(t, "a"+e.ext, text(e, "// ferrule: name=a version=1.0.0 fn=f fn=g\nimport { host } from \"ferrule\";\nexport const f = (x) => host.points(x);\nexport const g = () => `${JSON.stringify({ host })} ${host instanceof Object}`;\n",
			"# ferrule: name=a version=1.0.0 fn=f fn=g\nfrom ferrule import host\ndef f(x):\n    return host.points(x)\ndef g():\n    return str(hasattr(host, 'points'))\n")), loader.WithEngine(e.engine))
		require.NoError(t, err)
		defer p.Close()
		_, err = p.Call(t.Context(), "f", []byte("x"))
		assert.ErrorIs(t, err, loader.ErrFailed)
		assert.ErrorContains(t, err, "found host.points, which the script's header does not name: write import=points")
		out, err := p.Call(t.Context(), "g", nil)
		require.NoError(t, err)
		assert.Equal(t, text(e, `{"host":{}} true`, "False"), string(out))
	})
}

// A virtual environment belongs to one Python.
func TestVirtualenvOfAnotherPython(t *testing.T) {
	venv := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(venv, "pyvenv.cfg"), []byte("home = "+venv+"\nversion = 3.11.2\n"), 0o600))
	_, err := loader.Open(write(t, "a.py", "# ferrule: name=a version=1.0.0\n"), loader.WithEngine(script.Engine(script.WithVirtualenv(venv), script.WithPython(fixture.PythonAdapter(t), nil))))
	require.ErrorIs(t, err, loader.ErrOption)
	assert.ErrorContains(t, err, "a virtual environment of the Python in "+venv)
}

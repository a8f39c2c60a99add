package engines

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// ScriptExtensions are how the names of scripts end, without the dot.
var ScriptExtensions = []string{"js", "mjs", "py"}

// IsScript reports whether a plug-in is a script, in JavaScript or in Python. lib may be nil.
func IsScript(lib *inspect.Library) bool { return IsJavaScript(lib) || IsPython(lib) }

// IsJavaScript reports whether a plug-in is a script in JavaScript. lib may be nil.
func IsJavaScript(lib *inspect.Library) bool { return lib != nil && lib.Format == inspect.JavaScript }

// IsPython reports whether a plug-in is a script in Python. lib may be nil.
func IsPython(lib *inspect.Library) bool { return lib != nil && lib.Format == inspect.Python }

// IsBoxed reports whether a plug-in runs in this process, in a sandbox of its own, wherever it is opened: a WebAssembly module, or a script in JavaScript, whose interpreter is
// one. lib may be nil.
func IsBoxed(lib *inspect.Library) bool { return IsModule(lib) || IsJavaScript(lib) }

// IsPortable reports whether one file of a plug-in is for all systems. lib may be nil.
func IsPortable(lib *inspect.Library) bool { return IsModule(lib) || IsScript(lib) }

// cache is a folder in the user's cache folder, "" where there is none.
func cache(name string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "ferrule", name)
}

// cacheVariable is the variable of the environment that says where the user's cache folder is.
func cacheVariable() string {
	switch runtime.GOOS {
	case "windows":
		return "LocalAppData"
	case "darwin":
		return "HOME"
	}
	return "XDG_CACHE_HOME"
}

// javaScript are the options for scripts in JavaScript: the interpreter is compiled once for this user, where there is a place for it.
func javaScript(options ...wasm.Option) []script.Option {
	folder := cache("compiled")
	if folder != "" && os.MkdirAll(folder, 0o700) == nil {
		options = append(options, wasm.WithCache(folder))
	}
	return []script.Option{script.WithWasm(options...)}
}

// JavaScript is the engine for scripts in JavaScript, for a plug-in that may have this; the interpreter runs with these options.
func JavaScript(p engine.Permits, opts ...wasm.Option) (loader.Option, error) {
	e, err := script.Engine(javaScript(opts...)...).(engine.Permitting).With(p)
	if err != nil {
		return nil, err
	}
	return loader.WithEngine(e), nil
}

// Adapter is the library that runs scripts in Python, which is built the first time, into the user's cache folder; building is called before that. path is the script's, for the error.
func Adapter(ctx context.Context, path string, building func(folder string)) (string, error) {
	folder := cache("python")
	if folder == "" {
		return "", unbuilt(path, errors.New("no cache folder: HOME is not set"))
	}
	file, err := script.KeepPython(ctx, folder, "", func() { building(folder) })
	if err != nil {
		return "", unbuilt(path, err)
	}
	return file, nil
}

// unbuilt is the error where Python cannot run.
func unbuilt(path string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	said := strings.TrimPrefix(err.Error(), "script: "+script.ErrNotBuilt.Error()+": python: ")
	_, ran := errors.AsType[*exec.ExitError](err)
	_, missing := errors.AsType[*exec.Error](err)
	if !ran && !missing { // nothing was compiled
		return &loader.OpenError{Path: path, Kind: loader.ErrNoEngine, Found: "a script in Python, and no folder in which what runs it can be built: " + said,
			Expected: "a cache folder that is this user's, who can write to it", Remedy: "Name one in the environment by " + cacheVariable()}
	}
	return &loader.OpenError{Path: path, Kind: loader.ErrNoEngine, Found: "a script in Python, and what runs it could not be built: " + said,
		Expected: "a C compiler, and a Python with a shared library and its python3-config",
		Remedy:   "Install them (Debian: apt-get install gcc python3-dev; Fedora: dnf install gcc python3-devel). PYTHON_CONFIG in the environment names another python3-config"}
}

// Python is the engine for a script in Python, at path, which a worker runs, in that sandbox where there is one. There it may read Python's own folders, and its own: they are
// what a library brings along.
func Python(adapter, path string, policy *sandbox.Policy, opts ...isolate.Option) (loader.Option, error) {
	if policy != nil {
		own := *policy
		reads, err := script.PythonReads(adapter, filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		own.Read = append(slices.Clip(own.Read), reads...)
		opts = append(slices.Clip(opts), sandbox.With(own))
	}
	return loader.WithEngine(script.Engine(script.WithPython(adapter, isolate.Engine(opts...)))), nil
}

// PythonHere is the engine for a script in Python in this process.
func PythonHere(adapter string) loader.Option {
	return loader.WithEngine(script.Engine(script.WithPython(adapter, loader.Native())))
}

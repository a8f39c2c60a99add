package script_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/script"
)

// harms is a script whose function does runs what it is called with, as a function's body.
const harms = `# ferrule: name=harms version=1.0.0 fn=does fn=well fn=pid import=double
import os

import ferrule
from ferrule import host

kept = {}


def does(body):
    space = {"ferrule": ferrule, "host": host, "kept": kept}
    exec("def body():\n" + "\n".join("    " + line for line in body.split("\n")), space)
    return space["body"]()


def well(x):
    return host.double(x)[0] + "!"


def pid():
    return str(os.getpid())
`

// Whatever a script in Python does to its process, it is an error of the call in the worker, and of no other; the next call works, and so do other plug-ins.
func TestHarms(t *testing.T) {
	adapter := fixture.PythonAdapter(t)
	worker := func(o ...isolate.Option) *loader.Plugin {
		e := script.Engine(script.WithPython(adapter, isolate.Engine(append([]isolate.Option{isolate.WithGrace(100 * time.Millisecond)}, o...)...)))
		return opened(t, e, "harms.py", harms, loader.WithHostFunc("double", double))
	}
	p, beside := worker(), worker()
	pid := func(p *loader.Plugin) string {
		out, err := p.Call(t.Context(), "pid", nil)
		require.NoError(t, err)
		return string(out)
	}
	before := pid(beside)
	for _, c := range []struct {
		name, body string
		ends       bool      // the worker; with an error in is, either that or the error
		signal     os.Signal // that ended it
		is         error     // what the call fails with; nil: it works
		says       string
	}{
		{name: "os._exit", body: `import os; os._exit(3)`, ends: true, says: "3"},
		{name: "os.kill", body: `import os, signal; os.kill(os.getpid(), signal.SIGKILL)`, ends: true, signal: syscall.SIGKILL},
		{name: "os.abort", body: `import os; os.abort()`, ends: true, signal: syscall.SIGABRT},
		{name: "ctypes", body: `import ctypes; ctypes.string_at(0)`, ends: true, signal: syscall.SIGSEGV},
		{name: "faulthandler", body: `import faulthandler; faulthandler._sigsegv()`, ends: true, signal: syscall.SIGSEGV},
		{name: "deep in C", body: "import sys\nsys.setrecursionlimit(10 ** 9)\nf = lambda: f()\nf = lambda: sorted([1, 2], key=lambda x: f())\nf()", ends: true, signal: syscall.SIGSEGV},
		{name: "execv", body: `import os; os.execv("/bin/true", ["true"])`, ends: true},
		{name: "descriptors", body: "import os\nfor fd in range(0, 64):\n    try: os.close(fd)\n    except OSError: pass\nos.kill(os.getpid(), 9)", ends: true, signal: syscall.SIGKILL},
		{name: "its thread exits", body: `import ctypes; ctypes.CDLL(None).pthread_exit(None)`, ends: true, is: context.DeadlineExceeded},

		{name: "endless", body: `while True: pass`, is: context.DeadlineExceeded},
		{name: "endless in C", body: `return str(len(str(10 ** 10 ** 8)))`, is: context.DeadlineExceeded},
		{name: "backtracks", body: `import re; re.match("(a+)+$", "a" * 64 + "b")`, is: context.DeadlineExceeded},
		{name: "catches", body: "while True:\n    try:\n        while True: pass\n    except BaseException: pass", is: context.DeadlineExceeded},
		{name: "sleeps", body: `import time; time.sleep(1000)`, is: context.DeadlineExceeded},
		{name: "waits", body: `import threading; threading.Event().wait()`, is: context.DeadlineExceeded},
		{name: "joins itself", body: "import threading\nt = threading.Thread(target=lambda: threading.Event().wait())\nt.start()\nt.join()", is: context.DeadlineExceeded},
		{name: "endless coroutine", body: "import asyncio\nasync def f():\n    while True: await asyncio.sleep(0)\nreturn f()", is: context.DeadlineExceeded},

		{name: "deep", body: "def f(): return f() + 1\nreturn f()", is: loader.ErrFailed, says: "RecursionError"},
		{name: "deep JSON", body: "a = []\nfor i in range(100000): a = [a]\nreturn a", is: loader.ErrFailed, says: "RecursionError"},
		{name: "sys.exit", body: `import sys; sys.exit(3)`, is: loader.ErrFailed, says: "SystemExit: 3"},
		{name: "KeyboardInterrupt", body: `raise KeyboardInterrupt`, is: loader.ErrFailed, says: "KeyboardInterrupt"},
		{name: "GeneratorExit", body: `raise GeneratorExit`, is: loader.ErrFailed, says: "GeneratorExit"},
		{name: "an exception without a text", body: "class E(Exception):\n    def __str__(self): raise ValueError\nraise E", is: loader.ErrFailed, says: "E: it has no text: ValueError"},
		{name: "a group", body: `raise ExceptionGroup("many", [ValueError(1), TypeError(2)])`, is: loader.ErrFailed, says: "TypeError: 2"},
		{name: "a cause in a cycle", body: "a = ValueError('one')\nb = ValueError('two')\na.__cause__ = b\nb.__cause__ = a\nraise a", is: loader.ErrFailed, says: "ValueError: one"},
		{name: "a surrogate", body: `raise ValueError("\ud800")`, is: loader.ErrFailed, says: "ValueError: ?"},
		{name: "a surrogate as the result", body: `return "\ud800"`, is: loader.ErrFailed, says: "UnicodeEncodeError"},
		{name: "a set", body: `return {1}`, is: loader.ErrFailed, says: "found a set, expected bytes"},
		{name: "not a number", body: `return [float("nan")]`, is: loader.ErrFailed, says: "ValueError"},
		{name: "a cycle", body: "a = []\na.append(a)\nreturn a", is: loader.ErrFailed, says: "Circular"},
		{name: "a property that fails", body: "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 0\n    def __getattribute__(self, name): raise ValueError('no ' + name)\nreturn A()", is: loader.ErrFailed, says: "ValueError: no "},
		{name: "a failure's status", body: "f = ferrule.Failure(1001, 'changed')\nf.status = 9\nraise f", is: loader.ErrFailed, says: "changed"},
		{name: "a failure's status that is none", body: "f = ferrule.Failure(1001, 'changed')\nf.status = 'x'\nf.message = 17\nraise f", is: loader.ErrFailed, says: "17"},
		{name: "a failure's status that is large", body: "f = ferrule.Failure(1 << 40, 'large')\nraise f", is: loader.ErrFailed, says: "found the status 1099511627776"},

		{name: "signal.signal", body: "import signal\ntry: signal.signal(signal.SIGTERM, signal.SIG_IGN)\nexcept ValueError: pass", is: nil},
		{name: "atexit", body: `import atexit; atexit.register(lambda: 1 / 0)`, is: nil},
		{name: "stdout", body: "import os\nos.write(1, b'to one\\n')\nos.write(2, b'to two\\n')", is: nil},
		{name: "sys.stdout", body: "import sys\nsys.stdout = None\nsys.stderr = 17", is: nil},
		{name: "closed sys.stdout", body: "import sys, io\nsys.stdout = io.StringIO()\nsys.stdout.close()", is: nil},
		{name: "threads left behind", body: "import threading\nfor i in range(20): threading.Thread(target=lambda: threading.Event().wait(), daemon=i % 2 == 0).start()", is: nil},
		{name: "a thread that exits", body: "import threading, sys\nt = threading.Thread(target=lambda: sys.exit(3))\nt.start()\nt.join()", is: nil},
		{name: "a thread that fails", body: "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()", is: nil},
		{name: "fork that comes back", body: "import os\nchild = os.fork()\nif child: os.waitpid(child, 0)\nelse: return 'twice'", is: nil},
		{name: "fork that calls", body: "import os\nchild = os.fork()\nif not child:\n    try: host.double('x')\n    except RuntimeError: os._exit(17)\nassert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17", is: nil},
		{name: "fork that fails", body: "import os\nchild = os.fork()\nif not child: raise ValueError\nassert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0", is: nil},
		{name: "multiprocessing", body: "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]", is: nil},
		{name: "subprocess", body: "import subprocess\nassert subprocess.run(['echo', 'x'], capture_output=True).stdout == b'x\\n'", is: nil},
		{name: "chdir", body: `import os; os.chdir("/")`, is: nil},
		{name: "gc", body: "import gc\ngc.collect()\nlen(gc.get_objects())", is: nil},
		{name: "members of ferrule", body: "ferrule.Failure = ferrule._to_bytes = None\nreturn 'x'", is: nil},
		{name: "members of ferrule, later", body: `raise ValueError`, is: loader.ErrFailed, says: "its exception cannot be shown: TypeError"},
		{name: "_ferrule", body: "import _ferrule\n_ferrule.call(4000000000, b'')", is: loader.ErrFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := p
			if strings.HasPrefix(c.name, "members of") || c.name == "_ferrule" {
				own = beside // whose worker nothing has ended, as the last ones
			}
			ctx := t.Context()
			if c.is == context.DeadlineExceeded {
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				ctx = short
			}
			if c.name == "multiprocessing" { // Python forks beside threads of its own there, and its documentation says that the child may hang
				long, cancel := context.WithTimeout(ctx, 30*time.Second)
				defer cancel()
				ctx = long
			}
			_, err := own.Call(ctx, "does", []byte(c.body))
			var crash *loader.CrashError
			switch {
			case c.name == "multiprocessing" && errors.Is(err, context.DeadlineExceeded): // it hung: then the call has ended in time, and the next one works
			case c.ends && c.is != nil && errors.Is(err, c.is): // nothing has come back, and nothing has ended
			case c.ends:
				require.ErrorAs(t, err, &crash)
				if c.signal != nil {
					assert.Equal(t, c.signal, crash.Signal)
				}
			case c.is == nil:
				assert.NoError(t, err)
			default:
				assert.ErrorIs(t, err, c.is)
				assert.NotErrorAs(t, err, &crash)
			}
			if c.says != "" {
				assert.ErrorContains(t, err, c.says)
			}
			if own == p {
				well(t, p)
				well(t, beside)
				assert.Equal(t, before, pid(beside), "its worker is the same")
			}
		})
	}
}

// An address of the host's means something else to a script in Python, or nothing: what lies there is neither read nor changed.
func TestHostMemory(t *testing.T) {
	e := script.Engine(script.WithPython(fixture.PythonAdapter(t), isolate.Engine()))
	p := opened(t, e, "harms.py", harms, loader.WithHostFunc("double", double))
	own := make([]byte, 32)
	_, _ = rand.Read(own)
	kept := bytes.Clone(own)
	at := fmt.Sprintf("%d, %d", uintptr(unsafe.Pointer(unsafe.SliceData(own))), len(own))
	out, err := p.Call(t.Context(), "does", []byte("import ctypes; return ctypes.string_at("+at+")"))
	if err == nil { // the worker has something there
		assert.NotEqual(t, kept, out)
	} else {
		var crash *loader.CrashError
		assert.ErrorAs(t, err, &crash)
	}
	_, err = p.Call(t.Context(), "does", []byte("import ctypes, os\nctypes.memset("+strings.Replace(at, ",", ", 0,", 1)+")\nos._exit(3)"))
	var crash *loader.CrashError
	assert.ErrorAs(t, err, &crash, "what lies there may have been the worker's own")
	assert.Equal(t, kept, own)
	runtime.KeepAlive(&own)
	well(t, p)
}

// inSandbox opens a script in Python in a sandbox with 256 MiB of memory, which may read the script's folder.
func inSandbox(t *testing.T, path string) *loader.Plugin {
	t.Helper()
	adapter := fixture.PythonAdapter(t)
	reads, err := script.PythonReads(adapter, filepath.Dir(path))
	require.NoError(t, err)
	e := script.Engine(script.WithPython(adapter, isolate.Engine(isolate.WithGrace(100*time.Millisecond), sandbox.With(sandbox.Policy{Read: reads, Memory: 256 << 20, CPU: 20 * time.Second}))))
	p, err := loader.Open(path, loader.WithEngine(e), loader.WithHostFunc("double", double))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// What a call had that failed is given back when it ends, and not when Python's garbage collector comes. It is asked of a weak
// reference: a C library may keep what it has been given back.
func TestMemoryOfAFailedCall(t *testing.T) {
	p := inSandbox(t, write(t, "harms.py", harms))
	does := func(body string) (string, error) {
		out, err := p.Call(t.Context(), "does", []byte(body))
		return string(out), err
	}
	_, err := does("import gc, weakref\ngc.disable()\nclass Held(list): pass\nkept.update(Held=Held, ref=weakref.ref)")
	require.NoError(t, err)
	has := "a = kept['Held']()\nkept['a'] = kept['ref'](a)\n"
	_, err = does(has + "kept['b'] = a")
	require.NoError(t, err)
	out, err := does("return str(kept['a']())")
	require.NoError(t, err)
	require.Equal(t, "[]", out, "a list that is kept is seen to be")
	for _, c := range []struct {
		body string
		is   error
	}{
		{"raise ValueError('no')", loader.ErrFailed},
		{"raise ferrule.Failure(ferrule.FAILED, 'no')", loader.ErrFailed},
		{"return {1}", loader.ErrFailed},
		{"raise SystemExit", loader.ErrFailed},
		{"import json\njson.loads('{')", loader.ErrFailed},
		{"try:\n    1 / 0\nexcept Exception as error:\n    raise ValueError('no') from error", loader.ErrFailed},
		{"async def f():\n    b = a\n    raise ValueError('no')\nreturn f()", loader.ErrFailed},
		{"raise MemoryError", loader.ErrNoMemory},
		{"while True: a.append(bytearray(1 << 20))", loader.ErrNoMemory},
	} {
		for range 3 {
			_, err := does(has + c.body)
			require.ErrorIs(t, err, c.is, c.body)
			out, err := does("return str(kept['a']())")
			require.NoError(t, err, c.body)
			assert.Equal(t, "None", out, c.body)
		}
	}
}

// Python in a sandbox reads its own library, and what else it is given, and nothing besides; a limit of its memory is a MemoryError. What ends its worker, or a call in it, does so as without one.
func TestSandbox(t *testing.T) {
	adapter := fixture.PythonAdapter(t)
	path := write(t, "harms.py", harms)
	folder := filepath.Dir(path)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "beside.py"), []byte("x = 'beside'\n"), 0o600))
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	p := inSandbox(t, path)
	where, isolated := p.Isolation()
	require.True(t, isolated)
	assert.NotEmpty(t, where.Layers)
	for _, c := range []struct{ body, gets string }{
		{"import beside; return beside.x", "beside"},
		{"import json, decimal, asyncio, threading, datetime, random, hashlib, re, zoneinfo; return 'whole'", "whole"},
		{"import asyncio\nasync def f():\n    return await asyncio.to_thread(lambda: 'in a thread')\nreturn f()", "in a thread"},
	} {
		out, err := p.Call(t.Context(), "does", []byte(c.body))
		if assert.NoError(t, err, c.body) {
			assert.Equal(t, c.gets, string(out))
		}
	}
	for _, c := range []struct {
		body string
		is   error
		says string
	}{
		{"return open(" + strconv.Quote(secret) + ").read()", loader.ErrFailed, "PermissionError"},
		{"return open('/etc/hostname').read()", loader.ErrFailed, "PermissionError"},
		{"import os; return os.listdir('/')", loader.ErrFailed, "PermissionError"},
		{"return open(" + strconv.Quote(filepath.Join(folder, "new")) + ", 'w').write('x')", loader.ErrFailed, "PermissionError"},
		{"import socket; socket.create_connection(('127.0.0.1', 1))", loader.ErrFailed, "PermissionError"},
		{"import subprocess; subprocess.run(['/bin/true'])", loader.ErrFailed, "PermissionError"},
		{"import os; os.fork()", loader.ErrFailed, "PermissionError"},
		{"import os; os.kill(os.getppid(), 9)", loader.ErrFailed, "PermissionError"},
		{fmt.Sprintf("return open('/proc/%d/mem', 'rb').read(1)", os.Getpid()), loader.ErrFailed, "PermissionError"},
		{fmt.Sprintf("return open('/proc/%d/maps').read()", os.Getpid()), loader.ErrFailed, "PermissionError"},
		{fmt.Sprintf("import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif c.ptrace(16, %d, 0, 0) < 0: raise OSError(ctypes.get_errno(), 'no')", os.Getpid()), loader.ErrFailed, "PermissionError"},
		{"return {1}", loader.ErrFailed, "found a set, expected bytes"},
		{"import _ferrule\n_ferrule.call(4000000000, b'')", loader.ErrFailed, ""},
		{"a = []\nwhile True: a.append(bytearray(1 << 20))", loader.ErrNoMemory, "MemoryError"},
		{"return 'x' * (1 << 30)", loader.ErrNoMemory, "MemoryError"},
	} {
		_, err := p.Call(t.Context(), "does", []byte(c.body))
		assert.ErrorIs(t, err, c.is, c.body)
		assert.ErrorContains(t, err, c.says, c.body)
		well(t, p, c.body)
	}
	for _, body := range []string{"import os; os._exit(3)", "import ctypes; ctypes.string_at(0)"} {
		_, err := p.Call(t.Context(), "does", []byte(body))
		var crash *loader.CrashError
		assert.ErrorAs(t, err, &crash, body)
		well(t, p, body)
	}
	for _, body := range []string{"while True: pass", "while True:\n    try:\n        while True: pass\n    except BaseException: pass"} {
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := p.Call(short, "does", []byte(body))
		cancel()
		assert.ErrorIs(t, err, context.DeadlineExceeded, body)
		well(t, p, body)
	}

	// Without what it reads, Open says so.
	_, err := loader.Open(path, loader.WithEngine(script.Engine(script.WithPython(adapter, isolate.Engine(sandbox.With(sandbox.Policy{}))))), loader.WithHostFunc("double", double))
	if err == nil { // a Python in the system's library folders
		t.Log("this Python needs no permission")
	} else {
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorContains(t, err, "script.PythonReads")
	}
	_, err = script.PythonReads(path)
	assert.Error(t, err)
	_, err = script.PythonReads(adapter, filepath.Join(folder, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

package script_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/enginespage"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// probedScripts have what the page about the engines asks of each.
var probedScripts = map[string]string{
	".js": `// ferrule: name=probed version=1.0.0 state=count-1 services=configure,save,resume
// ferrule: fn=echo in=bytes quick=yes fn=config fn=upper fn=info fn=pass fn=log fn=length stream=in fn=add fn=stuck fn=fails fn=crash
// ferrule: hook=answer hook=around wrap=yes import=needed want=offered
import { host, info, input, log, next, pass, progress, settings, Failure } from "ferrule";
let n = 0;
export const echo = (x) => x, config = () => settings.text, upper = (x) => host.offered(x), add = () => String(++n), answer = () => "yes";
export const around = (x) => next(x);
const told = (key) => info(key) ?? "";
export { told as info, passes as pass, logs as log };
const passes = () => pass;
const logs = () => log.warn("text", { a: 1 });
export const length = () => {
	let n = 0;
	for (const piece of input) n += piece.length;
	progress(n);
	return String(n);
};
export const stuck = () => { for (;;); };
export const fails = () => { throw new Failure(1234, "as it is"); };
export const crash = () => { throw new Error("as it was told"); };
export const configure = () => {}, save = () => String(n);
export const resume = (state) => { n = Number(new TextDecoder().decode(state)); };
`,
	".py": `# ferrule: name=probed version=1.0.0 state=count-1 services=configure,save,resume
# ferrule: fn=echo in=bytes quick=yes fn=config fn=upper fn=info fn=pass fn=log fn=length stream=in fn=add fn=stuck fn=fails fn=crash
# ferrule: hook=answer hook=around wrap=yes import=needed want=offered
import os, ferrule
from ferrule import host, progress, settings, Failure
n = 0
def echo(x): return x
def config(): return settings.text
def upper(x): return host.offered(x)
def info(key): return ferrule.info(key)
def pass_(): return ferrule.PASSED
globals()["pass"] = pass_
def log(): ferrule.log.warn("text", a=1)
def length():
    n = sum(len(piece) for piece in ferrule.input)
    progress(n)
    return str(n)
def add():
    global n
    n += 1
    return str(n)
def stuck():
    while True: pass
def fails(): raise Failure(1234, "as it is")
def crash(): os._exit(3)
def answer(): return "yes"
def around(x): return ferrule.next(x)
def configure(): pass
def save(): return str(n)
def resume(state):
    global n
    n = int(state)
`,
}

// opensProbed opens it until the end of the test; its import is offered.
type opensProbed func(opts ...loader.Option) (*loader.Plugin, error)

func upperCase(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }

func answers(t *testing.T, p *loader.Plugin, fn, in, want string) error {
	out, err := p.Call(t.Context(), fn, []byte(in))
	if err == nil {
		assert.Equal(t, want, string(out))
	}
	return err
}

func opensWith(opt loader.Option) func(*testing.T, *loader.Plugin, opensProbed) error {
	return func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open(opt)
		if err != nil {
			return err
		}
		return answers(t, p, "echo", "a", "a")
	}
}

// inSession has a session with settings of its own, or with the plug-in's.
func inSession(config []byte) func(*testing.T, *loader.Plugin, opensProbed) error {
	return func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		s, err := p.NewSession(t.Context(), config)
		if err != nil {
			return err
		}
		out, err := s.Call(t.Context(), "config", nil)
		assert.Equal(t, string(config), string(out))
		return errors.Join(err, s.Close())
	}
}

// pageProbes try what a row of the page says, by how the row begins.
var pageProbes = map[string]func(t *testing.T, p *loader.Plugin, open opensProbed) error{
	"functions": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		return answers(t, p, "echo", "a\xff", "a\xff")
	},
	"hooks": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Hook("answer")
		if err == nil {
			_, err = f.Call(t.Context(), nil)
		}
		return err
	},
	"hooks around others (`WithNext`)": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Hook("around")
		require.NoError(t, err)
		out, err := f.Call(loader.WithNext(t.Context(), upperCase), []byte("x"))
		assert.Equal(t, "X", string(out))
		return err
	},
	"host functions": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open(loader.WithHostFunc("offered", upperCase))
		require.NoError(t, err)
		return answers(t, p, "upper", "x", "X")
	},
	"an import that is not offered": nil, // which TestEnginesPage opens
	"a want that is not offered": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		_, err := p.Call(t.Context(), "upper", []byte("x"))
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		return nil
	},
	"failures: status and words": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		_, err := p.Call(t.Context(), "fails", nil)
		assert.ErrorIs(t, err, loader.Status(1234))
		assert.ErrorContains(t, err, "as it is")
		return err
	},
	"nothing to say (`Try`)": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Func("pass")
		require.NoError(t, err)
		_, status, err := f.Try(t.Context(), nil, nil)
		assert.Equal(t, loader.ErrPass, status)
		return err
	},
	"a context that has ended": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := p.Call(over, "echo", nil)
		assert.ErrorIs(t, err, context.Canceled)
		return err
	},
	"a function that does not stop": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open()
		require.NoError(t, err)
		f, err := p.Func("stuck")
		require.NoError(t, err)
		_, err = f.WithTimeout(20*time.Millisecond).Call(t.Context(), nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		return err
	},
	"log lines": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		var mu sync.Mutex
		var lines bytes.Buffer
		p, err := open(loader.WithLogger(slog.New(slog.NewTextHandler(locked{&mu, &lines}, nil))))
		require.NoError(t, err)
		_, err = p.Call(t.Context(), "log", nil)
		mu.Lock()
		defer mu.Unlock()
		assert.Contains(t, lines.String(), "msg=text plugin=probed")
		assert.Contains(t, lines.String(), "a=1")
		return err
	},
	"settings at `Open`, any bytes": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open(loader.WithConfig([]byte("first")))
		require.NoError(t, err)
		return answers(t, p, "config", "", "first")
	},
	"`Configure`": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open()
		require.NoError(t, err)
		require.NoError(t, p.Configure(t.Context(), []byte("second")))
		return answers(t, p, "config", "", "second")
	},
	"`Handover`, saved state": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open()
		require.NoError(t, err)
		require.NoError(t, answers(t, p, "add", "", "1"))
		next, err := p.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) { return open(loader.WithState(state)) })
		require.NoError(t, err)
		return answers(t, next, "add", "", "2")
	},
	"sessions":                 inSession(nil),
	"a session's own settings": inSession([]byte("mine")),
	"streams": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Func("length")
		require.NoError(t, err)
		out, err := f.Stream(t.Context(), nil, strings.NewReader("abc"), nil)
		assert.Equal(t, "3", string(out))
		return err
	},
	"batches": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Func("echo")
		require.NoError(t, err)
		var b loader.Batch
		err = f.Batch(t.Context(), [][]byte{[]byte("a"), []byte("b")}, &b)
		assert.Equal(t, 2, b.Len())
		return errors.Join(err, b.Err())
	},
	"views": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Func("echo")
		require.NoError(t, err)
		v, err := f.View(t.Context(), []byte("a"))
		require.NoError(t, err)
		assert.Equal(t, "a", string(v.Bytes()))
		v.Release()
		return nil
	},
	"what the host knows (`WithPluginInfo`)": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open(loader.WithPluginInfo("shop.tenant", "ada"))
		require.NoError(t, err)
		return answers(t, p, "info", "shop.tenant", "ada")
	},
	"progress": func(t *testing.T, p *loader.Plugin, _ opensProbed) error {
		f, err := p.Func("length")
		require.NoError(t, err)
		var last uint64
		_, err = f.Stream(loader.WithProgress(t.Context(), func(done, _ uint64) { last = done }), nil, strings.NewReader("abc"), nil)
		assert.EqualValues(t, 3, last)
		return err
	},
	"several instances (`WithInstances`)": opensWith(loader.WithInstances(3)),
	"quick functions (`WithQuick`)": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open(loader.WithQuick())
		require.NoError(t, err)
		f, err := p.Func("echo")
		require.NoError(t, err)
		require.NoError(t, answers(t, p, "echo", "a", "a"))
		if f.Quick() {
			return nil
		}
		return enginespage.ErrAbsent
	},
	"a digest (`WithSHA256`)": func(t *testing.T, p *loader.Plugin, open opensProbed) error {
		_, err := open(loader.WithSHA256(strings.Repeat("0", 64)))
		assert.ErrorIs(t, err, loader.ErrDigest)
		found := regexp.MustCompile(`found SHA-256 (\w{64})`).FindStringSubmatch(err.Error())
		require.NotNil(t, found)
		return opensWith(loader.WithSHA256(found[1]))(t, p, open)
	},
	"a crash, or a trap": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		p, err := open()
		require.NoError(t, err)
		_, err = p.Call(t.Context(), "crash", nil)
		require.NoError(t, answers(t, p, "echo", "a", "a"), "the next call is well")
		return err
	},
	"a folder of its own (`WithDataFolder`)": func(t *testing.T, _ *loader.Plugin, open opensProbed) error {
		folder := t.TempDir()
		p, err := open(loader.WithDataFolder(folder))
		require.NoError(t, err)
		return answers(t, p, "info", "data", folder)
	},
}

// pageHeld are the rows of the page that other tests hold.
var pageHeld = map[string]string{
	"option":                          "this one opens them so",
	"between calls (rule R27)":        "TestPageOfTheModule: the modules have nothing for it",
	"calls of one instance at a time": "inspect.TestScript: they are serial",
	"limits":                          "TestFailures, wasm.TestMemory, sandbox.TestMemory",
	"reaches":                         "TestScriptsThatDoNotOpen, sandbox.TestZeroPolicyRefusesEverything",
	"`permit` in config.yaml":         "the system's",
	"when it is closed":               "the engines' that the adapters have",
	"runs on":                         "those that run the tests",
}

// The cells of the page about the engines that are about scripts are tried: what is there works, and what is not is the error that stands there.
func TestEnginesPage(t *testing.T) {
	for column, name := range map[int]string{enginespage.JavaScript: "JavaScript", enginespage.Python: "Python"} {
		t.Run(name, func(t *testing.T) {
			e, ext := script.Engine(script.WithWasm(wasm.WithCache(filepath.Join(fixture.Root(), "build", "compiled")), wasm.WithGrace(20*time.Millisecond))), ".js"
			if name == "Python" {
				e, ext = script.Engine(script.WithPython(fixture.PythonAdapter(t), nil)), ".py"
			}
			path := filepath.Join(t.TempDir(), "probed"+ext)
			require.NoError(t, os.WriteFile(path, []byte(probedScripts[ext]), 0o600))
			bare := func(opts ...loader.Option) (*loader.Plugin, error) {
				p, err := loader.Open(path, append(opts, loader.WithEngine(e))...)
				if err == nil {
					t.Cleanup(func() { assert.NoError(t, p.Close()) })
				}
				return p, err
			}
			open := func(opts ...loader.Option) (*loader.Plugin, error) {
				return bare(append(opts, loader.WithHostFunc("needed", upperCase))...)
			}
			p, err := open()
			require.NoError(t, err)
			probes := maps.Clone(pageProbes)
			probes["an import that is not offered"] = func(*testing.T, *loader.Plugin, opensProbed) error { _, err := bare(); return err }
			for row, cells := range enginespage.Rows(t, probes, pageHeld) {
				t.Run(row, func(t *testing.T) { enginespage.Judge(t, cells[column], probes[row](t, p, open)) })
			}
		})
	}
}

// What a script in Python does in C for ever, where no Cancelled reaches it, ends with its worker; the next call has a new one.
func TestStuckInC(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stuck.py")
	require.NoError(t, os.WriteFile(path, []byte("# ferrule: name=stuck version=1 fn=sleeps fn=echo\nimport time\ndef sleeps(): time.sleep(3600)\ndef echo(x): return x\n"), 0o600))
	p, err := loader.Open(path, loader.WithEngine(script.Engine(script.WithPython(fixture.PythonAdapter(t), isolate.Engine(isolate.WithGrace(20*time.Millisecond))))))
	require.NoError(t, err)
	defer func() { assert.NoError(t, p.Close()) }()
	f, err := p.Func("sleeps")
	require.NoError(t, err)
	_, err = f.WithTimeout(20*time.Millisecond).Call(t.Context(), nil)
	var over *loader.DeadlineError
	require.ErrorAs(t, err, &over)
	require.NoError(t, answers(t, p, "echo", "a", "a"))
}

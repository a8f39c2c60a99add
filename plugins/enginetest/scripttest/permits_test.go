package scripttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
)

const greedy = `// ferrule: name=greedy version=1.0.0 fn=holds in=json
// ferrule: fn=config fn=spins
import { settings } from "ferrule";
export function holds(n) { const all = []; for (let i = 0; i < n; i++) all.push(new Uint8Array(1 << 20).fill(1)); return all.length; }
export const config = () => settings.text;
export function spins() { for (;;); }
`

// An entry says of a script in JavaScript what it may have of memory, how long its hooks may take, its settings and its version; and a change of that holds from then on.
func TestEntryOfJavaScript(t *testing.T) {
	s := site.New(t)
	s.Put("greedy.js", greedy)
	s.Configure("plugins: [{name: greedy, version: ^1, permit: {memory: 16MiB}, config: {rate: 10}}]")
	sys := s.Start(javaScript())
	assert.Equal(t, "2", site.Call(t, sys, "greedy", "holds", "2"))
	assert.Contains(t, site.Call(t, sys, "greedy", "holds", "40"), "out of memory")
	assert.Equal(t, `{"rate":10}`, site.Call(t, sys, "greedy", "config", ""))
	s.Configure("plugins: [{name: greedy, version: ^1, permit: {memory: 128MiB}, config: {rate: 11}}]")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "40", site.Call(t, sys, "greedy", "holds", "40"))
	assert.Equal(t, `{"rate":11}`, site.Call(t, sys, "greedy", "config", ""))
	p, _ := sys.Plugin("greedy")
	assert.False(t, p.Isolated)
	assert.False(t, p.Declared)
	s.Configure("plugins: [{name: greedy, version: ^2}]")
	site.Why(t, s.Start(javaScript()), "greedy", plugins.ErrRange)
}

// A script in Python is in a worker; what its entry says of that is the worker's sandbox, in which it reads what is its own, and what was permitted.
func TestEntryOfPython(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the sandbox is Linux's")
	}
	s := site.New(t)
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "file"), []byte("text"), 0o644))
	s.Put("reader.py", `# ferrule: name=reader version=1.0.0 fn=reads
# ferrule: fn=writes
# ferrule: fn=config
# ferrule: fn=holds
import decimal, helper, ferrule, os
def reads(path):
    return open(path).read() + helper.mark
def writes(path):
    with open(path, "w") as f: f.write("x")
    return "written"
def config(_): return ferrule.settings.text
def holds(mib):
    b = bytearray(int(mib) << 20)
    for i in range(0, len(b), 4096): b[i] = 1
    return str(len(b) >> 20)
`)
	s.Put("helper.py", "mark = '.'\n")
	path := filepath.Join(other, "file")
	for _, c := range []struct {
		name, entry            string
		reads, writes, sandbox bool
	}{
		{"as it comes", "config: {rate: 1}", true, true, false},
		{"isolated", "isolate: true, config: {rate: 1}", false, false, true},
		{"without a sandbox", "isolate: {sandbox: none}, config: {rate: 1}", true, true, false},
		{"permitted to read", "permit: {read: ['" + other + "']}, config: {rate: 1}", true, false, true},
		{"permitted to write", "permit: {write: ['" + other + "']}, config: {rate: 1}", true, true, true},
		{"with nothing permitted", "permit: {}, config: {rate: 1}", false, false, true},
		{"with limits", "isolate: {memory: 256MiB, cpu: 60s}, config: {rate: 1}", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.Beside(t)
			s.Configure("plugins: [{name: reader, " + c.entry + "}]")
			sys := s.Start(both(t))
			f, err := sys.Func("reader", "config")
			require.NoError(t, err)
			if _, err := f.Call(t.Context(), nil); errors.Is(err, loader.ErrSandbox) {
				t.Skip("this system has no such sandbox, and says so: ", err)
			}
			read, wrote := site.Call(t, sys, "reader", "reads", path), site.Call(t, sys, "reader", "writes", filepath.Join(other, "new"))
			assert.Equal(t, c.reads, read == "text.", read)
			assert.Equal(t, c.writes, wrote == "written", wrote)
			if !c.reads {
				assert.Contains(t, read, "PermissionError")
			}
			assert.Equal(t, `{"rate":1}`, site.Call(t, sys, "reader", "config", ""))
			p, _ := sys.Plugin("reader")
			require.NoError(t, p.Err)
			assert.True(t, p.Isolated)
			assert.NotZero(t, p.Worker)
			assert.NotEqual(t, os.Getpid(), p.Worker)
			assert.False(t, p.Declared)
			if strings.HasPrefix(c.name, "with limits") {
				assert.Equal(t, "8", site.Call(t, sys, "reader", "holds", "8"))
				assert.Contains(t, site.Call(t, sys, "reader", "holds", "4096"), "MemoryError")
			}
		})
	}
}

// Of an engine that runs Python in this process, an entry has it in a worker again.
func TestIsolateOfPythonInThisProcess(t *testing.T) {
	s := site.New(t)
	s.Put("own.py", "# ferrule: name=own version=1.0.0 fn=pid\nimport os\ndef pid(_): return str(os.getpid())\n")
	for entry, here := range map[string]bool{"own": true, "{name: own, isolate: {sandbox: none}}": false} {
		s.Configure("plugins: [" + entry + "]")
		sys := s.Start(script.Engine(script.WithPython(fixture.PythonAdapter(t), loader.Native())))
		pid := site.Call(t, sys, "own", "pid", "")
		p, _ := sys.Plugin("own")
		assert.Equal(t, !here, p.Isolated)
		if here {
			assert.Equal(t, fmt.Sprint(os.Getpid()), pid)
			assert.Zero(t, p.Worker)
		} else {
			assert.Equal(t, fmt.Sprint(p.Worker), pid)
		}
	}
}

// What no script can have is an error with a type and a remedy, before anything of it runs; and whoever looks beforehand is told the same.
func TestRefused(t *testing.T) {
	s := site.New(t)
	s.Put("plain.js", "// ferrule: name=plain version=1.0.0 fn=f\nexport const f = () => 1;\n")
	s.Put("asks.js", "// ferrule: name=asks version=1.0.0 permit.connect=443 fn=f\nexport const f = () => 1;\n")
	s.Put("wants.js", "// ferrule: name=wants version=1.0.0 permit.memory=536870912 fn=f\nexport const f = () => 1;\n")
	s.Put("snake.py", "# ferrule: name=snake version=1.0.0 fn=f\ndef f(x): return x\n")
	s.Put("reads.py", "# ferrule: name=reads version=1.0.0 permit.read=/etc/hosts fn=f\ndef f(x): return x\n")
	at := filepath.ToSlash(t.TempDir())
	for _, c := range []struct {
		name, entry string
		kind        error
		says        []string
	}{
		{"plain", "permit: {connect: [443]}", plugins.ErrEngine, []string{"ports that it may connect to (443)", "no files and no network", "host function", "line 2"}},
		{"plain", "permit: {read: ['" + at + "']}", plugins.ErrEngine, []string{"files that it may read (" + at + ")", "line 2"}},
		{"plain", "permit: {write: ['" + at + "']}", plugins.ErrEngine, []string{"files that it may write"}},
		{"plain", "isolate: true", plugins.ErrEngine, []string{"isolate for a script in JavaScript", "permit.memory", "line 2"}},
		{"asks", "enabled: true", plugins.ErrEngine, []string{"manifest that asks", "443"}},
		{"wants", "enabled: true", plugins.ErrGrant, []string{"memory 536870912", "memory: 536870912"}},
		{"snake", "isolate: {group: all}", plugins.ErrEngine, []string{"a group for a script", "line 2"}},
		{"reads", "enabled: true", plugins.ErrGrant, []string{"read /etc/hosts", "permit: {read: [/etc/hosts]}"}},
	} {
		t.Run(c.name+", "+c.entry, func(t *testing.T) {
			s := s.Beside(t)
			s.Configure("plugins: [{name: " + c.name + ", " + c.entry + "}]")
			sys := s.Start(both(t))
			e := site.Why(t, sys, c.name, c.kind)
			for _, says := range c.says {
				assert.ErrorContains(t, e, says)
			}
			if c.kind == plugins.ErrEngine {
				over, err := plugins.Survey(t.Context(), plugins.Config(s.Config), plugins.Engines(both(t)))
				require.NoError(t, err)
				for _, p := range over.Plugins {
					if p.Name == c.name {
						assert.ErrorIs(t, p.Err, c.kind)
					}
				}
			}
		})
	}
}

// A hook that does not look at its limit is ended, in WebAssembly and in a worker, and the script goes on.
func TestLimit(t *testing.T) {
	for name, text := range map[string]string{
		"js": "// ferrule: name=slow version=1.0.0 hook=asked\nexport function asked(text) { if (text === 'spin') for (;;); return text; }\n",
		"py": "# ferrule: name=slow version=1.0.0 hook=asked\ndef asked(text):\n    while text == 'spin': pass\n    return text\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := site.New(t)
			s.Put("slow."+name, text)
			s.Configure("plugins: [{name: slow, limit: 100ms}]")
			sys := s.System(both(t))
			asked := plugins.First[[]byte, []byte](sys, "asked", plugins.Codec(site.Raw{}))
			require.NoError(t, sys.Start(t.Context()))
			_, _, err := asked.Call(t.Context(), []byte("spin"))
			require.Error(t, err)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			require.Eventually(t, func() bool {
				out, _, err := asked.Call(t.Context(), []byte("x"))
				return err == nil && string(out) == "x"
			}, 20e9, 1e7)
		})
	}
}

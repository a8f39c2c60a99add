package sidecar_test

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// sandboxed skips a test where the system has no sandbox that could be tried.
func sandboxed(t testing.TB) {
	t.Helper()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is no list of system calls for " + runtime.GOARCH)
	}
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("the emulator has neither Landlock nor seccomp")
	}
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || version < 4 {
		t.Skipf("Landlock v%d (%v), where ports need v4", int(version), errno)
	}
}

// warmSandbox has what is there once and for all for processes in sandboxes.
var warmSandbox = sync.OnceFunc(func() {
	p, err := loader.Open(os.Args[0], program("none", sidecar.WithSandbox(sandbox.Policy{})))
	if err == nil {
		_ = p.Close()
	}
})

// python is an interpreter, and no script that looks for one.
func python(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(fixture.Tool(t, "python3", "install Python 3.8 or later"), "-c", "import sys; print(sys.executable)").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// attacker opens the one in Python, which runs what it is called with; in a sandbox where there is a policy.
func attacker(t *testing.T, policy *sandbox.Policy, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	own := []sidecar.Option{sidecar.WithInterpreter(python(t)), quick}
	if policy != nil {
		sandboxed(t)
		own = append(own, sidecar.WithSandbox(*policy))
	}
	p, err := loader.Open(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py"), append(opts, sidecar.Program(own...))...)
	require.NoError(t, err)
	t.Cleanup(func() { within(t, func() { assert.NoError(t, p.Close()) }) })
	return p
}

// goAttacker builds the one in Go, where every user gets at it.
func goAttacker(t testing.TB) string {
	t.Helper()
	fixture.Loadable(t)
	program := filepath.Join(public(t), "attacker")
	cmd := exec.Command(fixture.Tool(t, "go", "install Go"), "build", "-o", program, "./testdata/attacker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // no program of the race detector's, which needs more addresses than there are
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// public is a folder of which everybody may do anything, with a file secret in it.
func public(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sidecar-sandbox")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o644))
	return dir
}

// accepting is an address at which somebody accepts connections.
func accepting(t testing.TB) (address string, port uint16) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l.Addr().String(), uint16(l.Addr().(*net.TCPAddr).Port)
}

// denied is a file that is not granted, and forbidden a system call that is not.
const denied, forbidden = "PermissionError 13", "PermissionError 1"

// attack is what a plug-in in Python tries.
type attack struct{ code, answer string }

// attacks are one of each kind, with what the zero policy answers.
func attacks(t testing.TB, dir string) []attack {
	address, _ := accepting(t)
	host, port, _ := net.SplitHostPort(address)
	host = fmt.Sprintf("(%q, %s)", host, port)
	secret, unmade := strconv.Quote(filepath.Join(dir, "secret")), strconv.Quote(filepath.Join(dir, "new"))
	return []attack{
		{"out = open(" + secret + ").read()", denied},
		{"out = open('/etc/passwd').read()", denied},
		{"out = open('/proc/self/maps').read()", denied},
		{"import os; os.listdir(" + strconv.Quote(dir) + ")", denied},
		{"import os; os.listdir('/proc/self/fd')", denied},
		{"open(" + unmade + ", 'w').write('x')", forbidden},
		{"open('/dev/null', 'w')", forbidden},
		{"import os; os.mkdir(" + unmade + " + '.d')", forbidden},
		{"import os; os.symlink('/etc/passwd', " + unmade + " + '.l')", forbidden},
		{"import socket; socket.create_connection(" + host + ").close()", forbidden},
		{"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", forbidden},
		{"import socket; socket.socket(socket.AF_UNIX)", forbidden},
		{"import socket; socket.socket().bind(('127.0.0.1', 0))", forbidden},
		{"import subprocess; subprocess.run(['true'])", forbidden},
		{"import os; os.system('true') == 0 or os.waitpid(os.fork(), 0)", forbidden},
		{"import os\nif os.fork() == 0: os._exit(0)", forbidden},
		{"import os; os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)", forbidden},
		{fmt.Sprintf("import os; os.kill(%d, 0)", os.Getpid()), forbidden},
		{"import os; os.dup(os.memfd_create('x'))", forbidden},
		{"import os\nall = []\ntry:\n  for i in range(200): all.append(os.dup(1))\nfinally: [os.close(f) for f in all]", "OSError 24"},
	}
}

func TestSandbox(t *testing.T) {
	for name, policy := range map[string]*sandbox.Policy{"with": {}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			warmSandbox()
			leavesNothing(t)
			dir := public(t)
			p := attacker(t, policy)
			for _, a := range attacks(t, dir) {
				if policy == nil {
					a.answer = call(t, p, "run", a.code)
					assert.NotContains(t, a.answer, "Error", a.code)
					continue
				}
				assert.Equal(t, a.answer, call(t, p, "run", a.code), a.code)
			}
			if entries, _ := os.ReadDir(dir); policy != nil {
				assert.Len(t, entries, 1, "and nothing was made")
			}
			assert.Equal(t, "2026", call(t, p, "run", "import json, hashlib, ctypes, time; out = 2026"), "its library is there")
		})
	}
}

// execs are ways to put another program in the sidecar's place. The last ones name the very program that the sandbox lets the system execute.
func execs(t testing.TB) []string {
	t.Helper()
	interpreter := strconv.Quote(python(t))
	number := map[string]int{"amd64": 322, "arm64": 281}[runtime.GOARCH]
	const at = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(%s, 0)
os.dup2(fd, 7)
none = ctypes.c_void_p(0)
args = (ctypes.c_char_p * 4)(b"python3", b"-c", b"", None)
if libc.syscall(ctypes.c_long(%d), ctypes.c_long(7), b"", args, none, ctypes.c_long(0x1000), ctypes.c_long(%s)) != 0: raise OSError(ctypes.get_errno(), "execveat")
`
	return []string{
		"import os; os.execv('/bin/true', ['true'])",
		"import os; os.execv(" + interpreter + ", ['python3', '-c', ''])",
		"import os; os.execve(os.open(" + interpreter + ", 0), ['python3', '-c', ''], {})",
		fmt.Sprintf(at, interpreter, number, "0"),
		fmt.Sprintf(at, interpreter, number, "-1"),
	}
}

// The launcher starts the program, and nothing is started after it: not by the calls, the files or the descriptor by which that was.
func TestSandboxStartsNothingElse(t *testing.T) {
	p := attacker(t, &sandbox.Policy{})
	pid := call(t, p, "run", "import os; out = os.getpid()")
	for _, code := range execs(t) {
		assert.Equal(t, forbidden, call(t, p, "run", code), code)
		assert.Equal(t, pid, call(t, p, "run", "import os; out = os.getpid()"), "it is the same process")
	}
	free := attacker(t, nil)
	for _, code := range execs(t) {
		_, err := free.Call(ctx, "run", []byte(code))
		crash(t, err)
	}
}

// What a policy grants there is, and no more.
func TestSandboxGrants(t *testing.T) {
	dir, other := public(t), public(t)
	address, port := accepting(t)
	strange, _ := accepting(t)
	connect := func(address string) string {
		host, port, _ := net.SplitHostPort(address)
		return fmt.Sprintf("import socket; socket.create_connection((%q, %s)).close()", host, port)
	}
	read := func(dir string) string { return fmt.Sprintf("out = open(%q).read()", filepath.Join(dir, "secret")) }
	write := func(dir string) string {
		return fmt.Sprintf("import os; n = %q; open(n, 'w').write('x'); out = open(n).read(); os.unlink(n)", filepath.Join(dir, "new"))
	}
	p := attacker(t, &sandbox.Policy{Read: []string{dir}, Connect: []uint16{port}})
	assert.Equal(t, "secret", call(t, p, "run", read(dir)))
	assert.Equal(t, "['secret']", call(t, p, "run", fmt.Sprintf("import os; out = os.listdir(%q)", dir)))
	assert.Equal(t, denied, call(t, p, "run", read(other)))
	assert.Equal(t, forbidden, call(t, p, "run", write(dir)))
	assert.Equal(t, "", call(t, p, "run", connect(address)))
	assert.Equal(t, denied, call(t, p, "run", connect(strange)))

	p = attacker(t, &sandbox.Policy{Write: []string{dir}}, loader.WithDataFolder(other))
	for _, folder := range []string{dir, other} {
		assert.Equal(t, "secret", call(t, p, "run", read(folder)))
		assert.Equal(t, "x", call(t, p, "run", write(folder)))
	}
	assert.Equal(t, denied, call(t, p, "run", write(public(t))))
	assert.Equal(t, forbidden, call(t, p, "run", connect(address)))
}

// The layers are named, with the files that it may read although the policy does not say so.
func TestSandboxLayers(t *testing.T) {
	p := attacker(t, &sandbox.Policy{Memory: 256 << 20, CPU: time.Minute, Time: time.Hour})
	i, ok := p.Isolation()
	require.True(t, ok)
	assert.Positive(t, i.PID)
	script, err := filepath.EvalSymlinks(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py"))
	require.NoError(t, err)
	for _, layer := range []string{"no terminal", "own descriptors", "no-new-privs", "seccomp", "rlimit memory", "rlimit cpu", "rlimit files", "rlimit signals", "rlimit file size", "no core dumps",
		"wall time", "reads " + script} {
		assert.Contains(t, i.Layers, layer)
	}
	assert.Regexp(t, `landlock v\d+: files`, strings.Join(i.Layers, ", "))

	i, _ = attacker(t, nil).Isolation()
	assert.Contains(t, i.Layers, "no terminal")
	assert.NotContains(t, strings.Join(i.Layers, ", "), "seccomp")
}

// Every process of the plug-in is under the policy: of each instance, of each session, and in the place of one that has crashed.
func TestSandboxOfEachProcess(t *testing.T) {
	warmSandbox()
	leavesNothing(t)
	p := attacker(t, &sandbox.Policy{}, loader.WithInstances(2))
	const read, id = "out = open('/etc/passwd').read()", "import os; out = os.getpid()"
	pids := map[string]bool{}
	for range 3 {
		assert.Equal(t, denied, call(t, p, "run", read))
		for range 2 {
			pids[call(t, p, "run", id)] = true
		}
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		run, err := s.Func("run")
		require.NoError(t, err)
		for code, want := range map[string]string{read: denied, "import os; os.fork()": forbidden} {
			out, err := run.Call(ctx, []byte(code))
			require.NoError(t, err)
			assert.Equal(t, want, string(out))
		}
		out, err := run.Call(ctx, []byte(id))
		require.NoError(t, err)
		assert.False(t, pids[string(out)], "a session has its own")
		require.NoError(t, s.Close())
		_, err = p.Call(ctx, "run", []byte("import os; os._exit(7)"))
		assert.Equal(t, 7, crash(t, err).ExitCode)
	}
	assert.Greater(t, len(pids), 1)
}

// It gets the descriptors that it is told of, and none of this process's.
func TestSandboxDescriptors(t *testing.T) {
	f, err := os.Open("/etc/passwd")
	require.NoError(t, err)
	defer f.Close()
	leak, err := syscall.Dup(int(f.Fd())) // which a program inherits that is started as usual
	require.NoError(t, err)
	defer syscall.Close(leak)
	const list = `
import os
out = []
for fd in range(1000):
    try: os.fstat(fd); out.append(fd)
    except OSError: pass
`
	assert.Equal(t, "[0, 1, 2, 3, 4]", call(t, attacker(t, &sandbox.Policy{}), "run", list))
	p := attacker(t, &sandbox.Policy{Files: 3})
	assert.Equal(t, "OSError 24", call(t, p, "run", "import os; os.close(0); all = [os.dup(1) for i in range(5)]"), "one that it had, and three more")
}

// Memory and time have their ends, and the error of who went past them names the field.
func TestSandboxLimits(t *testing.T) {
	p := attacker(t, &sandbox.Policy{Memory: 128 << 20})
	for _, code := range []string{"bytearray(256 << 20)", "all = [bytes(1 << 20) for i in range(256)]"} {
		assert.Equal(t, "MemoryError None", call(t, p, "run", code))
	}
	assert.Equal(t, "OSError 12", call(t, p, "run", "import mmap; mmap.mmap(-1, 256 << 20, flags=mmap.MAP_PRIVATE)"))
	assert.Equal(t, forbidden, call(t, p, "run", "import mmap; mmap.mmap(-1, 256 << 20)"), "shared memory, which no limit counts")
	assert.Equal(t, strconv.Itoa(32<<20), call(t, p, "run", "out = len(bytearray(32 << 20))"))

	p = attacker(t, &sandbox.Policy{CPU: time.Second})
	_, err := p.Call(ctx, "run", []byte("while True: pass"))
	assert.Contains(t, crash(t, err).Reason, "sandbox.Policy.CPU")
	_, err = p.Call(ctx, "run", []byte("import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"))
	assert.Contains(t, crash(t, err).Reason, "sandbox.Policy.CPU")
	assert.Equal(t, "2", call(t, p, "run", "out = 1 + 1"), "the next one has its own")

	p = attacker(t, &sandbox.Policy{Time: 5 * time.Second})
	_, err = p.Call(ctx, "run", []byte("import time; time.sleep(3600)"))
	assert.Contains(t, crash(t, err).Reason, "sandbox.Policy.Time")

	free := attacker(t, nil)
	assert.Equal(t, strconv.Itoa(256<<20), call(t, free, "run", "out = len(bytearray(256 << 20))"))
}

// logged is a writer for several goroutines.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A program without an interpreter has what it is linked to, and nothing else; and limits that leave a Go program room.
func TestSandboxOfGo(t *testing.T) {
	dir, path := public(t), goAttacker(t)
	address, port := accepting(t)
	secret := filepath.Join(dir, "secret")
	tries := []struct{ fn, in, want string }{
		{"read", secret, "permission denied"}, {"write", filepath.Join(dir, "new"), "operation not permitted"}, {"start", "/bin/true", "operation not permitted"},
		{"replace", "/bin/true", "operation not permitted"}, {"replace", path, "operation not permitted"}, {"connect", address, "operation not permitted"},
	}
	open := func(opts ...sidecar.Option) *loader.Plugin {
		p, err := loader.Open(path, sidecar.Program(opts...))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, p.Close()) })
		return p
	}
	sandboxed(t)
	output := new(logged)
	p := open(sidecar.WithOutput(output), sidecar.WithSandbox(sandbox.Policy{Memory: 256 << 20, CPU: 2 * time.Second}))
	for _, a := range tries {
		_, err := p.Call(ctx, a.fn, []byte(a.in))
		assert.ErrorContains(t, err, a.want, a.fn)
	}
	call(t, p, "allocate", strconv.Itoa(32<<20))
	_, err := p.Call(ctx, "allocate", []byte(strconv.Itoa(1<<30)))
	assert.Equal(t, 2, crash(t, err).ExitCode)
	// Its own runtime ends it. It says that it has no memory, or meets a nil pointer where its collector did not look at what an allocation gave.
	ended := func() bool {
		return strings.Contains(output.String(), "fatal error: ") || strings.Contains(output.String(), "SIGSEGV: segmentation violation")
	}
	require.Eventually(t, ended, hang, time.Millisecond)
	_, err = p.Call(ctx, "spin", nil)
	assert.Contains(t, crash(t, err).Reason, "sandbox.Policy.CPU")
	_, err = p.Call(ctx, "read", []byte(secret))
	assert.ErrorContains(t, err, "permission denied")

	p = open(sidecar.WithSandbox(sandbox.Policy{Read: []string{dir}, Connect: []uint16{port}}))
	assert.Equal(t, "secret", call(t, p, "read", secret))
	call(t, p, "connect", address)

	free := open()
	for _, a := range tries {
		if a.fn == "replace" {
			_, err := free.Call(ctx, a.fn, []byte(a.in))
			crash(t, err)
			continue
		}
		call(t, free, a.fn, a.in)
	}
	call(t, free, "allocate", strconv.Itoa(1<<30))
}

// nobody is another user's process, which opens the attacker in a sandbox with some processes, and writes how many there can be.
func init() {
	modes["nobody"] = func(args []string) {
		p, err := loader.Open(args[0], sidecar.Program(sidecar.WithArgs(args[0]), sidecar.WithSandbox(sandbox.Policy{Processes: 3})))
		if err == nil {
			defer p.Close()
			var out []byte
			out, err = p.Call(context.Background(), "many", []byte("1000"))
			fmt.Printf("%s", out)
		}
		if err != nil {
			fmt.Println(err)
		}
	}
}

// A fork bomb has an end, and what it has started ends with it. The system counts for users other than root.
func TestSandboxProcesses(t *testing.T) {
	sandboxed(t)
	program := goAttacker(t)
	host := filepath.Join(filepath.Dir(program), "host")
	text, err := os.ReadFile(self(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(host, text, 0o755))
	cmd := exec.Command(host, "nobody", program)
	cmd.Env, cmd.Dir = []string{"GORACE=atexit_sleep_ms=0"}, "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		_, err := loader.Open(program, sidecar.Program(sidecar.WithSandbox(sandbox.Policy{Processes: 3})))
		require.ErrorIs(t, err, loader.ErrSandbox)
		assert.ErrorContains(t, err, "for whom the system does not count processes")
		assert.ErrorContains(t, err, "or set Policy.BestEffort to open the plug-in without")
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	n, err := strconv.Atoi(string(out))
	require.NoError(t, err, "%s", out)
	assert.Positive(t, n)
	assert.Less(t, n, 100)
	require.Eventually(t, func() bool {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		require.NoError(t, err)
		require.NotEmpty(t, lines)
		return !slices.ContainsFunc(lines, func(line string) bool {
			args, _ := os.ReadFile(line) // of one that has ended there is none
			return strings.Contains(strings.ReplaceAll(string(args), "\x00", " "), program+" stay")
		})
	}, hang, 10*time.Millisecond)
}

// What makes no sense, or cannot be had, is said when the plug-in is opened.
func TestSandboxErrors(t *testing.T) {
	dir := public(t)
	script := func(head string) string {
		path := filepath.Join(t.TempDir(), "script.py")
		require.NoError(t, os.WriteFile(path, []byte(head+"\n"), 0o755))
		return path
	}
	shim := script("#!/bin/sh")
	forged := func(change func(b []byte, headers [][]byte)) string { // /bin/true, with another head
		text, err := os.ReadFile("/bin/true")
		require.NoError(t, err)
		at, size, n := binary.LittleEndian.Uint64(text[32:]), uint64(binary.LittleEndian.Uint16(text[54:])), uint64(binary.LittleEndian.Uint16(text[56:]))
		var headers [][]byte
		for i := range n {
			headers = append(headers, text[at+i*size:][:size])
		}
		change(text, headers)
		path := filepath.Join(public(t), "forged")
		require.NoError(t, os.WriteFile(path, text, 0o755))
		return path
	}
	linker := func(headers [][]byte) []byte {
		i := slices.IndexFunc(headers, func(h []byte) bool { return elf.ProgType(binary.LittleEndian.Uint32(h)) == elf.PT_INTERP })
		require.GreaterOrEqual(t, i, 0)
		return headers[i]
	}
	hidden := filepath.Join(t.TempDir(), "hidden")
	require.NoError(t, os.WriteFile(hidden, []byte("#!/bin/sh\n"), 0o700))
	secret := filepath.Join("/tmp", fmt.Sprintf("fs%d", os.Getpid())) // as long as no linker's path
	require.NoError(t, os.WriteFile(secret, nil, 0o600))
	t.Cleanup(func() { os.Remove(secret) })
	named := func(path string) string {
		return forged(func(b []byte, headers [][]byte) {
			h := linker(headers)
			copy(b[binary.LittleEndian.Uint64(h[8:]):][:binary.LittleEndian.Uint64(h[32:])], path+"\x00")
		})
	}
	vowels := filepath.Join(fixture.Root(), "examples", "sidecar", "vowels.py")
	with := func(p sandbox.Policy) []sidecar.Option { return []sidecar.Option{sidecar.WithSandbox(p)} }
	missing := filepath.Join(dir, "missing")
	for name, c := range map[string]struct {
		path string
		opts []sidecar.Option
		kind error
		text string
	}{
		"no sense":       {vowels, with(sandbox.Policy{Memory: -1}), loader.ErrOption, "Policy.Memory with -1, expected 0 or more"},
		"nil":            {vowels, []sidecar.Option{sidecar.WithSandbox(nil)}, loader.ErrOption, "sidecar.WithSandbox with nil"},
		"a nil pointer":  {vowels, []sidecar.Option{sidecar.WithSandbox((*sandbox.Policy)(nil))}, loader.ErrOption, "sidecar.WithSandbox with nil"},
		"twice":          {vowels, append(with(sandbox.Policy{}), with(sandbox.Policy{})...), loader.ErrOption, "sidecar.WithSandbox twice"},
		"a socket":       {"unix:" + missing, with(sandbox.Policy{}), loader.ErrOption, "sidecar.WithSandbox for a URL"},
		"a host":         {"tcp:localhost:1", with(sandbox.Policy{}), loader.ErrOption, "sidecar.WithSandbox for a URL"},
		"a path":         {vowels, append(with(sandbox.Policy{Read: []string{missing}}), sidecar.WithInterpreter(python(t))), loader.ErrSandbox, "Policy.Read with " + strconv.Quote(missing) + ": no such file or directory"},
		"a script's":     {script("#!" + shim), with(sandbox.Policy{}), loader.ErrOption, "the script " + shim + ", which is to run it, in a sandbox that starts no other program"},
		"a hidden one":   {script("#!" + hidden), with(sandbox.Policy{Processes: 1}), loader.ErrRead, "the script " + hidden + ", which is to run it"},
		"env's option":   {script("#!/usr/bin/env -i python3"), with(sandbox.Policy{}), loader.ErrRead, `a first line with env and "-i python3"`},
		"env's nothing":  {script("#!/usr/bin/env no-such-program"), with(sandbox.Policy{}), loader.ErrRead, `"no-such-program", which is in no folder of PATH`},
		"no interpreter": {script("#!" + missing), with(sandbox.Policy{}), loader.ErrRead, "no program at " + missing},
		"two linkers": {forged(func(_ []byte, headers [][]byte) {
			last := headers[len(headers)-1]
			copy(last, linker(headers)) // what stood there is of no use to a program that is not run
		}), with(sandbox.Policy{}), loader.ErrRead, "which names more than one linker"},
		"a folder as the linker": {named("/"), with(sandbox.Policy{}), loader.ErrRead, "found / as the linker of "},
		"a secret as the linker": {named(secret), with(sandbox.Policy{}), loader.ErrRead, "found " + secret + " as the linker of "},
		"another class":          {forged(func(b []byte, _ [][]byte) { b[elf.EI_CLASS] = byte(elf.ELFCLASS32) }), with(sandbox.Policy{}), loader.ErrRead, "which is no program in ELF"},
		"a text":                 {script("text"), with(sandbox.Policy{}), loader.ErrRead, "which is no program in ELF"},
	} {
		t.Run(name, func(t *testing.T) {
			sandboxed(t)
			warmSandbox()
			leavesNothing(t)
			_, err := loader.Open(c.path, sidecar.Program(c.opts...))
			require.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.text)
			var open *loader.OpenError
			require.ErrorAs(t, err, &open)
			assert.NotEmpty(t, open.Expected)
			assert.NotEmpty(t, open.Remedy)
		})
	}
}

// A script's own first line starts it in a sandbox as it does without: by a path, or by env, with arguments.
func TestSandboxOfScripts(t *testing.T) {
	sandboxed(t)
	interpreter := python(t)
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py"))
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(text), "\n")
	for _, head := range []string{"#!" + interpreter, "#!" + interpreter + " -B", "#!/usr/bin/env " + filepath.Base(interpreter), "#!/usr/bin/env -S " + filepath.Base(interpreter) + " -B -E"} {
		path := filepath.Join(t.TempDir(), "script.py")
		require.NoError(t, os.WriteFile(path, []byte(head+"\n"+body), 0o755))
		p, err := loader.Open(path, sidecar.Program(sidecar.WithSandbox(sandbox.Policy{}), sidecar.WithEnv("PATH="+filepath.Dir(interpreter))))
		require.NoError(t, err, head)
		assert.Equal(t, strconv.Itoa(strings.Count(head, "-B")), call(t, p, "run", "import sys; out = sys.flags.dont_write_bytecode"), head)
		assert.Equal(t, denied, call(t, p, "run", "open('/etc/passwd')"))
		assert.NoError(t, p.Close())
	}
}

// What runs a script may be a script, where the policy lets it start what that one does: it is read by what runs it, and so is one in a chain of them.
func TestSandboxOfWrappers(t *testing.T) {
	sandboxed(t)
	interpreter, dir := python(t), public(t)
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py"))
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(text), "\n")
	write := func(dir, name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
		return path
	}
	wrapper := write(dir, "wrapper", "#!/bin/sh\nexec \"$@\"\n")
	chained := write(dir, "chained", "#!"+wrapper+" /bin/sh\nexec \"$@\"\n")
	own := public(t)
	beside := write(own, "beside", "#!/bin/sh\nexec \"$@\"\n")
	asRoot := os.Getuid() == 0 // whose processes the system does not count
	policy := sandbox.Policy{Processes: 4, BestEffort: asRoot, Read: []string{filepath.Dir(filepath.Dir(interpreter)), "/bin", "/usr/bin"}}
	for name, c := range map[string]struct {
		path string
		opts []sidecar.Option
	}{
		"its first line":      {write(own, "a.py", "#!"+wrapper+" "+interpreter+"\n"+body), nil},
		"two of them":         {write(own, "b.py", "#!"+chained+" "+interpreter+"\n"+body), nil},
		"one beside it":       {write(own, "c.py", "#!"+beside+" "+interpreter+"\n"+body), nil},
		"WithInterpreter":     {write(own, "d.py", body), []sidecar.Option{sidecar.WithInterpreter(wrapper, interpreter)}},
		"WithInterpreter two": {write(own, "e.py", body), []sidecar.Option{sidecar.WithInterpreter(chained, interpreter)}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := loader.Open(c.path, sidecar.Program(append(c.opts, sidecar.WithSandbox(policy), quick)...))
			require.NoError(t, err)
			assert.Equal(t, "2", call(t, p, "run", "out = 1 + 1"))
			assert.Equal(t, denied, call(t, p, "run", "open('"+filepath.Join(dir, "secret")+"')"), "what is beside them is not read")
			assert.NoError(t, p.Close())
		})
	}
}

// Node has what docs/sidecars.md says that it needs.
func TestSandboxOfNode(t *testing.T) {
	sandboxed(t)
	node := fixture.Tool(t, "node", "install Node")
	policy := sandbox.Policy{Memory: 64 << 20}
	if _, err := os.Stat("/etc/ssl/openssl.cnf"); err == nil {
		policy.Read = []string{"/etc/ssl/openssl.cnf"}
	}
	p, err := loader.Open(filepath.Join(fixture.Root(), "examples", "sidecar", "vowels.js"), sidecar.Program(sidecar.WithInterpreter(node), sidecar.WithSandbox(policy)),
		loader.WithHostFunc("loyalty_points", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	require.NoError(t, err)
	defer p.Close()
	assert.Equal(t, "2", call(t, p, "count_vowels", "hello"))
}

// What is at a path later is not what was granted: no process is started then.
func TestSandboxPathsStay(t *testing.T) {
	dir := public(t)
	file := filepath.Join(dir, "granted")
	require.NoError(t, os.WriteFile(file, []byte("granted"), 0o644))
	p := attacker(t, &sandbox.Policy{Read: []string{file}})
	read := fmt.Sprintf("out = open(%q).read()", file)
	assert.Equal(t, "granted", call(t, p, "run", read))
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Symlink("/etc/passwd", file))
	assert.Equal(t, denied, call(t, p, "run", read))
	_, err := p.Call(ctx, "run", []byte("import os; os._exit(1)"))
	crash(t, err)
	_, err = p.Call(ctx, "run", []byte(read))
	require.ErrorIs(t, err, loader.ErrSandbox)
	assert.ErrorContains(t, err, "the file or folder that was there when the plug-in was opened")
}

// With a digest, a copy is what runs, in the sandbox as well.
func TestSandboxOfDigest(t *testing.T) {
	sandboxed(t)
	path := filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(text)
	p, err := loader.Open(path, sidecar.Program(sidecar.WithInterpreter(python(t)), sidecar.WithSandbox(sandbox.Policy{})), loader.WithSHA256(hex.EncodeToString(sum[:])))
	require.NoError(t, err)
	defer p.Close()
	assert.Equal(t, denied, call(t, p, "run", "open('/etc/passwd')"))
}

// A launcher that cannot start its program says so, and leaves nothing.
func TestSandboxStartFails(t *testing.T) {
	sandboxed(t)
	warmSandbox()
	leavesNothing(t)
	broken := filepath.Join(t.TempDir(), "broken")
	text, err := os.ReadFile(python(t))
	require.NoError(t, err)
	binary.LittleEndian.PutUint16(text[18:], 0xffff) // of a machine that there is not
	require.NoError(t, os.WriteFile(broken, text, 0o755))
	_, err = loader.Open(broken, sidecar.Program(sidecar.WithSandbox(sandbox.Policy{})))
	require.ErrorIs(t, err, loader.ErrStart)
	assert.ErrorIs(t, err, loader.ErrCrash)
	assert.ErrorContains(t, err, "the sidecar was not started: execveat: exec format error")

	vowels := filepath.Join(fixture.Root(), "examples", "sidecar", "vowels.py")
	_, err = loader.Open(vowels, sidecar.Program(sidecar.WithInterpreter(python(t)), sidecar.WithSandbox(sandbox.Policy{Memory: 4096})))
	require.ErrorIs(t, err, loader.ErrStart)
	assert.ErrorContains(t, err, "what its policy does not grant")
}

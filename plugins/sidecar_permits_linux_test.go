package plugins_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// attacker writes the fixture attacker.py, which runs what it is called with. Its description says whether it could read the file secret when it was asked what it is; keys are more of its manifest.
func attacker(t *testing.T, to, secret, keys string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py"))
	require.NoError(t, err)
	const manifest = `b'{"name": "attacker", "version": "1.0.0", "functions": {"run": {}}}'`
	require.Contains(t, string(text), manifest)
	said := fmt.Sprintf(`b'{"name": "attacker", "version": "1.0.0", "functions": {"run": {}}, "keys": {%s}, "description": "%%s"}' %% run(%q).encode()`, keys, reads(secret))
	script := strings.NewReplacer(manifest, said, "#!/usr/bin/env python3", "#!"+python(t)).Replace(string(text))
	require.NoError(t, os.WriteFile(to, []byte(script), 0o755))
}

// attacked is what attackers try, each with what it answers where it can.
type attacked struct{ secret, other, port, strange string }

func newAttacked(t *testing.T) *attacked {
	fixture.Loadable(t)
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("the emulator has neither Landlock nor seccomp")
	}
	file := func() string {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, []byte("secret"), 0o644))
		return path
	}
	port := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		return port
	}
	return &attacked{file(), file(), port(), port()}
}

func reads(path string) string { return fmt.Sprintf("out = open(%q).read()", path) }
func connects(port string) string {
	return "import socket; socket.create_connection(('127.0.0.1', " + port + ")).close(); out = 'connected'"
}

// What a sandbox answers: a file that is not granted, and a system call that is not.
const denied, forbidden = "PermissionError 13", "PermissionError 1"

// shutIn is the plug-in attacker of a system that was started. The test is left out where the system has no such sandbox, and says so.
func shutIn(t *testing.T, sys *plugins.System) plugins.Plugin {
	t.Helper()
	p, ok := sys.Plugin("attacker")
	require.True(t, ok)
	if errors.Is(p.Err, loader.ErrSandbox) {
		t.Skip("this system has no such sandbox, and says so: ", p.Err)
	}
	require.NoError(t, p.Err)
	return p
}

// TestPermitsOfPrograms: what config.yaml permits is the sandbox of a program's processes, from the one on that is asked what it is; one of which it says nothing is in none.
func TestPermitsOfPrograms(t *testing.T) {
	a := newAttacked(t)
	script := filepath.Join(t.TempDir(), "attacker.py")
	attacker(t, script, a.secret, "")
	const free = "secret"
	permit := "permit: {read: [" + a.secret + "], connect: [" + a.port + "]}"
	for _, c := range []struct {
		entry                            string
		asked                            string // what the process could read that was asked what it is
		secret, other, port, strange     string // what calls answer
		declared, permitted, has64M, dup bool   // has64M: 256 MiB more, too
	}{
		{"", free, free, free, "connected", "connected", false, false, true, true},
		{permit, free, free, denied, "connected", denied, false, true, true, false},
		{"permit: {read: [" + a.other + "]}", denied, denied, free, forbidden, forbidden, false, true, true, false},
		{"permit: {}", denied, denied, denied, forbidden, forbidden, false, false, true, false},
		{"isolate: true", denied, denied, denied, forbidden, forbidden, false, false, true, false},
		{"permit: {memory: 128MiB}", denied, denied, denied, forbidden, forbidden, false, false, false, false},
		{"isolate: {memory: 128MiB, files: 200}", denied, denied, denied, forbidden, forbidden, false, false, false, true},
		{permit + ", isolate: {sandbox: best-effort}", free, free, denied, "connected", denied, false, true, true, false},
		{permit + ", isolate: {sandbox: none}", free, free, free, "connected", "connected", true, true, true, true},
	} {
		t.Run(c.entry, func(t *testing.T) {
			config := newConfigured(t)
			config.write("plugins: [{name: attacker, program: " + script + ", interpreter: [" + python(t) + "]" + strings.TrimSuffix(", "+c.entry, ", ") + "}]")
			sys := config.new()
			require.NoError(t, sys.Start(t.Context()))
			assert.Equal(t, c.asked, shutIn(t, sys).Description)
			for code, want := range map[string]string{reads(a.secret): c.secret, reads(a.other): c.other, connects(a.port): c.port, connects(a.strange): c.strange} {
				assert.Equal(t, want, ask(t, sys, "attacker", "run", code), code)
			}
			assert.Equal(t, c.has64M, ask(t, sys, "attacker", "run", "out = len(bytearray(256 << 20))") != "MemoryError None")
			const dup = "import os\nall = []\ntry:\n  for i in range(150): all.append(os.dup(1))\nfinally: [os.close(f) for f in all]\nout = 'dup'"
			assert.Equal(t, c.dup, ask(t, sys, "attacker", "run", dup) == "dup")
			p := shutIn(t, sys)
			assert.Equal(t, c.declared, p.Declared)
			assert.Equal(t, c.permitted, len(p.Permits) > 0)
			assert.True(t, p.Sidecar)
			assert.False(t, p.Isolated)
		})
	}
}

// TestPermitsOfProgramsChange: another permit has the program started again, in another sandbox, and so has none.
func TestPermitsOfProgramsChange(t *testing.T) {
	a, config := newAttacked(t), newConfigured(t)
	script := filepath.Join(t.TempDir(), "attacker.py")
	attacker(t, script, a.secret, "")
	entry := "plugins: [{name: attacker, program: " + script + ", interpreter: [" + python(t) + "]"
	sys := config.new()
	config.write(entry + ", permit: {}}]")
	require.NoError(t, sys.Start(t.Context()))
	shutIn(t, sys)
	before := ""
	for _, c := range []struct{ more, want string }{{", permit: {}", denied}, {", permit: {read: [" + a.secret + "]}", "secret"}, {", isolate: true", denied}, {", permit: ", "secret"}, {", permit: {read: []}", denied}} {
		config.write(entry + c.more + "}]")
		require.NoError(t, sys.Reload(t.Context()))
		assert.Equal(t, c.want, ask(t, sys, "attacker", "run", reads(a.secret)), c.more)
		p := shutIn(t, sys)
		assert.Equal(t, c.want, p.Description)
		pid := ask(t, sys, "attacker", "run", "import os; out = os.getpid()")
		assert.NotEqual(t, before, pid)
		before = pid
	}
}

// TestProgramsAsk: what a program's manifest asks for is permitted by its entry, or by Grants, and it has that and no more; else it does not run.
func TestProgramsAsk(t *testing.T) {
	a := newAttacked(t)
	script := filepath.Join(t.TempDir(), "attacker.py")
	attacker(t, script, a.other, fmt.Sprintf(`"permit.read": %q`, a.secret))
	entry := "plugins: [{name: attacker, program: " + script + ", interpreter: [" + python(t) + "]"
	grants := plugins.Grants(func(r plugins.Request) bool { return r.What == "read" && r.Name == a.secret })
	for _, c := range []struct {
		entry string
		opts  []plugins.Option
		fails bool
		other string
	}{
		{"", nil, true, ""},
		{", permit: {read: [" + a.other + "]}", nil, true, ""},
		{", permit: {read: [" + a.secret + "]}", nil, false, denied},
		{"", []plugins.Option{grants}, false, denied},
		{", isolate: true", []plugins.Option{grants}, false, denied},
		{", isolate: {sandbox: none}", []plugins.Option{grants}, false, "secret"},
	} {
		config := newConfigured(t)
		config.write(entry + c.entry + "}]")
		sys := config.new(c.opts...)
		require.NoError(t, sys.Start(t.Context()))
		if c.fails {
			p, _ := sys.Plugin("attacker")
			if errors.Is(p.Err, loader.ErrSandbox) {
				t.Skip("this system has no such sandbox, and says so: ", p.Err)
			}
			assert.ErrorIs(t, p.Err, plugins.ErrGrant, c.entry)
			assert.ErrorContains(t, p.Err, "read "+a.secret, c.entry)
			continue
		}
		assert.Equal(t, []string{"read " + a.secret}, shutIn(t, sys).Permits, c.entry)
		assert.Equal(t, "secret", ask(t, sys, "attacker", "run", reads(a.secret)), c.entry)
		assert.Equal(t, c.other, ask(t, sys, "attacker", "run", reads(a.other)), c.entry)
	}
}

// TestPermitsOfAnInstalledProgram: the sandbox is that of its entry, which says nothing of a program.
func TestPermitsOfAnInstalledProgram(t *testing.T) {
	a, config := newAttacked(t), newConfigured(t)
	script := filepath.Join(t.TempDir(), "attacker.py")
	attacker(t, script, a.secret, "")
	address, to := released["folder"](t)
	key, err := sign.Generate()
	require.NoError(t, err)
	publishProgram(t, to, key, about("attacker", "1.0.0"), script)
	for entry, want := range map[string][2]string{
		"": {"secret", "secret"}, ", permit: {}": {denied, denied}, ", isolate: true": {denied, denied}, ", permit: {read: [" + a.secret + "]}": {"secret", denied},
	} {
		config.write("registry: {url: '" + address + "', keys: [" + key.Public().String() + "]}\nplugins: [{name: attacker" + entry + "}]")
		sys := config.new(plugins.Download(release.Pages), plugins.StoreFolder(t.TempDir()))
		require.NoError(t, sys.Start(t.Context()))
		assert.Equal(t, want[0], shutIn(t, sys).Description, entry)
		assert.Equal(t, want[0], ask(t, sys, "attacker", "run", reads(a.secret)), entry)
		assert.Equal(t, want[1], ask(t, sys, "attacker", "run", reads(a.other)), entry)
	}
}

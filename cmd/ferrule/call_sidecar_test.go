package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
)

// A program is listed and called as a library is, whatever is its interpreter: functions, hooks, what it imports, its errors and its end.
func TestCallSidecar(t *testing.T) {
	python := fixture.Python(t)
	t.Chdir(filepath.Join(fixture.Root(), "examples", "sidecar"))
	for name, c := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"what there is": {[]string{"--", "vowels.py"}, exitOK, "Functions of vowels 1.0.0:\n    count_vowels\n    points\nHooks of vowels 1.0.0:\n    before_checkout\n\n" +
			"Call one with\n\n    ferrule call --sidecar " + shellWord(python) + " count_vowels --in TEXT -- vowels.py\n", ""},
		"a function":       {[]string{"count_vowels", "--in", "hello", "--", "vowels.py"}, exitOK, "2", ""},
		"a host function":  {[]string{"points", "--in", "x", "--answer", "loyalty_points=7", "--", "vowels.py"}, exitOK, "points: 7", ""},
		"a hook":           {[]string{"before_checkout", "--hook", "--in", "x", "--", "vowels.py"}, exitOK, "5 % off", ""},
		"a hook, passing":  {[]string{"before_checkout", "--hook", "--in", "", "--", "vowels.py"}, exitPass, "", "has nothing to say to this input"},
		"no such function": {[]string{"count", "--in", "x", "--", "vowels.py"}, exitUsage, "", "It has count_vowels and points"},
		"no such import":   {[]string{"points", "--answer", "loyality=1", "--in", "x", "--", "vowels.py"}, exitUsage, "", "an answer for loyality, which plug-in vowels does not import"},
		"a failure":        {[]string{"count_vowels", "--in", "\xff", "--", "vowels.py"}, exitFailed, "", "plug-in vowels: count_vowels: invalid input"},
		"no sidecar":       {[]string{"f", "--in", "x", "--", "-c", "import sys; sys.exit('oh no')"}, exitOpen, "", "found a sidecar that does not say what it is: the sidecar ended with exit code 1; its last line: oh no"},
		"a worker":         {[]string{"f", "--isolated"}, exitUsage, "", "--isolated with --sidecar"},
		"a sandbox":        {[]string{"f", "--sandbox"}, exitUsage, "", "--sandbox with --sidecar"},
		"an option alone":  {[]string{"--in", "x", "--", "vowels.py"}, exitUsage, "", "Name a function: ferrule call --sidecar " + shellWord(python) + " -- vowels.py says which there are."},
		"two functions":    {[]string{"f", "g", "--", "vowels.py"}, exitUsage, "", "expected PROGRAM [FUNCTION]"},
	} {
		stdout, stderr, code := ferrule(t, "", append([]string{"call", "--sidecar", python}, c.args...)...)
		assert.Equal(t, c.code, code, "%s: %s", name, stderr)
		assert.Equal(t, c.stdout, stdout, name)
		if c.stderr == "" {
			assert.Empty(t, stderr, name)
		}
		assert.Contains(t, stderr, c.stderr, name)
	}
	for target, says := range map[string]string{"no-such-program": "no program of this name", "tcp:127.0.0.1": "found no port", "unix:": "found nothing behind unix:", "http://": "found a URL that is not as it has to be",
		"tcp:127.0.0.1:1": "no sidecar that answers", "http://127.0.0.1:1": "no server that answers"} {
		_, stderr, code := ferrule(t, "", "call", "--sidecar", target, "f", "--in", "x")
		assert.Equal(t, exitOpen, code, target)
		assert.Contains(t, stderr, says)
	}
	_, stderr, code := ferrule(t, "", "call", "--token", "t", "a.so", "f")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "--token without --sidecar")
}

// TestSidecarFolder: who names the folder of a sidecar is told of the program in it.
func TestSidecarFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, verb := range [][]string{{"call", "--sidecar", dir}, {"call", "--sidecar", dir, "f", "--in", "x"}, {"bench", "--sidecar", dir, "f", "--in", "x"}, {"check", "--sidecar", dir}} {
		_, stderr, code := ferrule(t, "", verb...)
		assert.Equal(t, exitOpen, code)
		assert.Contains(t, stderr, ": not a regular file: found a folder, expected a program. Give the path of the program itself.\n")
	}
	program := filepath.Join(dir, "side.exe")
	require.NoError(t, os.WriteFile(program, []byte("#!"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lib"), 0o700))
	for _, verb := range []string{"call", "check"} {
		_, stderr, _ := ferrule(t, "", verb, "--sidecar", dir)
		assert.Contains(t, stderr, "Give the path of a program in it, such as "+program+".\n")
	}
}

// TestLibraryAsSidecar: whoever names a library as a sidecar is told so, in the words of where it is named.
func TestLibraryAsSidecar(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the system itself runs no library there")
	}
	library := fixture.C(t, "echo")
	for _, verb := range [][]string{{"call", "--sidecar", library}, {"bench", "--sidecar", library, "echo", "--in", "x"}, {"check", "--sidecar", library}} {
		_, stderr, code := ferrule(t, "", verb...)
		assert.Equal(t, exitOpen, code, verb)
		assert.Contains(t, stderr, "found a shared library, which is a plug-in by itself, expected a program. Leave out --sidecar.\n")
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte("plugins:\n  - name: echo\n    program: "+library+"\n"), 0o600))
	stdout, _, code := ferrule(t, "", "doctor", "--config", config)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, "a shared library, which is a plug-in by itself")
	assert.Contains(t, stdout, "Take program out of its entry")
}

// A sidecar that somebody else has started is called by its URL, with its token and by TLS.
func TestCallSidecarURL(t *testing.T) {
	t.Parallel()
	plugin := serve.Go(&builtin.Plugin{Name: "shout", Version: "1.0.0", Funcs: []builtin.Function{{Name: "shout", Call: func(_ context.Context, in []byte) ([]byte, error) {
		return append(in, '!'), nil
	}}}})
	handler, err := web.Open(plugin, web.Options{Token: "s3cret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = handler.Close() })
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(token, []byte("s3cret\n"), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	secure := tls.NewListener(l, &tls.Config{Certificates: server.TLS.Certificates})
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { served <- serve.Listen(ctx, secure, plugin, serve.Options{Token: "s3cret"}) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-served)
	})
	for _, at := range [][]string{{server.URL}, {"--tls", "tcp:" + l.Addr().String()}} {
		call := func(args ...string) (stdout, stderr string, code int) {
			return ferrule(t, "", append(append([]string{"call", "--sidecar"}, at...), args...)...)
		}
		stdout, stderr, code := call("--ca", ca, "--token", "@"+token, "shout", "--in", "hello")
		assert.Equal(t, exitOK, code, stderr)
		assert.Equal(t, "hello!", stdout)
		stdout, stderr, code = call("--ca", ca, "--token", "s3cret")
		assert.Equal(t, exitOK, code, stderr)
		assert.Contains(t, stdout, "Functions of shout 1.0.0:\n    shout\n")
		tls := ""
		if at[0] == "--tls" {
			tls = "--tls "
		}
		url := at[len(at)-1]
		assert.Contains(t, stdout, "\n    ferrule call --sidecar --token TOKEN "+tls+"--ca "+shellWord(ca)+" "+url+" shout --in TEXT\n", "a secret is not repeated")
		_, stderr, code = call("--ca", ca, "--token", "@"+token, "--in", "hello")
		assert.Equal(t, exitUsage, code, stderr)
		assert.Contains(t, stderr, ": ferrule call --sidecar --token "+shellWord("@"+token)+" "+tls+"--ca "+shellWord(ca)+" "+url+" says which there are.")
		_, stderr, code = call("--ca", ca, "--token", "wrong", "shout", "--in", "hello")
		assert.NotEqual(t, exitOK, code)
		assert.Contains(t, stderr, "(--token)")
		assert.NotContains(t, stderr, "With")
		_, stderr, code = call("shout", "--in", "hello")
		assert.Equal(t, exitOpen, code)
		assert.Contains(t, stderr, "(--ca)")
	}
	_, stderr, code := ferrule(t, "", "call", "--sidecar", "--tls", server.URL, "shout")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "--tls with "+server.URL)
}

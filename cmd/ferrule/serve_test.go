//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/web"
)

// shouts is a plug-in with a state, with what prints, and with what does not end.
func shouts(t *testing.T) string {
	return compiled(t, `#include <stdio.h>
		#include <stdlib.h>
		#include <string.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("shouts") FERRULE_VERSION("2.0.1") FERRULE_THREADS("serial"));
		static int32_t reply(ferrule_call *call, const char *text) {
			size_t n = strlen(text);
			if (n > call->out_cap) return FERRULE_NO_MEMORY;
			memcpy(call->out, text, n);
			call->out_len = n;
			return FERRULE_OK;
		}
		static char said[128];
		FERRULE_START {
			if (call->in_len >= sizeof said) return FERRULE_INVALID;
			memcpy(said, call->in, call->in_len);
			said[call->in_len] = 0;
			return FERRULE_OK;
		}
		FERRULE_FN(config) { return reply(call, said); }
		FERRULE_FN(prints) { printf("printed\n"); fflush(stdout); return reply(call, "done"); }
		FERRULE_FN(token) { const char *token = getenv("FERRULE_TOKEN"); return reply(call, token ? token : "none"); }
		FERRULE_FN(waits) {
			if (call->in_len) { /* it says that it runs */
				char path[512] = {0};
				memcpy(path, call->in, call->in_len < 511 ? call->in_len : 511);
				FILE *f = fopen(path, "w");
				if (f) fclose(f);
			}
			while (!*call->cancel) usleep(1000);
			return FERRULE_CANCELLED;
		}
		FERRULE_FN(stuck) {
			char path[512] = {0};
			memcpy(path, call->in, call->in_len < 511 ? call->in_len : 511);
			FILE *f = fopen(path, "w");
			if (f) fclose(f);
			for (;;) sleep(1000);
		}
		FERRULE_FN(crashes) { (void)call; abort(); }`)
}

// running is a ferrule serve that runs.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	line   string // that says that it is ready
	second string // that says where the numbers are, where there are any
	mu     sync.Mutex
	errors bytes.Buffer
	ended  chan struct{}
	code   int
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.errors.Write(b)
}

func (r *running) stderr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.errors.String()
}

// tellsOfACrash holds it to a line about a crash of the function crashes in a worker: who runs it is told, too. What it has written may be read later than its answer.
func (r *running) tellsOfACrash() {
	r.t.Helper()
	line := regexp.MustCompile(`(?m)^level=ERROR msg="plug-in [a-z]+: crashes: the worker was ended by the signal .*"$`)
	assert.Eventually(r.t, func() bool { return line.MatchString(r.stderr()) }, time.Minute, 10*time.Millisecond)
}

// serving starts a ferrule serve, and waits until it is ready.
func serving(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(binary, append([]string{"serve"}, args...)...), ended: make(chan struct{})}
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stderr = r
	out, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
	})
	lines := bufio.NewReader(out)
	r.line, err = lines.ReadString('\n')
	if err == nil && slices.Contains(args, "--metrics") && !slices.Contains(args, "--json") {
		r.second, err = lines.ReadString('\n')
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		_ = r.cmd.Wait()
		r.code = r.cmd.ProcessState.ExitCode()
		close(r.ended)
	}()
	if err != nil {
		<-r.ended
		require.NoError(t, err, r.stderr())
	}
	return r
}

// address is where it says that it serves.
func (r *running) address() string {
	_, address, ok := strings.Cut(strings.TrimSuffix(r.line, "\n"), " at ")
	require.True(r.t, ok, r.line)
	return address
}

func (r *running) signal(s os.Signal) { require.NoError(r.t, r.cmd.Process.Signal(s)) }

// wait waits for its end, and returns its exit code.
func (r *running) wait() int {
	<-r.ended
	return r.code
}

// result calls a function, which succeeds.
func result(t *testing.T, p *loader.Plugin, name, in string) string {
	t.Helper()
	fn, err := p.Func(name)
	require.NoError(t, err)
	out, err := fn.Call(t.Context(), []byte(in))
	require.NoError(t, err)
	return string(out)
}

func opened(t *testing.T, address string, engine []sidecar.Option, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(address, append(opts, sidecar.Program(engine...))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func gone(t *testing.T, path string) {
	t.Helper()
	_, err := os.Lstat(path)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// appears waits for a file that a function of the plug-in makes.
func appears(t *testing.T, path string) {
	t.Helper()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		require.NoError(t, t.Context().Err())
		time.Sleep(time.Millisecond)
	}
}

// TestServe: a plug-in that ferrule serve serves is what it is when it is opened as a file, over each transport.
func TestServe(t *testing.T) {
	t.Parallel()
	library := shouts(t)
	uses := func(t *testing.T, address string, engine ...sidecar.Option) {
		p := opened(t, address, engine, loader.WithConfig([]byte("loud")))
		assert.Equal(t, "shouts", p.Name())
		assert.Equal(t, "loud", result(t, p, "config", ""))
		assert.Equal(t, "done", result(t, p, "prints", ""), "what it prints is not between messages")
		require.NoError(t, p.Close())
	}
	t.Run("stdio", func(t *testing.T) {
		t.Parallel()
		uses(t, binary, sidecar.WithArgs("serve", library, "--stdio"))
		uses(t, binary, sidecar.WithArgs("serve", "--isolated", library, "--stdio"))
	})
	t.Run("stdio, without the host's descriptors", func(t *testing.T) {
		t.Parallel()
		uses(t, "/bin/sh", sidecar.WithArgs("-c", `unset FERRULE_SIDECAR; exec "$0" serve "$1" --stdio`, binary, library))
	})
	t.Run("unix", func(t *testing.T) {
		t.Parallel()
		path := fixture.Socket(t)
		s := serving(t, nil, library, "--unix", path)
		assert.Equal(t, "serving shouts 2.0.1 at unix:"+path+"\n", s.line)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		uses(t, s.address())
		uses(t, s.address()) // each host has an instance of its own
		_, stderr, code := ferrule(t, "", "serve", library, "--unix", path)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "on which somebody listens, expected none, or one that was left behind")
		uses(t, s.address())
		s.signal(syscall.SIGTERM)
		assert.Zero(t, s.wait(), s.stderr())
		gone(t, path)
	})
	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		s := serving(t, nil, "--json", library, "--tcp", "127.0.0.1:0")
		var is ready
		require.NoError(t, json.Unmarshal([]byte(s.line), &is), s.line)
		assert.Equal(t, ready{Plugin: "shouts", Version: "2.0.1", Address: is.Address}, is)
		uses(t, is.Address)
	})
	t.Run("fifo", func(t *testing.T) {
		t.Parallel()
		in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
		s := serving(t, nil, library, "--fifo", in+","+out)
		for range 3 {
			uses(t, s.address())
		}
		s.signal(syscall.SIGINT)
		assert.Zero(t, s.wait())
		assert.Empty(t, s.stderr())
		gone(t, in)
		gone(t, out)
	})
	t.Run("a module", func(t *testing.T) {
		t.Parallel()
		s := serving(t, nil, fixture.WasmC(t, "echo"), "--unix", fixture.Socket(t))
		assert.Equal(t, "hello", result(t, opened(t, s.address(), nil), "echo", "hello"))
	})
}

// TestServeLeftBehind: the socket of a server that was killed is replaced, and nothing else is.
func TestServeLeftBehind(t *testing.T) {
	t.Parallel()
	library, path := fixture.C(t, "echo"), fixture.Socket(t)
	s := serving(t, nil, library, "--unix", path)
	s.signal(syscall.SIGKILL)
	s.wait()
	_, err := os.Lstat(path)
	require.NoError(t, err)
	s = serving(t, nil, library, "--unix", path)
	assert.Equal(t, "hello", result(t, opened(t, s.address(), nil), "echo", "hello"))
	// Another one's socket is not taken away at the end.
	require.NoError(t, os.Remove(path))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	s.signal(syscall.SIGTERM)
	assert.Zero(t, s.wait())
	_, err = os.Lstat(path)
	assert.NoError(t, err)

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("kept"), 0o600))
	_, stderr, code := ferrule(t, "", "serve", library, "--unix", file)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "where there is something else, expected nothing there")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "kept", string(text))
	// Of several that are started at once, one has the path.
	path = fixture.Socket(t)
	var all []*exec.Cmd
	lines := make(chan string, 8)
	for range cap(lines) {
		cmd := exec.Command(binary, "serve", library, "--unix", path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		all = append(all, cmd)
		go func() {
			line, _ := bufio.NewReader(out).ReadString('\n')
			lines <- line
		}()
	}
	serves := 0
	for range all { // those that do not serve end
		if <-lines != "" {
			serves++
		}
	}
	assert.Equal(t, 1, serves)
	for _, cmd := range all {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// TestServeSignals: a signal ends it in order: calls may go on within --grace, and are asked to stop then; what does not stop does not keep it; a second one ends it at once.
func TestServeSignals(t *testing.T) {
	t.Parallel()
	library := shouts(t)
	begin := func(t *testing.T, fn string, args ...string) (*running, <-chan error) {
		s := serving(t, nil, append([]string{library, "--unix", fixture.Socket(t)}, args...)...)
		p, err := loader.Open(s.address(), sidecar.Program())
		require.NoError(t, err)
		f, err := p.Func(fn)
		require.NoError(t, err)
		runs, outcome := filepath.Join(t.TempDir(), "runs"), make(chan error, 1)
		go func() {
			_, err := f.Call(context.Background(), []byte(runs))
			outcome <- err
		}()
		appears(t, runs)
		return s, outcome
	}
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			server, outcome := begin(t, "waits", "--grace", "10ms")
			server.signal(s)
			assert.Zero(t, server.wait(), server.stderr())
			assert.Error(t, <-outcome)
			assert.Empty(t, server.stderr())
		})
	}
	t.Run("what does not stop", func(t *testing.T) {
		t.Parallel()
		server, outcome := begin(t, "stuck", "--grace", "10ms")
		server.signal(syscall.SIGTERM)
		assert.Zero(t, server.wait())
		assert.Contains(t, server.stderr(), "a call has not ended in 10ms")
		var crash *loader.CrashError
		assert.ErrorAs(t, <-outcome, &crash)
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		server, outcome := begin(t, "stuck", "--grace", "1h")
		server.signal(syscall.SIGTERM)
		for ended := false; !ended; {
			_ = server.cmd.Process.Signal(syscall.SIGTERM) // which may have ended
			select {
			case <-server.ended:
				ended = true
			case <-time.After(10 * time.Millisecond):
			}
		}
		assert.Equal(t, exitInterrupted, server.wait())
		assert.Error(t, <-outcome)
	})
	t.Run("stdio", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command(binary, "serve", library, "--stdio")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.WriteString(in, "HELLO 1\n\n")
		require.NoError(t, err)
		lines := bufio.NewReader(out)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "HELLO 1\n", line)
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		rest := make(chan string, 1)
		bye := make(chan struct{})
		go func() {
			var all strings.Builder
			for {
				line, err := lines.ReadString('\n')
				all.WriteString(line)
				if strings.HasSuffix(all.String(), "BYE\n") {
					close(bye)
				}
				if err != nil {
					rest <- all.String()
					return
				}
			}
		}()
		<-bye // before anything is ended
		_, err = io.WriteString(in, "BYE\n\n")
		require.NoError(t, err)
		assert.NoError(t, func() error { <-rest; return cmd.Wait() }())
	})
	t.Run("nobody has said hello", func(t *testing.T) {
		t.Parallel()
		path := fixture.Socket(t)
		server := serving(t, nil, library, "--unix", path, "--grace", "1h")
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		defer conn.Close()
		server.signal(syscall.SIGTERM)
		assert.Zero(t, server.wait(), server.stderr())
	})
}

// certificate makes one for this machine, and returns the names of its files, and who trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(cert, text, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	return cert, key, pool
}

// TestServeToken: who has not said the token is told nothing, takes no place, and the plug-in does not see it.
func TestServeToken(t *testing.T) {
	t.Parallel()
	library := shouts(t)
	cert, key, pool := certificate(t)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("open sesame\n"), 0o600))
	refuses := func(t *testing.T, address string, engine ...sidecar.Option) {
		t.Helper()
		_, err := loader.Open(address, sidecar.Program(engine...))
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "sesame")
	}
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		s := serving(t, []string{"FERRULE_TOKEN=another"}, library, "--unix", fixture.Socket(t), "--token-file", file, "--instances", "1")
		refuses(t, s.address())
		refuses(t, s.address(), sidecar.WithToken("another"))
		conn, err := net.Dial("unix", strings.TrimPrefix(s.address(), "unix:")) // it says nothing, and keeps nobody out
		require.NoError(t, err)
		defer conn.Close()
		p := opened(t, s.address(), []sidecar.Option{sidecar.WithToken("open sesame")})
		assert.Equal(t, "none", result(t, p, "token", ""))
		refuses(t, s.address(), sidecar.WithToken("open sesame")) // --instances
		require.NoError(t, p.Close())
		for { // its place is free a moment later
			if p, err = loader.Open(s.address(), sidecar.Program(sidecar.WithToken("open sesame"))); err == nil {
				break
			}
			require.NoError(t, t.Context().Err())
		}
		require.NoError(t, p.Close())
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		s := serving(t, []string{"FERRULE_TOKEN=open sesame"}, library, "--tcp", "0.0.0.0:0", "--cert", cert, "--key", key)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(s.address(), "tcp:"))
		require.NoError(t, err)
		at := "tcp:127.0.0.1:" + port
		trusts := sidecar.WithTLS(&tls.Config{RootCAs: pool})
		p := opened(t, at, []sidecar.Option{trusts, sidecar.WithToken("open sesame")})
		assert.Equal(t, "none", result(t, p, "token", ""))
		refuses(t, at, trusts)
		refuses(t, at, sidecar.WithToken("open sesame"))                                 // in the clear
		refuses(t, at, sidecar.WithToken("open sesame"), sidecar.WithTLS(&tls.Config{})) // does not trust it
		assert.Equal(t, "none", result(t, p, "token", ""))
	})
}

// TestServeIsolated: with --isolated a crash ends one session, without it all of them; a limit of calls and of inputs is kept.
func TestServeIsolated(t *testing.T) {
	t.Parallel()
	library := shouts(t)
	s := serving(t, nil, "--isolated", "--timeout", "1s", "--max-message", "1KiB", library, "--unix", fixture.Socket(t))
	one, other := opened(t, s.address(), nil), opened(t, s.address(), nil, loader.WithConfig([]byte("other")))
	fn, err := one.Func("crashes")
	require.NoError(t, err)
	_, err = fn.Call(t.Context(), nil)
	assert.ErrorIs(t, err, loader.ErrPanic)
	assert.ErrorContains(t, err, "the worker was ended by the signal")
	s.tellsOfACrash()
	assert.Equal(t, "other", result(t, other, "config", ""))
	waits, err := other.Func("waits")
	require.NoError(t, err)
	_, err = waits.Call(t.Context(), nil)
	assert.ErrorIs(t, err, loader.ErrCancelled)
	_, err = waits.Call(t.Context(), make([]byte, 2<<10))
	assert.ErrorIs(t, err, loader.ErrNoMemory)
	assert.Equal(t, "other", result(t, other, "config", ""))

	s = serving(t, nil, library, "--unix", fixture.Socket(t))
	one = opened(t, s.address(), nil)
	fn, err = one.Func("crashes")
	require.NoError(t, err)
	_, err = fn.Call(t.Context(), nil)
	var crash *loader.CrashError
	require.True(t, errors.As(err, &crash), err)
	assert.Equal(t, 2, s.wait(), "the Go runtime's, as the page has it")
}

// TestServeWrong: a command line that is wrong, or not safe, is refused with what to do.
func TestServeWrong(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	cert, key, _ := certificate(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	token, empty, odd := write("token", "secret\n"), write("empty", "\n"), write("odd", "two\nlines\n")
	spaces := write("spaces", "a secret\n")
	secure := []string{"--cert", cert, "--key", key}
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"nowhere":            {nil, "found no place to serve at, expected one of --stdio", exitUsage},
		"two":                {[]string{"--stdio", "--unix", "x"}, "found --stdio and --unix, expected one of", exitUsage},
		"no path":            {[]string{"--unix", ""}, "found --unix with nothing (is a variable not set?), expected --unix PATH", exitUsage},
		"JSON on the wire":   {[]string{"--stdio", "--json"}, "found --json with --stdio", exitUsage},
		"instances of stdio": {[]string{"--stdio", "--instances", "2"}, "found --instances with --stdio", exitUsage},
		"instances of FIFOs": {[]string{"--fifo", "a,b", "--instances", "2"}, "found --instances with --fifo", exitUsage},
		"no instances":       {[]string{"--unix", "x", "--instances", "0"}, "found --instances 0, expected 1 or more", exitUsage},
		"a time":             {[]string{"--unix", "x", "--timeout", "-1s"}, "found --timeout -1s", exitUsage},
		"another time":       {[]string{"--unix", "x", "--grace", "-1s"}, "found --grace -1s", exitUsage},
		"a size":             {[]string{"--unix", "x", "--max-message", "much"}, "found --max-message much", exitUsage},
		"a large size":       {[]string{"--unix", "x", "--max-message", "2GiB"}, "found --max-message 2GiB", exitUsage},
		"one FIFO":           {[]string{"--fifo", "a"}, "found --fifo a, expected two paths", exitUsage},
		"the same FIFO":      {[]string{"--fifo", "a,a"}, "found --fifo a,a, expected two paths", exitUsage},
		"no FIFO":            {[]string{"--fifo", token + ",b"}, "which is no FIFO", exitUsage},
		"no port":            {[]string{"--tcp", "localhost"}, "found --tcp localhost", exitUsage},
		"all the world":      {[]string{"--tcp", "0.0.0.0:0"}, "which others reach, without --cert and --key and a token (--token-file, or FERRULE_TOKEN)", exitUsage},
		"every address":      {[]string{"--tcp", ":0"}, "which others reach, without --cert and --key and a token", exitUsage},
		"of IPv6":            {[]string{"--tcp", "[::]:0"}, "which others reach", exitUsage},
		"no token":           {append([]string{"--tcp", "0.0.0.0:0"}, secure...), "which others reach, without a token (", exitUsage},
		"no TLS":             {[]string{"--tcp", "0.0.0.0:0", "--token-file", token}, "which others reach, without --cert and --key, expected", exitUsage},
		"an empty token":     {[]string{"--tcp", "127.0.0.1:0", "--token-file", empty}, "with nothing in it, expected a file with a token", exitUsage},
		"no line":            {[]string{"--tcp", "127.0.0.1:0", "--token-file", odd}, "with a token that cannot be sent", exitUsage},
		"no file":            {[]string{"--tcp", "127.0.0.1:0", "--token-file", filepath.Join(dir, "none")}, "found --token-file " + filepath.Join(dir, "none") + ": ", exitUsage},
		"half of TLS":        {[]string{"--tcp", "127.0.0.1:0", "--cert", cert}, "found one of --cert and --key, expected both", exitUsage},
		"no certificate":     {[]string{"--tcp", "127.0.0.1:0", "--cert", token, "--key", key}, "which do not make a certificate", exitUsage},
		"TLS of a socket":    {append([]string{"--unix", "x"}, secure...), "found --cert or --key with --unix", exitUsage},
		"no folder":          {[]string{"--unix", filepath.Join(dir, "none", "x")}, "found --unix " + filepath.Join(dir, "none", "x") + ": ", exitUsage},
		"a long path":        {[]string{"--unix", filepath.Join(dir, strings.Repeat("x", 200))}, "at most, which is all that sockets can have", exitUsage},
		"all by HTTP":        {[]string{"--http", "0.0.0.0:0"}, "found --http 0.0.0.0:0, which others reach, without --cert and --key and a token", exitUsage},
		"no TLS by HTTP":     {[]string{"--http", ":0", "--token-file", token}, "found --http :0, which others reach, without --cert and --key, expected", exitUsage},
		"spaces by HTTP":     {[]string{"--http", "127.0.0.1:0", "--token-file", spaces}, "with a token that has a space", exitUsage},
		"TLS of HTTP's":      {append([]string{"--http", "unix:x"}, secure...), "found --cert or --key with --http unix:x, expected them with a TCP port", exitUsage},
		"no socket":          {[]string{"--http", "unix:"}, "found --http unix:", exitUsage},
		"a configuration":    {[]string{"--unix", "x", "--config", "y"}, "found --config with --unix, expected it with --http", exitUsage},
		"no configuration":   {[]string{"--http", "127.0.0.1:0", "--config", "y"}, "which takes no configuration", exitUsage},
		"calls":              {[]string{"--stdio", "--max-calls", "2"}, "found --max-calls with --stdio, expected it with --http", exitUsage},
		"no calls":           {[]string{"--http", "127.0.0.1:0", "--max-calls", "0"}, "found --max-calls 0, expected 1 or more", exitUsage},
		"imports":            {[]string{"--http", "127.0.0.1:0", fixture.C(t, "asks")}, "which imports geo_lookup, loyalty_points, expected a plug-in without imports", exitOpen},
		"a failing start":    {[]string{"--http", "127.0.0.1:0", fixture.C(t, "start_fails")}, "could not be started", exitOpen},
		"no plug-in":         {[]string{"--unix", "x", token}, "not a shared library", exitOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := []string{echo}
			if c.code == exitOpen {
				file = nil
			}
			stdout, stderr, code := ferrule(t, "", append(append([]string{"serve"}, file...), c.args...)...)
			assert.Equal(t, c.code, code, stderr)
			assert.Contains(t, stderr, c.want)
			assert.NotContains(t, stderr, "secret")
			if !strings.Contains(name, "JSON") {
				assert.Empty(t, stdout)
			}
		})
	}
	t.Run("a port that is in use", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		_, stderr, code := ferrule(t, "", "serve", echo, "--tcp", l.Addr().String())
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "--tcp: ")
	})
}

// curl runs curl, and returns the HTTP status and the body.
func curl(t *testing.T, args ...string) (code, body string) {
	t.Helper()
	tool := fixture.Tool(t, "curl", "apt-get install curl")
	file := filepath.Join(t.TempDir(), "body")
	out, err := exec.CommandContext(t.Context(), tool, append([]string{"-sS", "-o", file, "-w", "%{http_code} %header{ferrule-status}"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) { // where there is no body
		require.NoError(t, err)
	}
	return strings.TrimSpace(string(out)), string(text)
}

// TestServeHTTP: what curl sees of ferrule serve --http, over each way that it has.
func TestServeHTTP(t *testing.T) {
	t.Parallel()
	library, echo := shouts(t), fixture.C(t, "echo")
	post := []string{"-H", "Content-Type: application/octet-stream", "--data-binary"}
	t.Run("a port", func(t *testing.T) {
		t.Parallel()
		s := serving(t, nil, echo, "--http", "localhost:0", "--instances", "2", "--max-message", "1KiB")
		at := s.address()
		assert.Regexp(t, `^serving echo 1\.2\.3 at http://127\.0\.0\.1:[0-9]+\n$`, s.line)
		code, body := curl(t, append(post, "hello", at+"/fn/echo")...)
		assert.Equal(t, [2]string{"200", "hello"}, [2]string{code, body})
		code, body = curl(t, append(post, "why", at+"/fn/fail")...)
		assert.Equal(t, [2]string{"422 1", "why"}, [2]string{code, body})
		code, _ = curl(t, append(post, "", at+"/fn/none")...)
		assert.Equal(t, "404", code)
		code, body = curl(t, "--data-binary", "hello", at+"/fn/echo") // as a form has it
		assert.Equal(t, "415", code)
		assert.Contains(t, body, "expected application/octet-stream")
		code, _ = curl(t, append(post, strings.Repeat("x", 1025), at+"/fn/echo")...)
		assert.Equal(t, "413", code)
		code, _ = curl(t, "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/octet-stream", "--data-binary", strings.Repeat("x", 1025), at+"/fn/echo")
		assert.Equal(t, "413", code)
		code, _ = curl(t, "-H", "Host: evil.example", at+"/ferrule/manifest")
		assert.Equal(t, "421", code)
		code, body = curl(t, at+"/ferrule/manifest")
		assert.Equal(t, "200", code)
		assert.Contains(t, body, `"name":"echo"`)
		code, body = curl(t, at+"/ferrule/openapi.json")
		assert.Equal(t, "200", code)
		assert.Contains(t, body, `"/fn/echo"`)
		code, body = curl(t, at+"/ferrule/metrics")
		assert.Equal(t, "200", code)
		assert.Contains(t, body, "ferrule_calls_total{kind=\"fn\",function=\"echo\",status=\"0\"} 1\n")
		code, body = curl(t, at+"/ferrule/health")
		assert.Equal(t, [2]string{"200", "ok\n"}, [2]string{code, body})
		s.signal(syscall.SIGTERM)
		assert.Zero(t, s.wait(), s.stderr())
	})
	t.Run("a socket", func(t *testing.T) {
		t.Parallel()
		path := fixture.Socket(t)
		s := serving(t, nil, library, "--http", "unix:"+path, "--config", "loud", "--isolated")
		assert.Equal(t, "http+unix:"+path, s.address())
		code, body := curl(t, append(post, "", "--unix-socket", path, "http://localhost/fn/config")...)
		assert.Equal(t, [2]string{"200", "loud"}, [2]string{code, body})
		code, _ = curl(t, append(post, "", "--unix-socket", path, "http://localhost/fn/crashes")...)
		assert.Equal(t, "422 5", code)
		s.tellsOfACrash()
		code, body = curl(t, append(post, "", "--unix-socket", path, "http://localhost/fn/config")...) // in another worker
		assert.Equal(t, [2]string{"200", "loud"}, [2]string{code, body})
		p, err := loader.Open(s.address(), web.Server())
		require.NoError(t, err)
		assert.Equal(t, "loud", result(t, p, "config", ""))
		require.NoError(t, p.Close())
		s.signal(syscall.SIGINT)
		assert.Zero(t, s.wait(), s.stderr())
		gone(t, path)
	})
	t.Run("TLS and a token", func(t *testing.T) {
		t.Parallel()
		cert, key, pool := certificate(t)
		s := serving(t, []string{"FERRULE_TOKEN=sesame"}, "--json", fixture.WasmC(t, "echo"), "--http", "0.0.0.0:0", "--cert", cert, "--key", key)
		var is ready
		require.NoError(t, json.Unmarshal([]byte(s.line), &is), s.line)
		assert.True(t, is.TLS && is.Token)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(is.Address, "https://"))
		require.NoError(t, err)
		at := "https://localhost:" + port
		code, _ := curl(t, append(post, "hello", "--cacert", cert, at+"/fn/echo")...)
		assert.Equal(t, "401", code)
		code, body := curl(t, append(post, "hello", "--cacert", cert, "-H", "Authorization: Bearer sesame", at+"/fn/echo")...)
		assert.Equal(t, [2]string{"200", "hello"}, [2]string{code, body})
		p, err := loader.Open(at, web.Server(web.WithToken("sesame"), web.WithTLS(&tls.Config{RootCAs: pool})))
		require.NoError(t, err)
		assert.Equal(t, "hello", result(t, p, "echo", "hello"))
		require.NoError(t, p.Close())
		_, err = loader.Open(at, web.Server(web.WithToken("sesam"), web.WithTLS(&tls.Config{RootCAs: pool})))
		assert.ErrorContains(t, err, "token")
	})
	t.Run("an end while a call runs", func(t *testing.T) {
		t.Parallel()
		for fn, says := range map[string]string{"waits": "", "stuck": "a call has not ended in 10ms"} {
			s := serving(t, nil, library, "--http", "127.0.0.1:0", "--grace", "10ms")
			runs, code := filepath.Join(t.TempDir(), "runs"), make(chan int, 1)
			go func() {
				answer, err := http.Post(s.address()+"/fn/"+fn, "application/octet-stream", strings.NewReader(runs))
				if err != nil {
					code <- 0
					return
				}
				answer.Body.Close()
				code <- answer.StatusCode
			}()
			appears(t, runs)
			s.signal(syscall.SIGTERM)
			assert.Zero(t, s.wait())
			assert.Contains(t, s.stderr(), says)
			assert.Equal(t, map[string]int{"waits": 499, "stuck": 0}[fn], <-code)
		}
	})
}

// TestServeHTTPLoad: many clients at once get each its own answer, and nothing is counted twice or not at all; when it ends in the middle, what was answered is right.
// TestServeHTTPUnread: a client that does not read is not said to be a call that goes on.
func TestServeHTTPUnread(t *testing.T) {
	t.Parallel()
	s := serving(t, nil, fixture.C(t, "echo"), "--http", "127.0.0.1:0", "--grace", "10ms")
	c, err := net.Dial("tcp", strings.TrimPrefix(s.address(), "http://"))
	require.NoError(t, err)
	defer c.Close()
	const long = 64 << 20 // more than a connection has room for
	_, err = fmt.Fprintf(c, "POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", long, strings.Repeat("x", long))
	require.NoError(t, err)
	for metrics := ""; !strings.Contains(metrics, "ferrule_calls_total{kind=\"fn\",function=\"echo\",status=\"0\"} 1\n"); _, metrics = curl(t, s.address()+"/ferrule/metrics") {
		require.NoError(t, t.Context().Err())
	}
	s.signal(syscall.SIGTERM)
	assert.Zero(t, s.wait())
	assert.NotContains(t, s.stderr(), "a call has not ended")
}

func TestServeHTTPLoad(t *testing.T) {
	t.Parallel()
	s := serving(t, nil, fixture.C(t, "echo"), "--http", "127.0.0.1:0", "--instances", "4")
	const clients, each = 32, 100
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	call := func(in string) (string, error) {
		answer, err := client.Post(s.address()+"/fn/echo", "application/octet-stream", strings.NewReader(in))
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		out, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != 200 {
			err = errors.New(answer.Status)
		}
		return string(out), err
	}
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range each {
				in := strings.Repeat(fmt.Sprintf("%d of %d;", n, c), 1+n*c)
				out, err := call(in)
				if !assert.NoError(t, err) || !assert.True(t, in == out, "%d of %d", n, c) {
					return
				}
			}
		})
	}
	all.Wait()
	_, body := curl(t, s.address()+"/ferrule/metrics")
	assert.Contains(t, body, fmt.Sprintf("ferrule_calls_total{kind=\"fn\",function=\"echo\",status=\"0\"} %d\n", clients*each))
	assert.Contains(t, body, "ferrule_calls_in_flight{kind=\"fn\",function=\"echo\"} 0\n")

	under, first := make(chan struct{}), sync.Once{}
	for c := range clients {
		all.Go(func() {
			for n := 0; ; n++ {
				in := fmt.Sprintf("%d of %d", n, c)
				out, err := call(in)
				if err != nil {
					return // it has ended
				}
				assert.Equal(t, in, out)
				first.Do(func() { close(under) })
			}
		})
	}
	<-under
	s.signal(syscall.SIGTERM)
	assert.Zero(t, s.wait(), s.stderr())
	all.Wait()
	assert.Empty(t, s.stderr())
}

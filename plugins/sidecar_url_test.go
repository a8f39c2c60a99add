package plugins_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	serveweb "github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
	"github.com/ferrule-dev/ferrule/loader/sidecar/web"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// authority signs certificates for this machine.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string // its certificate, as PEM
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, path: filepath.Join(t.TempDir(), "ca.pem")}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, about, about, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// server is the TLS of a server at 127.0.0.1.
func (a *authority) server() *tls.Config {
	about := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, about, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// far is a plug-in that somebody else serves, at one address as long as the test goes on.
type far struct {
	t         testing.TB
	way       string // tcp, tls, unix, http, https or http+unix
	authority *authority
	network   string
	address   string
}

func newFar(t testing.TB, way string) *far {
	f := &far{t: t, way: way, authority: newAuthority(t), network: "tcp", address: "127.0.0.1:0"}
	if strings.HasSuffix(way, "unix") {
		dir, err := os.MkdirTemp("", "fs") // t.TempDir's path may be too long for a socket
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		f.network, f.address = "unix", filepath.Join(dir, "s")
	}
	return f
}

// serve has it served until end is called, or the test ends; its address is known from then on.
func (f *far) serve(p *builtin.Plugin, token string) (end func()) {
	f.t.Helper()
	l, err := net.Listen(f.network, f.address)
	require.NoError(f.t, err)
	f.address = l.Addr().String()
	if f.way == "tls" || f.way == "https" {
		l = tls.NewListener(l, f.authority.server())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	if strings.HasPrefix(f.way, "http") {
		h, err := serveweb.Open(serve.Go(p), serveweb.Options{Token: token, Logger: quiet()})
		require.NoError(f.t, err)
		go func() { done <- serveweb.Serve(ctx, l, h, time.Second) }()
	} else {
		go func() { done <- serve.Listen(ctx, l, serve.Go(p), serve.Options{Token: token, Grace: time.Second}) }()
	}
	end = sync.OnceFunc(func() {
		cancel()
		assert.NoError(f.t, <-done)
	})
	f.t.Cleanup(end)
	return end
}

func (f *far) url() string {
	switch f.way {
	case "tls":
		return "tcp:" + f.address
	case "http", "https":
		return f.way + "://" + f.address
	}
	return f.way + ":" + f.address
}

// entry is that of config.yaml, with more keys and the authority's certificate at ca, where it is spoken to by TLS.
func (f *far) entry(ca string, more ...string) string {
	keys := []string{"name: far", "url: '" + f.url() + "'"}
	if f.way == "tls" {
		keys = append(keys, "tls: true")
	}
	if (f.way == "tls" || f.way == "https") && ca != "" {
		keys = append(keys, "ca: '"+ca+"'")
	}
	return "plugins:\n  - {" + strings.Join(append(keys, more...), ", ") + "}\n"
}

// farPlugin says its version, and which of several it is.
func farPlugin(version, which string) *builtin.Plugin {
	says := func(text string) builtin.Func {
		return func(context.Context, []byte) ([]byte, error) { return []byte(text), nil }
	}
	return &builtin.Plugin{Name: "far", Version: version, Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "version", Call: says(version)}, {Name: "which", Call: says(which)}},
		Hooks: []builtin.Function{{Name: "asked", Call: says(which)}}}
}

// served answers with a manifest, whatever it is asked.
func served(t testing.TB, l net.Listener, manifest string) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, manifest) })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// overWays runs a test for each way to a plug-in that somebody else serves.
func overWays(t *testing.T, test func(t *testing.T, f *far)) {
	for _, way := range []string{"tcp", "tls", "unix", "http", "https", "http+unix"} {
		t.Run(way, func(t *testing.T) { test(t, newFar(t, way)) })
	}
}

// A plug-in that is served elsewhere is had with its token and by whom its certificate is signed, and not otherwise; it is called as others are, and at a point.
func TestSidecarURLs(t *testing.T) {
	overWays(t, func(t *testing.T, f *far) {
		f.serve(farPlugin("1.2.3", "x"), "s3cr3t")
		c := newConfigured(t)
		folder := filepath.Dir(c.path)
		require.NoError(t, os.WriteFile(filepath.Join(folder, "token"), []byte("s3cr3t\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "wrong"), []byte("s3cr3d\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "empty"), []byte("\n"), 0o600))
		c.write(f.entry(f.authority.path, "token-file: token", "version: ^1"))
		sys := c.new(plugins.Engines(web.Engine()))
		asked := plugins.First[[]byte, []byte](sys, "asked", plugins.Codec(bytesAsTheyAre{}))
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("far")
		require.NoError(t, p.Err)
		assert.Equal(t, f.url(), p.Source)
		assert.Equal(t, "1.2.3", p.Version)
		assert.Equal(t, "1.2.3", ask(t, sys, "far", "version", ""))
		out, _, err := asked.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "x", string(out))

		says := map[string]string{
			f.entry(f.authority.path): "", f.entry(f.authority.path, "token-file: wrong"): "", f.entry(f.authority.path, "token-file: gone"): "found no token-file that can be read",
			f.entry(f.authority.path, "token-file: empty"): "found nothing in ", f.entry(f.authority.path, "token-file: token", "version: ^2"): `found 1.2.3, expected "^2"`,
		}
		if f.way == "tls" || f.way == "https" {
			says[f.entry(newAuthority(t).path, "token-file: token")] = "certificate signed by unknown authority"
			says[f.entry("", "token-file: token")] = "certificate signed by unknown authority"
			says[f.entry("token", "token-file: token")] = "found no certificate in "
			says[f.entry("gone", "token-file: token")] = "found no ca that can be read"
			says[strings.NewReplacer("tls: true, ", "", ", ca: '"+f.authority.path+"'", "", ", tls: true", "", "https:", "http:").Replace(f.entry(f.authority.path, "token-file: token"))] = ""
		}
		for entry, says := range says {
			c.write(entry)
			other := c.new(plugins.Engines(web.Engine()))
			require.NoError(t, other.Start(t.Context()), entry)
			p, _ := other.Plugin("far")
			assert.Equal(t, plugins.StateFailed, p.State, entry)
			require.Error(t, p.Err, entry)
			assert.ErrorContains(t, p.Err, says, entry)
			assert.NotContains(t, p.Err.Error(), "s3cr3t", entry)
			assert.NoError(t, closed(other))
		}
	})
}

// One that goes fails the calls that it does not answer. It is called again when it is back, and is another version then where it says so.
func TestSidecarURLComesBack(t *testing.T) {
	overWays(t, func(t *testing.T, f *far) {
		end := f.serve(farPlugin("1.0.0", "x"), "s3cr3t")
		c := newConfigured(t)
		token := filepath.Join(filepath.Dir(c.path), "token")
		require.NoError(t, os.WriteFile(token, []byte("s3cr3t"), 0o600))
		c.write(f.entry(f.authority.path, "token-file: token"))
		events := make(news, 100_000)
		sys := c.new(events.option(), plugins.Engines(web.Engine()))
		require.NoError(t, sys.Start(t.Context()))
		which, err := sys.Func("far", "which")
		require.NoError(t, err)
		version, err := sys.Func("far", "version")
		require.NoError(t, err)
		says := func(f *plugins.Func, want string) {
			t.Helper()
			require.Eventually(t, func() bool { out, err := f.Call(t.Context(), nil); return err == nil && string(out) == want }, 60*time.Second, 5*time.Millisecond, want)
		}
		says(which, "x")
		end()
		_, err = which.Call(t.Context(), nil)
		require.Error(t, err)
		end = f.serve(farPlugin("1.0.0", "y"), "s3cr3t")
		says(which, "y")
		end()
		f.serve(farPlugin("2.0.0", "z"), "s3cr3t")
		says(version, "2.0.0")
		require.Eventually(t, func() bool { p, _ := sys.Plugin("far"); return p.Version == "2.0.0" }, 60*time.Second, 5*time.Millisecond)
		says(which, "z")
		p, _ := sys.Plugin("far")
		assert.NoError(t, p.Err)
	})
}

// A token that is replaced in its file, and an entry's url, token-file and certificates that are changed, have the plug-in reached so, without a lost call.
func TestSidecarURLReplaced(t *testing.T) {
	overWays(t, func(t *testing.T, f *far) {
		other, open := newFar(t, f.way), newFar(t, f.way) // open asks for no token
		open.serve(farPlugin("1.0.0", "third"), "")
		f.serve(farPlugin("1.0.0", "first"), "one")
		other.serve(farPlugin("1.0.0", "second"), "two")
		c := newConfigured(t)
		folder := filepath.Dir(c.path)
		write := func(name, text string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(folder, name+".new"), []byte(text), 0o600))
			require.NoError(t, os.Rename(filepath.Join(folder, name+".new"), filepath.Join(folder, name)))
		}
		write("token", "one")
		write("another", "two")
		c.write(f.entry(f.authority.path, "token-file: token"))
		events := make(news, 100_000)
		sys := c.new(plugins.Watch(), events.option(), plugins.Engines(web.Engine()))
		require.NoError(t, sys.Start(t.Context()))
		require.Equal(t, "first", ask(t, sys, "far", "which", ""))
		which, err := sys.Func("far", "which")
		require.NoError(t, err)
		done, seen := make(chan struct{}), map[string]int{}
		var callers sync.WaitGroup
		var mu sync.Mutex
		for range 4 {
			callers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					out, err := which.Call(t.Context(), nil)
					text := string(out)
					if err != nil {
						text = "!" + err.Error()
					}
					mu.Lock()
					seen[text]++
					mu.Unlock()
				}
			})
		}
		c.write(other.entry(other.authority.path, "token-file: another")) // all of them
		events.next(t, plugins.EventReplaced)
		require.NoError(t, events.next(t, plugins.EventConfig).Err)
		assert.Equal(t, "second", ask(t, sys, "far", "which", ""))
		c.write(other.entry(other.authority.path, "token-file: token")) // which has the first one's
		require.ErrorIs(t, events.next(t, plugins.EventConfig).Err, plugins.ErrUnreadable)
		assert.Equal(t, "second", ask(t, sys, "far", "which", ""), "what cannot be reached takes no place")
		write("token", "two") // so that the entry makes sense, and says what it did
		require.NoError(t, events.next(t, plugins.EventConfig).Err)
		write("token", "wrong")
		assert.ErrorIs(t, events.next(t, plugins.EventKept).Err, plugins.ErrUnreadable)
		assert.Equal(t, "second", ask(t, sys, "far", "which", ""))
		if f.way == "tls" || f.way == "https" {
			write("token", "two")
			c.write(other.entry(f.authority.path, "token-file: token"))
			require.ErrorContains(t, events.next(t, plugins.EventConfig).Err, "certificate signed by unknown authority")
			assert.Equal(t, "second", ask(t, sys, "far", "which", ""))
		}
		c.write(open.entry(open.authority.path, "token-file: token"))
		events.next(t, plugins.EventReplaced)
		require.NoError(t, events.next(t, plugins.EventConfig).Err)
		write("token", "anything")
		events.next(t, plugins.EventReplaced)
		assert.Equal(t, "third", ask(t, sys, "far", "which", ""))
		close(done)
		callers.Wait()
		delete(seen, "first")
		delete(seen, "second")
		delete(seen, "third")
		assert.Empty(t, seen)
	})
}

// What an HTTP server cannot be is said in words: without an engine, and with what HTTP has no way for.
func TestSidecarHTTPRefused(t *testing.T) {
	f := newFar(t, "http")
	f.serve(farPlugin("1.0.0", "x"), "")
	c := newConfigured(t)
	c.write(f.entry(""))
	sys := c.new()
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("far")
	assert.ErrorIs(t, p.Err, plugins.ErrEngine)
	assert.ErrorIs(t, p.Err, loader.ErrNoEngine)
	assert.ErrorContains(t, p.Err, "plugins.Engines(web.Engine())")
	over, err := plugins.Survey(t.Context(), plugins.Config(c.path))
	require.NoError(t, err)
	assert.Equal(t, plugins.StateReady, over.Plugins[0].State, "the application may have one")
	assert.ErrorIs(t, over.Plugins[0].Err, loader.ErrNoEngine)
	over, err = plugins.Survey(t.Context(), plugins.Config(c.path), plugins.Engines(web.Engine()))
	require.NoError(t, err)
	assert.NoError(t, over.Plugins[0].Err)

	manifest := `{"name":"far","version":"1.0.0","functions":{"f":{}},"imports":{"points":{}}}`
	for _, handler := range []struct{ manifest, says string }{{manifest, "found a plug-in with imports, expected one without: HTTP has no way back to the host"},
		{strings.Replace(manifest, `"imports":{"points":{}}`, `"services":["start","configure"]`, 1), "found a plug-in with the service start and the service configure"},
		{strings.Replace(manifest, `,"imports":{"points":{}}`, `,"keys":{"permit.connect":"443"}`, 1), "a manifest that asks for connect 443"},
		{strings.Replace(strings.Replace(manifest, "far", "near", 1), `,"imports":{"points":{}}`, ``, 1), "found the plug-in near, expected far"}} {
		other := newFar(t, "http")
		l, err := net.Listen("tcp", other.address)
		require.NoError(t, err)
		other.address = l.Addr().String()
		served(t, l, handler.manifest)
		c.write(other.entry(""))
		sys := c.new(plugins.Engines(web.Engine()))
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("far")
		assert.Equal(t, plugins.StateFailed, p.State)
		require.Error(t, p.Err, handler.manifest)
		assert.ErrorContains(t, p.Err, handler.says)
	}
	assert.True(t, config.IsHTTP(f.url()))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(c.path), "token"), []byte("a b"), 0o600))
	c.write(f.entry("", "token-file: token"))
	sys = c.new(plugins.Engines(web.Engine()))
	require.NoError(t, sys.Start(t.Context()))
	p, _ = sys.Plugin("far")
	assert.ErrorIs(t, p.Err, plugins.ErrSettings)
	assert.ErrorContains(t, p.Err, "a token that cannot be sent")
}

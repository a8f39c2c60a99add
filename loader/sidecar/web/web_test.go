package web_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/sidecar/web"
)

const manifest = `{"name":"web","version":"1","threads":"concurrent","functions":{"echo":{},"fail":{},"slow":{},"cut":{},"broken":{},"away":{},"full":{},"gone":{},"moved":{},"odd":{},"endless":{}},"hooks":{"echo":{}}}`

// handler is a server by hand.
func handler(manifest string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ferrule/manifest", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, manifest) })
	mux.HandleFunc("POST /hook/echo", func(w http.ResponseWriter, r *http.Request) {
		in, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "hook %s %s", in, r.Header.Get("Content-Type"))
	})
	mux.HandleFunc("POST /fn/{name}", func(w http.ResponseWriter, r *http.Request) {
		in, _ := io.ReadAll(r.Body)
		switch r.PathValue("name") {
		case "echo":
			_, _ = w.Write(in)
		case "fail":
			w.Header().Set("Ferrule-Status", "1000")
			w.WriteHeader(422)
			_, _ = w.Write(in)
		case "odd":
			w.Header().Set("Ferrule-Status", "none")
			w.WriteHeader(422)
		case "slow":
			<-r.Context().Done()
		case "cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(in)
		case "endless":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"+string(in))
				_ = conn.Close()
			}
		case "broken":
			http.Error(w, "out of luck", 500)
		case "away":
			w.WriteHeader(404)
		case "full":
			w.WriteHeader(503)
		case "gone":
			panic(http.ErrAbortHandler)
		case "moved":
			http.Redirect(w, r, "http://example.com/", http.StatusTemporaryRedirect)
		}
	})
	return mux
}

func TestCalls(t *testing.T) {
	server := httptest.NewServer(handler(manifest))
	defer server.Close()
	p, err := loader.Open(server.URL, web.Server(web.WithMaxMessage(1<<20)))
	require.NoError(t, err)
	defer p.Close()
	ctx := context.Background()
	for _, in := range []string{"", "hello", strings.Repeat("x", 1<<20)} {
		out, err := p.Call(ctx, "echo", []byte(in))
		require.NoError(t, err)
		assert.Equal(t, in, string(out))
	}
	hook, err := p.Hook("echo")
	require.NoError(t, err)
	out, err := hook.Call(ctx, []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "hook x application/octet-stream", string(out))

	var called *loader.CallError
	_, err = p.Call(ctx, "fail", []byte("why"))
	require.ErrorAs(t, err, &called)
	assert.Equal(t, loader.Status(1000), called.Status)
	assert.Equal(t, "why", called.Message)
	_, err = p.Call(ctx, "away", nil)
	assert.ErrorIs(t, err, loader.ErrUnsupported)
	_, err = p.Call(ctx, "full", nil)
	assert.ErrorIs(t, err, loader.ErrNoMemory)
	_, err = p.Call(ctx, "echo", make([]byte, 1<<20+1))
	assert.ErrorIs(t, err, loader.ErrNoMemory)

	for name, words := range map[string]string{"cut": "unexpected EOF", "endless": "giving an answer that does not say how long it is", "broken": "answering with the HTTP status 500 Internal Server Error: out of luck", "gone": "EOF",
		"moved": "answering with the HTTP status 307", "odd": "answering with the HTTP status 422"} {
		var crash *loader.CrashError
		_, err = p.Call(ctx, name, []byte("abc"))
		require.ErrorAs(t, err, &crash, name)
		assert.Contains(t, err.Error(), "the server at "+server.URL+" was ", name)
		assert.Contains(t, err.Error(), words, name)
	}

	early, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = p.Call(early, "slow", nil)
	assert.ErrorIs(t, err, loader.ErrCancelled)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	out, err = p.Call(ctx, "echo", []byte("again"))
	require.NoError(t, err)
	assert.Equal(t, "again", string(out))
}

// What cannot be had by HTTP is refused when it is opened.
func TestRefused(t *testing.T) {
	for text, words := range map[string]string{
		`{"name":"a","version":"1","imports":{"x":{}}}`:                                "a plug-in with imports",
		`{"name":"a","version":"1","services":["start","stop"]}`:                       "a plug-in with the service start and the service stop",
		`{"name":"a","version":"1","keys":{"state":"s"},"services":["save","resume"]}`: "a plug-in with the services save and resume",
		`{`:                              "a manifest that breaks the wire",
		strings.Repeat(" ", 1<<20) + "x": "a manifest of more than 1 MiB",
	} {
		server := httptest.NewServer(handler(text))
		_, err := loader.Open(server.URL, web.Server())
		var open *loader.OpenError
		require.ErrorAs(t, err, &open, text[:min(len(text), 40)])
		assert.Contains(t, err.Error(), words)
		server.Close()
	}
	for _, url := range []string{"http:", "http://", "https://a:1/?q", "http://user:secret@a:1", "http+unix:"} {
		_, err := loader.Open(url, web.Server())
		assert.ErrorIs(t, err, loader.ErrOption, url)
		assert.NotContains(t, strings.ReplaceAll(fmt.Sprint(err), url, ""), "secret")
	}
	server := httptest.NewServer(handler(manifest))
	server.Close()
	_, err := loader.Open(server.URL, web.Server())
	assert.ErrorIs(t, err, loader.ErrRead)
	server = httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err = loader.Open(server.URL, web.Server())
	assert.ErrorContains(t, err, "the HTTP status 404 Not Found")
	for _, opts := range [][]web.Option{{nil}, {web.WithToken("")}, {web.WithToken("a b")}, {web.WithTLS(nil)}, {web.WithMaxMessage(0)}, {web.WithStartTimeout(0)}, {web.WithToken("a"), web.WithToken("a")}} {
		_, err := loader.Open(server.URL, web.Server(opts...))
		assert.ErrorIs(t, err, loader.ErrOption)
	}
	_, err = loader.Open(server.URL, web.Server(), loader.WithSHA256(strings.Repeat("ab", 32)))
	assert.ErrorIs(t, err, loader.ErrOption)
}

// A token, TLS by an authority of one's own, and a Unix socket.
func TestWays(t *testing.T) {
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler(manifest).ServeHTTP(w, r)
	})
	plain := httptest.NewServer(guarded)
	defer plain.Close()
	secure := httptest.NewTLSServer(guarded)
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	dir, err := os.MkdirTemp("", "fs") // t.TempDir's path may be too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	local := &http.Server{Handler: guarded}
	go func() { _ = local.Serve(l) }()
	defer local.Close()

	for url, opts := range map[string][]web.Option{plain.URL: nil, secure.URL: {web.WithTLS(&tls.Config{RootCAs: roots})}, "http+unix:" + socket: nil} {
		_, err := loader.Open(url, web.Server(opts...))
		assert.ErrorContains(t, err, "refuses the token, or asks for one", url)
		p, err := loader.Open(url, web.Server(append(opts, web.WithToken("secret"))...))
		require.NoError(t, err, url)
		out, err := p.Call(context.Background(), "echo", []byte("hello"))
		require.NoError(t, err, url)
		assert.Equal(t, "hello", string(out))
		require.NoError(t, p.Close())
	}
	_, err = loader.Open(secure.URL, web.Server(web.WithToken("secret")))
	var unknown *tls.CertificateVerificationError
	assert.True(t, errors.As(err, &unknown), "%v", err)
}

// A server that was replaced is known by its manifest, also where no call has failed in between, and is called again when it is what it was. One that is gone fails its calls.
func TestAnother(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	serve := func(l net.Listener, h http.Handler) *http.Server {
		server := &http.Server{Handler: h}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
		return server
	}
	again := func(h http.Handler) *http.Server {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		return serve(l, h)
	}
	server := serve(l, handler(manifest))
	p, err := loader.Open("http://"+address, web.Server())
	require.NoError(t, err)
	defer p.Close()
	echo := func() error {
		out, err := p.Call(context.Background(), "echo", []byte("x"))
		if err == nil {
			assert.Equal(t, "x", string(out))
		}
		return err
	}
	require.NoError(t, echo())
	require.NoError(t, server.Close())
	var crash *loader.CrashError
	for range 3 {
		require.ErrorAs(t, echo(), &crash)
	}
	server = again(handler(manifest))
	for range 3 {
		require.NoError(t, echo())
	}
	for _, other := range []struct {
		handler http.Handler
		kind    error
		says    string
	}{
		{handler(strings.Replace(manifest, `"1"`, `"2"`, 1)), loader.ErrLoad, "a server that says something else of itself than when it was opened"},
		{handler("{"), loader.ErrMalformed, "a manifest that breaks the wire"},
		{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), loader.ErrCrash, "asked what it is, with a server that refuses the token"},
	} {
		require.NoError(t, server.Close())
		server = again(other.handler)
		// The connections that were closed may not be known to be: one call may still get an error of theirs, or an answer.
		var err error
		for range 100 {
			if err = echo(); errors.Is(err, other.kind) && strings.Contains(err.Error(), other.says) {
				break
			}
		}
		require.ErrorIs(t, err, other.kind)
		assert.ErrorContains(t, err, other.says)
		require.ErrorContains(t, echo(), other.says, "it stays so")
	}
	require.NoError(t, server.Close())
	again(handler(manifest))
	require.Eventually(t, func() bool { return echo() == nil }, 60*time.Second, time.Millisecond)
}

// An engine is made one for another token, and for other authorities.
func TestReach(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler(manifest).ServeHTTP(w, r)
	}))
	defer secure.Close()
	e := web.Engine(web.WithMaxMessage(3)).(engine.Reaching)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	own, err := e.Reach(engine.Access{Token: "secret", CA: ca})
	require.NoError(t, err)
	p, err := loader.Open(secure.URL, loader.WithEngine(own))
	require.NoError(t, err)
	out, err := p.Call(context.Background(), "echo", []byte("abc"))
	require.NoError(t, err)
	assert.Equal(t, "abc", string(out))
	_, err = p.Call(context.Background(), "echo", []byte("abcd"))
	assert.ErrorIs(t, err, loader.ErrNoMemory, "its other options are as they were")
	require.NoError(t, p.Close())
	_, err = loader.Open(secure.URL, loader.WithEngine(e))
	assert.ErrorContains(t, err, "found a certificate that does not count: x509: ", "it is as it was")
	for _, a := range []engine.Access{{Token: "a b"}, {CA: []byte("none")}} {
		_, err = e.Reach(a)
		assert.ErrorIs(t, err, loader.ErrOption)
	}
}

// speaks answers each request to a function with text, over a connection that is left open or, where it says so, closed then.
func speaks(t *testing.T, text string) *httptest.Server {
	stays := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, manifest)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		conn, out, err := w.(http.Hijacker).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = out.WriteString(text)
		_ = out.Flush()
		if !strings.HasPrefix(text, "HTTP/1.0") {
			<-stays
		}
	}))
	t.Cleanup(func() {
		close(stays)
		server.Close()
	})
	return server
}

// An answer that has no end of its own, or is packed, is none: a context ends no connection that was switched to something else, and what breaks off
// would be taken for the whole.
func TestAnswersThatHaveNoEnd(t *testing.T) {
	for text, words := range map[string]string{
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n":      "answering with the HTTP status 101 Switching Protocols",
		"HTTP/1.0 200 OK\r\n\r\nhalf an answ":                                                "giving an answer that does not say how long it is",
		"HTTP/1.0 422 No\r\nFerrule-Status: 1\r\n\r\nhalf a mess":                            "giving an answer that does not say how long it is",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08": `with Content-Encoding: "gzip", expected a body as it is`,
	} {
		p, err := loader.Open(speaks(t, text).URL, web.Server())
		require.NoError(t, err)
		_, err = p.Call(t.Context(), "echo", nil)
		var crash *loader.CrashError
		require.ErrorAs(t, err, &crash, text)
		assert.ErrorContains(t, err, words)
		require.NoError(t, p.Close())
	}
	for text, out := range map[string]string{
		"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold":                                                          "old",
		"HTTP/1.1 200 OK\r\nContent-Encoding: Identity\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnew\r\n0\r\n\r\n": "new",
	} {
		p, err := loader.Open(speaks(t, text).URL, web.Server())
		require.NoError(t, err)
		got, err := p.Call(t.Context(), "echo", nil)
		require.NoError(t, err, text)
		assert.Equal(t, out, string(got))
		require.NoError(t, p.Close())
	}
}

// The manifest is an answer as well.
func TestManifestThatHasNoEnd(t *testing.T) {
	for coding, words := range map[string]string{"gzip": "a manifest with Content-Encoding", "identity": "more than 1 MiB"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
			w.Header().Set("Content-Encoding", coding)
			_, _ = w.Write(make([]byte, 1<<20+1))
		}))
		_, err := loader.Open(server.URL, web.Server())
		assert.ErrorContains(t, err, words)
		server.Close()
	}
}

// Statuses that are kept for later versions are failures (rule W8).
func TestReservedStatuses(t *testing.T) {
	for said, fails := range map[string]bool{"1": true, "7": false, "8": true, "9": false, "10": true, "99": true, "999": true, "1000": false} {
		p, err := loader.Open(speaks(t, "HTTP/1.1 422 No\r\nFerrule-Status: "+said+"\r\nContent-Length: 3\r\n\r\nwhy").URL, web.Server())
		require.NoError(t, err)
		_, err = p.Call(t.Context(), "echo", nil)
		var failed *loader.CallError
		if assert.ErrorAs(t, err, &failed, said) {
			assert.Equal(t, said, strconv.Itoa(int(failed.Status)))
			assert.Equal(t, fails, errors.Is(err, loader.ErrFailed), said)
		}
		require.NoError(t, p.Close())
	}
}

// What is said where a server is not reached is so.
func TestNotReached(t *testing.T) {
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 11<<20))
	}))
	defer long.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for url, words := range map[string]string{
		long.URL: "found something that is no answer by HTTP",
		"https:" + strings.TrimPrefix(long.URL, "http:"): "found something that is no answer by HTTP",
		gone.URL: "found no server that answers",
		"http+unix:" + filepath.Join(t.TempDir(), strings.Repeat("x", 200)): "found an address that nothing can have",
		"http+unix:" + filepath.Join(t.TempDir(), "none"):                   "found no server that answers",
	} {
		_, err := loader.Open(url, web.Server())
		assert.ErrorContains(t, err, words, url)
	}
}

// The call's place in a trace goes with it, where it can be a header.
func TestTraceParent(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ferrule/manifest", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"name":"traced","version":"1","functions":{"f":{}}}`)
	})
	mux.HandleFunc("POST /fn/f", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q", r.Header.Values("Traceparent"))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	p, err := loader.Open(server.URL, web.Server())
	require.NoError(t, err)
	defer p.Close()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for given, sent := range map[string]string{parent: `["` + parent + `"]`, "": "[]", "two\nlines": "[]"} {
		ctx := t.Context()
		if given != "" {
			ctx = loader.WithInfo(ctx, loader.TraceParent, given)
		}
		out, err := p.Call(ctx, "f", nil)
		require.NoError(t, err)
		assert.Equal(t, sent, string(out))
	}
}

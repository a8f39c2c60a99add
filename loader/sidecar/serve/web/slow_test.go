package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
)

// long is more than the buffers of a connection have room for.
const long = 64 << 20

// much has a function whose output is long, and says in ran that it was called.
func much(ran chan<- struct{}) serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "much", Version: "1", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "much", Call: func(context.Context, []byte) ([]byte, error) {
			ran <- struct{}{}
			return make([]byte, long), nil
		}},
		{Name: "echo", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}}})
}

// talks is a client that does everything by hand.
func talks(t *testing.T, at, head string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n", head, bytes)
	require.NoError(t, err)
	return c
}

// begins begins a body, of which nothing comes until the server wants it.
func begins(t *testing.T, at string) net.Conn {
	t.Helper()
	c := talks(t, at, "POST /fn/echo")
	_, err := io.WriteString(c, "Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n")
	require.NoError(t, err)
	line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
	return c
}

// TestSlowClientsHoldNoPlace: who does not send, or does not read, keeps nobody else from calling.
func TestSlowClientsHoldNoPlace(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 1)
	at := serving(t, opened(t, much(ran), web.Options{Calls: 1}))
	begins(t, at)
	assert.Equal(t, 200, ask(t, "POST", at+"/fn/echo", "beside a body that does not come").code)
	c := talks(t, at, "POST /fn/much")
	_, err := io.WriteString(c, "Content-Length: 0\r\n\r\n")
	require.NoError(t, err)
	<-ran
	for ask(t, "POST", at+"/fn/echo", "beside an answer that is not read").code != 200 { // its call may not have ended yet
		require.NoError(t, t.Context().Err())
	}
}

// TestSlowClientsAreGivenUp: a body goes on piece by piece, in both directions, or ends. A byte now and then is no piece.
func TestSlowClientsAreGivenUp(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 1)
	h := opened(t, much(ran), web.Options{})
	h.SetPatience(20 * time.Millisecond)
	server := httptest.NewUnstartedServer(h)
	closed := make(chan struct{}, 8)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()

	drips := begins(t, server.URL)
	go func() {
		for {
			if _, err := drips.Write([]byte{'x'}); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	<-closed

	_, err := io.WriteString(talks(t, server.URL, "POST /fn/echo"), "Content-Length: 1\r\n\r\n") // and not that byte
	require.NoError(t, err)
	<-closed

	c := talks(t, server.URL, "POST /fn/much")
	_, err = io.WriteString(c, "Content-Length: 0\r\n\r\n")
	require.NoError(t, err)
	<-ran
	<-closed
	all, _ := io.ReadAll(c)
	assert.Less(t, len(all), long)

	// Who reads has all of it, and the next answer over the same connection as well.
	h = opened(t, much(ran), web.Options{})
	at := serving(t, h)
	assert.Len(t, ask(t, "POST", at+"/fn/much", "").body, long)
	assert.Equal(t, "again", ask(t, "POST", at+"/fn/echo", "again").body)
}

// TestPackedInput: an input is as it is.
func TestPackedInput(t *testing.T) {
	t.Parallel()
	at := serving(t, opened(t, much(nil), web.Options{}))
	got := ask(t, "POST", at+"/fn/echo", "\x1f\x8b\x08", "Content-Encoding", "gzip")
	assert.Equal(t, 415, got.code)
	assert.Contains(t, got.body, `found Content-Encoding: "gzip", expected an input as it is`)
	assert.Equal(t, 200, ask(t, "POST", at+"/fn/echo", "x", "Content-Encoding", "identity").code)
}

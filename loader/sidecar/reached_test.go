package sidecar_test

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// A sidecar that listens need not say why it closes a connection: the error says what may be why, of what the host knows.
func TestTurnedAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<10))
			c.Close()
		}
	}()
	url := "tcp:" + l.Addr().String()
	for name, c := range map[string]struct {
		opts     []sidecar.Option
		has, not string
	}{
		"no token":        {nil, "It may be that it asks for a token (sidecar.WithToken), that it speaks TLS (sidecar.WithTLS), ", "wrong"},
		"a token":         {[]sidecar.Option{sidecar.WithToken("x")}, "It may be that the token is wrong (sidecar.WithToken), ", "asks for"},
		"TLS to what has": {[]sidecar.Option{sidecar.WithTLS(&tls.Config{})}, "a sidecar with which TLS cannot be spoken", "that answers"},
	} {
		_, err := loader.Open(url, sidecar.Program(c.opts...))
		assert.ErrorContains(t, err, c.has, name)
		assert.NotContains(t, err.Error(), c.not, name)
	}
}

// What speaks TLS answers a hello in the clear with a record of its own, which is none of the wire's messages.
func TestInTheClear(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	secure.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", secure.TLS)
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	_, err = loader.Open("tcp:"+l.Addr().String(), sidecar.Program())
	assert.ErrorContains(t, err, "It may be that it asks for a token (sidecar.WithToken), that it speaks TLS (sidecar.WithTLS), ")
}

// What is said where a sidecar is not reached is so.
func TestNotReached(t *testing.T) {
	for url, words := range map[string]string{
		"unix:" + filepath.Join(t.TempDir(), "none"):                   "found no sidecar that answers",
		"unix:" + filepath.Join(t.TempDir(), strings.Repeat("x", 200)): "found an address that nothing can have",
	} {
		_, err := loader.Open(url, sidecar.Program())
		assert.ErrorIs(t, err, loader.ErrRead)
		assert.ErrorContains(t, err, words, url)
	}
}

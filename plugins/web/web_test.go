package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
	"github.com/ferrule-dev/ferrule/plugins/web"
)

// answered asks a handler without a network.
func answered(h http.Handler, method, path string) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

// TestHandler: there are four paths, which can be read and no more, each with what keeps a browser from doing other things with it.
func TestHandler(t *testing.T) {
	sys := plugins.New("shop", "1.4.0", plugins.Builtin(welcome), plugins.Counting())
	t.Cleanup(func() { assert.NoError(t, sys.Close()) })
	require.NoError(t, sys.Start(t.Context()))
	h := web.Handler(sys)
	all := ""
	for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
		"/stats.json": "application/json"} {
		r := answered(h, http.MethodGet, path)
		assert.Equal(t, http.StatusOK, r.StatusCode, path)
		assert.Equal(t, kind, r.Header.Get("Content-Type"))
		for _, header := range []string{"nosniff", "no-store", "same-origin", "no-referrer"} {
			assert.Contains(t, fmt.Sprint(r.Header), header, path)
		}
		csp := r.Header.Get("Content-Security-Policy")
		assert.True(t, strings.HasPrefix(csp, "default-src 'none'; "), csp)
		assert.NotContains(t, csp, "unsafe")
		assert.NotContains(t, csp, "http")
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		assert.NotEmpty(t, text)
		if path != "/stats.json" {
			all += string(text)
		} else {
			var seen monitor.Snapshot
			require.NoError(t, json.Unmarshal(text, &seen))
			assert.Equal(t, []any{"shop", true, "welcome"}, []any{seen.App, seen.Counting, seen.Plugins[0].Name})
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
			r := answered(h, method, path)
			assert.Equal(t, http.StatusMethodNotAllowed, r.StatusCode, method)
			assert.Equal(t, "GET, HEAD", r.Header.Get("Allow"))
		}
	}
	assert.Empty(t, regexp.MustCompile(`https?:|//[a-z]|url\(|@import|innerHTML|style=|onclick`).FindAllString(all, -1), "nothing is from elsewhere, and no text becomes HTML")
	for _, path := range []string{"/page.html", "/web.go", "/../web.go", "/page.js/", "//", "/stats"} {
		assert.Equal(t, http.StatusNotFound, answered(h, http.MethodGet, path).StatusCode, path)
	}
}

// TestHandlerOfNil: what cannot be served is said to whoever asks, and ends no program.
func TestHandlerOfNil(t *testing.T) {
	sys := plugins.New("shop", "1.4.0")
	for want, h := range map[string]http.Handler{
		"web.Handler: found nil, expected a system\n":                                                     web.Handler(nil),
		"web.Handler: found nil for an option, expected one that is made by a function of this package\n": web.Handler(sys, web.Host("a"), nil, web.Host("b")),
	} {
		for _, path := range []string{"/", "/stats.json"} {
			r := answered(h, http.MethodGet, path)
			assert.Equal(t, http.StatusInternalServerError, r.StatusCode)
			text, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			assert.Equal(t, want, string(text))
		}
	}
}

// TestNames: on a loopback address only who asks for a name of that address gets an answer.
func TestNames(t *testing.T) {
	sys := plugins.New("shop", "1.4.0")
	server := httptest.NewServer(web.Handler(sys, web.Host("Admin.example"), web.Host("dotted.example."), web.Host("192.0.2.7"), web.Host("[2001:DB8:0::7]"), web.Host("ported.example:8443")))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for name, want := range map[string]int{
		"admin.example.": http.StatusOK, "dotted.example": http.StatusOK, "DOTTED.example.:" + port: http.StatusOK, "192.0.2.7": http.StatusOK, "192.0.2.7:443": http.StatusOK,
		"[2001:db8::7]": http.StatusOK, "[2001:db8:0:0::7]:443": http.StatusOK, "ported.example": http.StatusOK, "[2001:db8::8]": http.StatusMisdirectedRequest,
		"localhost": http.StatusOK, "LOCALHOST:" + port: http.StatusOK, "shop.localhost": http.StatusOK, "127.0.0.1:" + port: http.StatusOK, "127.1.2.3": http.StatusOK,
		"[::1]:" + port: http.StatusOK, "[::1]": http.StatusOK, "admin.example": http.StatusOK, "admin.example:443": http.StatusOK, "localhost.": http.StatusOK,
		"rebound.example": http.StatusMisdirectedRequest, "rebound.example:" + port: http.StatusMisdirectedRequest, "localhost.example": http.StatusMisdirectedRequest,
		"192.0.2.1": http.StatusMisdirectedRequest, "notlocalhost": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/", "/stats.json"} {
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, name)
			require.NoError(t, err)
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err, name)
			text, _ := io.ReadAll(answer.Body)
			assert.Equal(t, want, answer.StatusCode, "%q", name)
			assert.Equal(t, want == http.StatusOK, strings.Contains(strings.ToLower(string(text)), "plugins") || strings.Contains(string(text), "<title>"), name)
			_ = c.Close()
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil) // by a server that does not say at which address: a unix socket, or another one than net/http
	r.Host = "anything.example"
	w := httptest.NewRecorder()
	web.Handler(sys).ServeHTTP(w, r)
	assert.Equal(t, http.StatusOK, w.Code)
}

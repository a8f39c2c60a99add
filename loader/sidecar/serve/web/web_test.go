package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
	host "github.com/ferrule-dev/ferrule/loader/sidecar/web"
)

const bytes = "application/octet-stream"

// plugin is a plug-in of Go functions. One that waits says so in began, and says how it has ended in over.
func plugin(began chan<- struct{}, over chan<- error) *builtin.Plugin {
	return &builtin.Plugin{Name: "words", Version: `1.0 "new"`, Description: "Knows words", Threads: abi.Concurrent, Keys: map[string]string{"license": "MIT"},
		Funcs: []builtin.Function{
			{Name: "shout", Doc: "Makes it loud.\n\nAll of it.", In: "application/json", Out: "text/html", Keys: map[string]string{
				"in-schema":  `{"type":"object","properties":{"text":{"$ref":"#/$defs/text"}},"$defs":{"text":{"type":"string"}}}`,
				"out-schema": `{"type":"string"}`, "deprecated": "use cry"},
				Call: func(_ context.Context, in []byte) ([]byte, error) { return []byte(strings.ToUpper(string(in))), nil }},
			{Name: "fails", Call: func(_ context.Context, in []byte) ([]byte, error) {
				n, err := strconv.Atoi(string(in))
				if err != nil {
					return nil, fmt.Errorf("no number: %w", loader.ErrInvalid)
				}
				return nil, fmt.Errorf("as it was asked to: %w", loader.Status(n))
			}},
			{Name: "waits", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				began <- struct{}{}
				<-ctx.Done()
				over <- ctx.Err()
				return nil, ctx.Err()
			}},
			{Name: "streams", Stream: abi.StreamIn, Call: func(ctx context.Context, _ []byte) ([]byte, error) { return io.ReadAll(builtin.Input(ctx)) }},
			{Name: "lines", Schema: "no JSON", Stream: abi.StreamBoth, Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
		},
		Hooks: []builtin.Function{{Name: "shout", Call: func(_ context.Context, in []byte) ([]byte, error) { return append(in, '!'), nil }}}}
}

func opened(t *testing.T, p serve.Plugin, o web.Options, opts ...loader.Option) *web.Handler {
	t.Helper()
	h, err := web.Open(p, o, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func serving(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// asked is one request's answer.
type asked struct {
	code int
	head http.Header
	body string
}

func ask(t *testing.T, method, url, body string, head ...string) asked {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", bytes)
	}
	for i := 0; i < len(head); i += 2 {
		if head[i] == "Host" {
			r.Host = head[i+1]
		}
		r.Header.Set(head[i], head[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return asked{answer.StatusCode, answer.Header, string(text)}
}

// TestCalls: each kind of request has the answer that rule W18 says.
func TestCalls(t *testing.T) {
	t.Parallel()
	h := opened(t, serve.Go(plugin(nil, nil)), web.Options{MaxBody: 100})
	at := serving(t, h)
	for name, c := range map[string]struct {
		method, path, in string
		head             []string
		code             int
		status, kind     string
		out              string
	}{
		"a function":         {"POST", "/fn/shout", "hi", nil, 200, "", "text/html", "HI"},
		"no input":           {"POST", "/fn/shout", "", nil, 200, "", "text/html", ""},
		"its own type":       {"POST", "/fn/shout", "{}", []string{"Content-Type", "application/json; charset=utf-8"}, 200, "", "text/html", "{}"},
		"a hook":             {"POST", "/hook/shout", "hi", nil, 200, "", bytes, "hi!"},
		"a status":           {"POST", "/fn/fails", "x", nil, 422, "2", "text/plain; charset=utf-8", "no number"},
		"the plug-in's own":  {"POST", "/fn/fails", "1000", nil, 422, "1000", "text/plain; charset=utf-8", "as it was asked to"},
		"without its stream": {"POST", "/fn/streams", "x", nil, 422, "3", "text/plain; charset=utf-8", "the input stream. The function works on streams, which are not to be had by HTTP: have the plug-in served over a stream, such as a socket"},
		"one that can":       {"POST", "/fn/lines", "x", nil, 200, "", bytes, "x"},
		"a pass":             {"POST", "/fn/fails", "9", nil, 422, "9", "text/plain; charset=utf-8", "as it was asked to"},
		"cancelled":          {"POST", "/fn/fails", "4", nil, 499, "", "text/plain; charset=utf-8", "as it was asked to"},
		"no function":        {"POST", "/fn/shoot", "", nil, 404, "", "text/plain; charset=utf-8", "it has no such function: it has fails, lines, shout, streams, waits\n"},
		"no hook":            {"POST", "/hook/fails", "", nil, 404, "", "text/plain; charset=utf-8", "it has no such hook: it has shout\n"},
		"another path":       {"GET", "/", "", nil, 404, "", "text/plain; charset=utf-8", "found another path, expected /fn/NAME, /hook/NAME, or /ferrule/ with manifest, openapi.json, metrics or health\n"},
		"another method":     {"GET", "/fn/shout", "", nil, 405, "", "text/plain; charset=utf-8", "found GET, expected POST with the input as the body\n"},
		"a method that asks": {"DELETE", "/ferrule/manifest", "", nil, 405, "", "text/plain; charset=utf-8", "found DELETE, expected GET\n"},
		"another type":       {"POST", "/fn/shout", "hi", []string{"Content-Type", "text/plain"}, 415, "", "text/plain; charset=utf-8", "found the Content-Type \"text/plain\", expected application/octet-stream or application/json\n"},
		"another's type":     {"POST", "/fn/fails", "hi", []string{"Content-Type", "application/json"}, 415, "", "text/plain; charset=utf-8", "found the Content-Type \"application/json\", expected application/octet-stream\n"},
		"too long":           {"POST", "/fn/shout", strings.Repeat("x", 101), nil, 413, "", "text/plain; charset=utf-8", "found an input that is too long, expected 100 bytes at most\n"},
		"no time":            {"POST", "/fn/shout", "", []string{"Ferrule-Timeout", "soon"}, 400, "", "text/plain; charset=utf-8", "found a Ferrule-Timeout that is no number, expected milliseconds\n"},
		"time for ever":      {"POST", "/fn/shout", "hi", []string{"Ferrule-Timeout", "0"}, 200, "", "text/html", "HI"},
		"health":             {"GET", "/ferrule/health", "", nil, 200, "", "text/plain; charset=utf-8", "ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, c.method, at+c.path, c.in, c.head...)
			assert.Equal(t, c.code, got.code)
			assert.Equal(t, c.status, got.head.Get("Ferrule-Status"))
			assert.Equal(t, c.kind, got.head.Get("Content-Type"))
			assert.Equal(t, c.out, got.body)
			assert.Equal(t, "nosniff", got.head.Get("X-Content-Type-Options"))
		})
	}
	// A body whose length is not said is bounded as well.
	r, err := http.NewRequestWithContext(t.Context(), "POST", at+"/fn/shout", io.MultiReader(strings.NewReader(strings.Repeat("x", 60)), strings.NewReader(strings.Repeat("x", 60))))
	require.NoError(t, err)
	r.Header.Set("Content-Type", bytes)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	answer.Body.Close()
	assert.Equal(t, 413, answer.StatusCode)
}

// TestHost: a host of package loader/sidecar/web sees the plug-in that is served, without what HTTP does not have.
func TestHost(t *testing.T) {
	t.Parallel()
	at := serving(t, opened(t, serve.Go(plugin(nil, nil)), web.Options{Token: "secret"}))
	p, err := loader.Open(at, host.Server(host.WithToken("secret")))
	require.NoError(t, err)
	defer p.Close()
	assert.Equal(t, "words", p.Name())
	fn, err := p.Func("fails")
	require.NoError(t, err)
	_, err = fn.Call(t.Context(), []byte("x"))
	assert.ErrorIs(t, err, loader.ErrInvalid)
	hook, err := p.Hook("shout")
	require.NoError(t, err)
	out, err := hook.Call(t.Context(), []byte("hi"))
	require.NoError(t, err)
	assert.Equal(t, "hi!", string(out))
	lines, err := p.Func("lines")
	require.NoError(t, err)
	_, err = lines.Stream(t.Context(), nil, strings.NewReader("x"), nil)
	assert.ErrorIs(t, err, loader.ErrNoStream)

	// A library with a start, a configuration and a state: none of that is the host's.
	library, err := serve.File(fixture.C(t, "system_counter"))
	require.NoError(t, err)
	require.True(t, library.About.HasSave)
	served := opened(t, library, web.Options{})
	p, err = loader.Open(serving(t, served), host.Server())
	require.NoError(t, err)
	require.NoError(t, p.Close())
}

// TestImports: a plug-in with imports is refused, with their names, before anything of it runs.
func TestImports(t *testing.T) {
	t.Parallel()
	library, err := serve.File(fixture.C(t, "asks"))
	require.NoError(t, err)
	require.NotEmpty(t, library.About.Imports)
	library.Open = func(...loader.Option) (*loader.Plugin, error) {
		t.Error("it was opened")
		return nil, errors.New("opened")
	}
	_, err = web.Open(library, web.Options{})
	assert.ErrorIs(t, err, loader.ErrMissingImport)
	for _, f := range library.About.Imports {
		assert.ErrorContains(t, err, f.Name)
	}
	_, err = web.Open(serve.Go(&builtin.Plugin{}), web.Options{})
	assert.Error(t, err, "what is wrong with it")
}

// TestToken: without the token nothing is told but that it is there.
func TestToken(t *testing.T) {
	t.Parallel()
	at := serving(t, opened(t, serve.Go(plugin(nil, nil)), web.Options{Token: "secret"}))
	for _, path := range []string{"/fn/shout", "/fn/none", "/hook/shout", "/ferrule/manifest", "/ferrule/openapi.json", "/ferrule/metrics", "/"} {
		for _, said := range []string{"", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secret2", "Basic secret"} {
			got := ask(t, "POST", at+path, "x", "Authorization", said)
			assert.Equal(t, 401, got.code, "%s %q", path, said)
			assert.Equal(t, "Bearer", got.head.Get("WWW-Authenticate"))
			assert.NotContains(t, got.body, "words")
		}
	}
	assert.Equal(t, 200, ask(t, "GET", at+"/ferrule/health", "").code)
	assert.Equal(t, asked{200, nil, "HI"}, func() asked {
		got := ask(t, "POST", at+"/fn/shout", "hi", "Authorization", "bearer secret")
		got.head = nil
		return got
	}())
}

// TestBrowsers: a page from elsewhere can neither call, nor have its own name lead here.
func TestBrowsers(t *testing.T) {
	t.Parallel()
	at := serving(t, opened(t, serve.Go(plugin(nil, nil)), web.Options{}))
	_, port, err := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
	require.NoError(t, err)
	for _, c := range []struct {
		head []string
		code int
	}{
		{nil, 200},
		{[]string{"Host", "evil.example:" + port}, 421},
		{[]string{"Host", "127.0.0.1.evil.example"}, 421},
		{[]string{"Host", "10.0.0.1"}, 421},
		{[]string{"Host", "localhost:" + port}, 200},
		{[]string{"Host", "LOCALHOST."}, 200},
		{[]string{"Host", "[::1]:" + port}, 200},
		{[]string{"Origin", "http://evil.example"}, 403},
		{[]string{"Origin", "null"}, 403},
		{[]string{"Origin", at}, 200},
		{[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
	} {
		got := ask(t, "POST", at+"/fn/shout", "hi", c.head...)
		assert.Equal(t, c.code, got.code, c.head)
		assert.Empty(t, got.head.Get("Access-Control-Allow-Origin"))
	}
	// What a browser asks before it sends a type that no form has.
	assert.Equal(t, 405, ask(t, "OPTIONS", at+"/fn/shout", "", "Origin", "http://evil.example", "Access-Control-Request-Method", "POST").code)
}

// TestCancelled: a call ends when its client goes away, and when its time is over.
func TestCancelled(t *testing.T) {
	t.Parallel()
	began, over := make(chan struct{}, 1), make(chan error, 1)
	at := serving(t, opened(t, serve.Go(plugin(began, over)), web.Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", at+"/fn/waits", strings.NewReader("x"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", bytes)
	gone := make(chan error, 1)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			answer.Body.Close()
		}
		gone <- err
	}()
	<-began
	cancel()
	assert.ErrorIs(t, <-over, context.Canceled)
	assert.Error(t, <-gone)

	got := ask(t, "POST", at+"/fn/waits", "", "Ferrule-Timeout", "5")
	assert.Equal(t, 499, got.code)
	assert.ErrorIs(t, <-over, context.DeadlineExceeded)
}

// TestRoom: of more calls than there may be, the others are answered with 503.
func TestRoom(t *testing.T) {
	t.Parallel()
	began, over := make(chan struct{}, 2), make(chan error, 2)
	at := serving(t, opened(t, serve.Go(plugin(began, over)), web.Options{Calls: 2}))
	var calls sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 {
		calls.Go(func() {
			r, err := http.NewRequestWithContext(ctx, "POST", at+"/fn/waits", nil)
			if !assert.NoError(t, err) {
				return
			}
			r.Header.Set("Content-Type", bytes)
			if answer, err := http.DefaultClient.Do(r); err == nil {
				answer.Body.Close()
			}
		})
		<-began
	}
	got := ask(t, "POST", at+"/fn/shout", "hi")
	assert.Equal(t, 503, got.code)
	assert.NotEmpty(t, got.head.Get("Retry-After"))
	metrics := ask(t, "GET", at+"/ferrule/metrics", "").body
	assert.Contains(t, metrics, "ferrule_calls_in_flight{kind=\"fn\",function=\"waits\"} 2\n")
	assert.Contains(t, metrics, "ferrule_requests_refused_total{code=\"503\"} 1\n")
	cancel()
	calls.Wait()
	<-over
	<-over
	for ask(t, "POST", at+"/fn/shout", "hi").code != 200 { // their places are free when they have ended
		require.NoError(t, t.Context().Err())
	}
}

// TestServe: when its context ends, calls go on within grace, and are asked to stop then; none comes in.
func TestServe(t *testing.T) {
	t.Parallel()
	for name, grace := range map[string]time.Duration{"none": 0, "a moment": 10 * time.Millisecond, "long": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began, over := make(chan struct{}, 1), make(chan error, 1)
			h := opened(t, serve.Go(plugin(began, over)), web.Options{})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- web.Serve(ctx, l, h, grace) }()
			head := []string(nil)
			if grace == time.Hour {
				head = []string{"Ferrule-Timeout", "100"} // it ends by itself
			}
			code := make(chan int, 1)
			go func() { code <- ask(t, "POST", "http://"+l.Addr().String()+"/fn/waits", "", head...).code }()
			<-began
			cancel()
			assert.Equal(t, 499, <-code)
			assert.NoError(t, <-served)
			<-over
			_, err = net.Dial("tcp", l.Addr().String())
			assert.Error(t, err)
		})
	}
	h := opened(t, serve.Go(plugin(nil, nil)), web.Options{})
	require.NoError(t, h.Close())
	at := serving(t, h)
	assert.Equal(t, 503, ask(t, "GET", at+"/ferrule/health", "").code)
	assert.Equal(t, 503, ask(t, "POST", at+"/fn/shout", "").code)
}

// TestMetrics: what is counted is what was called, in a text that a reader of the format takes.
func TestMetrics(t *testing.T) {
	t.Parallel()
	at := serving(t, opened(t, serve.Go(plugin(nil, nil)), web.Options{}))
	for range 5 {
		ask(t, "POST", at+"/fn/shout", "hi")
	}
	ask(t, "POST", at+"/hook/shout", "hi")
	ask(t, "POST", at+"/fn/fails", "x")
	for n := 1000; n < 1100; n++ { // as many statuses as a plug-in likes
		ask(t, "POST", at+"/fn/fails", strconv.Itoa(n))
	}
	ask(t, "POST", at+"/fn/none", "")
	got := ask(t, "GET", at+"/ferrule/metrics", "")
	assert.Equal(t, "text/plain; version=0.0.4; charset=utf-8", got.head.Get("Content-Type"))
	samples := map[string]float64{}
	kinds := map[string]string{}
	sample := regexp.MustCompile(`^([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? ([0-9.e+-]+)$`)
	for lines := bufio.NewScanner(strings.NewReader(got.body)); lines.Scan(); {
		line := lines.Text()
		if words := strings.SplitN(line, " ", 4); words[0] == "#" {
			if words[1] == "TYPE" {
				assert.NotContains(t, kinds, words[2], "once for each")
				kinds[words[2]] = words[3]
			}
			continue
		}
		m := sample.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		family := m[1]
		for _, end := range []string{"_bucket", "_sum", "_count"} {
			if cut := strings.TrimSuffix(family, end); kinds[cut] == "histogram" {
				family = cut
			}
		}
		assert.Contains(t, kinds, family, line)
		assert.NotContains(t, samples, m[1]+m[2], "once for each")
		n, err := strconv.ParseFloat(m[3], 64)
		require.NoError(t, err)
		samples[m[1]+m[2]] = n
	}
	assert.Equal(t, map[string]string{"ferrule_plugin_info": "gauge", "ferrule_calls_total": "counter", "ferrule_calls_in_flight": "gauge",
		"ferrule_call_duration_seconds": "histogram", "ferrule_call_input_bytes_total": "counter", "ferrule_call_output_bytes_total": "counter",
		"ferrule_connections_open": "gauge", "ferrule_connections_total": "counter", "ferrule_requests_refused_total": "counter"}, kinds)
	for name, want := range map[string]float64{
		`ferrule_plugin_info{name="words",version="1.0 \"new\""}`:                    1,
		`ferrule_calls_total{kind="fn",function="shout",status="0"}`:                 5,
		`ferrule_calls_total{kind="hook",function="shout",status="0"}`:               1,
		`ferrule_calls_total{kind="fn",function="fails",status="2"}`:                 1,
		`ferrule_calls_total{kind="fn",function="fails",status="1000"}`:              1,
		`ferrule_calls_total{kind="fn",function="fails",status="other"}`:             37,
		`ferrule_calls_in_flight{kind="fn",function="shout"}`:                        0,
		`ferrule_call_duration_seconds_count{kind="fn",function="shout"}`:            5,
		`ferrule_call_duration_seconds_bucket{kind="fn",function="shout",le="+Inf"}`: 5,
		`ferrule_call_duration_seconds_count{kind="fn",function="fails"}`:            101,
		`ferrule_call_duration_seconds_bucket{kind="fn",function="waits",le="10"}`:   0,
		`ferrule_requests_refused_total{code="404"}`:                                 1,
	} {
		assert.Contains(t, samples, name)
		assert.Equal(t, want, samples[name], name)
	}
	assert.Positive(t, samples[`ferrule_call_duration_seconds_sum{kind="fn",function="shout"}`])
	last, bounds := 0.0, 0
	for _, le := range regexp.MustCompile(`duration_seconds_bucket\{kind="fn",function="fails",le="([^"]+)"`).FindAllStringSubmatch(got.body, -1) {
		n := samples[`ferrule_call_duration_seconds_bucket{kind="fn",function="fails",le="`+le[1]+`"}`]
		assert.GreaterOrEqual(t, n, last, "each has those before it")
		last = n
		bounds++
	}
	assert.Equal(t, 20, bounds)
}

// TestOpenAPI: the description has each function and hook, by what the plug-in says of it, and is valid.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "secret"} {
		t.Run("token "+token, func(t *testing.T) {
			at := serving(t, opened(t, serve.Go(plugin(nil, nil)), web.Options{Token: token}))
			got := ask(t, "GET", at+"/ferrule/openapi.json", "", "Authorization", "Bearer "+token)
			require.Equal(t, 200, got.code)
			var all map[string]any
			require.NoError(t, json.Unmarshal([]byte(got.body), &all))
			at1 := func(path ...string) any {
				v := any(all)
				for _, key := range path {
					m, ok := v.(map[string]any)
					require.True(t, ok, path)
					v = m[key]
				}
				return v
			}
			assert.Equal(t, "3.1.0", at1("openapi"))
			assert.Equal(t, map[string]any{"title": "words", "version": `1.0 "new"`, "description": "Knows words", "license": map[string]any{"name": "MIT"}}, at1("info"))
			var paths []string
			for path := range at1("paths").(map[string]any) {
				paths = append(paths, path)
			}
			assert.ElementsMatch(t, []string{"/fn/shout", "/fn/fails", "/fn/waits", "/fn/lines", "/fn/streams", "/hook/shout", "/ferrule/manifest", "/ferrule/openapi.json", "/ferrule/metrics",
				"/ferrule/health"}, paths)
			assert.Equal(t, "Makes it loud.", at1("paths", "/fn/shout", "post", "summary"))
			assert.Equal(t, "Makes it loud.\n\nAll of it.\n\nDeprecated: use cry", at1("paths", "/fn/shout", "post", "description"))
			assert.Contains(t, at1("paths", "/fn/streams", "post", "description"), "It works on streams, which are not to be had by HTTP")
			assert.Equal(t, true, at1("paths", "/fn/shout", "post", "deprecated"))
			in := at1("paths", "/fn/shout", "post", "requestBody", "content").(map[string]any)
			assert.Len(t, in, 2)
			assert.Equal(t, "urn:ferrule:words:fn:shout:in", at1("paths", "/fn/shout", "post", "requestBody", "content", "application/json", "schema", "$id"))
			assert.Equal(t, map[string]any{"type": "string"}, at1("paths", "/fn/shout", "post", "responses", "200", "content", "text/html", "schema"))
			assert.Equal(t, map[string]any{bytes: map[string]any{}}, at1("paths", "/fn/lines", "post", "requestBody", "content"), "no schema is made of what is none")
			assert.Equal(t, token != "", all["security"] != nil)

			ids := map[any]bool{}
			var walk func(v any)
			walk = func(v any) { // every reference of the description's own leads somewhere
				switch v := v.(type) {
				case map[string]any:
					if _, own := v["$id"]; own {
						return
					}
					if ref, ok := v["$ref"].(string); ok {
						assert.NotNil(t, at1(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...), ref)
					}
					if id, ok := v["operationId"]; ok {
						assert.False(t, ids[id], id)
						ids[id] = true
						assert.NotEmpty(t, v["responses"])
					}
					for _, member := range v {
						walk(member)
					}
				case []any:
					for _, member := range v {
						walk(member)
					}
				}
			}
			walk(all)
			assert.Len(t, ids, len(paths))

			t.Run("validator", func(t *testing.T) {
				validator, err := exec.LookPath("openapi-spec-validator")
				if err != nil {
					t.Skip("openapi-spec-validator is missing: pip install openapi-spec-validator")
				}
				file := filepath.Join(t.TempDir(), "openapi.json")
				require.NoError(t, os.WriteFile(file, []byte(got.body), 0o600))
				out, err := exec.CommandContext(t.Context(), validator, "--schema", "3.1", file).CombinedOutput()
				assert.NoError(t, err, "%s", out)
			})
		})
	}
}

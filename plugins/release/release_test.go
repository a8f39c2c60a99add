package release_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/registry/sourcetest"
	"github.com/ferrule-dev/ferrule/plugins/release"
)

func TestMain(m *testing.M) {
	if address := os.Getenv("RELEASE_TEST_PROXIED"); address != "" { // net/http reads a proxy's address once in a process
		s, err := release.New(config.Registry{URL: address})
		if err == nil {
			_, err = s.Release(context.Background(), "sample-plugin", "1.0.0")
		}
		fmt.Println("proxied:", err)
		os.Exit(0)
	}
	os.Setenv("NETRC", filepath.Join(os.TempDir(), "there-is-no-such-netrc")) // that of who runs the test is nobody's business
	os.Exit(m.Run())
}

// serve starts a server and returns its address.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func hurried(t *testing.T, url string) registry.Source {
	t.Helper()
	s, err := release.Hurried(config.Registry{URL: url}, nil)
	require.NoError(t, err)
	return s
}

// folder publishes releases into a folder, as `ferrule push` does.
func folder(t *testing.T, releases []sourcetest.Published) string {
	t.Helper()
	dir := t.TempDir()
	to, err := files.NewFolder(dir)
	require.NoError(t, err)
	sourcetest.Push(t, to, releases)
	return dir
}

// Served by net/http, as a plain web server and with what a code host puts before its files.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("a folder that is served", func(t *testing.T) {
		t.Parallel()
		sourcetest.Run(t, func(t *testing.T, releases []sourcetest.Published) registry.Source {
			return hurried(t, serve(t, http.FileServer(http.Dir(folder(t, releases))).ServeHTTP)+"/{tag}")
		})
	})
	t.Run("redirects, rate limits and credentials", func(t *testing.T) {
		t.Parallel()
		sourcetest.Run(t, func(t *testing.T, releases []sourcetest.Published) registry.Source {
			h := &host{dir: folder(t, releases), latest: "v2.0.0-rc.1", user: "u:p", busy: 7}
			// A release has the indexes of all plug-ins, also of those that it has no files of.
			index, err := os.ReadFile(filepath.Join(h.dir, "latest", "any_where.json"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(h.dir, h.latest, "any_where.json"), index, 0o600))
			return hurried(t, strings.Replace(h.start(t), "http://", "http://u:p@", 1)+"/acme/shop/releases/download/{tag}/{plugin}-{os}-{arch}.{ext}")
		})
	})
}

// host is a server like GitHub: releases/latest/download leads to the newest tag, and that to another host with the files, where the credentials must not
// come to.
type host struct {
	dir    string
	latest string
	user   string // and password
	busy   int64  // every so manieth request is one too many

	n     atomic.Int64
	mu    sync.Mutex
	asked []string // paths
}

func (h *host) start(t *testing.T) string {
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the credentials came to another host")
		}
		http.StripPrefix("/store", http.FileServer(http.Dir(h.dir))).ServeHTTP(w, r)
	})
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.asked = append(h.asked, r.URL.Path)
		h.mu.Unlock()
		if h.user != "" && r.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(h.user)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if n := h.n.Add(1); h.busy > 0 && n%h.busy == 0 {
			w.Header().Set("Retry-After", "0")
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.WriteHeader([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusForbidden}[n/h.busy%3])
			return
		}
		if file, ok := strings.CutPrefix(r.URL.Path, "/acme/shop/releases/latest/download/"); ok {
			http.Redirect(w, r, "/acme/shop/releases/download/"+h.latest+"/"+file, http.StatusFound)
			return
		}
		at, ok := strings.CutPrefix(r.URL.Path, "/acme/shop/releases/download/")
		if _, err := os.Stat(filepath.Join(h.dir, filepath.FromSlash(at))); !ok || err != nil || strings.HasPrefix(at, "latest/") {
			http.NotFound(w, r)
			return
		}
		http.Redirect(w, r, store+"/store/"+at+"?signature=s3cr3t", http.StatusFound)
	})
}

// The newest release by the address that leads to it: its tag is found out, from the index and without one, and a lock's tag leads to the same bytes after a
// newer release.
func TestLatest(t *testing.T) {
	t.Parallel()
	releases := sourcetest.Releases()
	for _, c := range []struct {
		name    string
		remove  []string // by their ends
		version string
	}{
		{"by the index", nil, "1.10.0"},
		{"by the redirect", []string{".json"}, "1.9.0"},
		{"by the redirect, without signatures", []string{".json", ".minisig"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := &host{dir: folder(t, releases), latest: "v1.9.0"}
			if c.version == "1.10.0" {
				h.latest = "v1.10.0"
			}
			require.NoError(t, filepath.WalkDir(h.dir, func(path string, _ os.DirEntry, err error) error {
				if err == nil && slices.Contains(c.remove, filepath.Ext(path)) {
					return os.Remove(path)
				}
				return err
			}))
			s := hurried(t, h.start(t)+"/acme/shop/releases/download/{tag}")
			r, err := s.Release(t.Context(), "sample-plugin", "")
			require.NoError(t, err)
			assert.Equal(t, c.version, r.Version)
			assert.Equal(t, h.latest, r.Tag)
			assert.Len(t, r.Files, 3)
			h.mu.Lock()
			assert.Equal(t, "/acme/shop/releases/latest/download/sample-plugin.json", h.asked[0])
			h.mu.Unlock()

			h.latest = "v2.0.0-rc.1" // a newer one comes
			body, _, _, err := s.Open(t.Context(), r, "linux/amd64", 0)
			require.NoError(t, err)
			defer body.Close()
			text, err := io.ReadAll(body)
			require.NoError(t, err)
			assert.Contains(t, string(text), "ELF "+strings.TrimPrefix(r.Tag, "v")+" for linux/amd64")
		})
	}
	t.Run("one version without an index", func(t *testing.T) {
		t.Parallel()
		dir := folder(t, releases)
		for _, index := range []string{"v1.0.0", "v1.9.0", "latest"} {
			require.NoError(t, os.Remove(filepath.Join(dir, index, "sample-plugin.json")))
		}
		s := hurried(t, serve(t, http.FileServer(http.Dir(dir)).ServeHTTP)+"/{tag}")
		r, err := s.Release(t.Context(), "sample-plugin", "1.9.0")
		require.NoError(t, err)
		assert.Equal(t, "1.9.0", r.Version)
		assert.Equal(t, "v1.9.0", r.Tag)
	})
	t.Run("one tag", func(t *testing.T) {
		t.Parallel()
		s, err := release.New(config.Registry{URL: serve(t, http.FileServer(http.Dir(folder(t, releases))).ServeHTTP) + "/{tag}", Tag: "v1.9.0"})
		require.NoError(t, err)
		versions, err := s.Versions(t.Context(), "sample-plugin")
		require.NoError(t, err)
		assert.Equal(t, []string{"1.9.0"}, versions)
		_, err = s.Release(t.Context(), "sample-plugin", "1.0.0")
		assert.ErrorIs(t, err, registry.ErrNotFound)
		assert.ErrorContains(t, err, "v1.9.0")
	})
}

// What a hostile or a broken server answers to a request for an index: the kind of error, words of it, and that it comes soon.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	bomb() // it takes a while
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	redirect := func(to string) http.HandlerFunc { return status(http.StatusFound, "Location", to) }
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				io.WriteString(conn, text)
				conn.Close()
			}
		}
	}
	endless := func(header string, piece string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", header)
			for {
				if _, err := io.WriteString(w, piece); err != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   error
		words  string
	}{
		"401":                       {status(401), registry.ErrRefused, "FERRULE_TOKEN_127_0_0_1"},
		"403":                       {status(403), registry.ErrRefused, "status 403"},
		"403 for a rate":            {status(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "99999999999"), registry.ErrUnavailable, "to be asked again in"},
		"429 for an hour":           {status(429, "Retry-After", "3600"), registry.ErrUnavailable, "to be asked again in 1h"},
		"429 for ever":              {status(429, "Retry-After", "0"), registry.ErrUnavailable, "status 429"},
		"429 until the end of time": {status(429, "Retry-After", "9223372036854775807"), registry.ErrUnavailable, "to be asked again"},
		"500":                       {status(500), registry.ErrUnavailable, "status 500"},
		"418":                       {status(418), registry.ErrMalformed, "status 418"},
		"204":                       {status(204), registry.ErrMalformed, "status 204"},
		"no location":               {status(302), registry.ErrMalformed, "a redirect from"},
		"to a file":                 {redirect("file:///etc/passwd"), registry.ErrMalformed, `to "file:…"`},
		"to another scheme":         {redirect("gopher://x/"), registry.ErrMalformed, `to "gopher:…"`},
		"to no host":                {redirect("http:///x"), registry.ErrMalformed, "a redirect from"},
		"to itself":                 {redirect("?"), registry.ErrMalformed, "circle"},
		"in a circle": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, map[bool]string{true: "/b", false: "/a"}[r.URL.Path == "/a"], http.StatusFound)
		}, registry.ErrMalformed, "circle"},
		"on and on": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, registry.ErrMalformed, "more than 10 redirects"},
		"a page to log in": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<!DOCTYPE html><title>Log in</title>")
		}, registry.ErrMalformed, "a page in HTML"},
		"an endless page":       {endless("text/html", "<p>"), registry.ErrMalformed, "a page in HTML"},
		"endless":               {endless("application/json", strings.Repeat(" ", 1<<16)), registry.ErrMalformed, "more bytes"},
		"no HTTP":               {raw("SSH-2.0-OpenSSH_9.2\r\n"), registry.ErrMalformed, "no HTTP"},
		"nothing":               {raw(""), registry.ErrUnavailable, "EOF"},
		"a header of 1 MiB":     {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), registry.ErrMalformed, "header"},
		"fewer bytes than said": {raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), registry.ErrUnavailable, "broke off"},
		"silence":               {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, registry.ErrUnavailable, "no answer came in time"},
		"a byte now and then": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, registry.ErrUnavailable, "too slowly"},
		"a gzip bomb": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb())
		}, registry.ErrMalformed, "more than is allowed"},
		"gzip that is none": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "{}")
		}, registry.ErrMalformed, "not packed as its header says"},
		"another packing": {status(200, "Content-Encoding", "br"), registry.ErrMalformed, `"br"`},
		"no index":        {status(200), registry.ErrMalformed, "an index that is none"},
		"another plug-in": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"format": 1, "name": "other", "releases": []}`)
		}, registry.ErrName, "an index of other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := serve(t, c.answer)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s := hurried(t, address+"/a/{tag}")
			_, err := s.Release(ctx, "sample-plugin", "")
			var e *registry.Error
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.words)
			assert.Equal(t, "sample-plugin", e.Plugin)
			assert.Equal(t, address+"/a/{tag}", e.Source)
			assert.NoError(t, ctx.Err())
			assert.Less(t, len(err.Error()), 1000)
		})
	}
}

// What a server sends for a file, of which 3,000 bytes are announced.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	bomb()
	content := strings.Repeat("\x7fELF", 750)
	sized := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			io.WriteString(w, text)
		}
	}
	lib := registry.File{Digest: "sha256:" + strings.Repeat("0", 64), Size: int64(len(content))}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		from   int64
		file   registry.File
		kind   error // nil: it works
		at     int64
		words  string
	}{
		"as announced": {answer: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }, file: lib},
		"no ranges":    {answer: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }, file: lib, from: 10},
		"a range": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, file: lib, from: 10, at: 10},
		"from its end": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, file: lib, from: 3000, at: 3000},
		"from beyond its end": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, file: lib, from: 4000},
		"no digest, so no range": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, from: 10},
		"longer, and says so": {answer: sized(content + "x"), file: lib, kind: registry.ErrDigest, words: "3001 bytes"},
		"endless": {answer: func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := io.WriteString(w, content); err != nil {
					return
				}
			}
		}, file: lib, kind: registry.ErrDigest, words: "more bytes than were announced"},
		"shorter, and says so": {answer: sized(content[1:]), file: lib, kind: registry.ErrDigest, words: "2999 bytes"},
		"shorter, without a length": {answer: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, content[:2000])
			http.NewResponseController(w).Flush()
		}, file: lib, kind: registry.ErrUnavailable, words: "broke off after 2000 bytes"},
		"packed": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb())
		}, file: lib, kind: registry.ErrMalformed, words: `packed by "gzip"`},
		"a page to log in": {answer: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>Log in") }, kind: registry.ErrMalformed, words: "a page in HTML"},
		"another range": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 20-2999/3000")
			w.WriteHeader(http.StatusPartialContent)
		}, file: lib, from: 10, kind: registry.ErrMalformed, words: "not asked for"},
		"a range that nobody asked for": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-2999/3000")
			w.WriteHeader(http.StatusPartialContent)
		}, file: lib, kind: registry.ErrMalformed, words: "not asked for"},
		"a range of another file": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content+content))
		}, file: lib, from: 10, kind: registry.ErrDigest, words: "6000 bytes"},
		"ever fewer": {answer: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, content[:2500])
			for r.Context().Err() == nil {
				io.WriteString(w, "x")
				http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, file: lib, kind: registry.ErrUnavailable, words: "too slowly"},
		"gone": {answer: http.NotFound, file: lib, kind: registry.ErrNotFound, words: "status 404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hurried(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				if w.Header().Set("Content-Type", "application/octet-stream"); strings.Contains(c.words, "HTML") {
					w.Header().Del("Content-Type")
				}
				c.answer(w, r)
			}))
			r := &registry.Release{Name: "sample", Version: "1.0.0", Files: map[string]registry.File{"linux/amd64": c.file}}
			body, at, size, err := s.Open(t.Context(), r, "linux/amd64", c.from)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(body)
				require.NoError(t, body.Close())
			}
			assert.LessOrEqual(t, len(got), 3000)
			if c.kind != nil {
				var e *registry.Error
				require.ErrorAs(t, err, &e)
				assert.ErrorIs(t, err, c.kind)
				assert.ErrorContains(t, err, c.words)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.at, at)
			assert.Equal(t, int64(3000), size)
			assert.Equal(t, content[at:], string(got))
		})
	}
}

// A file that is another one when its rest is asked for comes from its beginning.
func TestIfRange(t *testing.T) {
	t.Parallel()
	content, tag := strings.Repeat("a", 3000), `"a"`
	s := hurried(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "x.so", time.Time{}, strings.NewReader(content))
	}))
	r := &registry.Release{Name: "sample", Files: map[string]registry.File{"linux/amd64": {}}}
	for _, c := range []struct {
		tag, letter string
		from, at    int64
	}{{`"a"`, "a", 0, 0}, {`"a"`, "a", 10, 10}, {`"b"`, "b", 10, 0}, {`W/"c"`, "c", 10, 0}, {`W/"c"`, "c", 10, 0}} {
		tag, content = c.tag, strings.Repeat(c.letter, 3000)
		body, at, _, err := s.Open(t.Context(), r, "linux/amd64", c.from)
		require.NoError(t, err)
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		assert.Equal(t, c.at, at)
		assert.Equal(t, content[at:], string(text))
	}
}

// A server that is busy is asked again, not before it wants to be; a context that ends ends the waiting.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []time.Time
	answer := http.FileServer(http.Dir(folder(t, sourcetest.Releases())))
	s := hurried(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, time.Now())
		n := len(asked)
		mu.Unlock()
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		answer.ServeHTTP(w, r)
	})+"/{tag}")
	_, err := s.Versions(t.Context(), "sample-plugin")
	require.NoError(t, err)
	require.Len(t, asked, 2)
	assert.GreaterOrEqual(t, asked[1].Sub(asked[0]), time.Second)

	busy := hurried(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "100")
		w.WriteHeader(http.StatusServiceUnavailable)
	})+"/{tag}")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err = busy.Versions(ctx, "sample-plugin")
	assert.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	_, err = busy.Versions(ctx, "sample-plugin") // it does not even wait
	assert.ErrorIs(t, err, registry.ErrUnavailable)
	assert.NoError(t, ctx.Err())
}

// From https nothing leads to http.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Error("it was asked") })
	s := httptest.NewTLSServer(http.RedirectHandler(plain+"/x", http.StatusFound))
	t.Cleanup(s.Close)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	page, err := release.Hurried(config.Registry{URL: s.URL}, roots)
	require.NoError(t, err)
	_, err = page.Versions(t.Context(), "sample")
	assert.ErrorIs(t, err, registry.ErrMalformed)
	assert.ErrorContains(t, err, "expected one that stays with https")
	_, err = hurried(t, s.URL).Versions(t.Context(), "sample")
	assert.ErrorIs(t, err, registry.ErrRefused)
	assert.ErrorContains(t, err, "certificates")
	_, err = hurried(t, strings.Replace(plain, "http://", "https://", 1)).Versions(t.Context(), "sample")
	assert.ErrorIs(t, err, registry.ErrMalformed)
	assert.ErrorContains(t, err, "Write http://")
}

// Credentials: from the environment, from .netrc, from the address. They are in no text of ours.
func TestCredentials(t *testing.T) {
	const secret = "s3cr3t"
	var got string
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	})
	ask := func(url, want string) {
		t.Helper()
		got = ""
		s, err := release.Hurried(config.Registry{URL: url}, nil)
		if err == nil {
			assert.NotContains(t, s.String(), secret)
			_, err = s.Versions(t.Context(), "sample")
		}
		require.ErrorIs(t, err, registry.ErrRefused)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), secret)
		assert.Equal(t, want, got)
	}
	basic := func(user string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(user)) }
	ask(address, "")
	netrc := filepath.Join(t.TempDir(), "netrc")
	require.NoError(t, os.WriteFile(netrc, []byte("machine example.com login a password b\nmachine 127.0.0.1\n login u\n password "+secret+"\ndefault login d password d\n"), 0o600))
	t.Setenv("NETRC", netrc)
	ask(address, basic("u:"+secret))
	t.Setenv("FERRULE_TOKEN_127_0_0_1", secret)
	ask(address, "Bearer "+secret)
	ask(strings.Replace(address, "//", "//x:"+secret+"@", 1), basic("x:"+secret))
	ask(address+"/{tag}?key="+secret, "Bearer "+secret)
	t.Setenv("FERRULE_TOKEN_127_0_0_1", secret+"\nX: y")
	ask(address, "")
}

func TestVariable(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"github.com": "FERRULE_TOKEN_GITHUB_COM", "my-host.example": "FERRULE_TOKEN_MY__HOST_EXAMPLE", "a_b.c": "", "::1": "", "ä.de": ""} {
		assert.Equal(t, want, release.Variable(host))
	}
}

func TestNetrc(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"machine h login u password p":                                                           "u:p",
		"# machine h login no password no\nmachine h login u password p":                         "u:p",
		"macdef x\nmachine h login no password no\n\nmachine h password p":                       ":p",
		"machine g login x password y machine H login u password p machine h login z password z": "u:p",
		"default login u password p":                                                             "none",
		"machine h login u":                                                                      "none",
		"machine":                                                                                "none",
		"machine h login":                                                                        "none",
		"machine other login u\npassword p":                                                      "none",
		"machine h default login u password p":                                                   "none",
		"machine login password h machine h login password password machine":                     "password:machine",
	} {
		user, password, ok := release.Netrc(text, "h")
		got := user + ":" + password
		if !ok {
			got = "none"
		}
		assert.Equal(t, want, got, text)
	}
}

// What config.yaml says wrongly of a page.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for url, words := range map[string]string{
		"https://x/{name}/{tag}":    "no registry.name",
		"https://{plugin}.example/": "a host without placeholders",
		"https://":                  "an address without a host",
		"https://u:s3cr3t@/":        "an address without a host",
		"https://u:s3cr3t@x:y/":     "an address without a host",
		"https://x/{nam}":           `the placeholder "{nam}"`,
		"https://x/{tag":            "by itself",
		"https://x/#{tag}":          "by itself",
		"oci://x/y":                 "https:// or http://",
		"":                          "https:// or http://",
	} {
		_, err := release.New(config.Registry{URL: url})
		require.ErrorIs(t, err, registry.ErrMalformed, url)
		assert.ErrorContains(t, err, words)
		assert.NotContains(t, err.Error(), "s3cr3t")
	}
	for _, r := range []config.Registry{{URL: "https://x/{name}", Name: "../.."}, {URL: "https://x/{name}", Name: "a?b"}, {URL: "https://x/{tag}", Tag: "../x"}, {URL: "https://x/{tag}", Tag: "a#b"}} {
		_, err := release.New(r)
		assert.ErrorIs(t, err, registry.ErrMalformed)
	}
	_, ok, err := release.Pages(config.Registry{URL: "oci://x/y"})
	assert.False(t, ok)
	assert.NoError(t, err)
	s, ok, err := release.Pages(config.Registry{URL: "https://github.com/{name}/{repository}/releases/download/{tag}", Name: "acme", Repository: "shop"})
	assert.True(t, ok)
	require.NoError(t, err)
	assert.Equal(t, "https://github.com/acme/shop/releases/download/{tag}", s.String())
}

// A proxy of the environment is asked, and not the host.
func TestProxy(t *testing.T) {
	t.Parallel()
	var asked atomic.Value
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.String())
		w.WriteHeader(http.StatusProxyAuthRequired)
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RELEASE_TEST_PROXIED=http://pages.invalid/{tag}", "HTTP_PROXY="+proxy, "http_proxy=", "NO_PROXY=", "no_proxy=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "http://pages.invalid/latest/sample-plugin.json", asked.Load())
	assert.Contains(t, string(out), "status 407")
}

package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// liar stands before a registry. lie answers what it returns true for.
type liar struct {
	host string
	lie  atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	sent atomic.Int64 // bytes of lies
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func lying(t *testing.T, behind string) *liar {
	l := &liar{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lie := l.lie.Load(); lie != nil && (*lie)(&counting{w, &l.sent}, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	l.host = strings.TrimPrefix(server.URL, "http://")
	return l
}

func (l *liar) says(lie func(w http.ResponseWriter, r *http.Request) bool) { l.lie.Store(&lie) }

// at answers the requests whose path is like a pattern.
func at(pattern string, answer http.HandlerFunc) func(w http.ResponseWriter, r *http.Request) bool {
	path := regexp.MustCompile(pattern)
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !path.MatchString(r.URL.Path) {
			return false
		}
		answer(w, r)
		return true
	}
}

// forever writes until the other end has enough.
func forever(w http.ResponseWriter, r *http.Request, each time.Duration, what []byte) {
	for r.Context().Err() == nil {
		if _, err := w.Write(what); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if each > 0 {
			time.Sleep(each)
		}
	}
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	byTag        = `/manifests/1\.0\.0$`
	byDigest     = `/manifests/sha256:`
	blobs        = `/blobs/`
)

// texts serves texts of JSON by their digests, and the last one by the tag.
func texts(all ...string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		for n, text := range all {
			mediaType := typeManifest
			if n == len(all)-1 {
				mediaType = typeIndex
			}
			if strings.HasSuffix(r.URL.Path, digestOf(text)) || n == len(all)-1 && strings.HasSuffix(r.URL.Path, "/1.0.0") {
				w.Header().Set("Content-Type", mediaType)
				w.Header().Set("Content-Length", fmt.Sprint(len(text)))
				_, _ = io.WriteString(w, text)
				return true
			}
		}
		return false
	}
}

func marshal(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// send answers with a text and headers, name and value each.
func send(mediaType, text string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, text)
	}
}

// patience is how long a host waits for a registry: where that is to be silent less long, and elsewhere for all that a busy machine takes.
func patience(says string) time.Duration {
	if strings.Contains(says, "silent") {
		return time.Second
	}
	return 20 * time.Second
}

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// endless has no end, and says that it has a length; "" is none.
func endless(mediaType, length string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		if length != "" {
			w.Header().Set("Content-Length", length)
		}
		if r.Method != http.MethodHead {
			forever(w, r, 0, bytes.Repeat([]byte{'['}, 1<<12))
		}
	}
}

func with(o object, key string, value any) object { o[key] = value; return o }

const large = 1 << 18 // bytes of the library

// everything asks for all that there is of a release, and returns the first error.
func everything(ctx context.Context, r *oci.Registry) error {
	if _, err := r.Versions(ctx, "tax"); err != nil {
		return fmt.Errorf("versions: %w", err)
	}
	release, err := r.Release(ctx, "tax", "1.0.0")
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if _, err := r.Signature(ctx, release, "linux/amd64"); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	body, _, _, err := r.Open(ctx, release, "linux/amd64", 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer body.Close()
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

func TestHostile(t *testing.T) {
	t.Parallel()
	behind := fixture.Registry(t, "tiny")
	l := lying(t, behind)
	push := open(t, "oci://"+l.host)
	ctx := within(t, 5*time.Minute)
	files := contents(t, strings.Repeat("x", large), "linux/amd64")
	files["linux/amd64"] = registry.Content{Path: files["linux/amd64"].Path, Signature: []byte("signature")}
	require.NoError(t, push.Push(ctx, tax("1.0.0"), files))
	release, err := push.Release(ctx, "tax", "1.0.0")
	require.NoError(t, err)
	library, size := release.Files["linux/amd64"].Digest, release.Files["linux/amd64"].Size
	require.NoError(t, everything(ctx, push))

	file := blobs + library
	var real string // the manifest that is there
	l.says(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, byDigest) {
			request, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+behind+r.URL.Path, nil)
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				text, _ := io.ReadAll(response.Body)
				response.Body.Close()
				real = string(text)
			}
		}
		return false
	})
	require.NoError(t, everything(ctx, open(t, "oci://"+l.host)))
	require.NotEmpty(t, real)
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
	}

	// A release of which one thing is wrong.
	config := marshal(tax("1.0.0"))
	type descriptor = object
	layer := func() descriptor {
		return descriptor{"mediaType": "application/vnd.ferrule.plugin.library.v1", "digest": library, "size": size}
	}
	signature := func() descriptor {
		return descriptor{"mediaType": "application/vnd.ferrule.plugin.signature.v1+minisign", "digest": digestOf("signature"), "size": 9}
	}
	manifest := func(layers ...descriptor) object {
		return object{"schemaVersion": 2, "mediaType": typeManifest, "artifactType": "application/vnd.ferrule.plugin.v1", "layers": layers,
			"config": descriptor{"mediaType": "application/vnd.ferrule.plugin.config.v1+json", "digest": digestOf(config), "size": len(config)}}
	}
	index := func(manifests ...descriptor) object {
		return object{"schemaVersion": 2, "mediaType": typeIndex, "artifactType": "application/vnd.ferrule.plugin.v1", "manifests": manifests,
			"annotations": object{"org.opencontainers.image.title": "tax", "org.opencontainers.image.version": "1.0.0",
				"dev.ferrule.plugin.config.digest": digestOf(config), "dev.ferrule.plugin.config.size": fmt.Sprint(len(config))}}
	}
	to := func(text string) descriptor {
		return descriptor{"mediaType": typeManifest, "digest": digestOf(text), "size": len(text), "platform": object{"os": "linux", "architecture": "amd64"},
			"annotations": object{"dev.ferrule.plugin.file.digest": library, "dev.ferrule.plugin.file.size": fmt.Sprint(size)}}
	}
	whole := marshal(manifest(layer()))
	of := func(m object, changed ...http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		text := marshal(m)
		all := texts(config, text, marshal(index(to(text))))
		return func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, digestOf(config)) && len(changed) > 0 {
				changed[0](w, r)
				return true
			}
			return all(w, r)
		}
	}
	titled := func(key, value string) func(http.ResponseWriter, *http.Request) bool {
		x := index(to(whole))
		x["annotations"].(object)[key] = value
		return texts(config, whole, marshal(x))
	}
	many := make([]descriptor, 10_000)
	for n := range many {
		many[n] = with(to(whole), "platform", object{"os": "linux", "architecture": fmt.Sprint("a", n)})
	}
	nested := marshal(index(to(whole)))

	l.says(of(manifest(layer())))
	require.NoError(t, everything(ctx, open(t, "oci://"+l.host)), "what the rest is made from is right")
	l.says(of(manifest(layer(), signature()))) // as another tool may write it
	text, err := open(t, "oci://"+l.host).Signature(ctx, &registry.Release{Name: "tax", Version: "1.0.0"}, "linux/amd64")
	require.NoError(t, err)
	assert.Equal(t, "signature", string(text), "it is the layer, where it is not in the manifest")

	for name, test := range map[string]struct {
		lie  func(http.ResponseWriter, *http.Request) bool
		want error
		says string
	}{
		"silent tags":      {at(`/tags/list$`, silent), registry.ErrUnavailable, "versions: .*silent"},
		"silent index":     {at(byTag, silent), registry.ErrUnavailable, "release: .*silent"},
		"silent library":   {at(file, silent), registry.ErrUnavailable, "open: .*silent"},
		"library in drops": {at(file, func(w http.ResponseWriter, r *http.Request) { forever(w, r, 10*time.Millisecond, []byte("x")) }), registry.ErrUnavailable, "read: .*silent"},
		"index in drops": {at(byTag, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", typeIndex)
			w.Header().Set("Content-Length", "5000")
			forever(w, r, 10*time.Millisecond, []byte("["))
		}), registry.ErrUnavailable, "release: .*silent"},
		"endless tags":     {at(`/tags/list$`, endless("application/json", "")), registry.ErrMalformed, "versions: "},
		"endless index":    {at(byTag, endless(typeIndex, "")), registry.ErrMalformed, "release: "},
		"endless manifest": {at(byDigest, endless(typeManifest, "")), registry.ErrMalformed, "signature: "},
		"endless library":  {at(file, endless("application/octet-stream", "")), registry.ErrMalformed, "read: .*more bytes"},
		"huge index":       {at(byTag, endless(typeIndex, "99999999999")), registry.ErrMalformed, "release: .*99999999999 bytes"},
		"longer library":   {at(file, endless("application/octet-stream", fmt.Sprint(size+1))), registry.ErrMalformed, "open: .*bytes"},
		"shorter library":  {at(file, send("application/octet-stream", "short")), registry.ErrMalformed, "open: .*5 bytes"},
		"library cut off": {at(file, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}), registry.ErrUnavailable, "read: "},
		"other index than it says": {at(byTag, send(typeIndex, nested, "Docker-Content-Digest", library)), registry.ErrDigest, "release: "},
		"other manifest":           {at(byDigest, send(typeManifest, whole+" ")), registry.ErrMalformed, "signature: "},
		"other config":             {at(blobs, send("application/octet-stream", strings.Repeat("x", int(size)))), registry.ErrMalformed, "release: "},
		"a changed manifest":       {at(byDigest, send(typeManifest, strings.Replace(real, "2", "3", 1))), registry.ErrDigest, "signature: "},
		"a changed config":         {of(manifest(layer()), send("application/octet-stream", strings.Replace(config, "MIT", "GPL", 1))), registry.ErrDigest, "release: "},
		"deep index":               {at(byTag, send(typeIndex, strings.Repeat(`[`, 1<<20))), registry.ErrMalformed, "release: "},
		"deep in a known key":      {at(byTag, send(typeIndex, `{"manifests":[{"annotations":`+strings.Repeat(`{"a":`, 1<<17))), registry.ErrMalformed, "release: "},
		"no JSON":                  {at(byTag, send(typeIndex, "<html>")), registry.ErrMalformed, "release: "},
		"a page":                   {at(byTag, send("text/html", "<html>")), registry.ErrMalformed, "release: "},
		"gzip":                     {at(byTag, send(typeIndex, nested, "Content-Encoding", "gzip")), registry.ErrMalformed, "release: .*gzip"},
		"library in gzip":          {at(file, send("application/octet-stream", strings.Repeat("x", int(size)), "Content-Encoding", "gzip")), registry.ErrMalformed, "open: .*gzip"},
		"redirects in circles":     {at(byTag, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }), registry.ErrMalformed, "release: .*redirects"},
		"library in circles":       {at(file, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }), registry.ErrMalformed, "open: .*redirects"},
		"redirect to a file":       {at(byTag, redirect("file:///etc/passwd")), registry.ErrMalformed, "release: .*file://"},
		"library at a file":        {at(file, redirect("file:///etc/passwd")), registry.ErrMalformed, "open: .*file://"},
		"10,000 platforms":         {texts(config, whole, marshal(index(many...))), registry.ErrMalformed, "release: "},
		"257 platforms":            {texts(config, whole, marshal(index(many[:257]...))), registry.ErrMalformed, "release: .*257"},
		"no platform":              {texts(config, whole, marshal(index())), registry.ErrMalformed, "release: .*0 manifests"},
		"a platform twice":         {texts(config, whole, marshal(index(to(whole), to(whole)))), registry.ErrMalformed, "release: .*two manifests"},
		"a platform that goes up":  {texts(config, whole, marshal(index(with(to(whole), "platform", object{"os": "..", "architecture": ".."})))), registry.ErrMalformed, "release: .*platform"},
		"an index in itself":       {texts(config, nested, marshal(index(with(to(nested), "mediaType", typeIndex)))), registry.ErrMalformed, "release: .*of the type"},
		"an index for a manifest":  {texts(config, nested, marshal(index(to(nested)))), registry.ErrMalformed, "signature: "},
		"another plug-in":          {titled("org.opencontainers.image.title", "audit"), registry.ErrName, "release: .*audit"},
		"a name that goes up":      {titled("org.opencontainers.image.title", "../../tax"), registry.ErrMalformed, `release: .*\.\./\.\./tax`},
		"another version":          {titled("org.opencontainers.image.version", "1.0.1"), registry.ErrVersion, "release: .*1.0.1"},
		"no size of the config":    {titled("dev.ferrule.plugin.config.size", "-1"), registry.ErrMalformed, "release: "},
		"a digest that goes up":    {titled("dev.ferrule.plugin.config.digest", "sha256:../../../x"), registry.ErrMalformed, "release: .*digest"},
		"sha512":                   {texts(config, whole, marshal(index(with(to(whole), "digest", "sha512:"+strings.Repeat("a", 128))))), registry.ErrMalformed, "release: .*digest"},
		"no layers":                {of(manifest()), registry.ErrMalformed, "signature: .*0 layers"},
		"three layers":             {of(manifest(layer(), layer(), layer())), registry.ErrMalformed, "signature: .*3 layers"},
		"another signature in it":  {of(manifest(layer(), with(signature(), "data", []byte("Signature")))), registry.ErrDigest, "signature: .*other bytes in a manifest"},
		"half a signature in it":   {of(manifest(layer(), with(signature(), "data", []byte("sign")))), registry.ErrDigest, "signature: .*other bytes in a manifest"},
		"a layer elsewhere":        {of(manifest(with(layer(), "urls", []string{"http://other.example/x"}))), registry.ErrMalformed, "signature: .*URL"},
		"another layer than said":  {of(manifest(with(layer(), "digest", digestOf("other")))), registry.ErrDigest, "signature: .*index says"},
		"another size than said":   {of(manifest(with(layer(), "size", 5))), registry.ErrDigest, "signature: .*index says"},
		"a size below 0":           {of(manifest(with(layer(), "size", -5))), registry.ErrMalformed, "signature: .*-5 bytes"},
		"an image's layer":         {of(manifest(with(layer(), "mediaType", "application/vnd.oci.image.layer.v1.tar"))), registry.ErrMalformed, "signature: .*of the type"},
		"an image's manifest":      {of(with(manifest(layer()), "artifactType", "")), registry.ErrMalformed, "signature: .*artifactType"},
		"an image":                 {texts(config, whole, marshal(with(index(to(whole)), "artifactType", ""))), registry.ErrMalformed, "release: .*artifactType"},
		"pages without an end": {at(`/tags/list$`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v2/tax/tags/list?last=x>; rel="next"`)
			_, _ = io.WriteString(w, `{"tags":["x"]}`)
		}), registry.ErrMalformed, "versions: "},
		"pages of another host": {at(`/tags/list$`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `<http://other.example/v2/tax/tags/list>; rel="next"`)
			_, _ = io.WriteString(w, `{"tags":["x"]}`)
		}), registry.ErrMalformed, "versions: "},
		"too many tags": {at(`/tags/list$`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v2/tax/tags/list?last=x>; rel="next"`)
			_, _ = io.WriteString(w, `{"tags":["x"`+strings.Repeat(`,"1"`, 1<<17)+`]}`)
		}), registry.ErrMalformed, "versions: .*tags"},
		"busy for an hour": {at(byTag, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}), registry.ErrUnavailable, "release: .*429"},
		"broken":                    {at(byTag, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), registry.ErrUnavailable, "release: .*502"},
		"gone":                      {at(file, http.NotFound), registry.ErrNotFound, "open: "},
		"a page where the blob was": {at(file, send("text/html", "<html>")), registry.ErrMalformed, "open: "},
		"a part that nobody wants": {at(file, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
		}), registry.ErrMalformed, "open: .*part"},
		"a long refusal": {at(byTag, answer(http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"`+strings.Repeat("no ", 1<<10)+`"}]}`)), registry.ErrRefused, "release: .*DENIED: no no.{0,500}$"},
	} {
		t.Run(name, func(t *testing.T) {
			l.sent.Store(0)
			l.says(test.lie)
			r := open(t, "oci://"+l.host, oci.Silence(patience(test.says)), oci.Pause(time.Millisecond))
			err := everything(ctx, r)
			require.ErrorIs(t, err, test.want)
			assert.Regexp(t, test.says, strings.ReplaceAll(err.Error(), "\n", " "))
			var e *registry.Error
			require.ErrorAs(t, err, &e)
			assert.NotEmpty(t, e.Remedy, "%v", err)
			assert.NoError(t, ctx.Err())
			assert.Less(t, l.sent.Load(), int64(16<<20), "bytes that were taken")
		})
	}
}

func answer(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// A registry that is busy is asked again, not before the time that it says.
func TestBusy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		header func() string
		times  int64
		wait   time.Duration
		want   error
	}{
		"429 with seconds": {http.StatusTooManyRequests, func() string { return "1" }, 1, time.Second, nil},
		"503 with a date":  {http.StatusServiceUnavailable, func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) }, 1, time.Second, nil},
		"429":              {http.StatusTooManyRequests, func() string { return "" }, 4, 0, nil},
		"500":              {http.StatusInternalServerError, func() string { return "" }, 4, 0, nil},
		"five times":       {http.StatusServiceUnavailable, func() string { return "" }, 5, 0, registry.ErrUnavailable},
		"nonsense":         {http.StatusServiceUnavailable, func() string { return "-1e99" }, 1, 0, nil},
		"501 is an answer": {http.StatusNotImplemented, func() string { return "" }, 1, 0, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if n.Add(1) <= test.times {
					if text := test.header(); text != "" {
						w.Header().Set("Retry-After", text)
					}
					w.WriteHeader(test.status)
					return
				}
				_, _ = io.WriteString(w, `{"tags":["1.0.0","1.0","latest","../x","1.0.0_a.b","v2.0.0","01.0.0"]}`)
			}))
			t.Cleanup(server.Close)
			begin := time.Now()
			versions, err := open(t, strings.Replace(server.URL, "http", "oci", 1), oci.Pause(5*time.Millisecond)).Versions(within(t, time.Minute), "tax")
			assert.GreaterOrEqual(t, time.Since(begin), test.wait)
			if test.want != nil {
				assert.ErrorIs(t, err, test.want)
				assert.LessOrEqual(t, n.Load(), int64(5))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []string{"1.0.0", "1.0.0+a.b"}, versions)
			assert.Equal(t, test.times+1, n.Load())
		})
	}
}

// What a registry says to one request counts for all that come after it: none of them is refused, too.
func TestBusyForAll(t *testing.T) {
	t.Parallel()
	var refused atomic.Int64
	var busy atomic.Pointer[time.Time]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		end := now.Add(time.Second)
		busy.CompareAndSwap(nil, &end)
		if now.Before(*busy.Load()) {
			refused.Add(1)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		_, _ = io.WriteString(w, `{"tags":["1.0.0"]}`)
	}))
	t.Cleanup(server.Close)
	r := open(t, strings.Replace(server.URL, "http", "oci", 1), oci.Pause(5*time.Millisecond))
	_, err := r.Versions(within(t, 300*time.Millisecond), "tax")
	require.ErrorIs(t, err, registry.ErrUnavailable)
	_, err = r.Versions(within(t, 100*time.Millisecond), "tax") // it is not sent, nor waited for in vain
	require.ErrorIs(t, err, registry.ErrUnavailable)
	assert.ErrorContains(t, err, "it is too busy, and wants to be asked again in")
	ctx := within(t, time.Minute)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			_, err := r.Versions(ctx, "tax")
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	assert.EqualValues(t, 1, refused.Load())
}

// A push goes on where it was cut off or the registry was busy, with files, too.
func TestPushToABusyRegistry(t *testing.T) {
	t.Parallel()
	l := lying(t, fixture.Registry(t, "tiny"))
	var n atomic.Int64
	l.says(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || n.Add(1)%3 == 0 {
			return false
		}
		if n.Load()%3 == 1 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	r := open(t, "oci://"+l.host, oci.Pause(time.Millisecond))
	ctx := within(t, time.Minute)
	var err error
	for range 8 { // what is cut off each time it is tried is tried again by whoever pushes
		if err = r.Push(ctx, tax("1.0.0"), contents(t, "tax", "linux/amd64")); err == nil {
			break
		}
		assert.ErrorIs(t, err, registry.ErrUnavailable)
	}
	require.NoError(t, err)
	l.says(func(http.ResponseWriter, *http.Request) bool { return false })
	require.NoError(t, everything(ctx, r))
}

// What was cut off goes on from there.
func TestReadOn(t *testing.T) {
	t.Parallel()
	l := lying(t, distribution(t, t.TempDir(), nil))
	r := open(t, "oci://"+l.host)
	ctx := within(t, time.Minute)
	require.NoError(t, r.Push(ctx, tax("1.0.0"), contents(t, "tax", "linux/amd64")))
	release, err := r.Release(ctx, "tax", "1.0.0")
	require.NoError(t, err)
	l.says(at(blobs, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(release.Files["linux/amd64"].Size))
		_, _ = io.WriteString(w, "tax fo")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	body, _, _, err := r.Open(ctx, release, "linux/amd64", 0)
	require.NoError(t, err)
	first, err := io.ReadAll(body)
	assert.ErrorIs(t, err, registry.ErrUnavailable)
	body.Close()
	assert.Equal(t, "tax fo", string(first))
	l.says(func(http.ResponseWriter, *http.Request) bool { return false })
	rest, from := read(t, r, release, "linux/amd64", int64(len(first)))
	assert.EqualValues(t, 6, from)
	assert.Equal(t, "tax for linux/amd64", string(first)+rest)
}

// Who copies from a hostile registry copies nothing that is not a release, and tags nothing.
func TestMirrorOfAHostile(t *testing.T) {
	t.Parallel()
	l, to := lying(t, fixture.Registry(t, "tiny")), open(t, "oci://"+fixture.Registry(t, "tiny"))
	from := open(t, "oci://"+l.host, oci.Silence(patience("")), oci.Pause(time.Millisecond))
	ctx := within(t, time.Minute)
	require.NoError(t, from.Push(ctx, tax("1.0.0"), contents(t, strings.Repeat("x", 1<<10), "linux/amd64")))
	release, err := from.Release(ctx, "tax", "1.0.0")
	require.NoError(t, err)
	library := blobs + release.Files["linux/amd64"].Digest
	for name, test := range map[string]struct {
		lie  func(http.ResponseWriter, *http.Request) bool
		want error
	}{
		"other bytes": {at(library, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("y"), int(release.Files["linux/amd64"].Size)))
		}), registry.ErrDigest},
		"endless":      {at(library, func(w http.ResponseWriter, r *http.Request) { forever(w, r, 0, []byte("yyyyyyyy")) }), registry.ErrDigest},
		"another text": {at(byDigest, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }), registry.ErrMalformed},
		"gone":         {at(library, http.NotFound), registry.ErrNotFound},
	} {
		l.says(test.lie)
		copied, err := oci.Mirror(ctx, from, to, "tax")
		assert.ErrorIs(t, err, test.want, name)
		assert.Empty(t, copied, name)
		_, err = to.Release(ctx, "tax", "1.0.0")
		assert.ErrorIs(t, err, registry.ErrNotFound, name)
	}
}

package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

var indexDate = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// builtIndex is an index of n plug-ins, signed.
func builtIndex(t *testing.T, key sign.PrivateKey, serial uint64, n int, revoked ...index.Revocation) (*index.Built, []byte) {
	t.Helper()
	entries := make([]index.Entry, n)
	for i := range entries {
		entries[i] = index.Entry{Name: fmt.Sprintf("plug-in-%d", i), Summary: fmt.Sprintf("Does the thing %x in %o ways", i*7919, i), Versions: []string{"1.0.0"}, Platforms: []string{"linux/amd64"}}
	}
	b, err := index.Build("registry.example/acme", serial, indexDate.Add(time.Duration(serial)*time.Hour), entries, revoked, nil)
	require.NoError(t, err)
	signature, err := sign.SignComment(key, b.Comment, bytes.NewReader(b.Root))
	require.NoError(t, err)
	return b, signature
}

func indexKey(t *testing.T) (sign.PrivateKey, index.Options) {
	t.Helper()
	key, err := sign.Generate()
	require.NoError(t, err)
	trust, err := sign.NewTrust([]string{key.Public().String()}, nil, nil)
	require.NoError(t, err)
	return key, index.Options{Verifier: trust, Now: func() time.Time { return indexDate.Add(24 * time.Hour) }}
}

// The root and its signature are one request, a name two shards at most, and what is there is not pushed again.
func TestIndex(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		key, options := indexKey(t)
		requests := &counter{}
		r := open(t, "oci://"+host+"/acme", oci.Transport(requests))
		_, err := index.Open(ctx, r.Index(), options)
		require.ErrorIs(t, err, registry.ErrNotFound)
		assert.ErrorContains(t, err, "no index in the repository acme/ferrule-index")
		assert.ErrorContains(t, err, "ferrule index")

		built, signature := builtIndex(t, key, 3, 3000, index.Revocation{Name: "plug-in-7", Versions: "<2", Why: "it deletes"})
		require.Greater(t, len(built.Shards()), 5)
		require.NoError(t, r.PushIndex(ctx, built, signature))
		requests.requests()

		fresh := open(t, "oci://"+host+"/acme", oci.Transport(requests))
		x, err := index.Open(ctx, fresh.Index(), options)
		require.NoError(t, err)
		assert.Equal(t, 1, requests.requests())
		assert.Empty(t, x.Warnings())
		assert.Equal(t, 3000, x.Len())
		assert.ErrorIs(t, x.Revoked("plug-in-7", "1.0.0"), registry.ErrRevoked)
		assert.Zero(t, requests.requests())
		entry, err := x.Lookup(ctx, "plug-in-1234")
		require.NoError(t, err)
		assert.Equal(t, []string{"1.0.0"}, entry.Versions)
		assert.Equal(t, 1, requests.requests())
		_, err = x.Lookup(ctx, "plug-in-nought")
		assert.ErrorIs(t, err, registry.ErrNotFound)
		assert.LessOrEqual(t, requests.requests(), 2)
		found, err := x.Search(ctx, "plug-in-1234", 5)
		require.NoError(t, err)
		require.NotEmpty(t, found.Hits)
		assert.Equal(t, "plug-in-1234", found.Hits[0].Name)

		// The same again is no error, and sends nothing but questions.
		sent := &uploads{}
		again := open(t, "oci://"+host+"/acme", oci.Transport(sent))
		require.NoError(t, again.PushIndex(ctx, built, signature))
		assert.EqualValues(t, 0, sent.blobs.Load())

		// The next one sends what has changed: one shard by name and those of a few words.
		later, signature := builtIndex(t, key, 4, 3001)
		changed := 1 // the root
		for digest := range later.Shards() {
			if built.Shards()[digest] == nil {
				changed++
			}
		}
		require.Less(t, changed, len(later.Shards()))
		require.NoError(t, again.PushIndex(ctx, later, signature))
		assert.EqualValues(t, changed+1, sent.blobs.Load(), "and the signature")
		x, err = index.Open(ctx, fresh.Index(), options)
		require.NoError(t, err)
		assert.EqualValues(t, 4, x.Seen().Serial)

		// None goes back, and no other one has the same serial.
		for _, serial := range []uint64{3, 4} {
			older, signature := builtIndex(t, key, serial, 10)
			assert.ErrorIs(t, r.PushIndex(ctx, older, signature), registry.ErrStale)
		}
		x, err = index.Open(ctx, fresh.Index(), options)
		require.NoError(t, err)
		assert.Equal(t, 3001, x.Len())

		// Without a signature it is there, and is not believed where one is asked for.
		unsigned, _ := builtIndex(t, key, 5, 10)
		require.NoError(t, r.PushIndex(ctx, unsigned, nil))
		_, err = index.Open(ctx, fresh.Index(), options)
		assert.ErrorIs(t, err, registry.ErrUnsigned)

		// It is no plug-in.
		release := tax("1.0.0")
		release.Name = "ferrule-index"
		assert.ErrorIs(t, r.Push(ctx, release, contents(t, "x", "linux/amd64")), registry.ErrMalformed)
	})
}

// uploads counts blobs that are sent.
type uploads struct{ blobs atomic.Int64 }

func (u *uploads) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/") {
		u.blobs.Add(1)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A root that is too large for the manifest is a request of its own.
func TestLargeIndex(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		key, options := indexKey(t)
		requests := &counter{}
		r := open(t, "oci://"+host, oci.Transport(requests))
		var revoked []index.Revocation
		for n := range 2000 {
			revoked = append(revoked, index.Revocation{Name: fmt.Sprint("bad-", n), Versions: "*", Why: strings.Repeat("why ", 50)})
		}
		built, signature := builtIndex(t, key, 1, 10, revoked...)
		require.NoError(t, r.PushIndex(ctx, built, signature))
		requests.requests()
		x, err := index.Open(ctx, r.Index(), options)
		require.NoError(t, err)
		assert.Equal(t, 2, requests.requests())
		there, _ := x.Revocations()
		assert.Equal(t, revoked, there)
	})
}

// Of many that publish at once one stays, whole, and nobody who did not publish it is told so but those who had ended before.
func TestIndexersAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		key, options := indexKey(t)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for n := range errs {
			built, signature := builtIndex(t, key, 1, 10+n)
			r := open(t, "oci://"+host)
			wg.Go(func() { errs[n] = r.PushIndex(ctx, built, signature) })
		}
		wg.Wait()
		x, err := index.Open(ctx, open(t, "oci://"+host).Index(), options)
		require.NoError(t, err)
		assert.NoError(t, errs[x.Len()-10])
		for _, err := range errs {
			assert.True(t, err == nil || errors.Is(err, registry.ErrReplaced) || errors.Is(err, registry.ErrStale), "%v", err)
		}
		_, err = x.Lookup(ctx, "plug-in-3")
		assert.NoError(t, err)
	})
}

// The catalogue has what is in the path, and only that.
func TestNames(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		key, _ := indexKey(t)
		acme := open(t, "oci://"+host+"/acme")
		names := func(r *oci.Registry) []string {
			all, err := r.Names(ctx)
			require.NoError(t, err)
			return all
		}
		assert.Empty(t, names(acme))
		for path, all := range map[string][]string{"/acme": {"tax", "audit", "zeal"}, "/acme/deeper": {"inner"}, "/acme-other": {"other"}, "": {"top"}} {
			for _, name := range all {
				release := tax("1.0.0")
				release.Name = name
				require.NoError(t, open(t, "oci://"+host+path).Push(ctx, release, contents(t, name, "linux/amd64")))
			}
		}
		built, signature := builtIndex(t, key, 1, 10)
		require.NoError(t, acme.PushIndex(ctx, built, signature))
		assert.Equal(t, []string{"audit", "tax", "zeal"}, names(acme))
		if strings.HasSuffix(t.Name(), "distribution") { // the other one has no pages
			assert.Equal(t, []string{"audit", "tax", "zeal"}, names(open(t, "oci://"+host+"/acme", oci.Page(2))))
		}
		assert.Equal(t, []string{"inner"}, names(open(t, "oci://"+host+"/acme/deeper")))
		assert.Equal(t, []string{"top"}, names(open(t, "oci://"+host)))
	})
}

// Nothing that a hostile registry sends as an index is taken, and what is taken is bounded.
func TestHostileIndex(t *testing.T) {
	t.Parallel()
	ctx := within(t, 2*time.Minute)
	key, options := indexKey(t)
	l := lying(t, fixture.Registry(t, "tiny"))
	built, signature := builtIndex(t, key, 1, 100)
	require.NoError(t, open(t, "oci://"+l.host).PushIndex(ctx, built, signature))
	const byLatest, shards = `/ferrule-index/manifests/latest$`, `/ferrule-index/blobs/`

	root, other := string(built.Root), strings.Replace(string(built.Root), `"serial":1`, `"serial":2`, 1)
	layer := func(mediaType, text string, data any) object {
		o := object{"mediaType": mediaType, "digest": digestOf(text), "size": len(text)}
		if data != nil {
			o["data"] = data
		}
		return o
	}
	const typeRoot, typeSignature = "application/vnd.ferrule.index.root.v1+json", "application/vnd.ferrule.index.signature.v1+minisign"
	rootLayer := func() object { return layer(typeRoot, root, []byte(root)) }
	manifest := func(layers ...object) object {
		return object{"schemaVersion": 2, "mediaType": typeManifest, "artifactType": "application/vnd.ferrule.index.v1",
			"config": object{"mediaType": "application/vnd.oci.empty.v1+json", "digest": digestOf("{}"), "size": 2}, "layers": layers}
	}
	says := func(value any) func(http.ResponseWriter, *http.Request) bool {
		return at(byLatest, send(typeManifest, marshal(value)))
	}
	for name, test := range map[string]struct {
		lie  func(http.ResponseWriter, *http.Request) bool
		want error
	}{
		"endless manifest":              {at(byLatest, endless(typeManifest, "")), registry.ErrMalformed},
		"huge manifest":                 {at(byLatest, endless(typeManifest, "999999999")), registry.ErrMalformed},
		"silent":                        {at(byLatest, silent), registry.ErrUnavailable},
		"a page":                        {at(byLatest, send("text/html", "<html>")), registry.ErrMalformed},
		"no JSON":                       {at(byLatest, send(typeManifest, "<html>")), registry.ErrMalformed},
		"deep":                          {at(byLatest, send(typeManifest, strings.Repeat("[", 1<<20))), registry.ErrMalformed},
		"a plug-in":                     {at(byLatest, send(typeIndex, "{}")), registry.ErrMalformed},
		"another artefact":              {says(object{"schemaVersion": 2, "mediaType": typeManifest}), registry.ErrMalformed},
		"no layers":                     {says(manifest()), registry.ErrMalformed},
		"a shard first":                 {says(manifest(with(rootLayer(), "mediaType", "application/vnd.ferrule.index.shard.v1"))), registry.ErrMalformed},
		"a root of a terabyte":          {says(manifest(with(rootLayer(), "size", int64(1)<<40))), registry.ErrMalformed},
		"a size below 0":                {says(manifest(with(rootLayer(), "size", -1))), registry.ErrMalformed},
		"a digest that goes up":         {says(manifest(with(rootLayer(), "digest", "sha256:../../x"))), registry.ErrMalformed},
		"a root elsewhere":              {says(manifest(with(rootLayer(), "urls", []string{"http://other.example/"}))), registry.ErrMalformed},
		"another root in it":            {says(manifest(layer(typeRoot, root, []byte(other)))), registry.ErrDigest},
		"no root behind it":             {says(manifest(layer(typeRoot, other, nil))), registry.ErrNotFound},
		"a changed root":                {says(manifest(layer(typeRoot, other, []byte(other)), layer(typeSignature, string(signature), signature))), registry.ErrSignature},
		"no signature":                  {says(manifest(rootLayer())), registry.ErrUnsigned},
		"a signature of a megabyte":     {says(manifest(rootLayer(), layer(typeSignature, strings.Repeat("x", 1<<20), nil))), registry.ErrMalformed},
		"another manifest than it says": {at(byLatest, send(typeManifest, marshal(manifest(rootLayer())), "Docker-Content-Digest", digestOf("other"))), registry.ErrDigest},
		"another shard": {at(shards, func(w http.ResponseWriter, r *http.Request) {
			_, digest, _ := strings.Cut(r.URL.Path, "/blobs/")
			_, _ = w.Write(bytes.Repeat([]byte("y"), len(built.Shards()[digest])))
		}), registry.ErrDigest},
		"endless shard": {at(shards, endless(typeManifest, "")), registry.ErrMalformed},
		"longer shard":  {at(shards, endless(typeManifest, "99999999")), registry.ErrMalformed},
		"no shard":      {at(shards, http.NotFound), registry.ErrNotFound},
		"shard at a file": {at(shards, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}), registry.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			l.sent.Store(0)
			l.says(test.lie)
			r := open(t, "oci://"+l.host, oci.Silence(patience(name)), oci.Pause(time.Millisecond))
			x, err := index.Open(ctx, r.Index(), options)
			if err == nil {
				_, err = x.Lookup(ctx, "plug-in-3")
			}
			require.ErrorIs(t, err, test.want)
			e, ok := errors.AsType[*registry.Error](err)
			require.True(t, ok)
			assert.NotEmpty(t, e.Remedy, "%v", err)
			assert.NoError(t, ctx.Err())
			assert.Less(t, l.sent.Load(), int64(16<<20), "bytes that were taken")
		})
	}

	// A catalogue without an end ends, and one that is nobody's to see says so.
	r := open(t, "oci://"+l.host, oci.Silence(patience("")), oci.Pause(time.Millisecond))
	l.says(at(`/_catalog$`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `</v2/_catalog?last=x>; rel="next"`)
		_, _ = io.WriteString(w, `{"repositories":["x"]}`)
	}))
	_, err := r.Names(ctx)
	assert.ErrorIs(t, err, registry.ErrMalformed)
	for status, want := range map[int]error{404: registry.ErrNotFound, 401: registry.ErrRefused, 405: registry.ErrRefused} {
		l.says(at(`/_catalog$`, answer(status, "")))
		_, err = r.Names(ctx)
		assert.ErrorIs(t, err, want)
		assert.ErrorContains(t, err, "Name the plug-ins")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, r.PushIndex(ended, built, signature), context.Canceled)
}

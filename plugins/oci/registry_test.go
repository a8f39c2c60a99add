package oci_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/sourcetest"
)

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func tax(version string) *registry.Release {
	return &registry.Release{Name: "tax", Version: version, Kind: registry.Library, Summary: "Adds <tax> & duty.", License: "MIT",
		Host: map[string]string{"shop": "^1.2"}, Requires: []string{"audit ^2"}, Conflicts: []string{"old-tax"}, Provides: []string{"tax_of"}, Imports: []string{"log"},
		Permits: map[string][]string{"connect": {"443"}}}
}

// read reads a file of a release.
func read(t *testing.T, from registry.Source, r *registry.Release, on string, offset int64) (text string, at int64) {
	t.Helper()
	body, at, size, err := from.Open(within(t, time.Minute), r, on, offset)
	require.NoError(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Equal(t, size, at+int64(len(b)))
	return string(b), at
}

// notInPaths is what no part of a repository's path has.
var notInPaths = regexp.MustCompile(`[^a-z0-9]+`)

// It is a source as every other one is.
func TestSource(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		sourcetest.Run(t, func(t *testing.T, releases []sourcetest.Published) registry.Source {
			r := open(t, "oci://"+host+"/acme")
			sourcetest.Push(t, r, releases)
			return r
		})
		sourcetest.RunPusher(t, func(t *testing.T) registry.Pusher {
			folder := strings.Trim(notInPaths.ReplaceAllString(strings.ToLower(path.Base(t.Name())), "-"), "-")
			return open(t, "oci://"+host+"/pushed/"+folder)
		})
	})
}

func TestPublishAndInstall(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		url := "oci://" + host + "/acme/plug-ins"
		requests := &counter{}
		r := open(t, url+"/", oci.Transport(requests))
		assert.Equal(t, url, r.String())
		files := contents(t, "tax 1", "linux/amd64", "darwin/arm64", "windows/amd64")
		require.NoError(t, r.Push(ctx, tax("1.2.0+build.5"), files))
		requests.requests()

		// A fresh install: the tags, the index, the config, the manifest with the signature, the library.
		versions, err := r.Versions(ctx, "tax")
		require.NoError(t, err)
		assert.Equal(t, []string{"1.2.0+build.5"}, versions)
		release, err := r.Release(ctx, "tax", versions[0])
		require.NoError(t, err)
		signature, err := r.Signature(ctx, release, "linux/amd64")
		require.NoError(t, err)
		assert.Equal(t, "signature of tax 1 for linux/amd64", string(signature))
		text, _ := read(t, r, release, "linux/amd64", 0)
		assert.Equal(t, "tax 1 for linux/amd64", text)
		assert.Equal(t, 5, requests.requests())

		// The description is what was published, and has all platforms, for the lock.
		want := tax("1.2.0+build.5")
		want.Files = map[string]registry.File{}
		for on := range files {
			text := "tax 1 for " + on
			want.Files[on] = registry.File{Digest: digestOf(text), Size: int64(len(text))}
		}
		assert.Regexp(t, "^sha256:[0-9a-f]{64}$", release.Digest)
		want.Digest = release.Digest
		assert.Equal(t, want, release)

		// From a lock: one request; its signature, where the lock has none: two, as nothing of it is known.
		locked := &registry.Release{Name: "tax", Version: release.Version, Digest: release.Digest, Files: release.Files}
		fresh := open(t, url, oci.Transport(requests))
		text, _ = read(t, fresh, locked, "darwin/arm64", 0)
		assert.Equal(t, "tax 1 for darwin/arm64", text)
		assert.Equal(t, 1, requests.requests())
		signature, err = fresh.Signature(ctx, locked, "darwin/arm64")
		require.NoError(t, err)
		assert.Equal(t, "signature of tax 1 for darwin/arm64", string(signature))
		assert.Equal(t, 2, requests.requests())

		// What is there no more of.
		text, at := read(t, r, release, "windows/amd64", 4)
		assert.Equal(t, "tax 1 for windows/amd64"[at:], text)
		assert.Contains(t, []int64{0, 4}, at)
		size := release.Files["windows/amd64"].Size
		text, at = read(t, r, release, "windows/amd64", size)
		assert.Empty(t, text)
		assert.Equal(t, size, at)
	})
}

// Both continue where a file was cut off.
func TestOpenGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		r := open(t, "oci://"+host)
		require.NoError(t, r.Push(within(t, time.Minute), tax("1.0.0"), contents(t, "tax", registry.AnyPlatform)))
		release, err := r.Release(within(t, time.Minute), "tax", "1.0.0")
		require.NoError(t, err)
		text, at := read(t, r, release, registry.AnyPlatform, 4)
		assert.Equal(t, "for any", text)
		assert.EqualValues(t, 4, at)
	})
}

func TestNotFound(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		r := open(t, "oci://"+host)
		_, err := r.Versions(ctx, "tax")
		assert.ErrorIs(t, err, registry.ErrNotFound)
		_, err = r.Release(ctx, "tax", "")
		assert.ErrorIs(t, err, registry.ErrNotFound)
		files := contents(t, "tax", "linux/amd64")
		require.NoError(t, r.Push(ctx, tax("1.0.0-rc.1"), files))
		_, err = r.Release(ctx, "tax", "1.0.0")
		assert.ErrorIs(t, err, registry.ErrNotFound)
		assert.EqualError(t, err, "tax 1.0.0: oci://"+host+": found no version 1.0.0. Look at its name, its versions (ferrule info) and the registry's url in config.yaml.")
		_, err = r.Release(ctx, "tax", "")
		assert.ErrorIs(t, err, registry.ErrNotFound, "only a prerelease")
		release, err := r.Release(ctx, "tax", "1.0.0-rc.1")
		require.NoError(t, err)
		_, err = r.Signature(ctx, release, "plan9/amd64")
		assert.ErrorIs(t, err, registry.ErrNotFound)
		_, _, _, err = r.Open(ctx, release, "plan9/amd64", 0)
		assert.ErrorIs(t, err, registry.ErrNotFound)
		gone := *release
		gone.Files = map[string]registry.File{"linux/amd64": {Digest: digestOf("gone"), Size: 4}}
		_, _, _, err = r.Open(ctx, &gone, "linux/amd64", 0)
		assert.ErrorIs(t, err, registry.ErrNotFound)
		var e *registry.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "tax", e.Plugin)
		assert.NotEmpty(t, e.Remedy)
	})
}

func TestUnsigned(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		r := open(t, "oci://"+host)
		files := contents(t, "tax", "linux/amd64")
		files["linux/amd64"] = registry.Content{Path: files["linux/amd64"].Path}
		require.NoError(t, r.Push(ctx, tax("1.0.0"), files))
		signature, err := r.Signature(ctx, &registry.Release{Name: "tax", Version: "1.0.0"}, "linux/amd64")
		assert.NoError(t, err)
		assert.Nil(t, signature)
	})
}

func TestLatest(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		r := open(t, "oci://"+host)
		for _, step := range [][2]string{{"2.0.0-rc.1", ""}, {"1.9.0", "1.9.0"}, {"1.10.0", "1.10.0"}, {"1.2.0", "1.10.0"}, {"1.10.0+b", "1.10.0+b"}, {"2.0.0-rc.2", "1.10.0+b"}} {
			require.NoError(t, r.Push(ctx, tax(step[0]), contents(t, step[0], "linux/amd64")))
			release, err := r.Release(ctx, "tax", "")
			if step[1] == "" {
				assert.ErrorIs(t, err, registry.ErrNotFound)
				continue
			}
			require.NoError(t, err)
			assert.Equal(t, step[1], release.Version, "after %s", step[0])
		}
		versions, err := r.Versions(ctx, "tax")
		require.NoError(t, err)
		assert.ElementsMatch(t, []string{"2.0.0-rc.1", "1.9.0", "1.10.0", "1.2.0", "1.10.0+b", "2.0.0-rc.2"}, versions)
	})
}

func TestPushAgain(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		r := open(t, "oci://"+host)
		one, other := contents(t, "one", "linux/amd64", "linux/arm64"), contents(t, "other", "linux/amd64", "linux/arm64")
		require.NoError(t, r.Push(ctx, tax("1.0.0"), one))
		require.NoError(t, r.Push(ctx, tax("1.0.0"), one), "the same")
		fewer := map[string]registry.Content{"linux/amd64": one["linux/amd64"]}
		more := maps.Clone(one)
		more["darwin/arm64"] = contents(t, "one", "darwin/arm64")["darwin/arm64"]
		unsigned := maps.Clone(one)
		unsigned["linux/arm64"] = registry.Content{Path: one["linux/arm64"].Path}
		for _, c := range []struct {
			files map[string]registry.Content
			says  string
		}{
			{other, "found another file for linux/amd64 there"},
			{fewer, "found this version there for linux/amd64, linux/arm64, expected it for the same platforms, not for linux/amd64. Push the files for all platforms at once"},
			{more, "not for darwin/arm64, linux/amd64, linux/arm64. Push the files for all platforms at once"},
			{unsigned, "found the same files there with another description or other signatures"},
		} {
			err := r.Push(ctx, tax("1.0.0"), c.files)
			assert.ErrorIs(t, err, registry.ErrReplaced)
			assert.ErrorContains(t, err, c.says)
		}
		release, err := r.Release(ctx, "tax", "1.0.0")
		require.NoError(t, err)
		text, _ := read(t, r, release, "linux/arm64", 0)
		assert.Equal(t, "one for linux/arm64", text)
		require.NoError(t, r.Push(ctx, tax("1.0.1"), other))
	})
}

// What somebody else has pushed into the repository is no version: neither in the way of a push, nor the newest.
func TestForeignTags(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, time.Minute)
		r := open(t, "oci://"+host)
		image := func(tag, mediaType, text string) {
			t.Helper()
			request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+host+"/v2/tax/manifests/"+tag, strings.NewReader(text))
			require.NoError(t, err)
			request.Header.Set("Content-Type", mediaType)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			response.Body.Close()
			require.Equal(t, http.StatusCreated, response.StatusCode)
		}
		require.NoError(t, r.Push(ctx, tax("1.0.0"), contents(t, "one", "linux/amd64")))
		const index = "application/vnd.oci.image.index.v1+json"
		image("9.9.9", index, `{"schemaVersion":2,"mediaType":"`+index+`","manifests":[]}`)
		image("latest", index, `{"schemaVersion":2,"mediaType":"`+index+`","manifests":[]}`)
		release, err := r.Release(ctx, "tax", "")
		require.NoError(t, err)
		assert.Equal(t, "1.0.0", release.Version)
		require.NoError(t, r.Push(ctx, tax("1.1.0"), contents(t, "two", "linux/amd64")))
		require.NoError(t, r.Push(ctx, tax("1.0.1"), contents(t, "three", "linux/amd64")))
		release, err = r.Release(ctx, "tax", "")
		require.NoError(t, err)
		assert.Equal(t, "1.1.0", release.Version)
		err = r.Push(ctx, tax("9.9.9"), contents(t, "four", "linux/amd64"))
		require.ErrorIs(t, err, registry.ErrReplaced)
		assert.ErrorContains(t, err, "found something under this tag there that is no plug-in")
	})
}

// Many push at once: different versions all get there, and of several releases of one version one is there, whole, and latest is the newest.
func TestPushersAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, host string) {
		ctx := within(t, 2*time.Minute)
		var wg sync.WaitGroup
		errs := make([]error, 12)
		for n := range errs {
			files := contents(t, fmt.Sprint("same ", n), "linux/amd64", "linux/arm64")
			version := "3.0.0"
			if n < 8 {
				version = fmt.Sprintf("1.%d.0", n)
			}
			r := open(t, "oci://"+host)
			wg.Go(func() { errs[n] = r.Push(ctx, tax(version), files) })
		}
		wg.Wait()
		done := 0
		for n, err := range errs {
			if n < 8 {
				assert.NoError(t, err)
			} else if err == nil {
				done++
			} else {
				assert.ErrorIs(t, err, registry.ErrReplaced)
			}
		}
		assert.GreaterOrEqual(t, done, 1)
		r := open(t, "oci://"+host)
		release, err := r.Release(ctx, "tax", "")
		require.NoError(t, err)
		assert.Equal(t, "3.0.0", release.Version)
		for on := range release.Files {
			text, _ := read(t, r, release, on, 0)
			assert.Equal(t, release.Files[on].Digest, digestOf(text))
			signature, err := r.Signature(ctx, release, on)
			require.NoError(t, err)
			assert.Equal(t, "signature of "+text, string(signature))
		}
		versions, err := r.Versions(ctx, "tax")
		require.NoError(t, err)
		assert.Len(t, versions, 9)
	})
}

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	requests := &counter{}
	r := open(t, "oci://127.0.0.1:1", oci.Transport(requests))
	files := contents(t, "tax", "linux/amd64")
	long := tax("1.0.0")
	long.Summary = strings.Repeat("long ", 1<<18)
	described := tax("1.0.0")
	described.Files = map[string]registry.File{"linux/amd64": {Digest: digestOf("other"), Size: 5}}
	missing := tax("1.0.0")
	missing.Files = map[string]registry.File{"linux/arm64": {}}
	kind := tax("1.0.0")
	kind.Kind = "firmware"
	named := func(name string) *registry.Release { return &registry.Release{Name: name, Version: "1.0.0"} }
	for _, test := range []struct {
		release *registry.Release
		files   map[string]registry.Content
		want    error
	}{
		{tax("1.0"), files, registry.ErrMalformed},
		{tax("v1.0.0"), files, registry.ErrMalformed},
		{tax("1.0.0+" + strings.Repeat("b", 128)), files, registry.ErrMalformed},
		{named("../tax"), files, registry.ErrMalformed},
		{named("Tax"), files, registry.ErrMalformed},
		{named(""), files, registry.ErrMalformed},
		{named("a..b"), files, registry.ErrMalformed},
		{named(strings.Repeat("a", 129)), files, registry.ErrMalformed},
		{long, files, registry.ErrMalformed},
		{tax("1.0.0"), nil, registry.ErrMalformed},
		{tax("1.0.0"), contents(t, "tax", "linux/amd64/v2"), registry.ErrMalformed},
		{tax("1.0.0"), map[string]registry.Content{"linux/amd64": {Path: files["linux/amd64"].Path, Signature: make([]byte, 1<<20)}}, registry.ErrMalformed},
		{tax("1.0.0"), map[string]registry.Content{"linux/amd64": {Path: "there/is/none"}}, registry.ErrNotFound},
		{described, files, registry.ErrDigest},
		{missing, files, registry.ErrPlatform},
		{kind, files, registry.ErrKind},
	} {
		err := r.Push(within(t, time.Minute), test.release, test.files)
		assert.ErrorIs(t, err, test.want, "%v", err)
		var e *registry.Error
		if assert.ErrorAs(t, err, &e) {
			assert.NotEmpty(t, e.Remedy, "%v", err)
		}
	}
	assert.Zero(t, requests.requests())
}

// A mirror has the same digests and the signatures; a lock of the one is met by the other.
func TestMirror(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	tiny, big := fixture.Registry(t, "tiny"), distribution(t, t.TempDir(), nil)
	for _, pair := range [][2]string{{big + "/one", tiny}, {tiny + "/two", big}, {big + "/three", big + "/four"}} {
		from, to := open(t, "oci://"+pair[0]), open(t, "oci://"+pair[1])
		for _, version := range []string{"1.0.0", "1.1.0+b"} {
			require.NoError(t, from.Push(ctx, tax(version), contents(t, version, "linux/amd64", "darwin/arm64", registry.AnyPlatform)))
		}
		copied, err := oci.Mirror(ctx, from, to, "tax", "1.0.0")
		require.NoError(t, err)
		assert.Equal(t, []string{"1.0.0"}, copied)
		copied, err = oci.Mirror(ctx, from, to, "tax")
		require.NoError(t, err)
		assert.ElementsMatch(t, []string{"1.0.0", "1.1.0+b"}, copied)
		same(t, from, to, "1.0.0", "1.1.0+b")
		newest, err := to.Release(ctx, "tax", "")
		require.NoError(t, err)
		assert.Equal(t, "1.1.0+b", newest.Version)

		require.NoError(t, to.Push(ctx, tax("2.0.0"), contents(t, "another", "linux/amd64")))
		require.NoError(t, from.Push(ctx, tax("2.0.0"), contents(t, "one", "linux/amd64")))
		_, err = oci.Mirror(ctx, from, to, "tax", "2.0.0")
		assert.ErrorIs(t, err, registry.ErrReplaced)
		_, err = oci.Mirror(ctx, from, to, "tax", "9.0.0")
		assert.ErrorIs(t, err, registry.ErrNotFound)
	}
}

// same compares all that two sources say of versions.
func same(t *testing.T, from, to registry.Source, versions ...string) {
	t.Helper()
	ctx := within(t, time.Minute)
	there, err := to.Versions(ctx, "tax")
	require.NoError(t, err)
	for _, version := range versions {
		assert.True(t, slices.Contains(there, version), version)
		release, err := from.Release(ctx, "tax", version)
		require.NoError(t, err)
		other, err := to.Release(ctx, "tax", version)
		require.NoError(t, err)
		assert.Equal(t, release, other)
		require.NotEmpty(t, release.Files)
		for on, file := range release.Files {
			text, _ := read(t, to, release, on, 0)
			assert.Equal(t, file.Digest, digestOf(text))
			signature, err := to.Signature(ctx, release, on)
			require.NoError(t, err)
			assert.Equal(t, "signature of "+version+" for "+on, string(signature))
		}
	}
}

// A mirror is made by copying the folder of a registry, too.
func TestMirrorByCopyingTheStorage(t *testing.T) {
	t.Parallel()
	folder, mirror := t.TempDir(), t.TempDir()
	from := open(t, "oci://"+distribution(t, folder, nil)+"/acme")
	require.NoError(t, from.Push(within(t, time.Minute), tax("1.0.0"), contents(t, "1.0.0", "linux/amd64", "windows/amd64")))
	require.NoError(t, os.CopyFS(mirror, os.DirFS(folder)))
	same(t, from, open(t, "oci://"+distribution(t, mirror, nil)+"/acme"), "1.0.0")
}

// Tags come in pages. What is no version is not listed.
func TestTagsInPages(t *testing.T) {
	t.Parallel()
	ctx := within(t, 2*time.Minute)
	host := distribution(t, t.TempDir(), nil)
	r := open(t, "oci://"+host)
	var want []string
	for n := range 7 {
		want = append(want, fmt.Sprintf("1.0.%d", n))
		require.NoError(t, r.Push(ctx, tax(want[n]), contents(t, "the same", "linux/amd64")))
	}
	requests := &counter{}
	r = open(t, "oci://"+host, oci.Transport(requests), oci.Page(3))
	versions, err := r.Versions(ctx, "tax")
	require.NoError(t, err)
	assert.ElementsMatch(t, want, versions)
	assert.Equal(t, 3, requests.requests(), "8 tags with latest, 3 a page")
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := open(t, "oci://127.0.0.1:1")
	_, err := r.Versions(ctx, "tax")
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, r.Push(ctx, tax("1.0.0"), contents(t, "x", "linux/amd64")), context.Canceled)
	var e *registry.Error
	assert.ErrorAs(t, err, &e)
}

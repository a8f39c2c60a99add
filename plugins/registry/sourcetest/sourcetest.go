// Package sourcetest tests that a registry.Source does what the interface says. Whoever writes a source of his own runs it, too.
//
// It is experimental: it may change in a minor version (docs/promises.md).
package sourcetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Published is a release and its content, by platform. A signature that is "" is none.
type Published struct {
	Release    registry.Release
	Files      map[string]string
	Signatures map[string]string
}

// Releases are what Run wants to find in a source, and nothing else: releases of two plug-ins. Their files have no digests yet: see Push.
func Releases() []Published {
	signature := func(name, version, platform string) string {
		return "untrusted comment: a test's\nRUQAAA==\ntrusted comment: ferrule " + name + " " + version + " " + platform + "\nAAAA\n"
	}
	one := func(version, summary string) Published {
		p := Published{Release: registry.Release{Name: "sample-plugin", Version: version, Summary: summary, License: "Apache-2.0",
			Host: map[string]string{"shop": ">=1.2, <3"}, Requires: []string{"tax ^1.2"}, Conflicts: []string{"old-tax"}, Provides: []string{"rate"},
			Imports: []string{"loyalty_points"}, Permits: map[string][]string{"connect": {"443"}}},
			Files: map[string]string{}, Signatures: map[string]string{}}
		for i, platform := range []string{"linux/amd64", "darwin/arm64", "windows/amd64"} {
			p.Files[platform] = strings.Repeat(fmt.Sprintf("\x7fELF %s for %s\n", version, platform), 400+i)
			p.Signatures[platform] = signature("sample-plugin", version, platform)
		}
		delete(p.Signatures, "windows/amd64")
		return p
	}
	return []Published{
		one("1.0.0", "The first"), one("1.10.0", "Ten <&> more"), one("1.9.0", "Nine"), one("2.0.0-rc.1", "Not yet"),
		{Release: registry.Release{Name: "any_where", Version: "0.1.0", Kind: registry.Wasm}, Files: map[string]string{registry.AnyPlatform: "\x00asm\x01\x00\x00\x00"}},
	}
}

// Push publishes releases: it is what most sources' tests fill their source by.
func Push(t testing.TB, to registry.Pusher, releases []Published) {
	t.Helper()
	for _, p := range releases {
		r, files := p.content(t)
		if err := to.Push(t.Context(), r, files); err != nil {
			t.Fatalf("Push of %s %s: %v", r.Name, r.Version, err)
		}
	}
}

// content writes the files.
func (p Published) content(t testing.TB) (*registry.Release, map[string]registry.Content) {
	t.Helper()
	dir, files, r := t.TempDir(), map[string]registry.Content{}, p.Release
	r.Files = map[string]registry.File{}
	for platform, content := range p.Files {
		path := filepath.Join(dir, strings.ReplaceAll(platform, "/", "-"))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var signature []byte
		if s := p.Signatures[platform]; s != "" {
			signature = []byte(s)
		}
		files[platform] = registry.Content{Path: path, Signature: signature}
		r.Files[platform] = registry.File{Digest: digest(content), Size: int64(len(content))}
	}
	return &r, files
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Run tests a source. open returns one that has the releases, which are those of Releases.
func Run(t *testing.T, open func(t *testing.T, releases []Published) registry.Source) {
	releases := Releases()
	source := open(t, releases)
	find := func(name, version string) Published {
		for _, p := range releases {
			if p.Release.Name == name && p.Release.Version == version {
				return p
			}
		}
		t.Fatalf("no %s %s", name, version)
		return Published{}
	}
	ctx := t.Context()

	t.Run("versions", func(t *testing.T) {
		for name, want := range map[string][]string{"sample-plugin": {"1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1"}, "any_where": {"0.1.0"}} {
			got, err := source.Versions(ctx, name)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("Versions of %s: %q, %v, expected %q", name, got, err, want)
			}
		}
	})

	t.Run("releases", func(t *testing.T) {
		for _, p := range releases {
			r, err := source.Release(ctx, p.Release.Name, p.Release.Version)
			if err != nil {
				t.Errorf("Release %s %s: %v", p.Release.Name, p.Release.Version, err)
				continue
			}
			want, got := p.Release, *r
			for platform, content := range p.Files {
				if f := got.Files[platform]; f.Digest != digest(content) || f.Size != int64(len(content)) {
					t.Errorf("%s %s for %s: %+v, expected %s with %d bytes", want.Name, want.Version, platform, f, digest(content), len(content))
				}
			}
			if len(got.Files) != len(p.Files) {
				t.Errorf("%s %s: files for %q", want.Name, want.Version, slices.Sorted(maps.Keys(got.Files)))
			}
			got.Files, got.Tag, got.Digest = nil, "", ""
			if got.Kind == "" {
				got.Kind = registry.Library
			}
			if want.Kind == "" {
				want.Kind = registry.Library
			}
			if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
				t.Errorf("found %s, expected %s", g, w)
			}
		}
	})

	t.Run("the newest", func(t *testing.T) {
		for name, want := range map[string]string{"sample-plugin": "1.10.0", "any_where": "0.1.0"} {
			if r, err := source.Release(ctx, name, ""); err != nil || r.Version != want {
				t.Errorf("%s: %+v, %v, expected %s", name, r, err, want)
			}
		}
	})

	t.Run("what is not there", func(t *testing.T) {
		for _, name := range []string{"another", "sample", "sample-plugin-linux-amd64"} {
			if _, err := source.Versions(ctx, name); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Versions of %s: %v", name, err)
			}
			if _, err := source.Release(ctx, name, "1.0.0"); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Release of %s: %v", name, err)
			}
		}
		for _, version := range []string{"1.0.1", "3.0.0", "1.0"} {
			if r, err := source.Release(ctx, "sample-plugin", version); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Release %s: %+v, %v", version, r, err)
			}
		}
		r, err := source.Release(ctx, "sample-plugin", "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		for _, platform := range []string{"linux/s390x", "any", ""} {
			if body, _, _, err := source.Open(ctx, r, platform, 0); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Open for %q: %v, %v", platform, body, err)
			}
		}
	})

	t.Run("names that are none", func(t *testing.T) {
		for _, bad := range []string{"../sample-plugin", "..", ".", "", "a/b", `a\b`, "/etc/passwd", "a\x00b", "a b", "a?b", "a#b", "%2e%2e", "{plugin}", strings.Repeat("a", 1000)} {
			if v, err := source.Versions(ctx, bad); err == nil {
				t.Errorf("Versions of %q: %q", bad, v)
			}
			if r, err := source.Release(ctx, bad, "1.0.0"); err == nil {
				t.Errorf("Release of %q: %+v", bad, r)
			}
			if bad != "" {
				if r, err := source.Release(ctx, "sample-plugin", bad); err == nil {
					t.Errorf("Release %q: %+v", bad, r)
				}
			}
		}
	})

	read := func(r *registry.Release, platform string, from int64) (content string, at, size int64, err error) {
		body, at, size, err := source.Open(ctx, r, platform, from)
		if err != nil {
			return "", 0, 0, err
		}
		defer body.Close()
		b, err := io.ReadAll(body)
		return string(b), at, size, err
	}
	t.Run("files", func(t *testing.T) {
		for _, p := range releases {
			r, err := source.Release(ctx, p.Release.Name, p.Release.Version)
			if err != nil {
				t.Fatal(err)
			}
			// What the lock keeps of it is enough.
			r = &registry.Release{Name: r.Name, Version: r.Version, Kind: r.Kind, Files: r.Files, Tag: r.Tag, Digest: r.Digest}
			for platform, content := range p.Files {
				n := int64(len(content))
				for _, from := range []int64{0, 1, n / 2, n - 1, n} {
					got, at, size, err := read(r, platform, from)
					if err != nil || at > from || size != n && size != -1 || got != content[min(at, n):] {
						t.Errorf("%s %s for %s from %d: %d bytes from %d of %d, %v", r.Name, r.Version, platform, from, len(got), at, size, err)
					}
				}
				signature, err := source.Signature(ctx, r, platform)
				if err != nil || string(signature) != p.Signatures[platform] || (signature == nil) != (p.Signatures[platform] == "") {
					t.Errorf("signature of %s %s for %s: %q, %v", r.Name, r.Version, platform, signature, err)
				}
			}
		}
	})

	t.Run("other bytes than announced", func(t *testing.T) {
		r, err := source.Release(ctx, "sample-plugin", "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []int64{-1, 1} {
			other := *r
			other.Files = maps.Clone(r.Files)
			f := other.Files["linux/amd64"]
			f.Size += by
			other.Files["linux/amd64"] = f
			if got, _, size, err := read(&other, "linux/amd64", 0); err == nil {
				t.Errorf("%d bytes of %d and no error, where %d were announced", len(got), size, f.Size)
			} else if _, ok := errors.AsType[*registry.Error](err); !ok {
				t.Errorf("%v, expected a *registry.Error", err)
			}
		}
	})

	t.Run("a context that has ended", func(t *testing.T) {
		r, err := source.Release(ctx, "sample-plugin", "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err = source.Versions(ctx, "sample-plugin")
		_, err2 := source.Release(ctx, "sample-plugin", "")
		_, _, _, err3 := source.Open(ctx, r, "linux/amd64", 0)
		_, err4 := source.Signature(ctx, r, "linux/amd64")
		for i, err := range []error{err, err2, err3, err4} {
			if _, ok := errors.AsType[*registry.Error](err); !ok || !errors.Is(err, context.Canceled) {
				t.Errorf("%d: %v, expected a *registry.Error by %v", i, err, context.Canceled)
			}
		}
	})

	t.Run("many at once", func(t *testing.T) {
		p := find("sample-plugin", "1.9.0")
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				r, err := source.Release(ctx, "sample-plugin", "1.9.0")
				if err != nil {
					t.Error(err)
					return
				}
				if got, _, _, err := read(r, "darwin/arm64", 0); err != nil || got != p.Files["darwin/arm64"] {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		all.Wait()
	})

	if s := source.String(); !strings.Contains(s, "://") {
		t.Errorf("String: %q, expected a URL", s)
	}
}

// RunPusher tests that what is published stays. open returns a place with nothing in it, and the same place for each call within one test t.
func RunPusher(t *testing.T, open func(t *testing.T) registry.Pusher) {
	base := Releases()[0]
	content := func(t *testing.T, s registry.Source, version, want string) {
		t.Helper()
		r, err := s.Release(t.Context(), base.Release.Name, version)
		if err != nil {
			t.Fatal(err)
		}
		body, _, _, err := s.Open(t.Context(), r, "linux/amd64", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		if b, err := io.ReadAll(body); err != nil || string(b) != want {
			t.Errorf("%s: %d bytes, %v, expected %d", version, len(b), err, len(want))
		}
	}
	t.Run("the same again", func(t *testing.T) {
		p := open(t)
		Push(t, p, []Published{base, base})
		versions, err := p.Versions(t.Context(), base.Release.Name)
		if err != nil || !slices.Equal(versions, []string{"1.0.0"}) {
			t.Errorf("%q, %v", versions, err)
		}
	})
	t.Run("other bytes", func(t *testing.T) {
		p := open(t)
		Push(t, p, []Published{base})
		other := base
		other.Files = maps.Clone(base.Files)
		other.Files["linux/amd64"] = "other"
		r, files := other.content(t)
		if err := p.Push(t.Context(), r, files); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("found %v, expected %v", err, registry.ErrReplaced)
		}
		content(t, p, "1.0.0", base.Files["linux/amd64"])
	})
	t.Run("another description", func(t *testing.T) {
		p := open(t)
		Push(t, p, []Published{base})
		other := base
		other.Release.Requires = []string{"tax ^2"}
		r, files := other.content(t)
		if err := p.Push(t.Context(), r, files); !errors.Is(err, registry.ErrReplaced) {
			t.Errorf("found %v, expected %v", err, registry.ErrReplaced)
		}
	})
	// refused tells whether a Push was, and checks that it says so with a kind.
	refused := func(t *testing.T, p registry.Pusher, pushed Published) bool {
		t.Helper()
		r, files := pushed.content(t)
		err := p.Push(t.Context(), r, files)
		if e, ok := errors.AsType[*registry.Error](err); err != nil && (!ok || e.Kind == nil) {
			t.Errorf("%v, expected a *registry.Error with a kind", err)
		}
		return err != nil
	}
	marked := func(version, tag, mark string) Published {
		other := base
		other.Release.Version, other.Release.Tag, other.Files = version, tag, map[string]string{}
		for platform, content := range base.Files {
			other.Files[platform] = mark + content
		}
		return other
	}
	for name, second := range map[string]Published{
		"two versions under one tag":             marked("1.1.0", "t1", "second "),
		"two versions that differ in a v":        marked("v1.0.0", "", "second "),
		"two tags that differ in case":           marked("1.1.0", "T1", "second "),
		"two versions and tags, one below other": marked("1.1.0", "t1/b", "second "),
	} {
		t.Run(name, func(t *testing.T) {
			p, first := open(t), marked("1.0.0", second.Release.Tag, "first ")
			if first.Release.Tag != "" {
				first.Release.Tag = "t1"
			}
			Push(t, p, []Published{first})
			ok := !refused(t, p, second)
			p = open(t)
			content(t, p, "1.0.0", first.Files["linux/amd64"])
			if ok {
				content(t, p, second.Release.Version, second.Files["linux/amd64"])
			} else if _, err := p.Release(t.Context(), second.Release.Name, second.Release.Version); err == nil {
				t.Error("it was refused, and is there")
			}
		})
	}
	t.Run("two plug-ins that differ in case", func(t *testing.T) {
		p := open(t)
		other := base
		other.Release.Name = strings.ToUpper(base.Release.Name)
		Push(t, p, []Published{base})
		refused(t, p, other)
		content(t, open(t), "1.0.0", base.Files["linux/amd64"])
	})
	signatures := func(t *testing.T, s registry.Source, want string) {
		t.Helper()
		r, err := s.Release(t.Context(), base.Release.Name, "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Signature(t.Context(), r, "linux/amd64"); err != nil || string(got) != want {
			t.Errorf("the signature %q, %v, expected %q", got, err, want)
		}
	}
	signed := func(tag, by string) Published {
		other := base
		other.Release.Tag, other.Signatures = tag, nil
		if by != "" {
			other.Signatures = map[string]string{"linux/amd64": strings.Replace(base.Signatures["linux/amd64"], "a test's", by, 1)}
		}
		return other
	}
	t.Run("a signature later", func(t *testing.T) {
		p, later := open(t), signed("", "later")
		Push(t, p, []Published{signed("", "")})
		want := ""
		if !refused(t, p, later) {
			want = later.Signatures["linux/amd64"]
		}
		signatures(t, open(t), want)
	})
	for _, tag := range []string{"", "t1"} {
		t.Run("another signature, tag "+tag, func(t *testing.T) {
			p, first := open(t), signed(tag, "first")
			Push(t, p, []Published{first})
			r, files := signed("", "second").content(t)
			if err := p.Push(t.Context(), r, files); !errors.Is(err, registry.ErrReplaced) {
				t.Errorf("found %v, expected %v", err, registry.ErrReplaced)
			}
			if refused(t, p, signed("", "first")) {
				t.Error("the same again was refused")
			}
			signatures(t, open(t), first.Signatures["linux/amd64"])
		})
	}
	t.Run("more platforms later", func(t *testing.T) {
		p, first, second := open(t), base, base
		first.Files = map[string]string{"linux/amd64": base.Files["linux/amd64"]}
		second.Files = map[string]string{"darwin/arm64": base.Files["darwin/arm64"]}
		Push(t, p, []Published{first})
		want := []string{"linux/amd64"}
		if !refused(t, p, second) {
			want = []string{"darwin/arm64", "linux/amd64"}
		}
		p = open(t)
		r, err := p.Release(t.Context(), base.Release.Name, "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(r.Files)); !slices.Equal(got, want) {
			t.Errorf("files for %q, expected %q", got, want)
		}
		content(t, p, "1.0.0", base.Files["linux/amd64"])
	})
	t.Run("a file that is not what its digest says", func(t *testing.T) {
		p := open(t)
		r, files := base.content(t)
		f := r.Files["linux/amd64"]
		f.Digest = digest("other")
		r.Files["linux/amd64"] = f
		if err := p.Push(t.Context(), r, files); !errors.Is(err, registry.ErrDigest) {
			t.Errorf("found %v, expected %v", err, registry.ErrDigest)
		}
		if _, err := p.Release(t.Context(), r.Name, r.Version); err == nil {
			t.Error("it was published")
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var all sync.WaitGroup
		var want []string
		first := open(t)
		for i := range 8 {
			other := base
			other.Release.Version = fmt.Sprintf("1.%d.0", i)
			want = append(want, other.Release.Version)
			r, files := other.content(t)
			p := open(t)
			all.Go(func() {
				if err := p.Push(t.Context(), r, files); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		got, err := first.Versions(t.Context(), base.Release.Name)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v, expected %q", got, err, want)
		}
		for _, version := range want {
			content(t, first, version, base.Files["linux/amd64"])
		}
	})
}

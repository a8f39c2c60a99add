package index_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// shop has releases in memory, by plug-in.
type shop struct {
	releases map[string][]registry.Release
	down     string           // the plug-in at which it cannot be reached
	faults   map[string]error // what it says of a plug-in, by kind
	asked    atomic.Int64
}

func (s *shop) String() string { return "https://plugins.example" }

func (s *shop) Versions(ctx context.Context, name string) (all []string, err error) {
	s.asked.Add(1)
	if name == s.down {
		return nil, &registry.Error{Plugin: name, Kind: registry.ErrUnavailable}
	} else if s.down != "" {
		<-ctx.Done() // nobody else answers
		return nil, ctx.Err()
	}
	if kind := s.faults[name]; kind != nil {
		return nil, &registry.Error{Plugin: name, Kind: kind}
	}
	for _, r := range s.releases[name] {
		all = append(all, r.Version)
	}
	return all, nil
}

func (s *shop) Release(_ context.Context, name, version string) (*registry.Release, error) {
	for _, r := range s.releases[name] {
		if r.Version == version {
			return &r, nil
		}
	}
	return nil, &registry.Error{Plugin: name, Version: version, Kind: registry.ErrNotFound}
}

func (s *shop) Open(context.Context, *registry.Release, string, int64) (io.ReadCloser, int64, int64, error) {
	panic("an index needs no files")
}

func (s *shop) Signature(context.Context, *registry.Release, string) ([]byte, error) {
	panic("an index needs no signatures")
}

func TestGather(t *testing.T) {
	release := func(version, summary string, platforms ...string) registry.Release {
		r := registry.Release{Version: version, Summary: summary, License: "MIT", Kind: registry.Wasm, Host: map[string]string{"shop": "^1"}, Files: map[string]registry.File{}}
		for _, p := range platforms {
			r.Files[p] = registry.File{}
		}
		return r
	}
	s := &shop{releases: map[string][]registry.Release{
		"tax":  {release("1.9.0", "old"), release("1.10.0", "Adds tax", "linux/arm64", "any"), release("2.0.0-rc.1", "new")},
		"beta": {release("0.1.0-a", "first"), release("0.1.0-b", "second", "any")},
		"odd":  {release("1", "no version")},
	}}
	entries, left, err := index.Gather(t.Context(), s, []string{"tax", "odd", "beta", "tax"})
	require.NoError(t, err)
	assert.Equal(t, []index.Entry{
		{Name: "beta", Summary: "second", Kind: registry.Wasm, License: "MIT", Versions: []string{"0.1.0-b", "0.1.0-a"}, Platforms: []string{"any"}, Host: map[string]string{"shop": "^1"}},
		{Name: "tax", Summary: "Adds tax", Kind: registry.Wasm, License: "MIT", Versions: []string{"2.0.0-rc.1", "1.10.0", "1.9.0"}, Platforms: []string{"any", "linux/arm64"}, Host: map[string]string{"shop": "^1"}},
	}, entries)
	require.Len(t, left, 1)
	assert.ErrorIs(t, left["odd"], registry.ErrNotFound)
	_, err = index.Build(acme, 1, day, entries, nil, nil)
	require.NoError(t, err)

	// Half of a registry is no index, and no more is asked of who is not there.
	many := make([]string, 0, 1000)
	for n := range cap(many) {
		many = append(many, fmt.Sprintf("p%03d", n))
	}
	s.down = many[3]
	s.asked.Store(0)
	_, _, err = index.Gather(t.Context(), s, many)
	assert.ErrorIs(t, err, registry.ErrUnavailable)
	assert.Less(t, s.asked.Load(), int64(len(many)/2))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = index.Gather(ctx, s, many)
	assert.ErrorIs(t, err, context.Canceled)
}

// What is no plug-in is left out; whatever may be otherwise the next time, or for somebody else, is no reason to publish an index without it.
func TestGatherFails(t *testing.T) {
	s := &shop{releases: map[string][]registry.Release{"tax": {{Version: "1.0.0"}}}}
	names := []string{"tax", "one", "two"}
	for _, fault := range []error{registry.ErrRefused, registry.ErrDigest, registry.ErrUnavailable, registry.ErrReplaced} {
		s.faults = map[string]error{"one": fault, "two": fault}
		_, _, err := index.Gather(t.Context(), s, names)
		kind(t, err, fault)
	}
	for _, fault := range []error{registry.ErrNotFound, registry.ErrMalformed, registry.ErrName} {
		s.faults = map[string]error{"one": fault, "two": fault}
		entries, left, err := index.Gather(t.Context(), s, names)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Len(t, left, 2)
		kind(t, left["two"], fault)
	}
}

func TestParseRevocation(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for text, want := range map[string]index.Revocation{
		"tax@1.2.3=it deletes":         {Name: "tax", Versions: "1.2.3", Why: "it deletes"},
		"tax@<1.4=x = y":               {Name: "tax", Versions: "<1.4", Why: "x = y"},
		"tax@>=1.2, <1.4=it deletes":   {Name: "tax", Versions: ">=1.2, <1.4", Why: "it deletes"},
		"tax@=1.0.0=because":           {Name: "tax", Versions: "=1.0.0", Why: "because"},
		"tax@!=1.0.0=because":          {Name: "tax", Versions: "!=1.0.0", Why: "because"},
		"tax@*=2=3":                    {Name: "tax", Versions: "*", Why: "2=3"},
		digest + "=CVE-2026-1 a=b":     {Digest: digest, Why: "CVE-2026-1 a=b"},
		"tax@1.0.0 || ^2=it's @ fault": {Name: "tax", Versions: "1.0.0 || ^2", Why: "it's @ fault"},
	} {
		got, err := index.ParseRevocation(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"", "tax", "tax=why", "tax@=why", "tax@1.0.0", "tax@1.0.0=", "tax@one=why", "../tax@1=why", "sha256:12=why", digest, "@1=why"} {
		_, err := index.ParseRevocation(text)
		kind(t, err, registry.ErrMalformed)
	}
	for _, text := range []string{"tax@1.0.0", "tax@1.0.0=", "tax@>=1, <2", digest} {
		_, err := index.ParseRevocation(text)
		assert.ErrorContains(t, err, "does not say why", text)
	}
	k, err := index.ParseRevokedKey("0123456789abcdef=lost = gone")
	require.NoError(t, err)
	assert.Equal(t, index.RevokedKey{ID: "0123456789ABCDEF", Why: "lost = gone"}, k)
	for _, text := range []string{"", "0123456789ABCDEF", "0123456789ABCDEF=", "0123=why"} {
		_, err := index.ParseRevokedKey(text)
		kind(t, err, registry.ErrMalformed)
	}
}

func TestFollows(t *testing.T) {
	first := build(t, entry("tax", "Adds tax"))
	folder := t.TempDir()
	there := index.Folder(folder)
	require.NoError(t, first.Follows(t.Context(), there), "nothing is there")
	require.NoError(t, first.Write(folder, nil))
	assert.NoError(t, first.Follows(t.Context(), there), "the same")
	kind(t, build(t, entry("tax", "Adds duty")).Follows(t.Context(), there), registry.ErrStale)
	next, err := index.Build(acme, 8, day, nil, nil, nil)
	require.NoError(t, err)
	assert.NoError(t, next.Follows(t.Context(), there))
	back, err := index.Build(acme, 8, day.AddDate(0, 0, -1), nil, nil, nil)
	require.NoError(t, err)
	kind(t, back.Follows(t.Context(), there), registry.ErrStale)
	other, err := index.Build("registry.example/shop", 8, day, nil, nil, nil)
	require.NoError(t, err)
	assert.Contains(t, kind(t, other.Follows(t.Context(), there), registry.ErrIndex).Error(), `found "ferrule-index registry.example/shop 8 `)
	kind(t, next.Follows(t.Context(), &source{root: []byte("{}")}), registry.ErrMalformed)
}

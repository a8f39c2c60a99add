package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// gatherers is how many plug-ins Gather asks a source for at a time.
const gatherers = 8

// Gather makes the entries of plug-ins from what a source says of them, in the order of their names, for Build. left says of each plug-in that has none why: it has
// no version (ErrNotFound), or is none (ErrMalformed, ErrName, ErrVersion, ErrKind). All else is an err, such as a source that cannot be reached or that refuses, or the
// context's end, since an index without half of its plug-ins would be worse than none.
// Keywords and Weight are not known to a source.
func Gather(ctx context.Context, from registry.Source, names []string) (entries []Entry, left map[string]error, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	all, errs := make([]Entry, len(names)), make([]error, len(names))
	next := make(chan int)
	var wait sync.WaitGroup
	for range gatherers {
		wait.Go(func() {
			for i := range next {
				all[i], errs[i] = gather(ctx, from, names[i])
				if errs[i] != nil && !isNone(errs[i]) {
					cancel(errs[i])
				}
			}
		})
	}
	for i := range names {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	left = map[string]error{}
	for i, name := range names {
		if errs[i] != nil {
			left[name] = errs[i]
		} else {
			entries = append(entries, all[i])
		}
	}
	return entries, left, nil
}

// isNone reports whether an error says that a plug-in has no version, or is none: asked again, the source would say so again, to whoever asks.
func isNone(err error) bool {
	e, ok := errors.AsType[*registry.Error](err)
	return ok && slices.Contains([]error{registry.ErrNotFound, registry.ErrMalformed, registry.ErrName, registry.ErrVersion, registry.ErrKind}, e.Kind)
}

// gather makes one entry.
func gather(ctx context.Context, from registry.Source, name string) (e Entry, err error) {
	e.Name = name
	versions, err := from.Versions(ctx, name)
	if err != nil {
		return e, err
	}
	for _, v := range newestFirst(versions, func(string) {}) {
		e.Versions = append(e.Versions, v.Original())
	}
	if len(e.Versions) == 0 {
		return e, &registry.Error{Plugin: name, Source: from.String(), Kind: registry.ErrNotFound, Found: "no version", Expected: "one at least", Remedy: "Publish one: ferrule push"}
	}
	r, err := from.Release(ctx, name, e.Latest())
	if err != nil {
		return e, err
	}
	e.Summary, e.Kind, e.License, e.Host = r.Summary, r.Kind, r.License, r.Host
	for platform := range r.Files {
		e.Platforms = append(e.Platforms, platform)
	}
	slices.Sort(e.Platforms)
	return e, nil
}

// newestFirst sorts semantic versions; none is told of each text that is none.
func newestFirst(texts []string, none func(text string)) (versions []*semver.Version) {
	for _, text := range texts {
		v, err := semver.StrictNewVersion(text)
		if err != nil || len(text) > registry.MaxName {
			none(text)
			continue
		}
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(v, w *semver.Version) int {
		return cmp.Or(w.Compare(v), strings.Compare(v.Original(), w.Original()))
	})
	return slices.CompactFunc(versions, func(v, w *semver.Version) bool { return v.Original() == w.Original() })
}

// Follows returns nil where an index may take the place of the one that is published: where none is, an older one of the same name, or the same. Otherwise it
// is an *registry.Error: ErrIndex where the one that is there has another name, ErrStale, or why the one that is there cannot be read.
func (b *Built) Follows(ctx context.Context, there Fetcher) error {
	text, _, err := there.Root(ctx)
	if errors.Is(err, registry.ErrNotFound) || err == nil && string(text) == string(b.Root) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := parseRoot(text)
	if err != nil {
		return &registry.Error{Source: there.String(), Kind: registry.ErrMalformed, Found: "an index.json that cannot be read", Err: err, Remedy: "Delete it, and make one with ferrule index --serial and a number that nobody has seen"}
	}
	if r.Name != b.Name {
		return &registry.Error{Source: there.String(), Kind: registry.ErrIndex, Found: fmt.Sprintf("%q to be published", b.Comment),
			Expected: fmt.Sprintf("the name of %q, which is there", r.comment()),
			Remedy:   "Publish it in its own registry. If this registry is to have another name, delete the index there first: whoever has seen it refuses the new one"}
	}
	if r.Serial >= b.Serial || r.Date.After(b.Date) {
		return &registry.Error{Source: there.String(), Kind: registry.ErrStale, Found: fmt.Sprintf("%q to be published", b.Comment), Expected: fmt.Sprintf("a serial and a date after %q, which is there", r.comment()),
			Remedy: "Build it anew, over the one that is there"}
	}
	return nil
}

// ParseRevocation reads what is to be revoked, and why: NAME@VERSIONS=WHY or sha256:…=WHY. The versions end at the first = before which they are a range.
func ParseRevocation(text string) (Revocation, error) {
	what, why, _ := strings.Cut(text, "=")
	if strings.HasPrefix(what, "sha256:") {
		r := Revocation{Digest: what, Why: why}
		return r, r.refused(text)
	}
	name, rest, _ := strings.Cut(text, "@")
	for at := range len(rest) {
		if rest[at] != '=' {
			continue
		}
		if _, err := semver.NewConstraint(rest[:at]); err == nil && strings.TrimSpace(rest[:at]) != "" {
			r := Revocation{Name: name, Versions: strings.TrimSpace(rest[:at]), Why: rest[at+1:]}
			return r, r.refused(text)
		}
	}
	r := Revocation{Name: name, Why: why}
	if _, err := semver.NewConstraint(rest); err == nil && strings.TrimSpace(rest) != "" { // and no reason
		r.Versions, r.Why = strings.TrimSpace(rest), ""
	}
	return r, r.refused(text)
}

// refused says why a text is no revocation.
func (r *Revocation) refused(text string) error {
	if err := r.check(); err != nil {
		return &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("the revocation %.200q", text), Expected: "NAME@VERSIONS=WHY or sha256:DIGEST=WHY, such as 'tax@<1.2.4=it loses orders'", Err: err}
	}
	return nil
}

// ParseRevokedKey reads whose signatures count no more, and why: ID=WHY.
func ParseRevokedKey(text string) (RevokedKey, error) {
	id, why, _ := strings.Cut(text, "=")
	k := RevokedKey{ID: strings.ToUpper(id), Why: why}
	if err := k.check(); err != nil {
		return k, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("the revoked key %.200q", text), Expected: "ID=WHY, with the id that ferrule verify shows", Err: err}
	}
	return k, nil
}

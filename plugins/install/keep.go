package install

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Remove takes plug-ins out of the lock, and what they alone require. wants are those that stay; so do others of the lock, such as what is disabled. One that another requires, which stays,
// is an error. The store keeps the files until GC. removed is sorted. An application that looks at the lock meanwhile installs again what its configuration still wants: so what wants it
// changes first, once Removable says that it may go.
func (in *Installer) Remove(ctx context.Context, wants []Want, names ...string) (removed []string, err error) {
	err = in.try(ctx, func(s *session) error {
		if removed, err = s.remove(wants, names); err != nil {
			return err
		}
		return s.commit(ctx)
	})
	return removed, err
}

// Removable returns the error that Remove would return of what is in the lock now, or of a lock that cannot be written, and changes nothing.
func (in *Installer) Removable(ctx context.Context, wants []Want, names ...string) error {
	return in.try(ctx, func(s *session) error {
		if _, err := s.remove(wants, names); err != nil || s.ReadOnly || len(s.next) == 0 {
			return err
		}
		return lock.Writable(ctx, s.Lock)
	})
}

// remove has the next lock be one without what is removed.
func (s *session) remove(wants []Want, names []string) (removed []string, err error) {
	for name := range s.lock.Plugins {
		s.seen[name] = true
	}
	gone, _ := s.reach(names, nil)
	var roots []string
	for _, name := range sortedKeys(s.lock.Plugins) {
		wanted := slices.ContainsFunc(wants, func(w Want) bool { return w.Name == name })
		if (wanted || !slices.Contains(gone, name)) && !slices.Contains(names, name) {
			roots = append(roots, name)
		}
	}
	stay, _ := s.reach(roots, nil)
	for _, name := range names {
		switch {
		case s.lock.Plugins[name] == nil:
			return nil, s.noneOf(name, "Correct the name")
		case slices.Contains(stay, name):
			by := slices.IndexFunc(stay, func(other string) bool { return s.lock.Plugins[other].Requires[name] != "" })
			return nil, &registry.Error{Plugin: name, Kind: registry.ErrConflict, Found: "that " + stay[by] + " requires it", Expected: "one that nobody needs", Remedy: "Remove " + stay[by] + ", too"}
		}
	}
	for _, name := range gone {
		if !slices.Contains(stay, name) {
			s.next[name] = nil
			removed = append(removed, name)
		}
	}
	return removed, nil
}

// Verify looks at all that is in the lock: that its file is in the store, whole, is this plug-in in this version, and that there is a good signature in the lock or in the store, where keys count. It asks
// no source, and changes nothing.
func (in *Installer) Verify(ctx context.Context) (*Result, error) {
	s, err := in.begin(new(call))
	if err != nil {
		return nil, err
	}
	r := &Result{Plugins: map[string]Installed{}, Failed: map[string]error{}}
	names, faults := s.reach(sortedKeys(s.lock.Plugins), nil)
	var all []*candidate
	for _, name := range names {
		all = append(all, s.lockedCandidate(ctx, name, s.lock.Plugins[name]))
	}
	r.Failed = s.each(ctx, all, func(ctx context.Context, c *candidate) error {
		name := c.release.Name
		s.mu.Lock()
		s.releases[[2]string{name, c.entry.Version}] = c
		s.mu.Unlock()
		switch {
		case faults[name] != nil:
			return faults[name]
		case c.err != nil:
			return c.err
		case c.path == "":
			_, err := s.Store.Find(ctx, c.file.Digest) // which says why
			return aboutAny(err, c)
		}
		return s.signed(ctx, c)
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for _, name := range names {
		if r.Failed[name] == nil {
			r.Plugins[name] = s.installed(name)
		}
	}
	r.Notices = s.noticed()
	return r, nil
}

// signed finds a good signature of a locked plug-in, of those that are here.
func (s *session) signed(ctx context.Context, c *candidate) error {
	name := c.release.Name
	if first := s.Trust.FirstUse(name); first != "" {
		s.notice(Notice{Plugin: name, Version: c.entry.Version, Source: c.from(), Text: first})
		return nil
	}
	var refused error
	for _, text := range s.signaturesHere(c) {
		_, err := s.signedBy(ctx, c, text)
		if err == nil {
			return nil
		}
		if refused == nil {
			refused = about(err, c, c.from())
		}
	}
	if refused == nil {
		return s.unkept(c, "Fetch it: ferrule install")
	}
	return refused
}

// unkept says that there is no signature for a file of the lock.
func (s *session) unkept(c *candidate, remedy string) error {
	return &registry.Error{Plugin: c.release.Name, Version: c.entry.Version, Source: c.from(), Kind: registry.ErrUnsigned, Found: "no signature of its file for " + c.on, Expected: "one by a key that counts for it", Remedy: remedy}
}

// LockPlatforms adds files for further platforms to what is locked: where the source does not tell their digests, and where keys count, they are fetched, and verified as this platform's were. Where
// keys count, a file that the lock has without its signature is fetched, too, and gets it. What has a file for all platforms needs none. Changes are by name, and have the plug-ins that got one. What fails is in failed by name, and the lock has the others.
func (in *Installer) LockPlatforms(ctx context.Context, platforms ...string) (changes []Change, failed map[string]error, notices []Notice, err error) {
	err = in.try(ctx, func(s *session) error {
		changes, failed = nil, map[string]error{}
		for _, name := range sortedKeys(s.lock.Plugins) {
			e := s.lock.Plugins[name]
			s.seen[name] = true
			now := *e
			now.Files = maps.Clone(e.Files)
			var added []string
			for _, platform := range platforms {
				if _, on, ok := releaseOf(name, &now).For(platform); ok {
					if now.Signatures[on] != "" || s.Trust.FirstUse(name) != "" {
						continue
					}
					platform = on
				}
				f, err := s.onPlatform(ctx, name, e, platform)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					failed[name] = errors.Join(failed[name], err)
					continue
				}
				now.Files[platform] = f
				s.next[name] = &now
				if !slices.Contains(added, platform) {
					added = append(added, platform)
				}
			}
			if added != nil {
				slices.Sort(added)
				changes = append(changes, Change{Name: name, From: e.Version, To: e.Version, Platforms: added})
			}
		}
		err := s.commit(ctx)
		notices = s.noticed()
		return err
	})
	return changes, failed, notices, err
}

// onPlatform is the file of a locked version for another platform.
func (s *session) onPlatform(ctx context.Context, name string, e *lock.Entry, platform string) (registry.File, error) {
	none := func(kind error, found, expected, remedy string) (registry.File, error) {
		return registry.File{}, &registry.Error{Plugin: name, Version: e.Version, Source: e.Source, Kind: kind, Found: found, Expected: expected, Remedy: remedy}
	}
	o := s.origin(ctx, name)
	if o.err != nil {
		return registry.File{}, o.err
	}
	r, err := o.source.Release(ctx, name, e.Version)
	if err != nil {
		return registry.File{}, err
	}
	for _, on := range sortedKeys(e.Files) {
		if d := r.Files[on].Digest; d != "" && d != e.Files[on].Digest {
			return registry.File{}, replacedError(name, e.Version, o.source.String(), "the digest "+d+" for "+on, e.Files[on].Digest, nil)
		}
	}
	f, ok := r.Files[platform]
	if locked, had := e.Files[platform]; had { // without its signature
		f, ok = locked, true
	}
	if !ok {
		return none(registry.ErrPlatform, "files for "+shown(sortedKeys(r.Files)), "one for "+platform, "Ask whoever publishes it for this platform")
	}
	if f.Digest != "" && s.Trust.FirstUse(name) != "" {
		return f, nil
	}
	copied := *r
	copied.Name, copied.Version = name, e.Version
	if copied.Kind == "" {
		copied.Kind = registry.Library
	}
	c := &candidate{source: o.source, release: &copied, on: platform, file: f, described: f.Digest != ""}
	if err := s.fetch(ctx, c); err != nil {
		return registry.File{}, err
	}
	if err := s.verify(ctx, c); err != nil {
		return registry.File{}, err
	}
	f.Digest, f.Size = c.file.Digest, c.file.Size
	return f, nil
}

// Copy publishes what is locked elsewhere, such as in a bundle or a mirror, with its signatures: of the plug-ins of these names (none: all), the files for these platforms (none: all
// that the lock has). What is not in the store is fetched. One that has no file for any of the platforms is an error.
func (in *Installer) Copy(ctx context.Context, to registry.Pusher, names, platforms []string) error {
	s, err := in.begin(new(call))
	if err != nil {
		return err
	}
	all, faults := s.reach(sortedKeys(s.lock.Plugins), nil)
	if len(names) > 0 {
		all, faults = s.reach(names, nil)
	}
	for _, name := range names {
		if s.lock.Plugins[name] == nil {
			return s.noneOf(name, "Correct the name")
		}
	}
	if err := (&Result{Failed: faults}).Err(); err != nil {
		return err
	}
	for _, name := range all {
		if err := s.copy(ctx, to, name, platforms); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) copy(ctx context.Context, to registry.Pusher, name string, platforms []string) error {
	e := s.lock.Plugins[name]
	said := releaseOf(name, e)
	if len(platforms) == 0 {
		platforms = sortedKeys(e.Files)
	}
	var all []*candidate
	for _, platform := range platforms {
		if f, on, ok := said.For(platform); ok && !slices.ContainsFunc(all, func(c *candidate) bool { return c.on == on }) {
			all = append(all, &candidate{entry: e, release: said, on: on, file: f})
		}
	}
	if all == nil {
		return &registry.Error{Plugin: name, Version: e.Version, Path: s.Lock, Kind: registry.ErrPlatform, Found: "files for " + shown(sortedKeys(e.Files)), Expected: "one for " + shown(platforms),
			Remedy: "Add the platform to the lock: ferrule lock --platform"}
	}
	contents := map[string]registry.Content{}
	push := *said
	push.Files, push.Digest = map[string]registry.File{}, ""
	tag := said.Tag
	if first, _, _ := strings.Cut(tag, "/"); strings.EqualFold(first, layout.Latest) { // it moves: no folder has a release under it
		tag = ""
	}
	for _, c := range all {
		f, err := s.Store.Find(ctx, c.file.Digest)
		if err == nil {
			c.take(s, f)
		} else if errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrDigest) {
			c.err = s.fetch(ctx, c)
		} else {
			c.err = err
		}
		if c.err != nil && (c.has == nil || !errors.Is(c.err, registry.ErrHost)) { // it may be for another application
			return c.err
		}
		text, err := s.proven(ctx, c) // what is published stays
		if e.Key != "" && err == nil && text == nil {
			err = s.unkept(c, "Publish its signature there: whoever installs it asks for it")
		}
		if err != nil && e.Key != "" {
			return about(err, c, c.from())
		}
		contents[c.on] = registry.Content{Path: c.path, Signature: text}
		on := push.Files
		push = *c.has
		push.Kind, push.Tag, push.Files = said.Kind, tag, on
		push.Files[c.on] = registry.File{Digest: c.file.Digest, Size: c.file.Size}
	}
	return to.Push(ctx, &push, contents)
}

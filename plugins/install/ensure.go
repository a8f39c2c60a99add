package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// host compares the application's version with what a plug-in was made for.
func (s *session) host(r *registry.Release, source string) error {
	if s.App == "" || len(r.Host) == 0 {
		return nil
	}
	in, ok := r.Host[s.App]
	e := &registry.Error{Plugin: r.Name, Version: r.Version, Source: source, Kind: registry.ErrHost, Found: fmt.Sprintf("%s %s", s.App, s.Version),
		Expected: "host." + s.App + " " + in, Remedy: "Install a version of the plug-in that is for it (ferrule update " + r.Name + "), or another version of the application"}
	switch {
	case !ok:
		e.Found, e.Expected, e.Remedy = "a plug-in for "+shown(sortedKeys(r.Host)), "one for "+s.App, "It was not made for this application: remove it, or ask its author"
	case fits(s.Version, in):
		return nil
	}
	return e
}

// ensure is the work of Ensure.
func (s *session) ensure(ctx context.Context, wants []Want) (*Result, error) {
	wants, err := named(wants)
	if err != nil {
		return nil, err
	}
	r := &Result{Plugins: map[string]Installed{}, Failed: map[string]error{}}
	var roots, missing []string
	var good []Want
	for _, w := range wants {
		switch e := s.lock.Plugins[w.Name]; {
		case s.Local[w.Name] != nil:
			continue
		case e == nil && s.ReadOnly:
			r.Failed[w.Name] = s.notLocked(w.Name, "one that is installed", "Install it: ferrule install")
			continue
		case e == nil:
			s.seen[w.Name] = true
			missing = append(missing, w.Name)
		case !fits(e.Version, w.Range):
			r.Failed[w.Name] = s.outOfRange(w, e)
			continue
		}
		roots = append(roots, w.Name)
		good = append(good, w)
	}
	locked, faults := s.reach(roots, s.Local)
	maps.Copy(r.Failed, faults)
	s.load(ctx, locked, r.Failed)
	if missing != nil || slices.ContainsFunc(locked, func(name string) bool { return r.Failed[name] == nil && s.lacking(name) }) {
		if err := s.add(ctx, slices.DeleteFunc(good, func(w Want) bool { return r.Failed[w.Name] != nil }), r); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	roots = slices.DeleteFunc(roots, func(name string) bool { return r.Failed[name] != nil })
	all, _ := s.reach(roots, s.Local)
	spread(r.Failed, all, func(name string) []string { return sortedKeys(s.entry(name).Requires) })
	if err := s.commit(ctx); err != nil {
		return nil, err
	}
	for _, name := range all {
		if r.Failed[name] == nil {
			r.Plugins[name] = s.installed(name)
			s.noticeRevoked(name)
		}
	}
	r.Notices, r.Lock = s.noticed(), s.text
	return r, nil
}

// notLocked is the error of a name that the lock does not have.
func (s *session) notLocked(name, expected, remedy string) error {
	return &registry.Error{Plugin: name, Path: s.Lock, Kind: registry.ErrNotFound, Found: "no plug-in of this name in the lock", Expected: expected, Remedy: remedy}
}

// noneOf is the error of a name that was given, and that the lock does not have. remedy is for a lock that has others.
func (s *session) noneOf(name, remedy string) error {
	if len(s.lock.Plugins) == 0 {
		return s.notLocked(name, "one that is installed, and none is", "Install it: ferrule install "+name)
	}
	return s.notLocked(name, "one of "+shown(sortedKeys(s.lock.Plugins)), remedy)
}

// lacking reports whether a library in the store requires something that neither its entry in the lock has nor a local plug-in meets: it was locked beside one that is
// not here.
func (s *session) lacking(name string) bool {
	e := s.lock.Plugins[name]
	for _, line := range s.releases[[2]string{name, e.Version}].release.Requires {
		need, in := ranges.Split(line)
		local := s.Local[need]
		if local == nil && e.Requires[need] == "" || local != nil && !fits(local.Version, in) {
			return true
		}
	}
	return false
}

// noticeRevoked says that a locked plug-in was revoked since, where the index was opened anyway. Neither lock nor store change by that, so that the next start, which opens none,
// does the same: it is no error.
func (s *session) noticeRevoked(name string) {
	x, e := s.opened(), s.lock.Plugins[name]
	if x == nil || e == nil {
		return
	}
	if err := s.revocation(x, releaseOf(name, e), e.Key); err != nil {
		s.noticeOf(name, e, err)
	}
}

// noticeOf says what is wrong with a locked plug-in that stays all the same.
func (s *session) noticeOf(name string, e *lock.Entry, err error) {
	text := err.Error()
	if r, ok := errors.AsType[*registry.Error](err); ok { // what the notice says already
		said := *r
		said.Plugin, said.Version = "", ""
		text = said.Error()
	}
	s.notice(Notice{Plugin: name, Version: e.Version, Source: e.Source, Text: text})
}

func (s *session) outOfRange(w Want, e *lock.Entry) error {
	in, has := ranges.Parse(w.Range), ranges.ParseVersion(e.Version)
	if in.Fits(has) == ranges.NoRange {
		return &registry.Error{Plugin: w.Name, Kind: registry.ErrMalformed, Found: fmt.Sprintf("%q for a range", w.Range), Expected: ranges.Expected, Remedy: "Correct it in config.yaml"}
	}
	update := "ferrule update " // with all that keeps it from another version
	if e.Pinned {
		update += "--unpin "
	}
	if has.Comparable() && !in.Above(has) {
		update += "--allow-downgrade "
	}
	return &registry.Error{Plugin: w.Name, Version: e.Version, Path: s.Lock, Kind: registry.ErrLock, Found: "version " + e.Version + " in the lock", Expected: w.Range + ", as config.yaml says",
		Remedy: "Take another version into the lock: " + update + w.Name + ". Or correct the range in config.yaml"}
}

// load has what is locked in the store, as it is in the lock: nothing is asked of a source where the store has it all. What is wrong is in failed.
func (s *session) load(ctx context.Context, names []string, failed map[string]error) {
	var all []*candidate
	for _, name := range names {
		if failed[name] == nil {
			all = append(all, &candidate{release: &registry.Release{Name: name}})
		}
	}
	maps.Copy(failed, s.each(ctx, all, func(ctx context.Context, c *candidate) error {
		name := c.release.Name
		e := s.lock.Plugins[name]
		c, err := s.candidate(ctx, name, e.Version)
		if err != nil {
			return err
		}
		fetched := c.path == ""
		if fetched {
			if err := s.lockedRevoked(ctx, name, e); err != nil {
				return err
			}
			if err := s.fetch(ctx, c); err != nil {
				return err
			}
			s.progress.report(Progress{Plugin: name, Version: e.Version, Platform: c.on, Stage: StageDone, Bytes: c.file.Size, Total: c.file.Size})
		}
		if err := s.trusted(ctx, c); err != nil {
			return err
		}
		if x := s.opened(); fetched && x != nil && c.key != "" { // it may be another key than the lock's, which signed another platform's file
			return aboutAny(x.RevokedKey(c.key), c)
		}
		return nil
	}))
}

// trusted says whether a locked plug-in may be loaded by the keys that count now: they may have been revoked, or been written to config.yaml, since it was locked. The lock's key has
// signed the file of the platform where it was locked, and its digests of the others are what the source said: so it is this file's signature that counts, from the lock or from elsewhere.
func (s *session) trusted(ctx context.Context, c *candidate) error {
	name := c.release.Name
	if c.entry.Key != "" {
		err := s.Trust.Counts(name, c.entry.Key)
		if err != nil && (s.Trust.FirstUse(name) == "" || !errors.Is(err, registry.ErrKey)) {
			return aboutAny(err, c)
		}
	}
	if first := s.Trust.FirstUse(name); first != "" { // no keys are set, or none any more: the lock counts
		s.notice(Notice{Plugin: name, Version: c.entry.Version, Source: c.from(), Text: first})
		return nil
	}
	if c.done {
		return nil
	}
	if s.ReadOnly && len(s.signaturesHere(c)) == 0 {
		return s.unkept(c, "Fetch it: ferrule install")
	}
	if err := s.verify(ctx, c); err != nil || c.entry.Key != "" {
		return err
	}
	signed := *c.entry
	signed.Key = c.key
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[name] = &signed
	return nil
}

// aboutAny is about, of an error that may be nil.
func aboutAny(err error, c *candidate) error {
	if err == nil {
		return nil
	}
	return about(err, c, c.from())
}

// add takes what is wanted and not locked into the lock, with all that it requires. What is locked stays.
func (s *session) add(ctx context.Context, wants []Want, r *Result) error {
	u := &universe{session: s, held: map[string]bool{}, reject: map[[2]string]error{}, blocked: map[[2]string]error{}}
	for name := range s.lock.Plugins {
		u.held[name] = true
	}
	chosen, failed, err := u.resolve(ctx, wants)
	if err != nil {
		return err
	}
	maps.Copy(r.Failed, failed)
	var fresh []*candidate
	var locked []string
	for _, name := range sortedKeys(chosen) {
		if c := chosen[name]; c.entry == nil {
			fresh = append(fresh, c)
		} else if c.path == "" || r.Failed[name] == nil {
			locked = append(locked, name)
		}
	}
	s.load(ctx, locked, r.Failed) // what is newly required of the lock
	maps.Copy(r.Failed, s.each(ctx, fresh, s.obtain))
	names := sortedKeys(chosen)
	spread(r.Failed, names, func(name string) []string { return needs(chosen[name].release) })
	taken := map[string]bool{}
	var take func(name string)
	take = func(name string) { // what only one that has failed needs stays out
		c := chosen[name]
		if c == nil || r.Failed[name] != nil || taken[name] {
			return
		}
		taken[name] = true
		if c.entry == nil {
			s.next[name] = s.locked(c, chosen)
		} else {
			s.again(name, s.entry(name), chosen)
		}
		for _, need := range needs(c.release) {
			take(need)
		}
	}
	for _, w := range wants {
		take(w.Name)
	}
	return nil
}

// obtain fetches what is not in the lock, and verifies it. What it asks for comes first: nothing comes that may not be there.
func (s *session) obtain(ctx context.Context, c *candidate) error {
	if err := s.granted(c.release, c.from()); err != nil {
		return err
	}
	if err := s.fetch(ctx, c); err != nil {
		return err
	}
	if err := s.granted(c.has, c.from()); err != nil {
		return err
	}
	return s.verify(ctx, c)
}

// granted says which of what a release asks for it was not granted.
func (s *session) granted(r *registry.Release, source string) error {
	if lacks := s.lacks(r); lacks != nil {
		return s.ungranted(r, lacks, source)
	}
	return nil
}

func (s *session) ungranted(r *registry.Release, lacks []Ask, source string) error {
	remedy := "Grant it, if you trust it with that"
	if s.HowToGrant != nil {
		remedy = s.HowToGrant(r.Name, lacks)
	}
	expected := "a grant of each"
	if permits := func(a Ask) bool { return a.What != "function" && a.What != "service" }; slices.ContainsFunc(lacks, permits) {
		expected = "a grant or a permit of each"
	}
	return &registry.Error{Plugin: r.Name, Version: r.Version, Source: source, Kind: registry.ErrGrant, Found: "that it asks for " + shown(texts(lacks)) + ", which it was not granted", Expected: expected,
		Remedy: remedy}
}

func (s *session) lacks(r *registry.Release) (lacks []Ask) {
	if s.Granted == nil {
		return nil
	}
	for _, ask := range asks(r) {
		if ask.What == "function" && s.services[ask.Item] {
			ask.What = "service"
		}
		if !s.grants(r.Name, r.Version, ask) {
			lacks = append(lacks, ask)
		}
	}
	return lacks
}

// grants asks Granted, which is foreign: one call at a time.
func (in *Installer) grants(plugin, version string, ask Ask) bool {
	in.asking.Lock()
	defer in.asking.Unlock()
	return in.Granted(plugin, version, ask)
}

// neverGranted says which of what a candidate asks for it was not granted, whatever is beside it: a function that it is not granted of the application might be one that another plug-in provides.
func (s *session) neverGranted(c *candidate) error {
	if s.Granted == nil {
		return nil
	}
	var lacks []Ask
	for _, ask := range asks(c.release) {
		service := Ask{What: "service", Item: ask.Item}
		if !s.grants(c.release.Name, c.release.Version, ask) && (ask.What != "function" || !s.grants(c.release.Name, c.release.Version, service)) {
			lacks = append(lacks, ask)
		}
	}
	if lacks == nil {
		return nil
	}
	return s.ungranted(c.release, lacks, c.from())
}

// needs are the names of what a release requires.
func needs(r *registry.Release) (names []string) {
	for _, line := range r.Requires {
		name, _ := ranges.Split(line)
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// locked is the entry of a candidate that was verified.
func (s *session) locked(c *candidate, chosen map[string]*candidate) *lock.Entry {
	e := &lock.Entry{Version: c.release.Version, Source: nameOf(c.source), Tag: c.release.Tag, Digest: c.release.Digest, Kind: c.release.Kind, Files: map[string]registry.File{}, Key: c.key,
		Grants: texts(asks(cmp.Or(c.has, c.release))), Says: says(c.release)}
	for platform, f := range c.release.Files {
		if f.Digest != "" {
			e.Files[platform] = f
		}
	}
	e.Requires = s.requires(c, nil, chosen)
	return e
}

// requires is what an entry is to have of what its plug-in requires: the versions that were chosen; of what is local the one that the lock has, where it fits, or none.
func (s *session) requires(c *candidate, before map[string]string, chosen map[string]*candidate) map[string]string {
	now := maps.Clone(before)
	for _, line := range c.release.Requires {
		need, in := ranges.Split(line)
		version := ""
		if other := chosen[need]; other != nil {
			version = other.release.Version
		} else if e := s.entry(need); s.Local[need] != nil && e != nil && fits(e.Version, in) {
			version = e.Version
		}
		if version == "" {
			continue
		}
		if now == nil {
			now = map[string]string{}
		}
		now[need] = version
	}
	return now
}

// nameOf is a source as the lock has it: a file of this machine is none that others have.
func nameOf(src registry.Source) string {
	if _, single := src.(*single); single || src == nil {
		return ""
	}
	return src.String()
}

// installed is what is locked and in the store.
func (s *session) installed(name string) Installed {
	e := s.entry(name)
	c := s.releases[[2]string{name, e.Version}]
	before := s.lock.Plugins[name]
	return Installed{Name: name, Version: e.Version, Path: c.path, Digest: c.file.Digest, Kind: c.release.Kind, Source: e.Source, Key: e.Key, Requires: sortedKeys(e.Requires), Pinned: e.Pinned,
		New: before == nil || before.Version != e.Version}
}

// revoked says whether a release was revoked, or the key that has signed it; key is "" where that is not known yet.
func (s *session) revoked(ctx context.Context, r *registry.Release, key string) error {
	x, err := s.openIndex(ctx)
	if err != nil || x == nil {
		return aboutAny(err, &candidate{release: r})
	}
	return aboutAny(s.revocation(x, r, key), &candidate{release: r})
}

func (s *session) revocation(x Revocations, r *registry.Release, key string) error {
	var digests []string
	for _, on := range sortedKeys(r.Files) {
		if d := r.Files[on].Digest; d != "" {
			digests = append(digests, d)
		}
	}
	err := x.Revoked(r.Name, r.Version, digests...)
	if e, ok := errors.AsType[*registry.Error](err); ok && (e.Remedy == "" || e.Remedy == index.AnotherVersion) {
		said := *e
		said.Remedy, err = s.another(r.Name), &said
	}
	if err == nil && key != "" {
		err = x.RevokedKey(key)
	}
	return err
}

// another says how another version of a plug-in is had in the place of a revoked one.
func (s *session) another(name string) string {
	s.mu.Lock()
	e := s.entry(name)
	s.mu.Unlock()
	switch {
	case e == nil:
		return "Ask for another version: ferrule install " + name + "@RANGE, or another range as its version in config.yaml"
	case e.Pinned:
		return index.AnotherVersion + ": ferrule update --unpin " + name
	}
	return index.AnotherVersion + ": ferrule update " + name
}

// lockedRevoked is revoked for what the lock has. Where nobody can be reached who could say it, that is a Notice: a host with a lock can be set up while the registry is down.
func (s *session) lockedRevoked(ctx context.Context, name string, e *lock.Entry) error {
	err := s.revoked(ctx, releaseOf(name, e), e.Key)
	if !errors.Is(err, registry.ErrUnavailable) || s.call.failed == nil || ctx.Err() != nil {
		return err
	}
	s.notice(Notice{Source: s.Index.Source, Text: "whether what is locked was revoked is not known: " + s.call.failed.Error()})
	return nil
}

// opened is the index, where it was opened in this call; else nil.
func (s *session) opened() Revocations {
	s.call.mu.Lock()
	defer s.call.mu.Unlock()
	return s.call.index
}

// openIndex opens the index, once in a call, also where that fails; nil where there is none.
func (s *session) openIndex(ctx context.Context) (Revocations, error) {
	if s.Index == nil {
		return nil, nil
	}
	if err := s.request(ctx); err != nil {
		return nil, err
	}
	s.call.mu.Lock()
	defer s.call.mu.Unlock()
	if s.call.index != nil || s.call.failed != nil {
		return s.call.index, s.call.failed
	}
	before := s.lock.Indexes[s.Index.Source]
	x, now, err := s.Index.Open(ctx, before)
	if err != nil {
		s.call.failed = err
		return nil, err
	}
	s.call.index, s.call.before, s.call.seen = x, before, now
	for _, w := range x.Warnings() {
		s.notice(Notice{Source: s.Index.Source, Text: w.Error()})
	}
	return x, nil
}

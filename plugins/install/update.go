package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/versions"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// UpdateOptions are those of Update.
type UpdateOptions struct {
	Names          []string // what is to be updated, each with what only it requires; none: all
	DryRun         bool     // say what would change, as far as it is known before a file is fetched, and change nothing
	AllowDowngrade bool     // older versions than those of the lock may be taken, where config.yaml asks for them
	Replaced       bool     // of what Names names the version of the lock is taken, too, as its source has it now: with other bytes where it was published twice
	Unpin          bool     // what a rollback has pinned and Names names is updated, too, and is pinned no longer, also where it stays

	// From is where the plug-ins that Names names come from this time, such as a File; Replaced is meant then. nil is their own source.
	From registry.Source

	// Keep are plug-ins that nobody wants and that stay in the lock with what they require, such as those that config.yaml has disabled. Without Names, Update drops what else nobody needs.
	Keep []string
}

// Change is what an update does to one plug-in, or does not.
type Change struct {
	Name     string   // the plug-in's
	From, To string   // versions; From is "" of one that is new, To of one that nobody needs any more
	Replaced bool     // To is From, with other bytes
	Unpinned bool     // From was pinned by a rollback, and To is not; To may be From
	Grants   []string // what To asks for and From did not, as in "connect 443"
	Err      error    // a *registry.Error: why another version was not taken. It stays at the version that it has, and To is From
	Revoked  error    // a *registry.Error: of a rollback, which is done all the same, that To was revoked, or why nobody knows whether it was

	Platforms []string // of LockPlatforms: those of the files or signatures that its entry has got; sorted. To is From
}

// Update takes newer versions into the lock: the newest that fit together and in the ranges that are wanted. One that is not to be had, asks for more than it was granted, or
// is not what it should be stays in the version that it has, which is in its Change; the others come. Changes are by name, and have only what changes and what fails.
// The error is about the whole; then nothing has changed.
func (in *Installer) Update(ctx context.Context, wants []Want, o UpdateOptions) (changes []Change, notices []Notice, err error) {
	err = in.try(ctx, func(s *session) (err error) {
		changes, err = s.update(ctx, wants, o)
		notices = s.noticed()
		return err
	})
	return changes, notices, err
}

func (s *session) update(ctx context.Context, wants []Want, o UpdateOptions) ([]Change, error) {
	wants, err := named(wants)
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, w := range wants {
		roots = append(roots, w.Name)
	}
	before, _ := s.reach(roots, nil)
	u := &universe{session: s, held: map[string]bool{}, reject: map[[2]string]error{}, tries: map[string]int{}, blocked: map[[2]string]error{}, refuseNew: s.neverGranted}
	free, err := s.free(roots, before, o)
	if err != nil {
		return nil, err
	}
	for name := range s.lock.Plugins {
		u.held[name] = !free[name]
	}
	u.unpin = o.Unpin
	s.from, s.anew = map[string]registry.Source{}, map[string]bool{}
	for _, name := range o.Names {
		if o.From != nil {
			s.from[name] = o.From
		}
		s.anew[name] = (o.Replaced || o.From != nil) && free[name]
	}
	faults := map[string]error{} // of what is locked; the first one counts
	fault := func(name string, err error) {
		if faults[name] == nil {
			faults[name] = err
		}
	}
	var chosen map[string]*candidate
	again := true
	for rounds := 0; again; rounds++ { // each holds or rejects one at least
		if rounds == 4*attempts*(1+len(wants)) { // a source that makes up names without end
			return nil, &registry.Error{Kind: registry.ErrConflict, Found: fmt.Sprintf("no versions that can be installed after %d tries", rounds), Expected: "some that can",
				Err: (&Result{Failed: faults}).Err(), Remedy: "Update one by one (ferrule update NAME), to see which one it is"}
		}
		var failed map[string]error
		if chosen, failed, err = u.resolve(ctx, wants); err != nil {
			return nil, err
		}
		again = false
		hold := func(name string, err error) {
			fault(name, err)
			if s.lock.Plugins[name] != nil && !u.held[name] {
				u.held[name], again = true, true
				delete(s.anew, name)
				delete(s.from, name)
				delete(s.sources, name)
				delete(s.releases, [2]string{name, s.lock.Plugins[name].Version})
			}
		}
		reject := func(name string, err error) {
			u.reject[[2]string{name, chosen[name].release.Version}], again = err, true
			u.tries[name]++
			fault(name, err)
		}
		for name, err := range failed {
			hold(name, err)
		}
		if again {
			continue
		}
		var fresh []*candidate
		for _, name := range sortedKeys(chosen) {
			c := chosen[name]
			e := s.lock.Plugins[name]
			if c.entry != nil {
				continue
			}
			if err := s.acceptable(c, e, o); err != nil {
				if e == nil {
					reject(name, err)
				} else {
					hold(name, err)
				}
				continue
			}
			fresh = append(fresh, c)
		}
		if !again && !o.DryRun {
			for name, err := range s.each(ctx, fresh, s.obtain) {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				if s.lock.Plugins[name] == nil {
					reject(name, err)
				} else {
					hold(name, err)
				}
			}
		}
	}
	for _, name := range sortedKeys(free) {
		refused := faults[name] != nil
		err := s.source(ctx, name, chosen[name], refused)
		switch {
		case err == nil:
		case refused: // both are to be known: a version that is to go, and why it does not
			if errors.Is(err, registry.ErrRevoked) || errors.Is(err, registry.ErrRevokedKey) || errors.Is(err, registry.ErrReplaced) {
				s.noticeOf(name, s.lock.Plugins[name], err)
			}
		default:
			fault(name, err)
		}
		if !refused {
			u.passedOver(name, wants, chosen[name])
		}
	}
	asked := o.Names
	if len(asked) == 0 {
		asked = before
	}
	for _, name := range asked {
		if e := s.lock.Plugins[name]; e != nil && e.Pinned && !free[name] { // it stays, as somebody has said, and is no less revoked
			if err := s.lockedRevoked(ctx, name, e); err != nil {
				s.noticeOf(name, e, err)
			}
		}
	}
	return s.take(ctx, roots, before, chosen, faults, o)
}

// free are the names that an update may move: those that are named, and what they require and nobody asks for by name.
func (s *session) free(roots, reached []string, o UpdateOptions) (map[string]bool, error) {
	free := map[string]bool{}
	if len(o.Names) == 0 {
		for _, name := range reached {
			free[name] = !s.lock.Plugins[name].Pinned
		}
	}
	var visit func(name string, named bool)
	visit = func(name string, named bool) {
		e := s.lock.Plugins[name]
		if _, seen := free[name]; seen || e == nil || !named && slices.Contains(roots, name) {
			return
		}
		free[name] = !e.Pinned || named && o.Unpin
		for need := range e.Requires {
			visit(need, false)
		}
	}
	for _, name := range o.Names {
		if s.lock.Plugins[name] == nil && !slices.Contains(roots, name) {
			return nil, s.noneOf(name, "Correct the name, or install it: ferrule install "+name)
		}
		visit(name, true)
	}
	maps.DeleteFunc(free, func(_ string, is bool) bool { return !is })
	return free, nil
}

// acceptable says why a version is not taken in the place of the locked one, which may be nil.
func (s *session) acceptable(c *candidate, e *lock.Entry, o UpdateOptions) error {
	r := c.release
	if e != nil && !o.AllowDowngrade && ranges.ParseVersion(r.Version).Compare(ranges.ParseVersion(e.Version)) < 0 {
		return downgrade(r.Name, r.Version, e.Version, c.from())
	}
	if s.Granted == nil && e != nil { // who updates does not know what config.yaml grants: what it was locked with counts
		if more := slices.DeleteFunc(asks(r), func(ask Ask) bool { return slices.Contains(e.Grants, ask.String()) }); len(more) > 0 {
			return s.ungranted(r, more, c.from())
		}
	}
	return s.granted(r, c.from())
}

func downgrade(name, version, locked, source string) error {
	return &registry.Error{Plugin: name, Version: version, Source: source, Kind: registry.ErrDowngrade, Found: version, Expected: locked + " or newer, which is in the lock",
		Remedy: "If the older one is meant: the same command with --allow-downgrade, or ferrule rollback " + name}
}

// news is what a release asks for that the locked one did not.
func news(r *registry.Release, e *lock.Entry) (more []string) {
	for _, ask := range texts(asks(r)) {
		if e == nil || !slices.Contains(e.Grants, ask) {
			more = append(more, ask)
		}
	}
	return more
}

// source says what is odd about where a plug-in comes from: its locked version was revoked or has other bytes there, or all that there is is older. refused says that another version was not
// taken, and that why is told.
func (s *session) source(ctx context.Context, name string, c *candidate, refused bool) error {
	e := s.lock.Plugins[name]
	o := s.origin(ctx, name)
	if e == nil || c == nil && !refused || c != nil && c.entry == nil || o.err != nil {
		return nil
	}
	if err := s.lockedRevoked(ctx, name, e); err != nil {
		if r, ok := errors.AsType[*registry.Error](err); ok && errors.Is(err, registry.ErrRevoked) {
			said := *r // of which the remedy is the update that is just made
			said.Remedy = "No other version was taken: " + s.instead(name, e, o.versions) +
				"ask whoever publishes it for one, widen its range in config.yaml, or remove it (ferrule remove " + name + ")"
			if refused {
				said.Remedy = "No other version was taken, and why is an error of its own: mend that, " + s.instead(name, e, o.versions) + "or remove it (ferrule remove " + name + ")"
			}
			err = &said
		}
		return err
	}
	if !slices.Contains(o.versions, e.Version) {
		newest := slices.MaxFunc(o.versions, func(a, b string) int { return ranges.ParseVersion(a).Compare(ranges.ParseVersion(b)) })
		if ranges.ParseVersion(newest).Compare(ranges.ParseVersion(e.Version)) < 0 {
			return downgrade(name, newest, e.Version, o.source.String())
		}
		return nil
	}
	r, err := o.source.Release(ctx, name, e.Version)
	if err != nil {
		return nil
	}
	for _, platform := range sortedKeys(e.Files) {
		if f := r.Files[platform]; f.Digest != "" && f.Digest != e.Files[platform].Digest {
			return replacedError(name, e.Version, o.source.String(), "the digest "+f.Digest+" for "+platform, e.Files[platform].Digest, nil)
		}
	}
	return nil
}

// instead says which older versions there are in the place of a revoked one: an update goes back to none by itself. It is the
// beginning of a list, or "".
func (s *session) instead(name string, e *lock.Entry, offered []string) (text string) {
	x := s.opened()
	older := func(v string) bool { return ranges.ParseVersion(v).Compare(ranges.ParseVersion(e.Version)) < 0 }
	if old, err := s.before(); err == nil && !e.Pinned {
		prior := old.Plugins[name]
		if prior != nil && older(prior.Version) && s.revocation(x, releaseOf(name, prior), prior.Key) == nil {
			text = "go back to " + prior.Version + " (ferrule rollback " + name + "), "
		}
	}
	offered = slices.DeleteFunc(slices.Clone(offered), func(v string) bool {
		return !older(v) || ranges.ParseVersion(v).Prerelease() || x.Revoked(name, v) != nil
	})
	if len(offered) > 0 {
		v := slices.MaxFunc(offered, func(a, b string) int { return ranges.ParseVersion(a).Compare(ranges.ParseVersion(b)) })
		text += "have config.yaml ask for an older one (version: =" + v + ") and take it (ferrule update --allow-downgrade " + name + "), "
	}
	return text
}

// passedOver notes why a version is no choice that is newer than the chosen one and in the range: nobody sees otherwise why
// nothing changes.
func (u *universe) passedOver(name string, wants []Want, c *candidate) {
	if c == nil {
		return
	}
	in := ""
	if i := slices.IndexFunc(wants, func(w Want) bool { return w.Name == name }); i >= 0 {
		in = wants[i].Range
	}
	newest, why := ranges.ParseVersion(c.release.Version), (*registry.Error)(nil)
	for id, err := range u.blocked {
		v := ranges.ParseVersion(id[1])
		if e, ok := errors.AsType[*registry.Error](err); ok && id[0] == name && newest.Compare(v) < 0 && fits(id[1], in) {
			newest, why = v, e
		}
	}
	if why != nil {
		said := *why
		said.Plugin, said.Version, said.Source, said.Path, said.Remedy = "", "", "", "", ""
		u.notice(Notice{Plugin: name, Version: newest.String(), Source: why.Source,
			Text: "newer than " + c.release.Version + ", and not taken: " + said.Error()})
	}
}

// take writes what was chosen into the lock, and says what changes.
func (s *session) take(ctx context.Context, roots, before []string, chosen map[string]*candidate, faults map[string]error, o UpdateOptions) ([]Change, error) {
	names := map[string]bool{}
	for _, name := range before {
		names[name] = true
	}
	for name := range chosen {
		names[name] = true
	}
	for name := range faults {
		names[name] = true
	}
	for _, name := range sortedKeys(chosen) {
		if c := chosen[name]; c.entry == nil {
			s.next[name] = s.locked(c, chosen)
		} else {
			s.again(name, s.entry(name), chosen)
		}
	}
	stay, _ := s.reach(roots, nil) // with what is local here: the lock has it for where it is not
	if len(o.Names) == 0 {
		for _, name := range Unwanted(s.lock, append(sortedKeys(names), o.Keep...)) {
			s.seen[name], names[name] = true, true
		}
	}
	var changes []Change
	for _, name := range sortedKeys(names) {
		e, c := s.lock.Plugins[name], chosen[name]
		ch := Change{Name: name, Err: faults[name]}
		if e != nil {
			ch.From, ch.To = e.Version, e.Version
		}
		switch {
		case c == nil && ch.Err == nil && e != nil && !slices.Contains(stay, name): // nobody needs it any more
			ch.To = ""
			s.next[name] = nil
		case c != nil && c.entry == nil:
			ch.To, ch.Grants = c.release.Version, news(c.release, e)
			ch.Err = nil
			ch.Replaced = e != nil && ch.From == ch.To && !sameBytes(e, &lock.Entry{Files: c.release.Files})
		}
		if e != nil && e.Pinned && o.Unpin && slices.Contains(o.Names, name) && ch.To != "" {
			ch.Unpinned = true
			now := *s.entry(name)
			now.Pinned = false
			s.seen[name], s.next[name] = true, &now
		}
		if ch.From != ch.To || ch.Replaced || ch.Unpinned || ch.Err != nil {
			changes = append(changes, ch)
		}
	}
	if o.DryRun {
		return changes, nil
	}
	return changes, s.commit(ctx)
}

// Unwanted are the plug-ins of a lock that are neither wanted, by name, nor required by one that is, sorted.
func Unwanted(l *lock.Lock, wanted []string) (names []string) {
	needed := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if e := l.Plugins[name]; e != nil && !needed[name] {
			needed[name] = true
			for need := range e.Requires {
				visit(need)
			}
		}
	}
	for _, name := range wanted {
		visit(name)
	}
	for _, name := range sortedKeys(l.Plugins) {
		if !needed[name] {
			names = append(names, name)
		}
	}
	return names
}

// again notes the versions that a locked plug-in, which stays, now runs with.
func (s *session) again(name string, e *lock.Entry, chosen map[string]*candidate) {
	now := *e
	now.Requires = s.requires(chosen[name], e.Requires, chosen)
	if !maps.Equal(now.Requires, e.Requires) {
		s.next[name] = &now
	}
}

// Rollback takes the versions back into the lock that plug-ins had before their last change on this machine, and pins them: Update leaves them as they are, unless it is told
// otherwise. Nothing comes from a source but what GC has deleted since, and that only where it was not revoked; of what the store has, the index is asked once the lock is written. Those that do not
// fit with the others are an error, and nothing changes.
func (in *Installer) Rollback(ctx context.Context, names ...string) (changes []Change, err error) {
	err = in.try(ctx, func(s *session) (err error) {
		changes, err = s.rollback(ctx, names)
		return err
	})
	return changes, err
}

func (s *session) rollback(ctx context.Context, names []string) (changes []Change, err error) {
	old, err := s.before()
	if err != nil {
		return nil, err
	}
	now := maps.Clone(s.lock.Plugins)
	for _, name := range names {
		e, prior := s.lock.Plugins[name], old.Plugins[name]
		none := &registry.Error{Plugin: name, Path: s.Lock, Kind: registry.ErrNotFound, Expected: "one that an update on this machine has replaced",
			Remedy: "Name the version in config.yaml and update, or take the lock back from version control"}
		switch {
		case e == nil:
			return nil, s.noneOf(name, "Correct the name")
		case e.Pinned: // what is noted is what it was rolled back from
			none.Found, none.Remedy = "that it was rolled back to "+e.Version+" already, and nothing before that", "To go forward again: ferrule update --unpin "+name
			return nil, none
		case prior == nil || prior.Version == e.Version && sameBytes(prior, e):
			none.Found = "no version before " + e.Version
			return nil, none
		case !fits(prior.Version, s.Ranges[name]): // the application would refuse it, and with it each later change of config.yaml
			return nil, &registry.Error{Plugin: name, Version: prior.Version, Path: s.Lock, Kind: registry.ErrConflict, Found: "version " + prior.Version + ", to go back to",
				Expected: s.Ranges[name] + ", as config.yaml says", Remedy: "Write a range that has it in config.yaml first: plugins: version"}
		}
		pinned := *prior
		pinned.Pinned = true
		now[name] = &pinned
		changes = append(changes, Change{Name: name, From: e.Version, To: prior.Version})
	}
	for name := range s.lock.Plugins {
		s.seen[name] = true
	}
	for _, name := range sortedKeys(now) { // what somebody has written or merged
		for _, need := range sortedKeys(now[name].Requires) {
			if now[need] == nil && s.Local[need] == nil {
				return nil, &registry.Error{Plugin: name, Version: now[name].Version, Path: s.Lock, Kind: registry.ErrLock, Found: "that it was locked with " + need + ", which the lock does not have",
					Expected: need + " " + now[name].Requires[need], Remedy: "Was it merged? Resolve it again: ferrule update " + name}
			}
		}
	}
	chosen, err := s.together(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, ch := range changes {
		e := now[ch.Name]
		s.next[ch.Name] = e
		e.Requires = s.requires(chosen[ch.Name], e.Requires, chosen)
	}
	for name, e := range now {
		if s.next[name] == nil {
			s.again(name, e, chosen)
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Name, b.Name) })
	if err := s.commit(ctx); err != nil {
		return nil, err
	}
	for i, ch := range changes { // who goes back has a reason, and waits for no registry
		e := now[ch.Name]
		changes[i].Revoked = s.revoked(ctx, releaseOf(ch.Name, e), e.Key)
	}
	return changes, nil
}

// together has all of a lock's plug-ins in the store, and says whether they fit together.
func (s *session) together(ctx context.Context, entries map[string]*lock.Entry) (map[string]*candidate, error) {
	f := &fixed{all: map[string]*candidate{}, local: s.Local}
	var roots []versions.Root
	locked := map[string]versions.Locked{}
	var all []*candidate
	for _, name := range sortedKeys(entries) {
		c := s.lockedCandidate(ctx, name, entries[name])
		if c.err != nil {
			return nil, c.err
		}
		all = append(all, c)
		locked[name] = versions.Locked{Version: entries[name].Version, Pinned: true, Held: !entries[name].Pinned}
		roots = append(roots, versions.Root{Name: name, By: "the lock"})
	}
	failed := s.each(ctx, all, func(ctx context.Context, c *candidate) error {
		if c.path == "" {
			if err := s.lockedRevoked(ctx, c.release.Name, c.entry); err != nil {
				if e, ok := errors.AsType[*registry.Error](err); ok && errors.Is(err, registry.ErrRevoked) {
					said := *e // of which the remedy is for what the lock has
					said.Remedy, err = "The store has its file no longer, and what was revoked is not fetched. Nothing was changed", &said
				}
				return err
			}
		}
		if err := s.fetch(ctx, c); err != nil {
			return err
		}
		return s.trusted(ctx, c)
	})
	if err := (&Result{Failed: failed}).Err(); err != nil {
		return nil, err
	}
	for _, c := range all {
		f.all[c.release.Name] = c
	}
	if _, err := versions.Resolve(ctx, versions.Problem{App: s.App, AppVersion: s.Version, Roots: roots, Locked: locked}, f); err != nil {
		if conflict, ok := errors.AsType[*versions.Conflict](err); ok {
			return nil, &registry.Error{Path: s.Lock, Kind: registry.ErrConflict, Found: conflict.Explanation, Remedy: "Name the others as well, or update them"}
		}
		return nil, err
	}
	return f.all, nil
}

// fixed is a universe with one version of each plug-in.
type fixed struct {
	all   map[string]*candidate
	local map[string]*registry.Release // of what is in none of all
}

func (f *fixed) Versions(_ context.Context, name string) ([]string, error) {
	if c := f.all[name]; c != nil {
		return []string{c.release.Version}, nil
	}
	if r := f.local[name]; r != nil {
		return []string{r.Version}, nil
	}
	return nil, nil
}

func (f *fixed) Candidate(_ context.Context, name, _ string) (versions.Candidate, error) {
	c := f.all[name]
	if c == nil {
		return versions.Candidate{Conflicts: f.local[name].Conflicts}, nil
	}
	return versions.Candidate{Requires: c.release.Requires, Conflicts: c.release.Conflicts, Data: c}, nil
}

// Outdated is a plug-in of the lock for which there are newer versions.
type Outdated struct {
	Name, Version string // the plug-in's, and that of the lock
	Fits          string // the newest version in the range that is wanted and that was not revoked; Version where there is no newer one
	Newest        string // the newest that is no prerelease and was not revoked; Version where there is no newer one
	Pinned        bool   // by a rollback
	Err           error  // why nothing is known of it, or that its version was revoked
}

// Outdated returns what of the lock is not the newest, was revoked, or cannot be looked up, by name. It changes nothing, and fetches no file: a version that it names may be one that Update
// refuses, such as for its signature.
func (in *Installer) Outdated(ctx context.Context, wants []Want) (all []Outdated, err error) {
	s, err := in.begin(new(call))
	if err != nil {
		return nil, err
	}
	ranged := map[string]string{}
	for _, w := range wants {
		ranged[w.Name] = w.Range
	}
	for _, name := range sortedKeys(s.lock.Plugins) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := s.lock.Plugins[name]
		now := Outdated{Name: name, Version: e.Version, Fits: e.Version, Newest: e.Version, Pinned: e.Pinned}
		o := s.origin(ctx, name)
		if now.Err = o.err; o.err == nil {
			now.Err = s.revoked(ctx, releaseOf(name, e), e.Key)
		}
		now.Newest = s.newestOf(ctx, name, e.Version, o, func(string) bool { return true })
		now.Fits = s.newestOf(ctx, name, e.Version, o, func(v string) bool { return fits(v, ranged[name]) })
		if now.Newest != e.Version || now.Fits != e.Version || now.Err != nil {
			all = append(all, now)
		}
	}
	return all, nil
}

// newestOf is the newest version that a source has and that is wanted, if it is newer than the locked one, no prerelease and not
// revoked; else the locked one.
func (s *session) newestOf(ctx context.Context, name, locked string, o *origin, wanted func(string) bool) string {
	newer := slices.DeleteFunc(slices.Clone(o.versions), func(v string) bool {
		parsed := ranges.ParseVersion(v)
		return parsed.Prerelease() || parsed.Compare(ranges.ParseVersion(locked)) <= 0 || !wanted(v)
	})
	slices.SortFunc(newer, func(a, b string) int { return ranges.ParseVersion(b).Compare(ranges.ParseVersion(a)) })
	for _, v := range newer {
		if !s.withdrawn(ctx, name, v, o.source) {
			return v
		}
	}
	return locked
}

// withdrawn reports whether a version of a source is known to be revoked, by its number or by the digests that the source says.
// What cannot be asked is not known.
func (s *session) withdrawn(ctx context.Context, name, version string, src registry.Source) bool {
	x := s.opened()
	if x == nil {
		return false
	}
	if x.Revoked(name, version) != nil {
		return true
	}
	r, err := src.Release(ctx, name, version)
	return err == nil && s.revocation(x, r, "") != nil
}

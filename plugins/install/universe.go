package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/internal/grants"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/versions"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// origin is where the versions of a plug-in come from.
type origin struct {
	source   registry.Source
	versions []string
	err      error
}

// candidate is one version of a plug-in that might be installed, or is in the lock.
type candidate struct {
	release *registry.Release // as its source describes it, completed from the library where that says less; of a locked one what is known
	source  registry.Source   // nil of a locked one
	entry   *lock.Entry       // of a locked one
	err     error

	described bool          // the source has said what the library says, too: they are compared
	on        string        // the key of its file for this platform
	file      registry.File // with a digest
	path      string        // in the store; "" before it is there
	key       string        // who has signed it
	signature []byte        // that key's, of the bytes in the store
	has       *registry.Release
	platform  string // what the library is for
	done      bool   // it was fetched and verified
}

// universe is what the versions are chosen from: of what is held the locked version alone, of all else what the sources have, and the locked version.
type universe struct {
	*session
	held map[string]bool // names that stay at the version of the lock

	unpin  bool                // what is pinned and not held may move, too
	reject map[[2]string]error // versions that are no choice any more, and why
	tries  map[string]int      // how many versions of a name were rejected: from attempts on no others of it are a choice

	// refuseNew says why a version of what is not in the lock is no choice, whatever the others are; nil where all are.
	refuseNew func(*candidate) error
	blocked   map[[2]string]error // versions that were none when they were looked at
}

// stays reports whether the locked version is the only choice.
func (u *universe) stays(name string, e *lock.Entry) bool {
	return u.held[name] || e.Pinned && !u.unpin
}

// Versions are those of a plug-in that are a choice.
func (u *universe) Versions(ctx context.Context, name string) ([]string, error) {
	if local := u.Local[name]; local != nil {
		return []string{local.Version}, nil
	}
	e := u.lock.Plugins[name]
	if e != nil {
		u.seen[name] = true
		if u.stays(name, e) {
			return []string{e.Version}, nil
		}
	}
	o := u.origin(ctx, name)
	if o.err != nil {
		return nil, o.err
	}
	all := slices.Clone(o.versions)
	if u.tries[name] >= attempts { // one bad release after the other: each would have to be fetched
		all = slices.DeleteFunc(all, func(v string) bool { return u.reject[[2]string{name, v}] == nil })
	}
	if e != nil && u.from[name] == nil && !slices.Contains(all, e.Version) {
		all = append(all, e.Version)
	}
	return all, nil
}

// Candidate describes a version. What keeps it from being chosen, whatever the others are, is kept for who asks why.
func (u *universe) Candidate(ctx context.Context, name, version string) (versions.Candidate, error) {
	if local := u.Local[name]; local != nil {
		return versions.Candidate{Conflicts: local.Conflicts, Data: (*candidate)(nil)}, nil
	}
	c, err := u.candidate(ctx, name, version)
	if ctx.Err() != nil {
		return versions.Candidate{}, context.Cause(ctx)
	}
	if err == nil && c.entry == nil { // what is in the lock stays until somebody asks for an update
		err = u.revoked(ctx, c.release, "")
	}
	if err == nil {
		err = u.host(c.release, c.from())
	}
	out, known := "", false
	if err == nil && c.entry == nil {
		if err = grantable(c); err != nil {
			out, known = "asks for what nobody can grant", true
		}
	}
	if err == nil && c.entry == nil {
		err = sayable(c)
	}
	if err == nil && u.refuseNew != nil && u.lock.Plugins[name] == nil {
		err = u.refuseNew(c)
	}
	if rejected := u.reject[[2]string{name, version}]; err == nil && rejected != nil {
		err, out, known = rejected, "is not to be had", true
	}
	if err != nil {
		for _, kind := range []struct {
			of   error
			text string
		}{{registry.ErrRevoked, "was revoked"}, {registry.ErrPlatform, "has no file for " + registry.ThisPlatform()}, {registry.ErrKind, "is of a kind that cannot be loaded here"},
			{registry.ErrHost, "was made for other versions of the application"}, {registry.ErrGrant, "asks for more than it was granted"}, {errUnsayable, "cannot be in a lock"}} {
			if errors.Is(err, kind.of) {
				out, known = kind.text, true
			}
		}
		if !known {
			return versions.Candidate{}, err
		}
		u.blocked[[2]string{name, version}] = err
		if c.release == nil {
			return versions.Candidate{Out: out}, nil
		}
	}
	r := c.release
	return versions.Candidate{Requires: r.Requires, Conflicts: r.Conflicts, Out: out, Data: c}, nil
}

// errUnsayable is of a version that no lock can have.
var errUnsayable = errors.New("no lock can say that")

// sayable says whether a lock can have a candidate: one that none can have would keep all others from being written, too.
func sayable(c *candidate) error {
	r := c.release
	e := &lock.Entry{Version: r.Version, Source: nameOf(c.source), Tag: r.Tag, Digest: r.Digest, Kind: r.Kind, Files: map[string]registry.File{}, Grants: texts(asks(r)), Says: says(r)}
	for on, f := range r.Files {
		if on == c.on {
			f = c.file
		}
		if f.Digest != "" {
			e.Files[on] = f
		}
	}
	_, err := lock.Parse("ferrule.lock", (&lock.Lock{Plugins: map[string]*lock.Entry{r.Name: e}}).Text())
	if err == nil {
		return nil
	}
	fault := &registry.Error{Plugin: r.Name, Version: r.Version, Source: c.from(), Kind: registry.ErrMalformed, Found: "a release that no lock can have", Err: errors.Join(errUnsayable, err),
		Remedy: "Ask whoever publishes it to publish it as another version"}
	if wrong, ok := errors.AsType[*registry.Error](err); ok {
		fault.Found, fault.Expected, fault.Err = wrong.Found, wrong.Expected+", as a lock has it", errUnsayable
	}
	return fault
}

// grantable says whether a candidate asks for what can be granted here, in the words that the application has for it.
func grantable(c *candidate) error {
	err := senseless(c.release, grants.Ask.Senseless)
	if err == nil {
		return nil
	}
	err.Source, err.Remedy = c.from(), "Install a version of the plug-in that says so; no grant helps"
	return err
}

// resolve chooses versions. What cannot be had is an error by name of those that were asked for: the others come without it.
func (u *universe) resolve(ctx context.Context, wants []Want) (solution map[string]*candidate, failed map[string]error, err error) {
	failed = map[string]error{}
	problem := versions.Problem{App: u.App, AppVersion: u.Version, Locked: map[string]versions.Locked{}}
	for name, e := range u.lock.Plugins {
		if u.stays(name, e) && u.Local[name] == nil {
			problem.Locked[name] = versions.Locked{Version: e.Version, Pinned: true, Held: !e.Pinned}
		}
	}
	try := func(wants []Want) (map[string]versions.Candidate, error) {
		problem.Roots = nil
		for _, w := range wants {
			problem.Roots = append(problem.Roots, versions.Root{Name: w.Name, Range: w.Range, By: "config.yaml"})
		}
		return versions.Resolve(ctx, problem, u)
	}
	chosen, err := try(wants)
	if err != nil && len(wants) > 0 {
		// One by one, those that are in the lock first: so it is known who cannot be beside whom, and the others come.
		wants = slices.Clone(wants)
		slices.SortStableFunc(wants, func(a, b Want) int {
			in := func(w Want) int {
				if u.lock.Plugins[w.Name] != nil {
					return 0
				}
				return 1
			}
			return in(a) - in(b)
		})
		var good []Want
		chosen = nil
		for _, w := range wants {
			if ctx.Err() != nil {
				return nil, nil, context.Cause(ctx)
			}
			with, err := try(append(slices.Clone(good), w))
			if err != nil {
				failed[w.Name] = u.why(w, err)
				continue
			}
			good, chosen = append(good, w), with
		}
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	solution = map[string]*candidate{}
	u.services = map[string]bool{}
	provide := func(r *registry.Release) {
		for _, name := range r.Provides {
			u.services[name] = true
		}
	}
	for _, name := range sortedKeys(u.Local) {
		provide(u.Local[name])
	}
	for name, chosen := range chosen {
		if c := chosen.Data.(*candidate); c != nil {
			solution[name] = c
			provide(c.release)
		}
	}
	return solution, failed, nil
}

// why is the error of a plug-in for which there is no solution.
func (u *universe) why(w Want, err error) error {
	if asked, ok := errors.AsType[*versions.AskError](err); ok {
		e, ok := errors.AsType[*registry.Error](asked.Err)
		if !ok {
			return &registry.Error{Plugin: w.Name, Kind: registry.ErrUnavailable, Err: asked.Err, Remedy: "Try again"}
		}
		if asked.Plugin == w.Name {
			return e
		}
		return &registry.Error{Plugin: w.Name, Found: asked.Plugin + ", which it requires, and which is not to be had", Err: e, Remedy: "See to " + asked.Plugin + " first"}
	}
	all := &registry.Error{Plugin: w.Name, Kind: registry.ErrConflict, Found: err.Error(), Remedy: "Ask for other versions in config.yaml, or update what is in the lock: ferrule update"}
	if conflict, ok := errors.AsType[*versions.Conflict](err); ok {
		all.Found, all.Remedy = conflict.Explanation, conflict.Remedy
	}
	if errors.Is(err, versions.ErrTooHard) {
		all.Found, all.Err, all.Remedy = "", err, "Say in config.yaml which versions you mean: plugins: version"
		return all
	}
	var offered []string
	if e := u.lock.Plugins[w.Name]; e != nil {
		offered = append(offered, e.Version)
	}
	u.mu.Lock()
	if o := u.sources[w.Name]; o != nil {
		offered = append(offered, o.versions...)
	}
	u.mu.Unlock()
	var best *registry.Error
	newest := ranges.ParseVersion("")
	inRange := 0
	for _, v := range offered {
		if !fits(v, w.Range) {
			continue
		}
		inRange++
		e, ok := errors.AsType[*registry.Error](u.blocked[[2]string{w.Name, v}])
		if !ok {
			return all // it was something else
		}
		if parsed := ranges.ParseVersion(v); best == nil || newest.Compare(parsed) < 0 {
			best, newest = e, parsed
		}
	}
	if best != nil {
		return best
	}
	if inRange == 0 && len(offered) > 0 {
		all.Kind = registry.ErrNotFound
	}
	return all
}

func (s *session) candidate(ctx context.Context, name, version string) (*candidate, error) {
	id := [2]string{name, version}
	s.mu.Lock()
	c := s.releases[id]
	s.mu.Unlock()
	if c == nil {
		if e := s.lock.Plugins[name]; e != nil && e.Version == version && !s.anew[name] {
			c = s.lockedCandidate(ctx, name, e)
		} else {
			c = s.described(ctx, name, version)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.mu.Lock()
		s.releases[id] = c
		s.mu.Unlock()
	}
	return c, c.err
}

// origin finds the source of a plug-in, and its versions there.
func (s *session) origin(ctx context.Context, name string) *origin {
	s.mu.Lock()
	o := s.sources[name]
	s.mu.Unlock()
	if o != nil {
		return o
	}
	o = s.lookUp(ctx, name)
	s.mu.Lock()
	s.sources[name] = o
	s.mu.Unlock()
	return o
}

func (s *session) lookUp(ctx context.Context, name string) *origin {
	if !registry.ValidName(name) {
		return &origin{err: &registry.Error{Plugin: name, Kind: registry.ErrMalformed, Found: "a name that is none", Expected: registry.NameRule, Remedy: "Correct it"}}
	}
	if err := s.request(ctx); err != nil {
		return &origin{err: err}
	}
	var none []error
	for _, src := range s.sourcesOf(name) {
		vs, err := src.Versions(ctx, name)
		if errors.Is(err, registry.ErrNotFound) || err == nil && len(vs) == 0 {
			none = append(none, err)
			continue
		}
		o := &origin{source: src, err: unreached(err)}
		for _, v := range vs {
			if v == "" { // nobody says it but the library
				c := s.describedBy(ctx, src, name, "")
				if c.err != nil {
					o.err = c.err
					break
				}
				v = c.release.Version
				s.mu.Lock()
				s.releases[[2]string{name, v}] = c
				s.mu.Unlock()
			}
			o.versions = append(o.versions, v)
		}
		return o // the first that has it: what another one has under the name may be anything
	}
	if len(none) == 1 && none[0] != nil {
		return &origin{err: s.near(ctx, name, none[0])}
	}
	e := &registry.Error{Plugin: name, Kind: registry.ErrNotFound, Found: "no source that has it", Remedy: "Correct its name, or have it published there", Err: errors.Join(none...)}
	if s.ReadOnly {
		return &origin{err: s.notLocked(name, "one that is installed", "Install it: ferrule install "+name+", or start the application")}
	}
	if len(s.Sources) == 0 {
		e.Found, e.Remedy = "no source at all", "Write registry.url in config.yaml"
	}
	return &origin{err: s.near(ctx, name, e)}
}

// unreached is an error with what to do where a source cannot be reached and does not say it.
func unreached(err error) error {
	e, ok := errors.AsType[*registry.Error](err)
	if !ok || e.Remedy != "" || !errors.Is(e, registry.ErrUnavailable) {
		return err
	}
	said := *e
	said.Remedy = tryAgain
	return &said
}

// tryAgain is the remedy for a source that cannot be reached.
const tryAgain = "Try again. What the lock names and the store has needs no server, and a mirror may have the rest (registry.mirrors)"

// near is the error that no source has a plug-in, with the name that may be meant, where an index or a folder knows it.
func (s *session) near(ctx context.Context, name string, err error) error {
	e, ok := errors.AsType[*registry.Error](err)
	if !ok || s.ReadOnly {
		return err
	}
	said := *e
	sources := s.sourcesOf(name)
	if said.Plugin == "" {
		said.Plugin = name
	}
	if said.Source == "" && len(sources) == 1 {
		said.Source = sources[0].String()
	}
	x, failed := s.openIndex(ctx)
	if indexed, ok := x.(interface {
		Lookup(context.Context, string) (*index.Entry, error)
	}); ok && failed == nil {
		_, missing := indexed.Lookup(ctx, name)
		if m, ok := errors.AsType[*registry.Error](missing); ok && errors.Is(m, registry.ErrNotFound) && m.Remedy != "" {
			said.Remedy = m.Remedy
			return &said
		}
	}
	var names []string
	for _, src := range sources {
		if folder, ok := src.(interface {
			Names(context.Context) ([]string, error)
		}); ok {
			there, _ := folder.Names(ctx) // that it is not there is what counts
			names = append(names, there...)
		}
	}
	if near := abi.Nearest(name, names); near != "" {
		said.Remedy = "Did you mean " + near + "?"
	}
	return &said
}

// sourcesOf are the sources that a plug-in may come from: of a locked one that of the lock, where it is still one of them.
func (s *session) sourcesOf(name string) []registry.Source {
	if from := s.from[name]; from != nil {
		return []registry.Source{from}
	}
	if e := s.lock.Plugins[name]; e != nil {
		for _, src := range s.Sources {
			if src.String() == e.Source {
				return []registry.Source{src}
			}
		}
	}
	return s.Sources
}

// described asks a plug-in's source for a version.
func (s *session) described(ctx context.Context, name, version string) *candidate {
	o := s.origin(ctx, name)
	if o.err != nil {
		return &candidate{err: o.err}
	}
	return s.describedBy(ctx, o.source, name, version)
}

func (s *session) describedBy(ctx context.Context, src registry.Source, name, version string) *candidate {
	c := &candidate{source: src}
	r, err := src.Release(ctx, name, version)
	if err != nil {
		c.err = err
		return c
	}
	fault := func(kind error, found, expected, remedy string) *candidate {
		c.err = &registry.Error{Plugin: name, Version: version, Source: src.String(), Kind: kind, Found: found, Expected: expected, Remedy: remedy}
		return c
	}
	const ask = "Ask whoever publishes it"
	switch {
	case r.Name != name:
		return fault(registry.ErrName, "a description of "+r.Name, name, ask)
	case r.Version != version && r.Version != "" && version != "":
		return fault(registry.ErrVersion, "a description of version "+r.Version, version, ask)
	}
	copied := *r
	c.release = &copied
	if r.Kind == "" {
		c.release.Kind = registry.Library
	}
	if !slices.Contains(s.Kinds, c.release.Kind) {
		var can []string
		for _, kind := range s.Kinds {
			can = append(can, string(kind))
		}
		return fault(registry.ErrKind, "a plug-in of the kind "+string(r.Kind), "one of the kind "+strings.Join(can, " or "), "Install a version that is one, or give the application an engine for it")
	}
	file, on, ok := r.For(registry.ThisPlatform())
	if !ok {
		return fault(registry.ErrPlatform, "files for "+shown(sortedKeys(r.Files)), "one for "+registry.ThisPlatform(), "Ask whoever publishes it for this platform, or take another version")
	}
	c.on, c.file, c.described = on, file, file.Digest != ""
	if file.Digest != "" && registry.Hex(file.Digest) == "" {
		return fault(registry.ErrMalformed, fmt.Sprintf("%q for a digest", file.Digest), "sha256: and 64 digits", ask)
	}
	if file.Digest == "" { // what it is, only the library says
		if c.err = s.fetch(ctx, c); c.err != nil {
			return c
		}
		full := *c.has
		full.Tag, full.Digest, full.Files = r.Tag, r.Digest, map[string]registry.File{on: {Digest: c.file.Digest, Size: c.file.Size, URL: file.URL}}
		switch {
		case full.Name != name:
			return fault(registry.ErrName, "the plug-in "+full.Name+" in the library", name, ask)
		case version != "" && full.Version != version:
			return fault(registry.ErrVersion, "version "+full.Version+" in the library", version, ask)
		}
		c.release, c.described = &full, true
		c.err = c.check(s)
	}
	return c
}

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// session is one try at a call's work: on one lock, as it was at the beginning.
type session struct {
	*Installer
	call *call
	lock *lock.Lock
	next map[string]*lock.Entry // what the lock is to have; nil is that it has none. Names that are not in it stay as they are.
	text []byte                 // of the lock, as lock.Text writes it: as it was, from commit on as it is
	seen map[string]bool        // names whose entries the work goes by: they may not have changed when next is written

	from map[string]registry.Source // where some come from this time, in place of their own source
	anew map[string]bool            // of these the version of the lock is described by the source, as if it were not locked

	services map[string]bool // functions that plug-ins provide for others, of those that were chosen

	mu       sync.Mutex
	sources  map[string]*origin
	releases map[[2]string]*candidate
	notices  map[string]Notice
	proved   []*candidate // which a key has signed, and whose entries do not say so yet
}

// call is what all tries of one call share.
type call struct {
	mu     sync.Mutex
	waited bool
	index  Revocations // nil before it is opened
	failed error       // of the opening of the index: it is not tried again
	before lock.Index  // what the lock had of it when it was opened
	seen   lock.Index  // what the lock is to have of it
}

func (in *Installer) begin(c *call) (*session, error) {
	l, err := lock.Load(in.Lock)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = &lock.Lock{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &session{Installer: in, call: c, lock: l, text: l.Text(), next: map[string]*lock.Entry{}, seen: map[string]bool{}, sources: map[string]*origin{},
		releases: map[[2]string]*candidate{}, notices: map[string]Notice{}}, nil
}

// request is called before each request to a source.
func (s *session) request(ctx context.Context) error {
	s.call.mu.Lock()
	defer s.call.mu.Unlock()
	if s.call.waited || s.First == nil {
		return nil
	}
	if err := s.First(ctx); err != nil {
		return err
	}
	s.call.waited = true
	return nil
}

func (s *session) notice(n Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices[n.Plugin+"\x00"+n.Text] = n
}

// noticed are the notices so far.
func (s *session) noticed() (all []Notice) {
	for _, id := range sortedKeys(s.notices) {
		all = append(all, s.notices[id])
	}
	return all
}

// entry is what the lock has of a name, with what is to be written; nil is none.
func (s *session) entry(name string) *lock.Entry {
	if e, ok := s.next[name]; ok {
		return e
	}
	return s.lock.Plugins[name]
}

// reach returns the names that are wanted and locked, and all that they require, sorted. What is wrong with one is its error; one that is not locked is
// in none. What is in local meets what others require, whatever the lock has of it.
func (s *session) reach(roots []string, local map[string]*registry.Release) (names []string, faults map[string]error) {
	faults = map[string]error{}
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		s.seen[name] = true
		e := s.entry(name)
		if e == nil {
			return
		}
		names = append(names, name)
		for _, need := range sortedKeys(e.Requires) {
			if local[need] != nil {
				continue
			}
			visit(need)
			other := s.entry(need)
			found := "none"
			if other != nil {
				found = other.Version
			}
			if found != e.Requires[need] {
				faults[name] = &registry.Error{Plugin: name, Version: e.Version, Source: s.Lock, Kind: registry.ErrLock, Found: fmt.Sprintf("%s, and of %s %s", e.Version, need, found),
					Expected: need + " " + e.Requires[need] + ", which it was locked with", Remedy: "Was it merged? Resolve it again: ferrule update " + name}
			}
		}
	}
	for _, name := range roots {
		visit(name)
	}
	slices.Sort(names)
	return names, faults
}

// fits reports whether a version is in a range; "" is any.
func fits(version, in string) bool {
	return in == "" || ranges.Parse(in).Fits(ranges.ParseVersion(version)) == ranges.In
}

// commit writes what is to be in the lock, if that is still what the work went by. What was there before is remembered for Rollback when the lock is written: what fails leaves the version before that.
func (s *session) commit(ctx context.Context) error {
	if s.ReadOnly {
		return nil
	}
	if err := s.sign(ctx); err != nil {
		return err
	}
	if err := s.register(); err != nil {
		return err
	}
	if len(s.next) == 0 && !s.noting(s.lock) { // even to lock the lock is something that others see, who watch its folder
		return nil
	}
	err := lock.Update(ctx, s.Lock, func(now *lock.Lock) error {
		for _, name := range sortedKeys(s.seen) {
			if !reflect.DeepEqual(now.Plugins[name], s.lock.Plugins[name]) {
				return errMoved
			}
		}
		for name, e := range s.next {
			if e == nil {
				delete(now.Plugins, name)
				continue
			}
			if now.Plugins == nil {
				now.Plugins = map[string]*lock.Entry{}
			}
			now.Plugins[name] = e
		}
		if s.noting(now) {
			if have := now.Indexes[s.Index.Source]; have != (lock.Index{}) && have != s.call.before && have.Name != s.call.seen.Name {
				return &registry.Error{Source: s.Index.Source, Kind: registry.ErrIndex, Found: "the index of the registry " + s.call.seen.Name,
					Expected: "that of " + have.Name + ", which another process has noted in " + s.Lock + " meanwhile",
					Remedy:   "Two registries are served under one address: write the name of the right one to registry.index of config.yaml"}
			}
			if now.Indexes == nil {
				now.Indexes = map[string]lock.Index{}
			}
			now.Indexes[s.Index.Source] = s.call.seen
		}
		s.text = now.Text()
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.register(); err != nil { // again: before there was a lock, GC could take the registration for one of a lock that is gone
		return err
	}
	before := map[string]*lock.Entry{}
	for name, e := range s.next {
		old := s.lock.Plugins[name]
		switch {
		case old == nil:
		case e == nil: // there is nothing to roll back
			before[name] = nil
		case old.Version != e.Version || !sameBytes(old, e):
			before[name] = old
		case old.Pinned && !e.Pinned: // what is noted is what it was rolled back from: that would be a way forward
			before[name] = nil
		}
	}
	if err := s.remember(context.WithoutCancel(ctx), before); err != nil { // the lock is written, so it is no failure
		s.notice(Notice{Source: s.Lock, Text: "what was locked before could not be kept, so that ferrule rollback does not know it: " + err.Error()})
	}
	return nil
}

// noting reports whether a lock is to have the index that was opened, in place of what it has.
func (s *session) noting(l *lock.Lock) bool {
	if s.call.index == nil || s.call.seen.Serial == 0 || s.call.seen == s.call.before {
		return false
	}
	have := l.Indexes[s.Index.Source]
	return s.call.seen.Name != have.Name || s.call.seen.Serial > have.Serial
}

// sameBytes reports whether two entries have the same files, for the platforms that both are for.
func sameBytes(a, b *lock.Entry) bool {
	for platform, f := range a.Files {
		if other := b.Files[platform]; f.Digest != "" && other.Digest != "" && other.Digest != f.Digest {
			return false
		}
	}
	return true
}

// spread has those fail that require one that has.
func spread(failed map[string]error, names []string, requires func(name string) []string) {
	for again := true; again; {
		again = false
		for _, name := range names {
			if failed[name] != nil {
				continue
			}
			for _, need := range requires(name) {
				if cause := failed[need]; cause != nil {
					failed[name] = &registry.Error{Plugin: name, Found: need + ", which it requires, and which is not to be had", Err: cause, Remedy: "See to " + need + " first"}
					again = true
					break
				}
			}
		}
	}
}

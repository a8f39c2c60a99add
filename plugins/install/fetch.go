package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// releaseOf is what a lock knows of a release: enough for a source to find its files again.
func releaseOf(name string, e *lock.Entry) *registry.Release {
	kind := e.Kind
	if kind == "" {
		kind = registry.Library
	}
	r := &registry.Release{Name: name, Version: e.Version, Kind: kind, Tag: e.Tag, Digest: e.Digest, Files: e.Files}
	if isProgram(kind) {
		say(r, e)
	}
	return r
}

// lockedCandidate is the version that the lock has. What it requires is what it was locked with, until the library is there to say it.
func (s *session) lockedCandidate(ctx context.Context, name string, e *lock.Entry) *candidate {
	c := &candidate{entry: e, release: releaseOf(name, e), key: e.Key}
	file, on, ok := c.release.For(registry.ThisPlatform())
	if !ok {
		c.err = &registry.Error{Plugin: name, Version: e.Version, Path: s.Lock, Kind: registry.ErrPlatform, Found: "files for " + shown(sortedKeys(e.Files)),
			Expected: "one for " + registry.ThisPlatform(), Remedy: "Add this platform to the lock: ferrule lock --platform " + registry.ThisPlatform()}
		return c
	}
	c.on, c.file = on, file
	for _, need := range sortedKeys(e.Requires) {
		if slices.ContainsFunc(c.release.Requires, func(line string) bool { other, _ := ranges.Split(line); return other == need }) {
			continue // the lock says in which range
		}
		if ranges.ParseVersion(e.Requires[need]).Comparable() {
			need += " =" + e.Requires[need]
		}
		c.release.Requires = append(c.release.Requires, need)
	}
	if f, err := s.Store.Find(ctx, file.Digest); err == nil {
		c.take(s, f)
	} else if !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrDigest) {
		c.err = err
	}
	return c
}

// take takes a file that is in the store, and reads it.
func (c *candidate) take(s *session, f store.File) {
	if c.has != nil && c.path == f.Path {
		return
	}
	c.path, c.file.Digest, c.file.Size = f.Path, f.Digest, f.Size
	if isProgram(c.release.Kind) {
		c.takeProgram(s, f.Path)
		return
	}
	has, platform, err := Describe(f.Path)
	if own, ok := errors.AsType[*registry.Error](err); ok {
		own.Source, own.Path = c.from(), ""
		c.err = own
		return
	}
	if err != nil {
		c.err = unreadable(c.release.Name, c.release.Version, c.from(), err)
		return
	}
	c.has, c.platform = has, platform
	if c.entry != nil { // the library says all that a description does
		full := *has
		full.Kind, full.Tag, full.Digest, full.Files = c.release.Kind, c.release.Tag, c.release.Digest, c.release.Files
		if full.Name == c.release.Name && full.Version == c.release.Version {
			c.release = &full
		}
	}
	c.err = c.check(s)
}

// check compares what the library says with its description, with the lock and with the application.
func (c *candidate) check(s *session) error {
	said := c.release
	if said.Version == "" {
		return nil // nobody has said anything of it yet
	}
	if !c.described {
		said = &registry.Release{Name: said.Name, Version: said.Version, Requires: c.has.Requires, Conflicts: c.has.Conflicts, Host: c.has.Host, Imports: c.has.Imports, Permits: c.has.Permits}
	}
	if err := compare(said, c.has, c.from(), c.on, c.platform); err != nil {
		return err
	}
	return s.host(c.has, c.from())
}

// from is where the candidate comes from, as errors say it.
func (c *candidate) from() string {
	switch {
	case c.source != nil:
		return c.source.String()
	case c.entry != nil:
		return c.entry.Source
	}
	return ""
}

// places are where a candidate's file may come from, in their order.
func (s *session) places(c *candidate) []registry.Source {
	var all []registry.Source
	if c.file.Digest != "" {
		all = slices.Clone(s.Mirrors)
	}
	if c.source != nil {
		return append(all, c.source)
	}
	own := s.sourcesOf(c.release.Name)
	all = append(all, own...)
	for _, src := range s.Sources { // by its digest it may come from anywhere
		if !slices.Contains(own, src) {
			all = append(all, src)
		}
	}
	return all
}

// fetch has a candidate's file in the store.
func (s *session) fetch(ctx context.Context, c *candidate) error {
	if c.path != "" {
		return nil
	}
	size := int64(-1)
	if c.file.Digest != "" {
		size = c.file.Size
	}
	name := layout.FileName(c.release.Name, c.release.Kind, c.on)
	now := Progress{Plugin: c.release.Name, Version: c.release.Version, Platform: c.on, Stage: StageFetch, Total: size}
	var failed error
	places := s.places(c)
	for i, src := range places {
		f, err := s.Store.Put(ctx, c.file.Digest, size, name, func(ctx context.Context, half *store.Half, from int64) error {
			return s.fill(ctx, src, c, half, from, now, i+1 < len(places))
		})
		if err == nil {
			c.take(s, f)
			return c.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, registry.ErrStore) {
			return about(err, c, "")
		}
		if c.entry != nil && slices.Contains(s.Sources, src) {
			err = s.replaced(ctx, src, c, err)
		}
		if failed == nil || slices.Contains(s.Sources, src) && !errors.Is(failed, registry.ErrReplaced) {
			failed = about(err, c, src.String())
		}
	}
	if s.ReadOnly {
		_, err := s.Store.Find(ctx, c.file.Digest) // which says why
		return aboutAny(err, c)
	}
	if failed == nil {
		return &registry.Error{Plugin: c.release.Name, Version: c.release.Version, Kind: registry.ErrUnavailable, Found: "neither its file in the store nor a source", Expected: "one of them",
			Remedy: "Write registry.url in config.yaml, or install it from a file or a bundle"}
	}
	return failed
}

// about is an error with the plug-in that it is about.
func about(err error, c *candidate, source string) error {
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		return &registry.Error{Plugin: c.release.Name, Version: c.release.Version, Source: source, Kind: registry.ErrUnavailable, Err: err, Remedy: "Try again"}
	}
	said := *e
	said.Plugin, said.Version = c.release.Name, c.release.Version
	if said.Source == "" {
		said.Source = source
	}
	if said.Remedy == "" {
		said.Remedy = "Look at what is published there. A mirror that has the file of the lock does, too (registry.mirrors)"
		if errors.Is(err, registry.ErrUnavailable) {
			said.Remedy = tryAgain
		}
	}
	return &said
}

// A place that sends less than slowest bytes a second, seen over a file's whole time from patience on, is left for the next one.
const (
	patience = 10 * time.Second
	slowest  = 10 << 10
)

// brisk reads what comes from a place that is not the last one.
type brisk struct {
	io.Reader
	began time.Time
	n     int64
}

func (b *brisk) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.n += int64(n)
	if took := time.Since(b.began); err == nil && took > patience && float64(b.n) < slowest*took.Seconds() {
		err = &registry.Error{Kind: registry.ErrUnavailable, Found: fmt.Sprintf("%s in %v", sentence.Count(b.n, "byte"), took.Round(time.Second)), Expected: fmt.Sprintf("%d a second, while there is another place to ask", slowest),
			Remedy: "Leave it out of registry.mirrors while it is that slow"}
	}
	return n, err
}

// fill is a store.Fill from one source. others says that another one may have it, too: then it may not be too slow.
func (s *session) fill(ctx context.Context, src registry.Source, c *candidate, half *store.Half, from int64, now Progress, others bool) error {
	if err := s.request(ctx); err != nil {
		return err
	}
	body, at, size, err := src.Open(ctx, c.release, c.on, from)
	if err != nil {
		return err
	}
	defer body.Close()
	if now.Total >= 0 && size >= 0 && size != now.Total {
		return &registry.Error{Kind: registry.ErrDigest, Found: fmt.Sprintf("a file of %s", sentence.Count(size, "byte")), Expected: fmt.Sprint(now.Total), Remedy: "Ask whoever publishes it, or try another source"}
	}
	if at > from {
		return &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("bytes from %d on", at), Expected: fmt.Sprintf("%d or before", from)}
	}
	if err := half.Truncate(at); err != nil {
		return err
	}
	if now.Total < 0 {
		now.Total = size
	}
	now.Bytes = at
	s.progress.report(now)
	reader := ctxio.Reader(ctx, body)
	if others {
		reader = &brisk{Reader: reader, began: time.Now()}
	}
	_, err = io.Copy(half, &counted{Reader: reader, to: &s.progress, what: now})
	return err
}

// replaced finds out whether a source has another file under a version that is in the lock: err says that it did not have this one.
func (s *session) replaced(ctx context.Context, src registry.Source, c *candidate, err error) error {
	if !errors.Is(err, registry.ErrDigest) && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrMalformed) {
		return err
	}
	r, e := src.Release(ctx, c.release.Name, c.release.Version)
	if e != nil {
		return err
	}
	f, ok := r.Files[c.on]
	if !ok || f.Digest == c.file.Digest || f.Digest == "" && errors.Is(err, registry.ErrNotFound) {
		return err
	}
	found := "other bytes under " + c.release.Version
	if f.Digest != "" {
		found, err = "the digest "+f.Digest, nil // which says no more
	}
	return replacedError(c.release.Name, c.release.Version, src.String(), found, c.file.Digest, err)
}

func replacedError(name, version, source, found, locked string, err error) error {
	return &registry.Error{Plugin: name, Version: version, Source: source, Kind: registry.ErrReplaced, Found: found, Expected: locked + ", as the lock says", Err: err,
		Remedy: "A version is not published twice: ask whoever publishes it what has happened. If the new one is meant: ferrule update --replaced " + name}
}

// verify verifies a candidate whose bytes are in the store. It asks for a signature where the store has kept none that is good.
func (s *session) verify(ctx context.Context, c *candidate) error {
	r := c.release
	s.progress.report(Progress{Plugin: r.Name, Version: r.Version, Platform: c.on, Stage: StageVerify, Bytes: c.file.Size, Total: c.file.Size})
	text, err := s.proven(ctx, c)
	if err == nil && c.key != "" && c.entry == nil { // what is locked and in the store needs no index
		var x Revocations
		if x, err = s.openIndex(ctx); x != nil {
			err = x.RevokedKey(c.key)
		}
	}
	if err == nil && len(text) > 0 && string(text) != c.lockedSignature() {
		err = s.keepSignature(c.file.Digest, text)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return about(err, c, c.from())
	}
	c.done = true
	if c.key != "" && (c.entry == nil || c.entry.Key == "") {
		s.mu.Lock()
		s.proved = append(s.proved, c)
		s.mu.Unlock()
	}
	s.progress.report(Progress{Plugin: r.Name, Version: r.Version, Platform: c.on, Stage: StageDone, Bytes: c.file.Size, Total: c.file.Size})
	return nil
}

// proven finds a signature by which the candidate may be loaded, and notes its key. It is the first good one of those that there are: a place that has another one, or none, keeps
// nobody from the next. Where no key counts for the plug-in, any or none will do, with a Notice, but no key that was revoked.
func (s *session) proven(ctx context.Context, c *candidate) (signature []byte, err error) {
	first := s.Trust.FirstUse(c.release.Name)
	err = s.signatures(ctx, c, func(text []byte) (bool, error) {
		key, err := s.signedBy(ctx, c, text)
		if first != "" && (errors.Is(err, registry.ErrUnsigned) || errors.Is(err, registry.ErrKey)) {
			s.notice(Notice{Plugin: c.release.Name, Version: c.release.Version, Source: c.from(), Text: first})
			key, err = "", nil
		}
		if err == nil {
			if c.key, signature = key, text; key != "" {
				c.signature = text
			}
		}
		return err == nil, err
	})
	return signature, err
}

// signedBy verifies one signature over the candidate's bytes in the store, and returns the key's id.
func (s *session) signedBy(ctx context.Context, c *candidate, signature []byte) (key string, err error) {
	f, err := os.Open(c.path)
	if err != nil {
		return "", &registry.Error{Path: c.path, Kind: registry.ErrStore, Err: err}
	}
	defer f.Close()
	of := sign.Subject{Name: c.release.Name, Version: c.release.Version, Platform: c.on}
	key, err = s.Trust.Verify(ctx, of, f, signature)
	if e, ok := errors.AsType[*registry.Error](err); ok && len(signature) > 0 && string(signature) == c.lockedSignature() {
		said := *e
		said.Path, err = s.Lock, &said // which is where it was found
	}
	return key, err
}

// lockedSignature is what the lock has as the signature of a candidate's file; "" where it has none.
func (c *candidate) lockedSignature() string {
	if c.entry == nil {
		return ""
	}
	return c.entry.Signatures[c.on]
}

// signaturesHere are those of a candidate's file that nobody has to be asked for: the lock's, then the one that the
// store has kept.
func (s *session) signaturesHere(c *candidate) (texts [][]byte) {
	if text := c.lockedSignature(); text != "" {
		texts = append(texts, []byte(text))
	}
	if text := s.keptSignature(c.file.Digest); text != nil {
		texts = append(texts, text)
	}
	return texts
}

// signatures offers the signatures of a candidate's file, until one is taken: those that are here, then those of the
// places that it may come from. A signature is worth what Trust says, wherever it comes from. Where no place has one,
// nil is offered, unless a place could not be asked. The error is that of the first that was not taken.
func (s *session) signatures(ctx context.Context, c *candidate, offer func(text []byte) (taken bool, err error)) error {
	var refused, failed error
	try := func(text []byte) bool {
		taken, err := offer(text)
		if !taken && refused == nil {
			refused = err
		}
		return taken
	}
	if slices.ContainsFunc(s.signaturesHere(c), try) {
		return nil
	}
	if err := s.request(ctx); err != nil {
		return err
	}
	places := s.places(c)
	if c.entry == nil {
		slices.Reverse(places) // a mirror need not have what is new
	}
	for _, src := range places {
		text, err := src.Signature(ctx, c.release, c.on)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && len(text) > 0 && try(text) {
			return nil
		}
		if failed == nil && err != nil && !errors.Is(err, registry.ErrNotFound) {
			failed = about(err, c, src.String())
		}
	}
	if refused == nil && failed == nil && try(nil) {
		return nil
	}
	if refused == nil {
		return failed
	}
	return refused
}

// maxSigned is for how many platforms an entry gets signatures, at most: Go has less than 50. So a source that makes up
// platforms is not asked without end, and the lock has room for all plug-ins.
const maxSigned = 64

// sign puts signatures into the entries that are to be written of what a key has signed: that of the file that was
// verified here, and of the files for other platforms those that their source has. So a host of another platform asks
// for the file alone. Of these it is verified that the key has made them for that platform; over the bytes, which are
// not here, that host verifies them. It is no error that there is none: that host asks for it. But that is a Notice, as
// it may be refused there.
func (s *session) sign(ctx context.Context) error {
	note := func(c *candidate, text []byte) { // one that the lock cannot have is asked for
		if lock.ValidSignature(string(text)) {
			s.next[c.release.Name].Signatures[c.on] = string(text)
		}
	}
	signed := map[string]*candidate{}
	for _, c := range s.proved {
		name := c.release.Name
		e := s.next[name]
		if e == nil || e.Version != c.release.Version || e.Files[c.on].Digest != c.file.Digest {
			continue
		}
		if signed[name] == nil {
			all := map[string]string{}
			maps.Copy(all, e.Signatures) // which may be those of the lock's entry
			e.Signatures, signed[name] = all, c
		}
		note(c, c.signature)
	}
	var others []*candidate
	for _, name := range sortedKeys(signed) {
		c, e := signed[name], s.next[name]
		for _, on := range sortedKeys(e.Files)[:min(maxSigned, len(e.Files))] {
			if e.Signatures[on] == "" {
				others = append(others, &candidate{release: releaseOf(name, e), source: c.source, entry: c.entry, on: on,
					file: e.Files[on]})
			}
		}
	}
	gone := map[string]bool{} // plug-ins whose source cannot be reached any more: it is not tried for each platform
	s.each(ctx, others, func(ctx context.Context, c *candidate) error {
		r := c.release
		s.mu.Lock()
		skip := gone[r.Name]
		s.mu.Unlock()
		if skip {
			return nil
		}
		err := s.signatures(ctx, c, func(text []byte) (bool, error) {
			_, err := s.Trust.VerifySubject(sign.Subject{Name: r.Name, Version: r.Version, Platform: c.on}, text)
			if err == nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				note(c, text)
			}
			return err == nil, err
		})
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, registry.ErrUnavailable) {
			s.mu.Lock()
			skip, gone[r.Name] = gone[r.Name], true
			s.mu.Unlock()
		}
		if !skip {
			s.notice(Notice{Plugin: r.Name, Version: r.Version, Source: c.from(), Text: "the lock has no signature of its file for " +
				c.on + ", so that a host of that platform asks for one: " + err.Error()})
		}
		return nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// each does work for several candidates, some at a time, and returns what failed by name. It waits for all.
func (s *session) each(ctx context.Context, all []*candidate, work func(context.Context, *candidate) error) map[string]error {
	var mu sync.Mutex
	var group sync.WaitGroup
	failed := map[string]error{}
	room := make(chan struct{}, s.Parallel)
	for _, c := range all {
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			err := context.Cause(ctx)
			if err == nil {
				err = work(ctx, c)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[c.release.Name] = err
			}
		})
	}
	group.Wait()
	return failed
}

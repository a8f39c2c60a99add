// Package install is the installer: of what config.yaml names it makes files in the store that may be loaded. It puts together the lock, the store, the
// sources that releases come from, the keys that may sign them, and the versions that fit together. It reaches no network by itself: sources do.
//
//	in, err := install.New(install.Options{App: "shop", Version: "1.4.0", Lock: "ferrule.lock", Store: s, Sources: []registry.Source{source}, Trust: trust})
//	result, err := in.Ensure(ctx, []install.Want{{Name: "tax", Range: "^1"}})
//	result.Plugins["tax"].Path // in the store, with the digest of the lock
//
// # What holds
//
//   - The lock is law. What is in it is installed as it is there, or not at all: Ensure takes up no other version, and Update is asked for. A lock that says
//     something else than config.yaml is registry.ErrLock.
//   - Where the store has all of the lock, no source is asked anything. What the store lacks is asked for by its digest alone: the lock has the signatures of the files for all platforms.
//   - A digest of the lock makes any mirror as good as the source. What is not in the lock comes from a source alone.
//   - What is new is in the lock when all of it was verified: the bytes' signature, that it is this plug-in, in this version, for this platform, that it was made for
//     this version of the application, and that it was granted what it asks for. The lock is written once, at the end. A plug-in that is not to be had keeps no other
//     from it, unless that one requires it.
//   - Without keys the digest on first use counts, and there is a Notice.
//   - The store keeps a register of the locks that use it, by their paths: GC keeps what one of them names.
//
// Any number of processes may work on one lock and one store: what one has locked, the others take over. A context that ends leaves both whole, and what had
// come of a file is gone on with the next time. All errors that are about a plug-in are *registry.Error.
package install

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// Options are those of New. Lock and Store must be there.
type Options struct {
	App, Version string // the application, which host.<App> of a plug-in names the versions of; "" where it is not known: then nothing is compared with it

	Lock  string       // the path of ferrule.lock
	Store *store.Store // where files are kept

	// Sources are where releases come from. A plug-in that is not in the lock comes from the first one that has it, and stays with that source.
	Sources []registry.Source
	// Mirrors have the same files. They are asked first, in this order, for what the lock has the digest of.
	Mirrors []registry.Source

	// Local are plug-ins that are there already, such as in a folder, by name: they meet what others require, also where the lock has another version of them, and are
	// neither fetched nor locked. What the lock has of them stays: it is for where they are not.
	Local map[string]*registry.Release
	// ReadOnly has Ensure fetch and write nothing: what is not in the lock and in the store fails.
	ReadOnly bool

	// Trust says whose signatures count, such as a *sign.Trust. nil: nobody's is asked for, and the digest on first use counts.
	Trust Trust

	// Kinds are those of plug-ins that the application can load; nil: all.
	Kinds []registry.Kind

	// Granted says whether a plug-in may have what it asks for. It is asked for what is not in the lock, before anything is loaded, and not for what a plug-in merely would
	// like to have, one call at a time, from several goroutines. nil: nothing is asked.
	Granted func(plugin, version string, ask Ask) bool

	// Ranges are those of the versions that somebody wants, as Configured has them of a config.yaml, by plug-in: Rollback takes no version back that is not in them. A plug-in without one may have any.
	Ranges map[string]string

	// HowToGrant says what to write where, for what a plug-in asks for and was not granted, as a sentence: see HowToGrant. nil: a sentence that names no file.
	HowToGrant func(plugin string, lacks []Ask) string

	Index    *Index                      // which versions were revoked; nil: nobody says
	Progress func(Progress)              // is told how far the files are; one call at a time, from several goroutines
	First    func(context.Context) error // is called before the first request of a call: Jitter spreads hosts that start at once; may be nil
	Parallel int                         // how many files come at a time; 0 is 4
}

// Trust says whose signatures count.
type Trust interface {
	sign.Verifier

	// FirstUse says that no key counts for a plug-in, in a sentence that has to be shown; "" where keys count.
	FirstUse(plugin string) string

	// VerifySubject verifies of a signature all but the bytes that it is over: see sign.Trust.VerifySubject. It is
	// asked of the files for other platforms, which are not here.
	VerifySubject(s sign.Subject, signature []byte) (key string, err error)

	// Counts says whether the signatures of a key count for a plug-in, by the key's id: nil, or a *registry.Error of the kind ErrKey or ErrRevokedKey.
	Counts(plugin, key string) error
}

// Index is where the sources say which versions and keys were revoked: their signed index. It is opened when a source is asked for something, once in a call, so that
// what is locked and in the store needs none.
type Index struct {
	Source string // what the lock keeps its serial and date under, so that they do not go back

	// Open opens it: see index.Open. seen is what the lock has of it, now what it is to have: seen itself, where nobody has signed it, and one of another name only where that is known to be right. ErrUnavailable is a Notice for what is locked, and an error for
	// what is not; any other error is one for both.
	Open func(ctx context.Context, seen lock.Index) (x Revocations, now lock.Index, err error)
}

// Revocations say what nobody is to install any more; an *index.Index is one. Errors are *registry.Error.
type Revocations interface {
	Revoked(name, version string, digests ...string) error // ErrRevoked where a release was. Without a Remedy, or with index.AnotherVersion, it gets one
	RevokedKey(id string) error                            // ErrRevokedKey where a key was
	Warnings() []*registry.Error                           // what is wrong with the index, and no error
}

// Installer installs plug-ins. Its methods may be called from any goroutine at the same time.
type Installer struct {
	Options
	progress progress
	asking   sync.Mutex // is held while Granted is called
}

// New makes an installer. It touches nothing. The error is about the options.
func New(o Options) (*Installer, error) {
	if o.Lock == "" || o.Store == nil {
		return nil, errors.New("install.New: found no lock or no store, expected both")
	}
	path, err := abspath.Of(o.Lock)
	if err != nil {
		return nil, err
	}
	o.Lock = path
	if o.Trust == nil {
		o.Trust = &sign.Trust{}
	}
	if o.ReadOnly {
		o.Sources, o.Mirrors, o.Index = nil, nil, nil
	}
	if o.Kinds == nil {
		o.Kinds = registry.Kinds()
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	return &Installer{Options: o, progress: progress{tell: o.Progress}}, nil
}

// Want is a plug-in that somebody wants, such as an entry of config.yaml.
type Want struct {
	Name  string // the plug-in's
	Range string // of versions, as semver.NewConstraint takes it; "": any that is no prerelease
}

// Installed is a plug-in that may be loaded. It is data of the caller's.
type Installed struct {
	Name, Version string        // as its manifest has them
	Path          string        // of its file in the store, whose digest was compared with the lock's in this call
	Digest        string        // of the file
	Kind          registry.Kind // of the file
	Source        string        // where it came from when it was locked
	Key           string        // the id of the key that signed it; "" on first use without keys
	Requires      []string      // the names of those that it requires, sorted
	Pinned        bool          // by a rollback: Update leaves it
	New           bool          // it was not in the lock before this call, or in another version
}

// Result is what came of a call.
type Result struct {
	Plugins map[string]Installed // those that are wanted, and all that they require
	Failed  map[string]error     // each a *registry.Error: those that are not to be had, and those that require one of them
	Notices []Notice             // what somebody should be told, by name
	Lock    []byte               // the text of the lock that this was made of, as lock.Text writes it; a result holds as long as that does
}

// Err is all that failed, by name, in one error; nil where nothing did.
func (r *Result) Err() error {
	var all []error
	for _, name := range sortedKeys(r.Failed) {
		all = append(all, r.Failed[name])
	}
	return errors.Join(all...)
}

// Notice is something that is no error and that somebody should be told.
type Notice struct {
	Plugin, Version, Source string // what it is about; each may be ""
	Text                    string // a sentence
}

// String says it in one line.
func (n Notice) String() string {
	if who := strings.TrimSpace(n.Plugin + " " + n.Version); who != "" {
		return who + ": " + n.Text
	}
	return n.Text
}

// Ensure has what is wanted in the lock and in the store, and returns where it is. The error is about the whole: the lock that cannot be read or written, a context that
// ended. What is wrong with one plug-in is in Failed, and the lock has the others.
func (in *Installer) Ensure(ctx context.Context, wants []Want) (*Result, error) {
	var r *Result
	err := in.try(ctx, func(s *session) (err error) {
		r, err = s.ensure(ctx, wants)
		return err
	})
	return r, err
}

// attempts is how often a call begins anew because another process has changed the lock meanwhile.
const attempts = 16

// errMoved says that the lock is not any more what the work began with.
var errMoved = errors.New("the lock was changed by another process again and again")

// try does work on the lock as it is, and again when that has moved.
func (in *Installer) try(ctx context.Context, work func(*session) error) error {
	c := new(call)
	var err error
	for range attempts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var s *session
		if s, err = in.begin(c); err != nil {
			return err
		}
		if err = work(s); !errors.Is(err, errMoved) {
			return err
		}
	}
	return &registry.Error{Source: in.Lock, Kind: registry.ErrLock, Err: err, Remedy: "Try again when the others are done"}
}

// sortedKeys are a map's keys in their order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// named checks the names of wants: each is there once.
func named(wants []Want) ([]Want, error) {
	seen := map[string]bool{}
	var all []Want
	for _, w := range wants {
		if !registry.ValidName(w.Name) {
			return nil, &registry.Error{Plugin: w.Name, Kind: registry.ErrMalformed, Found: "a name that is none", Expected: registry.NameRule, Remedy: "Correct it in config.yaml"}
		}
		if seen[w.Name] {
			return nil, &registry.Error{Plugin: w.Name, Kind: registry.ErrMalformed, Found: "two entries of it", Expected: "each plug-in once", Remedy: "Remove one of the two"}
		}
		seen[w.Name] = true
		all = append(all, w)
	}
	return all, nil
}

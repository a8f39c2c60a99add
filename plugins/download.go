package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// Download has the system install what config.yaml names and no folder has: as the lock says, ferrule.lock beside config.yaml, and where that does not have it,
// the newest version in its range that registry in config.yaml has. What was fetched is verified before it is in the lock, and loaded from the
// store alone. Where lock and store have it all, nothing is asked of a registry. It never updates by itself. What could not be had is tried again by Reload, and by
// Watch where something has changed, else after a time that grows.
//
// open is for the kinds of urls that the application is to know, such as release.Pages and oci.Registries; that of file:// is always known. They are not
// built in, because this package is to be had without net/http. What one plug-in's installation ends with is its Error, of StepFetch; the others start.
func Download(open ...install.Opener) Option {
	return func(s *System) {
		if s.download == nil {
			s.download = &download{}
		}
		for _, o := range open {
			if o == nil {
				s.wrong("Download", "nil", "functions that open sources")
				continue
			}
			s.download.open = append(s.download.open, o)
		}
	}
}

// LockFile sets the path of the lock that Download goes by.
func LockFile(path string) Option { return func(s *System) { s.lockFile = path } }

// StoreFolder sets the folder of the store that Download keeps files in; without it, it is store.Default, which all applications of a user share.
func StoreFolder(path string) Option { return func(s *System) { s.storeFolder = path } }

// DownloadJitter has downloads begin after a random part of a time: for a fleet whose hosts start at once. Nothing waits where lock and store have it all.
func DownloadJitter(most time.Duration) Option {
	return func(s *System) {
		if most < 0 {
			s.wrong("DownloadJitter", most.String(), "0 or more")
			return
		}
		s.downloadJitter = most
	}
}

// OnDownload has tell told how far downloads are, before their plug-ins are there; one call at a time, from several goroutines. It must not block.
func OnDownload(tell func(install.Progress)) Option {
	return func(s *System) {
		if tell == nil {
			s.wrong("OnDownload", "nil", "a function")
			return
		}
		s.onDownload = tell
	}
}

// download is what Download has set up. Whoever has System.change has it.
type download struct {
	open  []install.Opener
	store *store.Store // open from the first use on, until the system is closed: what it has found no GC takes

	folder fs.FileInfo // of the store
	done   []*attempt  // the last two: a config.yaml that was refused comes before the one that holds
	calm   bool        // what has failed is tried again when its time has come, or something has changed

	damaged atomic.Bool // a file of the store was not what it should be when it was loaded: it is looked at again
}

// attempt is what came of installing something. It holds while nothing of it has changed.
type attempt struct {
	wants  []install.Want
	conf   *config.Config
	local  map[string]*registry.Release
	lock   string
	result *install.Result
	err    error
	files  map[string]fs.FileInfo // of the store, by path
	again  time.Time              // before which it is not tried again by itself, where something has failed
	pause  time.Duration          // that was waited then
}

// A download that has failed, and of which nothing has changed, is tried again by a watcher's Reload after a time that doubles from the first of these to the second.
const (
	firstPause = 5 * time.Second
	lastPause  = 10 * time.Minute
)

// holds reports whether the attempt was at the same, and its files are there.
func (a *attempt) holds(b *attempt) bool {
	if a.lock != b.lock || !slices.Equal(a.wants, b.wants) || !sameConfig(a.conf, b.conf) || !reflect.DeepEqual(a.local, b.local) {
		return false
	}
	for path, was := range a.files {
		if now, err := os.Lstat(path); err != nil || !os.SameFile(was, now) || now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime()) {
			return false
		}
	}
	return true
}

func (a *attempt) failed() bool { return a.err != nil || len(a.result.Failed) > 0 }

// patient sets whether what has failed waits for its time. Whoever calls it has System.change.
func (d *download) patient(is bool) {
	if d != nil {
		d.calm = is
	}
}

// openStore opens the store, again where its folder is not the one any more that was opened: somebody has deleted it.
func (d *download) openStore(folder string) error {
	if now, err := os.Stat(folder); d.store != nil && (err != nil || !os.SameFile(now, d.folder)) {
		_ = d.store.Close()
		d.store = nil
	}
	if d.store != nil {
		return nil
	}
	opened, err := store.Open(folder)
	if err != nil {
		return err
	}
	if d.folder, err = os.Stat(folder); err != nil {
		_ = opened.Close()
		return err
	}
	d.store = opened
	return nil
}

// close closes the store. Nobody uses it any more.
func (d *download) close() {
	if d != nil && d.store != nil {
		_ = d.store.Close()
	}
}

// forgetFiles lets go of the files of the store that no version uses any more: each that is held is a descriptor, and no GC takes it. What the lock said before stays with it, since
// a result is taken again where it goes back to that; and so does that of a version that is leaving, until it is closed. Whoever calls it has System.change.
func (s *System) forgetFiles() {
	if s.download == nil || s.download.store == nil {
		return
	}
	s.mu.Lock()
	plan := s.plans
	s.mu.Unlock()
	used := map[string]bool{}
	use := func(f *found) {
		if f != nil {
			used["sha256:"+f.sha256] = true
		}
	}
	if plan != nil {
		for _, f := range plan.found {
			use(f)
		}
	}
	for _, a := range s.download.done {
		if a.result != nil {
			for _, p := range a.result.Plugins {
				used[p.Digest] = true
			}
		}
	}
	for _, e := range s.all() {
		e.mu.Lock()
		for _, l := range e.leaving {
			use(l.spec.found)
		}
		if e.spec != nil {
			use(e.spec.found)
		}
		if e.live != nil {
			use(e.live.spec.found)
		}
		e.mu.Unlock()
	}
	s.download.store.Forget(func(digest string) bool { return used[digest] })
}

// forgetLater is forgetFiles for whoever has not System.change, such as the end of a version that was leaving: when it is to be had, unless the system is closed before.
func (s *System) forgetLater() {
	if s.download == nil {
		return
	}
	if _, give, err := s.take(s.life); err == nil {
		s.forgetFiles()
		give()
	}
}

// installedPrecedence is that of what was installed: folders come before it, what is compiled in after it.
const installedPrecedence = builtinPrecedence - 1

// lockPath is the path of the lock; "" where there is none.
func (s *System) lockPath() string {
	if s.lockFile != "" || s.configPath == "" {
		return s.lockFile
	}
	return install.LockOf(s.configPath)
}

// fetch adds what config.yaml names and was not found, from the store. failed says what is not to be had, by name; ctx is the only other reason for an error.
func (s *System) fetch(ctx context.Context, conf *config.Config, all []*found, before []*found) (with []*found, failed map[string]error, err error) {
	if s.download == nil || len(conf.Plugins) == 0 || s.surveying && conf.Registry.URL == "" && !exists(s.lockPath()) {
		return all, nil, nil // or nothing says that something is to be installed
	}
	local := map[string]*registry.Release{}
	at := map[string]*found{}
	for _, f := range all { // a file that config.yaml does not name is not there for anybody: see plan
		if name := f.name(); f.desc != nil && f.builtin == nil && conf.Plugin(name) != nil && (at[name] == nil || better(f, at[name])) {
			at[name], local[name] = f, install.Described(f.desc)
		}
	}
	wants := install.Wants(conf, func(name string) bool { return local[name] != nil || s.compiledIn(name) })
	if wants == nil {
		return all, nil, nil
	}
	for _, b := range s.builtins {
		if f := slices.IndexFunc(all, func(f *found) bool { return f.builtin == b && f.desc != nil }); f >= 0 && local[b.Name] == nil {
			local[b.Name] = install.Described(all[f].desc)
		}
	}
	known := knownOf(before)
	var fresh []*found
	for range 2 { // what is gone from the store by now is fetched anew
		r, err := s.installed(ctx, conf, wants, local)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil { // it is about all of them: what is in a folder starts all the same
			failed = map[string]error{}
			for _, w := range wants {
				failed[w.Name] = err
			}
			return all, failed, nil
		}
		fresh, failed = nil, r.Failed
		for name, p := range r.Plugins {
			f := &found{path: p.Path, precedence: installedPrecedence, installed: true, sha256: registry.Hex(p.Digest)}
			if p.Kind == registry.Program || p.Kind == registry.Script {
				f.sidecar, f.was = s.installedSidecar(conf.Plugin(name), name, p.Version, p.Path, p.Digest), name
			}
			fresh = append(fresh, f)
		}
		s.readAll(ctx, fresh, known)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if !slices.ContainsFunc(fresh, func(f *found) bool { // a sidecar that does not say what it is may be as it was published
			return f.err != nil && (f.sidecar == nil || errors.Is(f.err, loader.ErrDigest) || errors.Is(f.err, loader.ErrRead))
		}) {
			break
		}
		s.download.done = nil
	}
	return append(slices.Clone(all), fresh...), failed, nil
}

// mend has what is installed looked at again where a file of the store was found damaged: it is fetched anew, to the same place.
func (s *System) mend() {
	if s.download == nil || !s.download.damaged.Load() {
		return
	}
	ctx, give, err := s.take(s.life)
	if err != nil {
		return
	}
	defer give()
	s.mu.Lock()
	p := s.plans
	s.mu.Unlock()
	if p == nil || !s.download.damaged.Load() {
		return
	}
	here := slices.DeleteFunc(slices.Clone(p.found), func(f *found) bool { return f.installed })
	_, _, _ = s.fetch(ctx, p.conf, here, p.found) // what comes of it, the next try to open the plug-in says
}

// damaged is the error of a file of the store that was not as the lock says when it was loaded.
func (s *System) damaged(plugin string, f *found, err error) *Error {
	s.download.damaged.Store(true)
	return &Error{Plugin: plugin, Step: StepOpen, Kind: ErrOpen, Found: "a file in the store that was changed or deleted since it was installed: " + f.path, Expected: "its bytes, as the lock says",
		Remedy: "It is fetched again when the plug-in is tried again, or at once by Reload (ferrule verify says what else is damaged, ferrule install mends it)", Err: &reworded{"the store is damaged", err}}
}

// exists reports whether there is a file or folder, or something that keeps from telling.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// compiledIn reports whether a plug-in is one of Builtin.
func (s *System) compiledIn(name string) bool {
	for _, b := range s.builtins {
		if b.Name == name {
			return true
		}
	}
	return false
}

// installed has the installer do it, unless nothing has changed since the last time.
func (s *System) installed(ctx context.Context, conf *config.Config, wants []install.Want, local map[string]*registry.Release) (*install.Result, error) {
	d := s.download
	if s.lockPath() == "" {
		return nil, &registry.Error{Kind: registry.ErrLock, Found: "no path of a lock", Expected: "one", Remedy: "Give the system a config.yaml, or a LockFile"}
	}
	if d.damaged.Swap(false) {
		d.done = nil
	}
	now := &attempt{wants: wants, conf: conf, local: local, lock: s.lockText(), pause: firstPause}
	for _, a := range d.done {
		if !a.holds(now) {
			continue
		}
		if !a.failed() || d.calm && time.Now().Before(a.again) {
			return a.result, a.err
		}
		if d.calm {
			now.pause = min(2*a.pause, lastPause)
		}
	}
	now.result, now.err = s.install(ctx, conf, wants, local)
	if ctx.Err() != nil {
		return now.result, now.err
	}
	now.again = time.Now().Add(now.pause)
	if now.err != nil {
		now.lock = s.lockText()
	} else {
		now.lock = string(now.result.Lock)
		now.files = map[string]fs.FileInfo{}
		for _, p := range now.result.Plugins {
			info, err := os.Lstat(p.Path)
			if err != nil { // it is gone already: the next time looks for it
				return now.result, nil
			}
			now.files[p.Path] = info
		}
	}
	d.done = slices.DeleteFunc(d.done, func(a *attempt) bool { return a.holds(now) })
	d.done = append(d.done, now)
	d.done = d.done[max(0, len(d.done)-2):]
	return now.result, now.err
}

// lockText is what the lock says, as Result.Lock has it; of one that cannot be read, why.
func (s *System) lockText() string {
	l, err := lock.Load(s.lockPath())
	if errors.Is(err, fs.ErrNotExist) {
		l, err = &lock.Lock{}, nil
	}
	if err != nil {
		return err.Error()
	}
	return string(l.Text())
}

// install has the installer do it.
func (s *System) install(ctx context.Context, conf *config.Config, wants []install.Want, local map[string]*registry.Release) (*install.Result, error) {
	d := s.download
	folder := s.storeFolder
	if folder == "" {
		var err error
		if folder, err = store.Default(); err != nil {
			return nil, err
		}
	}
	if s.surveying && !exists(folder) { // to open it makes it
		return nil, &registry.Error{Path: folder, Kind: registry.ErrNotFound, Found: "no store", Expected: "one with what is installed", Remedy: "Install it: ferrule install"}
	}
	if err := d.openStore(folder); err != nil {
		return nil, err
	}
	o, err := install.Configured(conf, s.openers()...)
	if err != nil {
		return nil, err
	}
	o.App, o.Version, o.Lock, o.Store, o.Local, o.ReadOnly, o.Progress = s.app, s.version, s.lockPath(), d.store, local, s.surveying, s.onDownload
	o.First = install.Jitter(s.downloadJitter)
	o.Kinds = s.kinds()
	o.Granted = func(plugin, version string, ask install.Ask) bool { return s.mayHave(conf, plugin, version, ask) }
	in, err := install.New(o)
	if err != nil {
		return nil, err
	}
	r, err := in.Ensure(ctx, wants)
	if err != nil {
		return nil, err
	}
	for _, n := range r.Notices {
		s.log(slog.LevelWarn, "installing", filled(slog.String("plugin", n.Plugin), slog.String("version", n.Version), slog.String("source", n.Source), slog.String("notice", n.Text))...)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Plugins)) {
		if p := r.Plugins[name]; p.New {
			s.event(Event{Kind: EventInstalled, Plugin: name, Version: p.Version})
		}
	}
	return r, nil
}

// openers open sources. What cannot be opened says why when it is asked for something, which it is not where lock and store have it all.
func (s *System) openers() []install.Opener {
	all := []install.Opener{}
	for _, open := range append([]install.Opener{files.Open}, s.download.open...) {
		all = append(all, func(r config.Registry) (registry.Source, bool, error) {
			source, ok, err := open(r)
			if err != nil {
				return &refusing{r.URL, err}, true, nil
			}
			return source, ok && source != nil, nil
		})
	}
	return append(all, func(r config.Registry) (registry.Source, bool, error) {
		return &refusing{r.URL, &registry.Error{Source: r.URL, Kind: registry.ErrUnavailable, Found: "a url of a kind that the application does not know", Expected: "file://, or one that it was given a source for",
			Remedy: "Give the system one: plugins.Download(release.Pages) for https://, plugins.Download(oci.Registries) for oci://"}}, true, nil
	})
}

// refusing is a source that cannot be had.
type refusing struct {
	url string
	err error
}

func (r *refusing) String() string { return r.url }
func (r *refusing) Versions(context.Context, string) ([]string, error) {
	return nil, r.err
}
func (r *refusing) Release(context.Context, string, string) (*registry.Release, error) {
	return nil, r.err
}
func (r *refusing) Open(context.Context, *registry.Release, string, int64) (io.ReadCloser, int64, int64, error) {
	return nil, 0, 0, r.err
}
func (r *refusing) Signature(context.Context, *registry.Release, string) ([]byte, error) {
	return nil, r.err
}

// mayHave says whether a plug-in that is to be installed would get what it asks for.
func (s *System) mayHave(conf *config.Config, plugin, version string, ask install.Ask) bool {
	r := Request{Plugin: plugin, Version: version, What: ask.What, Name: ask.Item}
	if ask.What == "function" || ask.What == "service" {
		o := s.offers[ask.Item]
		if o != nil { // the application's comes before a plug-in's
			r.What = "function"
		}
		if o != nil && o.public || o == nil && ask.What == "function" {
			return true
		}
	}
	return install.Grants(conf, plugin, ask) || s.ask(r)
}

// unfetched is why a plug-in could not be installed. missing is what the folders say of it, and here whether they have what may be meant: its name may be misspelt, or it a program.
func (s *System) unfetched(conf *config.Config, name string, err error, missing *Error, here bool) *Error {
	e := &Error{Plugin: name, Step: StepFetch, Kind: ErrFetch, Err: err}
	for _, k := range []struct{ from, to error }{{registry.ErrNotFound, ErrNotFound}, {registry.ErrHost, ErrRange}, {registry.ErrConflict, ErrConflict}} {
		if errors.Is(err, k.from) {
			e.Kind = k.to
		}
	}
	about, ok := errors.AsType[*registry.Error](err)
	none := e.Kind == ErrNotFound
	near := here && (none || errors.Is(err, registry.ErrUnavailable))
	if ok && (about.Plugin == "" || about.Plugin == name) && (near || none && !s.surveying) {
		e.Found, e.Expected, e.Unsure = missing.Found, missing.Expected, missing.Unsure
		if near { // else what the registry says is the remedy
			e.Remedy = missing.Remedy
		}
	}
	if ok && errors.Is(err, registry.ErrLock) && about.Plugin != "" { // the lock can be read, and has another version
		e.Kind = ErrRange
	}
	if errors.Is(err, registry.ErrGrant) {
		e.Kind, e.Step = ErrGrant, StepGrant
		if entry := conf.Plugin(name); entry != nil {
			e.Remedy = fmt.Sprintf("Its entry is in line %d of %s", entry.Line, s.configName())
		}
	}
	return e
}

// overridden says loudly which plug-ins run from where somebody develops them.
func (s *System) overridden(conf *config.Config) {
	for _, name := range slices.Sorted(maps.Keys(conf.Dev)) {
		s.log(slog.LevelWarn, "NOT INSTALLED, NOT VERIFIED: dev in "+s.configName()+" puts another file in the place of a plug-in", slog.String("plugin", name), slog.String("file", conf.Dev[name]))
	}
}

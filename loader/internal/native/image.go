package native

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Image is a library that is loaded into this process, with its symbols resolved and its imports bound. Plug-ins opened
// from the same file share one.
type Image struct {
	lib                     *inspect.Library
	dl                      dl.Library
	fns                     []uintptr // addresses of the functions, then of the hooks
	start, stop             uintptr   // 0 where not exported
	batch                   uintptr   // 0 where not exported
	configure, save, resume uintptr   // 0 where not exported

	key  string
	file libfile.Identity // of the file that the system loaded; zero for a private copy
	at   string           // the path by which the system knows it

	noStack  bool   // it was found to ask for no executable stack, when it was loaded
	replaced string // a warning of symbols that the library does not get, "" where there is none

	// Guarded by images.mu.
	state  state
	over   chan struct{} // closed when the state is another than loading or unloading
	refs   int           // plug-ins that use it
	unload bool          // whether to close the library after the last of them
}

// state is what the system's loader does with an image.
type state int

const (
	loading   state = iota // its constructors may run
	loaded                 // plug-ins may use it
	unloading              // its destructors may run
	lingering              // it was closed, and the system has kept it: it hands it out for its path, and for its file
	gone                   // it is in no table
)

// images holds every library that this package has loaded and that the system has, as far as is known. The system's loader
// hands out a library that it still has for its path, even when another file is there by now; this is how that is noticed.
//
// No code of a library, no system call on a file and no function of the caller's runs with mu held: each may take as long
// as it likes.
var images struct {
	mu    sync.Mutex
	byKey map[string]*Image
	byID  map[libfile.ID][]*Image // by the files that they were loaded from; private copies are not in here
	byLib map[dl.Library][]*Image // those that are loaded, by what the system calls them: it may be the same for two
}

// The kinds of OpenErrors that come from loading, rather than from reading the file.
var (
	ErrPlatform  = errors.New("made for another platform")
	ErrNoEngine  = errors.New("no engine that was given opens it")
	ErrGoRuntime = errors.New("contains a Go runtime")
	ErrDigest    = engine.ErrDigest
	ErrLoad      = errors.New("the system could not load it")
)

// LoadOptions say how to load.
type LoadOptions struct {
	// SHA256 is the digest that the file must have, or nil. The bytes that were compared are the bytes that are loaded.
	SHA256 *libfile.Digest
	// Private loads a private copy of the file, as SHA256 does.
	Private bool
	// Copy is a copy of the file that another process has made, or nil: it is loaded then, and not what is at the path. It
	// is released.
	Copy *libfile.Copy
	// File is the file at the path, which was opened already, or nil. It is closed.
	File *libfile.File
	// Brought is what goes with Copy; see Bring. nil is found out. It is released.
	Brought *Brought
	// Unload closes the library after the last plug-in that uses it.
	Unload bool
	// AllowGo loads a library with a Go runtime of its own, too.
	AllowGo bool
	// ExecStack loads a library that asks for an executable stack, too.
	ExecStack bool
	// Accept is asked, before any code of the library runs, whether it is one that the caller can use.
	Accept func(*inspect.Library) error
	// Loading is called right before the system's loader gets Copy: what that loads next is the library. It may be nil.
	Loading func()
}

// File is a library's file while it is opened, with what was read from it. What was opened is the file: nothing of what
// follows looks at the path again to find out what is in it.
type File struct {
	*libfile.File
	Path     string // as the user gave it
	Absolute string
	Library  *inspect.Library
}

// OpenFile opens the file at path, where taken is nil, and inspects it. What was taken belongs to it, also when it fails. The
// error is an *inspect.Error.
func OpenFile(path string, taken *libfile.File) (*File, error) {
	abs, err := engine.Absolute(path)
	if err == nil && taken == nil {
		var kind fs.FileMode
		if taken, kind, err = libfile.Open(abs); err != nil {
			return nil, openError(path, kind, err)
		}
	}
	var f *File
	if err == nil {
		f, err = newFile(path, abs, taken)
	}
	if err != nil && taken != nil {
		taken.Close()
	}
	return f, err
}

// newFile inspects a file that is open. abs is the absolute path.
func newFile(path, abs string, f *libfile.File) (*File, error) {
	lib, err := inspectAt(path, f, f.Size)
	if err != nil {
		return nil, err
	}
	return &File{f, path, abs, lib}, nil
}

// openError says why the file at path cannot be opened, as inspect.File does.
func openError(path string, kind fs.FileMode, err error) error {
	return engine.OpenError(path, kind, err, "ELF (.so), Mach-O (.dylib), PE (.dll) or WebAssembly (.wasm)", "Give the path of the library itself")
}

// Load reads the library at path, checks that this process can run it, loads it and binds its imports. The error is an
// *inspect.Error, what Accept returned, or the context's error: ctx, which must be no foreign code, is how long to wait for
// others who load the same file. Accept may be foreign code, and is asked when nothing is taken.
func Load(ctx context.Context, path string, o LoadOptions) (*Image, error) {
	if o.File != nil {
		defer o.File.Close()
	}
	abs, err := engine.Absolute(path)
	if err != nil {
		return nil, err
	}
	if o.Copy != nil {
		defer o.Copy.Release()
		return loadCopy(ctx, "copy "+o.Copy.ID(), path, abs, o.Copy, o)
	}
	var id libfile.Identity
	if o.File != nil {
		id = o.File.Identity()
	} else {
		var kind fs.FileMode
		if id, kind, err = libfile.Identify(abs); err != nil {
			return nil, openError(path, 0, err)
		}
		if kind != 0 {
			return nil, openError(path, kind, libfile.ErrNotRegular)
		}
	}
	private := o.Private || o.SHA256 != nil
	key := "path " + abs
	if !private {
		if m, err := use(ctx, key, id, o); m != nil || err != nil {
			return m, err
		}
	}
	file := o.File
	if file == nil {
		var kind fs.FileMode
		if file, kind, err = libfile.OpenRegular(abs); err != nil {
			return nil, openError(path, kind, err)
		}
		defer file.Close()
	}
	f, err := newFile(path, abs, file)
	if err != nil {
		return nil, err
	}
	if !private {
		m, err := loadFile(ctx, key, f, o)
		if m != nil || err != nil {
			return m, err
		}
	}
	return loadPrivate(ctx, f, o)
}

// use returns the image with this key, of the file id, for another plug-in; nil when there is none. It waits for one that is
// being loaded.
func use(ctx context.Context, key string, id libfile.Identity, o LoadOptions) (*Image, error) {
	var asked *Image // whether it is acceptable, and it is
	for {
		images.mu.Lock()
		m := images.byKey[key]
		if m == nil || m.file != id || m.state == lingering {
			images.mu.Unlock()
			return nil, nil
		}
		if m.state == loaded {
			if m != asked { // before anything is taken: it is the caller's code, which may not return
				images.mu.Unlock()
				asks := o
				asks.ExecStack = o.ExecStack || m.noStack
				if err := acceptable(m.lib, asks); err != nil {
					return nil, err
				}
				asked = m
				continue
			}
			m.refs++
			m.unload = m.unload && o.Unload
			images.mu.Unlock()
			return m, nil
		}
		over := m.over
		images.mu.Unlock()
		select {
		case <-over: // if it failed, this one tries
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// loadFile has the system load the file from its path. It returns nil when it would hand out, or has handed out, another one.
func loadFile(ctx context.Context, key string, f *File, o LoadOptions) (*Image, error) {
	if err := acceptable(f.Library, o); err != nil {
		return nil, err
	}
	m := &Image{lib: f.Library, key: key, file: f.Identity(), at: f.Absolute, noStack: !o.ExecStack}
	for {
		if other, err := use(ctx, key, m.file, o); other != nil || err != nil {
			return other, err
		}
		switch m.register() {
		case registered:
		case again:
			continue
		case taken:
			return nil, nil
		}
		break
	}
	err := m.load(f.Absolute, nil)
	if err == nil && m.isOther() {
		_ = m.dl.Close()
		m.leave(true)
		return nil, nil
	}
	if err != nil {
		m.leave(false)
		return nil, err
	}
	m.ready(o)
	return m, nil
}

// isOther reports whether what the system has loaded may be something else than what was inspected: another file came to
// the path in between, or this one was written to; or the system took the path for the name of a library that it had.
func (m *Image) isOther() bool {
	if now, _, err := libfile.Identify(m.at); err != nil || now != m.file {
		return true
	}
	images.mu.Lock()
	for _, other := range images.byLib[m.dl] {
		if other.file.ID != m.file.ID {
			images.mu.Unlock()
			return true
		}
	}
	images.mu.Unlock()
	return !m.says()
}

// says reports whether the manifest in memory is the file's.
func (m *Image) says() bool {
	at, err := m.dl.Lookup(abi.SymbolManifest)
	if err != nil {
		return false
	}
	for _, kv := range m.lib.Manifest.Keys {
		for _, part := range []string{kv.Key, "=", kv.Value, "\x00"} {
			if !raw.Reads(at, part) { // another manifest ends here, or before
				return false
			}
			at += uintptr(len(part))
		}
	}
	return true
}

// inspectAt is inspect.Read for a file that the user knows by path.
func inspectAt(path string, r io.ReaderAt, size int64) (*inspect.Library, error) {
	lib, err := inspect.Read(r, size)
	if err != nil {
		var e *inspect.Error
		if errors.As(err, &e) {
			e.SetPath(path)
		}
		return nil, err
	}
	lib.Path = path
	return lib, nil
}

// loadPrivate loads a copy of the file that nobody else can change, under the digest of its bytes.
func loadPrivate(ctx context.Context, f *File, o LoadOptions) (*Image, error) {
	asks := o
	asks.ExecStack = true                               // that is looked at once, in the copy
	if err := acceptable(f.Library, asks); err != nil { // before the file is copied, which may be long
		return nil, err
	}
	copy, err := f.Copy(o.SHA256)
	if err != nil {
		return nil, err
	}
	defer copy.Release()
	sum, err := copy.SHA256()
	if err != nil {
		return nil, f.failed("a copy that cannot be read", err)
	}
	key := "sha256 " + hex.EncodeToString(sum[:])
	if m, err := use(ctx, key, libfile.Identity{}, o); m != nil || err != nil {
		return m, err
	}
	return loadCopy(ctx, key, f.Path, f.Absolute, copy, o)
}

// Copy returns a private copy of the file, with this digest if it is not nil. The error is an *inspect.Error.
func (f *File) Copy(digest *libfile.Digest) (*libfile.Copy, error) {
	if err := f.executable(); err != nil {
		return nil, err
	}
	copy, err := libfile.Share(f.File, filepath.Base(f.Absolute), digest)
	var other *libfile.DigestError
	switch {
	case errors.As(err, &other):
		return nil, f.otherDigest(other.Found, *digest)
	case err != nil:
		return nil, f.failed("no way to make a private copy", err)
	}
	return copy, nil
}

// executable refuses a file on a file system from which nothing may be run. A copy in memory could be run whatever the file
// lies on; that none is to be run from there is the administrator's will all the same.
func (f *File) executable() error {
	if !f.NoExec() {
		return nil
	}
	e := &inspect.Error{Path: f.Path, Kind: ErrLoad, Err: fs.ErrPermission}
	onNoexec(f.Absolute, e)
	return e
}

// ForWorkers returns what the workers of a plug-in load: a copy with the digest, if there is one; or, of a large file without
// one, the file itself. The error is an *inspect.Error.
func (f *File) ForWorkers(digest *libfile.Digest) (*libfile.Copy, error) {
	if digest != nil || !libfile.TooLarge(f.File) {
		return f.Copy(digest)
	}
	if err := f.executable(); err != nil {
		return nil, err
	}
	held, err := libfile.Hold(f.File)
	if err != nil {
		return nil, f.failed("no way to keep it open", err)
	}
	return held, nil
}

// InspectCopy reads a copy of the library that was at path.
func InspectCopy(path string, copy *libfile.Copy) (*inspect.Library, error) {
	return inspectAt(path, copy, copy.Size())
}

func (f *File) otherDigest(found, expected libfile.Digest) error {
	return engine.OtherDigest(f.Path, found, expected)
}

func (f *File) failed(found string, err error) error {
	if errors.Is(err, libfile.ErrChanged) {
		return &inspect.Error{Path: f.Path, Kind: ErrLoad, Found: "a file that is written to while it is opened",
			Expected: "one that stays as it is", Remedy: "Put a new version beside it and rename it over the old one, and open it again", Err: err}
	}
	return &inspect.Error{Path: f.Path, Kind: ErrLoad, Found: found + ": " + err.Error(), Expected: "a copy to load",
		Remedy: libfile.CopyRemedy(err), Err: err}
}

// loadCopy loads a copy of the file that was at path.
func loadCopy(ctx context.Context, key, path, abs string, copy *libfile.Copy, o LoadOptions) (*Image, error) {
	defer func() {
		if o.Brought != nil {
			o.Brought.release()
		}
	}()
	lib, err := InspectCopy(path, copy)
	if err != nil {
		return nil, err
	}
	if err := acceptable(lib, o); err != nil {
		return nil, err
	}
	if err := withoutFolder(lib); err != nil {
		return nil, err
	}
	m := &Image{lib: lib, key: key, noStack: !o.ExecStack}
	for m.register() != registered {
		if other, err := use(ctx, key, m.file, o); other != nil || err != nil {
			return other, err
		}
	}
	if o.Brought == nil {
		o.Brought = Bring(abs, copy, lib)
	}
	at := copy.Path()
	done, err := o.Brought.load(lib, at)
	if err != nil {
		m.leave(false)
		return nil, err
	}
	defer done()
	if o.Loading != nil {
		o.Loading()
	}
	if err := m.load(at, o.Brought); err != nil {
		m.leave(false)
		return nil, err
	}
	m.ready(o)
	return m, nil
}

// acceptable reports why the library is not to be loaded.
func acceptable(lib *inspect.Library, o LoadOptions) error {
	if err := Runnable(lib, o.AllowGo, o.ExecStack); err != nil {
		return err
	}
	return o.Accept(lib)
}

// load has the system load what inspection found good, from the path at, and finds its symbols: no call asks the system's
// loader for one, which would wait while the constructors of another library run.
// b is what was loaded for it before, where at is a copy's.
func (m *Image) load(at string, b *Brought) (err error) {
	var beside []string
	if b != nil {
		beside = append(beside, b.folder)
	}
	if m.dl, err = dl.Open(at, beside...); err != nil {
		return reason(m.lib, at, b, err)
	}
	if err := m.resolve(); err != nil {
		_ = m.dl.Close() // nothing of it ran but its constructors
		return err
	}
	m.replaced = replaced(m.dl.Replaced())
	return nil
}

// replaced says what it means that a library does not get its own symbols.
func replaced(symbols []dl.Replaced) string {
	if len(symbols) == 0 {
		return ""
	}
	const most = 8
	var names, by []string
	for _, s := range symbols {
		names = append(names, s.Name)
		holder := s.By
		if holder == os.Args[0] { // as the system's loader calls it
			holder = "the program itself"
		}
		if !slices.Contains(by, holder) {
			by = append(by, holder)
		}
	}
	if n := len(names) - most; n > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", n))
	}
	return fmt.Sprintf("the library does not get its own %s: the process has others of these names, in %s, and the system's loader takes those; compile it with -fvisibility=hidden",
		strings.Join(names, ", "), strings.Join(by, ", "))
}

// The outcomes of register.
type claim int

const (
	registered claim = iota // the image is in the tables, and to be loaded
	again                   // another one with its key is, which use returns or waits for
	taken                   // the system has another file's library for its path, or has this file as it was before
)

// register puts an image that is to be loaded into the tables, unless they have something against it.
func (m *Image) register() claim {
	images.mu.Lock()
	defer images.mu.Unlock()
	before := images.byKey[m.key]
	switch {
	case before == nil:
	case before.file != m.file:
		return taken
	case before.state != lingering:
		return again
	}
	if m.file != (libfile.Identity{}) {
		for _, other := range images.byID[m.file.ID] {
			if other.file != m.file {
				return taken
			}
		}
	}
	if before != nil { // the system hands out the same again
		before.remove()
	}
	if images.byKey == nil {
		images.byKey, images.byID = make(map[string]*Image), make(map[libfile.ID][]*Image)
		images.byLib = make(map[dl.Library][]*Image)
	}
	m.state, m.over = loading, make(chan struct{})
	images.byKey[m.key] = m
	if m.file != (libfile.Identity{}) {
		images.byID[m.file.ID] = append(images.byID[m.file.ID], m)
	}
	return registered
}

// ready lets plug-ins use an image that was loaded; the caller's is the first.
func (m *Image) ready(o LoadOptions) {
	images.mu.Lock()
	defer images.mu.Unlock()
	m.state, m.refs, m.unload = loaded, 1, o.Unload
	images.byLib[m.dl] = append(images.byLib[m.dl], m)
	close(m.over)
}

// leave ends the use of an image that is closed, or could not be loaded. What the system has not let go of (as it never does
// with -z nodelete, unique symbols of C++, thread-local storage of Rust) stays in the tables: for its path, and for its file,
// the system hands it out again, whatever is there by then. With other it is not the file that was expected there.
func (m *Image) leave(other bool) {
	still := m.at != "" && dl.Loaded(m.at)
	images.mu.Lock()
	defer images.mu.Unlock()
	switch {
	case !still:
		m.remove()
	case other:
		m.remove()
		m.file, m.state = libfile.Identity{}, lingering
		images.byKey[m.key] = m
	default:
		m.state = lingering
	}
	close(m.over)
}

// remove takes the image out of the tables. The caller holds images.mu.
func (m *Image) remove() {
	m.state = gone
	delete(images.byKey, m.key)
	without(images.byID, m.file.ID, m)
}

// without takes the image out of the list at key.
func without[K comparable](lists map[K][]*Image, key K, m *Image) {
	if rest := slices.DeleteFunc(lists[key], func(other *Image) bool { return other == m }); len(rest) > 0 {
		lists[key] = rest
	} else {
		delete(lists, key)
	}
}

// retain is for another plug-in that uses the image, while one does.
func (m *Image) retain() {
	images.mu.Lock()
	defer images.mu.Unlock()
	m.refs++
}

// Release ends the use of the image by one plug-in.
func (m *Image) Release() error {
	images.mu.Lock()
	m.refs--
	if m.refs > 0 || !m.unload {
		images.mu.Unlock()
		return nil
	}
	m.state, m.over = unloading, make(chan struct{})
	without(images.byLib, m.dl, m)
	images.mu.Unlock()
	err := m.dl.Close()
	m.leave(false)
	if err != nil {
		return fmt.Errorf("unloading %s: %w", m.lib.Path, err)
	}
	return nil
}

// Library returns what was read from the file.
func (m *Image) Library() *inspect.Library { return m.lib }

// resolve finds the addresses of the contract's symbols and sets the import slots.
func (m *Image) resolve() error {
	lookup := func(symbol string) uintptr {
		addr, _ := m.dl.Lookup(symbol)
		return addr
	}
	missing := func(symbol string) error {
		return &inspect.Error{Path: m.lib.Path, Symbol: symbol, Kind: ErrLoad,
			Found: "a symbol that the file lists and the system's loader does not find", Expected: "both to agree",
			Remedy: "Link the library anew"}
	}
	for _, group := range []struct {
		prefix  string
		symbols []abi.Symbol
	}{{abi.PrefixFunc, m.lib.Funcs}, {abi.PrefixHook, m.lib.Hooks}} {
		for _, s := range group.symbols {
			addr := lookup(group.prefix + s.Name)
			if addr == 0 {
				return missing(group.prefix + s.Name)
			}
			m.fns = append(m.fns, addr)
		}
	}
	for i, s := range m.lib.Imports {
		addr := lookup(abi.PrefixImport + s.Name)
		if addr == 0 {
			return missing(abi.PrefixImport + s.Name)
		}
		raw.SetUint32(addr, uint32(i))
	}
	for i, s := range m.lib.Wants {
		addr := lookup(abi.PrefixWant + s.Name)
		if addr == 0 {
			return missing(abi.PrefixWant + s.Name)
		}
		raw.SetUint32(addr, uint32(len(m.lib.Imports)+i))
	}
	for _, optional := range []struct {
		has    bool
		symbol string
		addr   *uintptr
	}{{m.lib.HasStart, abi.SymbolStart, &m.start}, {m.lib.HasStop, abi.SymbolStop, &m.stop}, {m.lib.HasBatch, abi.SymbolBatch, &m.batch},
		{m.lib.HasConfigure, abi.SymbolConfigure, &m.configure}, {m.lib.HasSave, abi.SymbolSave, &m.save}, {m.lib.HasResume, abi.SymbolResume, &m.resume}} {
		if optional.has {
			if *optional.addr = lookup(optional.symbol); *optional.addr == 0 {
				return missing(optional.symbol)
			}
		}
	}
	return nil
}

// Elsewhere says what a file is that native code's engine does not open and another module's does, and what to do; found is "" of all others.
func Elsewhere(format inspect.Format) (found, remedy string) {
	switch format {
	case inspect.Wasm:
		return "a WebAssembly module", "Add loader.WithEngine(wasm.Engine()), of package github.com/ferrule-dev/ferrule/loader/wasm"
	case inspect.JavaScript:
		return "a script in JavaScript", "Add loader.WithEngine(script.Engine()), of package github.com/ferrule-dev/ferrule/loader/script"
	case inspect.Python:
		return "a script in Python", "Add loader.WithEngine(script.Engine(script.WithPython(adapter, nil))), of package github.com/ferrule-dev/ferrule/loader/script, whose BuildPython builds the adapter"
	}
	return "", ""
}

// Runnable reports why this process cannot, or must not, run the library.
func Runnable(lib *inspect.Library, allowGo, execStack bool) error {
	if found, remedy := Elsewhere(lib.Format); found != "" {
		return &inspect.Error{Path: lib.Path, Kind: ErrNoEngine, Found: found, Expected: "native code for " + runtime.GOOS + "/" + runtime.GOARCH, Remedy: remedy}
	}
	if lib.OS != runtime.GOOS || lib.Arch != runtime.GOARCH {
		return &inspect.Error{Path: lib.Path, Kind: ErrPlatform,
			Found:    fmt.Sprintf("%s for %s/%s", lib.Format, lib.OS, orElse(lib.Arch, lib.Machine)),
			Expected: runtime.GOOS + "/" + runtime.GOARCH,
			Remedy:   "Build the plug-in for this platform, or run the host on the plug-in's"}
	}
	if lib.GoVersion != "" && !allowGo {
		return &inspect.Error{Path: lib.Path, Kind: ErrGoRuntime, Found: "a library built by " + lib.GoVersion,
			Expected: "one without a Go runtime: two of them in one process take each other's signals",
			Remedy:   "If it is to stay in Go, open it in a process of its own (isolate.InWorker); otherwise write it in C, C++ or Rust"}
	}
	return checkLibraries(lib, execStack)
}

// orElse returns v, or alternative when v is the zero value.
func orElse[T comparable](v, alternative T) T {
	var zero T
	if v == zero {
		return alternative
	}
	return v
}

// Base returns what is added to the library's own addresses, 0 where that is not known.
func (m *Image) Base() uintptr { return m.dl.Base() }

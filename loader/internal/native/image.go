package native

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
	"github.com/ferrule-dev/ferrule/loader/internal/dl"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// Image is a library that is loaded into this process, with its symbols resolved and its imports bound. Plug-ins opened
// from the same file share one.
type Image struct {
	lib         *inspect.Library
	dl          dl.Library
	fns         []uintptr // addresses of the functions, then of the hooks
	start, stop uintptr   // 0 where not exported
	batch       uintptr   // 0 where not exported

	key    string
	file   fs.FileInfo // of the file it was loaded from; nil for a private copy
	refs   int         // plug-ins that use it; guarded by images.mu
	unload bool        // whether to close the library after the last of them
}

// images holds every library that this package has loaded and not unloaded. The system's loader hands out a library that
// is still loaded for its path, even when another file is there by now; this is how that is noticed.
var images struct {
	mu    sync.Mutex
	byKey map[string]*Image
	byID  map[uint64][]*Image // by libfile.ID of the files that they were loaded from; private copies are not in here
}

// The kinds of OpenErrors that come from loading, rather than from reading the file.
var (
	ErrPlatform  = errors.New("made for another platform")
	ErrGoRuntime = errors.New("contains a Go runtime")
	ErrDigest    = errors.New("not the expected file")
	ErrLoad      = errors.New("the system could not load it")
)

// LoadOptions say how to load.
type LoadOptions struct {
	// SHA256 is the digest that the file must have, or nil. The bytes that were compared are the bytes that are loaded.
	SHA256 []byte
	// Copy is a copy of the file that was made before, for a process that can make none any more, or nil. It is closed.
	Copy *PrivateCopy
	// Unload closes the library after the last plug-in that uses it.
	Unload bool
	// AllowGo loads a library with a Go runtime of its own, too.
	AllowGo bool
	// ExecStack loads a library that asks for an executable stack, too.
	ExecStack bool
	// Accept is asked, before any code of the library runs, whether it is one that the caller can use.
	Accept func(*inspect.Library) error
}

// Load reads the library at path, checks that this process can run it, loads it and binds its imports. The error is an
// *inspect.Error, or what Accept returned.
func Load(path string, o LoadOptions) (*Image, error) {
	abs, err := Absolute(path)
	if err != nil {
		return nil, err
	}
	images.mu.Lock()
	defer images.mu.Unlock()
	if o.SHA256 != nil || o.Copy != nil {
		return loadPrivate(path, abs, o)
	}
	file, err := libfile.Stat(abs)
	if err != nil {
		if _, err := inspect.File(path); err != nil { // it says what is wrong
			return nil, err
		}
		return nil, &inspect.Error{Path: path, Kind: ErrLoad, Found: "a file that comes while it is opened",
			Expected: "a file that stays", Remedy: "open it again", Err: err}
	}
	key := "path " + abs
	if m := images.byKey[key]; m != nil {
		if unchanged(m.file, file) {
			return m.use(o)
		}
		return loadPrivate(path, abs, o) // the system would hand out what it has loaded from this path before
	}
	for _, m := range images.byID[libfile.ID(file)] {
		if os.SameFile(m.file, file) && !unchanged(m.file, file) {
			return loadPrivate(path, abs, o) // and what it has loaded from this file
		}
	}
	lib, err := read(path, abs, file)
	if err != nil {
		return nil, err
	}
	return load(&Image{lib: lib, key: key, file: file}, abs, o)
}

// Absolute returns the library's path from the root of the file system.
func Absolute(path string) (string, error) {
	if path == "" {
		return "", &inspect.Error{Kind: inspect.ErrNotRegular, Found: "an empty path", Expected: "a library's path",
			Remedy: "pass the path of a .so, .dylib or .dll file"}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", &inspect.Error{Path: path, Kind: inspect.ErrRead, Err: err, Remedy: "Check the path"}
	}
	return abs, nil
}

// read is inspect.File of a file about which the system was asked already.
func read(path, abs string, info fs.FileInfo) (*inspect.Library, error) {
	f, _, err := libfile.Open(abs, info)
	if err != nil {
		return inspect.File(path) // it says what is wrong
	}
	defer f.Close()
	return inspectAt(path, f, f.Size)
}

// inspectAt is inspect.Read for a file that the user knows by path.
func inspectAt(path string, r io.ReaderAt, size int64) (*inspect.Library, error) {
	lib, err := inspect.Read(r, size)
	if err != nil {
		var e *inspect.Error
		if errors.As(err, &e) {
			e.Path = path
		}
		return nil, err
	}
	lib.Path = path
	return lib, nil
}

// loadPrivate loads a copy of the file that nobody else can change, under the digest of its bytes.
func loadPrivate(path, abs string, o LoadOptions) (*Image, error) {
	// The file is looked at before it is copied, so that a device or a file without an end is not.
	if _, err := inspect.File(path); err != nil {
		return nil, err
	}
	copy := o.Copy
	if copy == nil {
		var err error
		if copy, err = MakeCopy(abs); err != nil {
			return nil, &inspect.Error{Path: path, Kind: ErrLoad, Found: "no way to make a private copy",
				Expected: "a copy to load", Remedy: "see the cause", Err: err}
		}
	}
	defer copy.close()
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(copy, 0, copy.size)); err != nil {
		return nil, &inspect.Error{Path: path, Kind: ErrLoad, Found: "a copy that cannot be read", Err: err}
	}
	sum := digest.Sum(nil)
	if o.SHA256 != nil && string(sum) != string(o.SHA256) {
		return nil, &inspect.Error{Path: path, Kind: ErrDigest, Found: "SHA-256 " + hex.EncodeToString(sum),
			Expected: "SHA-256 " + hex.EncodeToString(o.SHA256),
			Remedy:   "get the library from where its digest comes from, or update the digest if the change is meant"}
	}
	key := "sha256 " + hex.EncodeToString(sum)
	if m := images.byKey[key]; m != nil {
		return m.use(o)
	}
	lib, err := inspectAt(path, copy, copy.size)
	if err != nil {
		return nil, err
	}
	at, err := copy.path(sum, filepath.Base(abs))
	if err != nil {
		return nil, &inspect.Error{Path: path, Kind: ErrLoad, Found: "no way to make a private copy", Err: err}
	}
	return load(&Image{lib: lib, key: key}, at, o)
}

// load loads what inspection found good, from the path at. The caller holds images.mu.
func load(m *Image, at string, o LoadOptions) (_ *Image, err error) {
	if err := Runnable(m.lib, o.AllowGo, o.ExecStack); err != nil {
		return nil, err
	}
	if err := o.Accept(m.lib); err != nil {
		return nil, err
	}
	if m.dl, err = dl.Open(at); err != nil {
		return nil, reason(m.lib, at, err)
	}
	if err := m.resolve(); err != nil {
		_ = m.dl.Close() // nothing of it ran but its constructors
		return nil, err
	}
	m.unload = o.Unload
	m.refs = 1
	if images.byKey == nil {
		images.byKey, images.byID = make(map[string]*Image), make(map[uint64][]*Image)
	}
	images.byKey[m.key] = m
	if m.file != nil {
		id := libfile.ID(m.file)
		images.byID[id] = append(images.byID[id], m)
	}
	return m, nil
}

// use is another plug-in on a library that is loaded. The caller holds images.mu.
func (m *Image) use(o LoadOptions) (*Image, error) {
	if err := o.Accept(m.lib); err != nil {
		return nil, err
	}
	m.refs++
	m.unload = m.unload && o.Unload
	return m, nil
}

// Release ends the use of the image by one plug-in.
func (m *Image) Release() error {
	images.mu.Lock()
	defer images.mu.Unlock()
	m.refs--
	if m.refs > 0 || !m.unload {
		return nil
	}
	delete(images.byKey, m.key)
	if m.file != nil {
		id := libfile.ID(m.file)
		if images.byID[id] = slices.DeleteFunc(images.byID[id], func(other *Image) bool { return other == m }); len(images.byID[id]) == 0 {
			delete(images.byID, id)
		}
	}
	if err := m.dl.Close(); err != nil {
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
			Remedy: "link the library anew"}
	}
	for _, group := range []struct {
		prefix  string
		symbols []inspect.Symbol
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
		cmem.SetUint32(addr, uint32(i))
	}
	for _, optional := range []struct {
		has    bool
		symbol string
		addr   *uintptr
	}{{m.lib.HasStart, abi.SymbolStart, &m.start}, {m.lib.HasStop, abi.SymbolStop, &m.stop}, {m.lib.HasBatch, abi.SymbolBatch, &m.batch}} {
		if optional.has {
			if *optional.addr = lookup(optional.symbol); *optional.addr == 0 {
				return missing(optional.symbol)
			}
		}
	}
	return nil
}

// Runnable reports why this process cannot, or must not, run the library.
func Runnable(lib *inspect.Library, allowGo, execStack bool) error {
	if lib.OS != runtime.GOOS || lib.Arch != runtime.GOARCH {
		return &inspect.Error{Path: lib.Path, Kind: ErrPlatform,
			Found:    fmt.Sprintf("%s for %s/%s", lib.Format, lib.OS, orElse(lib.Arch, lib.Machine)),
			Expected: runtime.GOOS + "/" + runtime.GOARCH,
			Remedy:   "build the plug-in for this platform, or run the host on the plug-in's"}
	}
	if lib.GoVersion != "" && !allowGo {
		return &inspect.Error{Path: lib.Path, Kind: ErrGoRuntime, Found: "a library built by " + lib.GoVersion,
			Expected: "one without a Go runtime: two of them in one process take each other's signals",
			Remedy:   "write the plug-in in C, C++ or Rust, or open it in a process of its own (isolate.InWorker)"}
	}
	if !execStack {
		return checkStack(lib.Path, lib)
	}
	return nil
}

func unchanged(a, b fs.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// orElse returns v, or alternative when v is the zero value.
func orElse[T comparable](v, alternative T) T {
	var zero T
	if v == zero {
		return alternative
	}
	return v
}

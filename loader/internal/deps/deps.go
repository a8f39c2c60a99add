// Package deps finds the files that a library brings along: what it is linked to (DT_NEEDED), searched for as the dynamic
// linker does by the library's own search path (DT_RUNPATH, DT_RPATH) or by a name that is a path.
//
// What the system's folders serve is left to the system, and so is what is found nowhere. Nothing of a file is executed.
//
// # Caveats
//
//   - LD_LIBRARY_PATH, which comes before DT_RUNPATH, is looked at by ResolveHere only: a worker has another one.
//   - Libraries that the system's folders serve are not read. What they need is found by their own search path, and not
//     by an inherited DT_RPATH of a library that this package has read.
//   - The folders tls and x86_64, where glibc looked before version 2.37 beneath each folder, are left out.
package deps

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// Library is a file that another library is linked to.
type Library struct {
	Name   string // as the library that needs it names it: its DT_NEEDED string
	Path   string // absolute, symbolic links evaluated
	SOName string // its own name, DT_SONAME; may be empty
	// File is what the system said of the file that was read, to tell it from one that is put in its place later.
	File fs.FileInfo
	// ExecStack says that it asks for an executable stack; see inspect.Hardening.
	ExecStack bool
}

// Unfit is a file that the search for a library led to, and that cannot be loaded.
type Unfit struct {
	Name string // as the library that needs it names it
	Path string // absolute
	// Err says why: ErrWordSize, ErrForeign, ErrShort, ErrNoExec, an error of the system's, or what else is wrong with it.
	Err error
	// Final says that the dynamic linker fails there. It passes over others, and may find the name elsewhere.
	Final bool
}

// Limits of what is followed.
const (
	maxLibraries = 256  // libraries that one brings along
	maxLookups   = 4096 // files that are looked for
)

// Resolve returns the files that the library at path brings along, each before those that need it, and each once. lib is
// what package inspect read from it. It reads files only where the library has a search path of its own, or needs a
// library by a path. Formats other than ELF have none of it: nil.
//
// unfit are the files that were found and are not among them, for an error to name.
//
// The error is an *inspect.Error without a Path, for a library that asks for more than any real one.
func Resolve(path string, lib *inspect.Library) (found []Library, unfit []Unfit, err error) {
	return follow(path, lib, nil)
}

// ResolveHere is Resolve for a library that this process is to load: what is in a folder of its LD_LIBRARY_PATH is found there
// by the system, and is not among the files.
func ResolveHere(path string, lib *inspect.Library) (found []Library, unfit []Unfit, err error) {
	return follow(path, lib, libraryPath())
}

// startLibraryPath is LD_LIBRARY_PATH as the dynamic linker reads it: when the process starts.
var startLibraryPath = os.Getenv("LD_LIBRARY_PATH")

var libraryPath = sync.OnceValue(func() []string { return folders(startLibraryPath) })

// folders returns what LD_LIBRARY_PATH names, as glibc reads it: an empty one is the working directory, and tokens stand for
// what they are for the program.
func folders(text string) (all []string) {
	if text == "" {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		program = "/"
	}
	for _, entry := range strings.Split(strings.ReplaceAll(text, ";", ":"), ":") {
		all = append(all, expand(entry, filepath.Dir(program))...)
	}
	return all
}

// follow is Resolve where the system looks in the folders before first.
func follow(path string, lib *inspect.Library, before []string) (found []Library, unfit []Unfit, err error) {
	if lib.Format != inspect.ELF || len(lib.Needed) == 0 || len(lib.RunPath) == 0 && !slices.ContainsFunc(lib.Needed, isPath) {
		return nil, nil, nil
	}
	m, ok := machines[lib.Arch]
	if !ok {
		return nil, nil, nil
	}
	path, err = abspath.Of(path)
	if err != nil {
		return nil, nil, nil // without a working directory; what is relative is not found then
	}
	root := &node{header: &header{needed: lib.Needed, soName: lib.SOName}, origin: filepath.Dir(path)}
	root.lib.File, _ = os.Stat(path) // a library may need itself
	if lib.RPath {
		root.rpath = lib.RunPath
	} else {
		root.runPath = lib.RunPath
	}
	r := &resolver{machine: m, all: []*node{root}, before: before}
	for i := 0; i < len(r.all); i++ { // breadth first, as the dynamic linker goes: it decides which of two names counts
		n := r.all[i]
		for _, name := range n.needed {
			found, err := r.find(n, name)
			if err != nil {
				return nil, nil, err
			}
			if found != nil {
				n.needs = append(n.needs, found)
			}
		}
	}
	return root.inOrder(nil), r.unfit, nil
}

// node is a library while its dependencies are followed.
type node struct {
	*header
	lib    Library
	names  []string // that it was asked for by
	origin string   // what $ORIGIN stands for in it
	loader *node    // the library for which it was found first; nil for the root
	needs  []*node
	listed bool
}

// inOrder adds to list what n needs, what is needed first.
func (n *node) inOrder(list []Library) []Library {
	n.listed = true
	for _, needed := range n.needs {
		if !needed.listed {
			list = append(needed.inOrder(list), needed.lib)
		}
	}
	return list
}

// resolver follows the dependencies of one library.
type resolver struct {
	machine machine
	all     []*node // the root first
	unfit   []Unfit
	lookups int
	before  []string // folders in which the system looks before those of DT_RUNPATH, and after those of DT_RPATH
}

// find returns the library that name stands for in n; nil is one that is left to the system.
func (r *resolver) find(n *node, name string) (*node, error) {
	for _, other := range r.all {
		if name == other.soName || slices.Contains(other.names, name) {
			return other, nil
		}
	}
	if isPath(name) {
		for _, path := range expand(name, n.origin) {
			found, _, err := r.try(n, name, path)
			if found != nil || err != nil {
				return found, err
			}
		}
		return nil, nil
	}
	if inProcess(name) {
		return nil, nil
	}
	if n.runPath != nil {
		if r.isBefore(name) {
			return nil, nil
		}
		return r.search(n, name, n.runPath, n.origin)
	}
	for l := n; l != nil; l = l.loader { // the DT_RPATH of those that led here counts, too
		if found, err := r.search(n, name, l.rpath, l.origin); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// isBefore reports whether the system finds name in its own folders first.
func (r *resolver) isBefore(name string) bool {
	for _, folder := range r.before {
		for _, sub := range subfolders() {
			f, _, err := libfile.Open(filepath.Join(folder, sub, name))
			if err != nil {
				continue
			}
			_, err = r.machine.read(f, f.Size)
			f.Close()
			if err != ErrForeign && err != ErrWordSize { // of others it says what is wrong with them
				return true
			}
		}
	}
	return false
}

// search looks for name in the folders of a search path.
func (r *resolver) search(n *node, name string, folders []string, origin string) (*node, error) {
	for _, entry := range folders {
		for _, folder := range expand(entry, origin) {
			for _, sub := range subfolders() {
				found, over, err := r.try(n, name, filepath.Join(folder, sub, name))
				if found != nil || over || err != nil {
					return found, err
				}
			}
		}
	}
	return nil, nil
}

// try looks whether the file at path is a library that can stand for name in n. over ends the search: the dynamic linker
// fails there.
func (r *resolver) try(n *node, name, path string) (found *node, over bool, err error) {
	if r.lookups++; r.lookups > maxLookups {
		return nil, true, tooMuch(fmt.Sprintf("a library that has more than %d files looked for", maxLookups))
	}
	path, err = abspath.Of(path)
	if err != nil {
		return nil, false, nil
	}
	unfit := func(why error, final bool) {
		r.unfit = append(r.unfit, Unfit{name, path, why, final})
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, nil
	}
	if !info.Mode().IsRegular() {
		unfit(libfile.ErrNotRegular, true)
		return nil, true, nil
	}
	for _, other := range r.all {
		if os.SameFile(other.lib.File, info) {
			other.names = append(other.names, name)
			return other, true, nil
		}
	}
	// The path without links is opened, so that Path, File and what is read are of one file.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, false, nil
	}
	if again, err := os.Lstat(real); err != nil || !os.SameFile(info, again) {
		return nil, true, nil // it comes and goes: the dynamic linker will say what it finds
	}
	f, _, err := libfile.Open(real)
	if err != nil {
		unfit(err, false)
		return nil, false, nil
	}
	defer f.Close()
	if f.NoExec() {
		unfit(ErrNoExec, true)
		return nil, true, nil
	}
	h, err := r.machine.read(f, f.Size)
	if err != nil {
		final := err != ErrForeign && err != ErrWordSize
		unfit(err, final)
		return nil, final, nil
	}
	if len(r.all) > maxLibraries {
		return nil, true, tooMuch(fmt.Sprintf("a library that brings more than %d others along", maxLibraries))
	}
	found = &node{header: h, names: []string{name}, origin: filepath.Dir(path), loader: n,
		lib: Library{Name: name, Path: real, SOName: h.soName, File: info, ExecStack: h.execStack}}
	r.all = append(r.all, found)
	return found, true, nil
}

func tooMuch(found string) error {
	return &inspect.Error{Kind: inspect.ErrMalformed, Found: found, Expected: "a handful, as real libraries have",
		Remedy: "Link the library with a shorter search path (-Wl,-rpath), or link what it needs statically"}
}

// isPath reports whether the dynamic linker takes the name of a needed library for a path.
func isPath(name string) bool { return strings.Contains(name, "/") }

// inProcess reports whether every process that can load a library has the one of this name already. The dynamic linker
// takes that, whatever a search path has.
func inProcess(name string) bool {
	switch name {
	case "libc.so.6", "libdl.so.2", "libpthread.so.0", "libc.so":
		return true
	}
	return strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld64.so") || strings.HasPrefix(name, "ld.so.") ||
		strings.HasPrefix(name, "libc.musl-") || strings.HasPrefix(name, "ld-musl-")
}

package native

import (
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/deps"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
)

// Brought is what a library brings along that a copy of it would not find: what it links to, where the file that was opened
// says so by $ORIGIN, its own folder. It is loaded before the copy, from where it is; the system's loader does not search for
// what it has.
type Brought struct {
	folder string // where the library was, for a system that can be told to search there
	libs   []deps.Library
	names  []*libfile.Copy  // see linked; nil where the library's own name is the one that is asked for
	all    *libfile.Copy    // a library that is linked to the copy and to all of these; nil where there are none
	unfit  []deps.Unfit     // what was found in their place
	kept   map[string]error // by its name, what load could not load and left to the system
}

// Bring finds what the library that was at path, and of which copy is one, brings along. A process in a sandbox does it
// before. What is not found is left to the system, whose words say what is missing.
func Bring(path string, copy *libfile.Copy, lib *inspect.Library) *Brought {
	b := &Brought{folder: filepath.Dir(path)}
	if !slices.ContainsFunc(lib.RunPath, func(folder string) bool { return strings.Contains(folder, "ORIGIN") }) {
		return b
	}
	found, unfit, err := deps.ResolveHere(path, lib)
	if err != nil {
		return b
	}
	b.libs, b.unfit = found, unfit
	paths := []string{copy.Path()}
	for _, dep := range found {
		var name *libfile.Copy
		if dep.SOName != dep.Name && !strings.Contains(dep.Name, "/") {
			if file, err := linked(copy, dep.Name, dep.Path); err == nil {
				name, _ = libfile.Memory(dep.Name, file)
			}
		}
		b.names = append(b.names, name)
		paths = append(paths, dep.Path)
		if name != nil {
			paths = append(paths, name.Path())
		}
	}
	if len(found) > 0 {
		if file, err := linked(copy, "", paths...); err == nil {
			b.all, _ = libfile.Memory("all", file)
		}
	}
	return b
}

// withoutFolder reports why a copy of the library cannot be loaded, which lies in no folder: it names what it is linked to by
// its own, in the name itself, which the system's loader then takes for a path in the copy's.
func withoutFolder(lib *inspect.Library) error {
	for _, name := range lib.Needed {
		if lib.Format == inspect.ELF && (strings.Contains(name, "$ORIGIN") || strings.Contains(name, "${ORIGIN}")) {
			base := filepath.Base(name)
			return &inspect.Error{Path: lib.Path, Kind: ErrLoad, Found: "that it is linked to " + name + ", by a path from its own folder",
				Expected: "the plain name " + base + ": it runs from a private copy, which lies in no folder",
				Remedy:   "Give " + base + " that name in its file (-Wl,-soname," + base + "), and link the plug-in to it with -Wl,-rpath,'$ORIGIN'"}
		}
	}
	return nil
}

// load loads it for lib, of which at is the path of a copy. done lets go of it, once the library itself holds it. The error
// is the one that the library gets where it is not a copy: the system would search on for what its own search found and
// cannot load, and take something else or say that there is none.
func (b *Brought) load(lib *inspect.Library, at string) (done func(), err error) {
	var held []dl.Library
	letGo := func() {
		for _, l := range slices.Backward(held) {
			_ = l.Close()
		}
	}
	defer func() {
		if err != nil {
			letGo()
		}
	}()
	for _, u := range b.unfit {
		if u.Final && !dl.Loaded(u.Name) { // the system takes what it has, without a search
			e := &inspect.Error{Path: lib.Path, Kind: ErrLoad}
			notFit(u, e)
			return nil, e
		}
	}
	together := false // the library itself may define a symbol that one of them uses
	for i, dep := range b.libs {
		l, err := dl.Open(dep.Path)
		if err != nil {
			e := reason(lib, at, b, err)
			together = together || e.Symbol != ""
			// The system searches on after a file that it may not read.
			if !together && !strings.Contains(err.Error(), "Permission denied") && !dl.Loaded(dep.Name) {
				return nil, e
			}
			if b.kept == nil {
				b.kept = make(map[string]error)
			}
			b.kept[dep.Name] = err
			continue
		}
		held = append(held, l)
		if b.names[i] != nil {
			if l, err := dl.Open(b.names[i].Path()); err == nil {
				held = append(held, l)
			}
		}
	}
	if together && b.all != nil { // so all of them are there before the symbols of any are looked up
		if l, err := dl.Open(b.all.Path()); err == nil { // or else the library's own error says why
			held = append(held, l)
		}
	}
	return letGo, nil
}

// release gives back what Bring has made.
func (b *Brought) release() {
	for _, file := range append(b.names, b.all) {
		if file != nil {
			file.Release()
		}
	}
}

// linked makes a library that has nothing to offer but what it is linked to, by these paths. With a name it stands for what is
// at a path: glibc knows a library by the name in its file (DT_SONAME), and not by that of its file, so one that has none is
// asked for by a name that only a search would find. like is a library of the same platform.
func linked(like *libfile.Copy, name string, paths ...string) ([]byte, error) {
	var ident [64]byte
	if _, err := like.ReadAt(ident[:], 0); err != nil {
		return nil, err
	}
	wide := ident[4] == 2
	var order binary.ByteOrder = binary.LittleEndian
	if ident[5] == 2 {
		order = binary.BigEndian
	}
	word, headSize, programSize, symbolSize := uint64(4), uint64(52), uint64(32), uint64(16)
	if wide {
		word, headSize, programSize, symbolSize = 8, 64, 56, 24
	}
	const programs = 3
	strs := "\x00" + name + "\x00"
	var dynamic [][2]uint64
	for _, path := range paths {
		dynamic = append(dynamic, [2]uint64{1, uint64(len(strs))}) // DT_NEEDED
		strs += path + "\x00"
	}
	if name != "" {
		dynamic = append(dynamic, [2]uint64{14, 1}) // DT_SONAME
	}
	dynamicAt := headSize + programs*programSize
	entries := uint64(len(dynamic)) + 6
	hashAt := dynamicAt + entries*2*word
	symbolsAt := (hashAt + 4*4 + 7) / 8 * 8
	stringsAt := symbolsAt + symbolSize
	size := stringsAt + uint64(len(strs))

	b := make([]byte, size)
	at := uint64(0)
	half := func(v uint16) { order.PutUint16(b[at:], v); at += 2 }
	four := func(v uint32) { order.PutUint32(b[at:], v); at += 4 }
	long := func(v uint64) {
		if wide {
			order.PutUint64(b[at:], v)
		} else {
			order.PutUint32(b[at:], uint32(v))
		}
		at += word
	}
	copy(b, ident[:16])
	at = 16
	half(3) // ET_DYN
	half(order.Uint16(ident[18:]))
	four(1)
	long(0)
	long(headSize)
	long(0)
	flags := 36
	if wide {
		flags = 48
	}
	four(order.Uint32(ident[flags:]))
	half(uint16(headSize))
	half(uint16(programSize))
	half(programs)
	at = headSize
	const readWrite = 6
	for _, p := range [programs]struct {
		kind              uint32
		from, size, align uint64
	}{{1, 0, size, 64 << 10}, {2, dynamicAt, entries * 2 * word, word}, {0x6474e551, 0, 0, 16}} { // PT_LOAD, PT_DYNAMIC, PT_GNU_STACK
		four(p.kind)
		if wide {
			four(readWrite)
		}
		long(p.from) // in the file
		long(p.from) // in memory
		long(p.from)
		long(p.size)
		long(p.size)
		if !wide {
			four(readWrite)
		}
		long(p.align)
	}
	at = dynamicAt
	for _, d := range append(dynamic, [][2]uint64{{4, hashAt}, {5, stringsAt}, {6, symbolsAt}, {10, uint64(len(strs))}, {11, symbolSize},
		{0, 0}}...) { // DT_HASH, STRTAB, SYMTAB, STRSZ, SYMENT
		long(d[0])
		long(d[1])
	}
	at = hashAt
	four(1) // bucket
	four(1) // symbol: the one that is none
	copy(b[stringsAt:], strs)
	return b, nil
}

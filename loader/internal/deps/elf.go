package deps

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// header is what the dynamic linker goes by in a library's file.
type header struct {
	needed         []string
	rpath, runPath []string // one of them at most, as the dynamic linker takes it
	soName         string
	execStack      bool // see inspect.Hardening
}

// Limits that keep a hostile file from costing the host more than a real library would.
const (
	maxSegments = 256      // program headers of one library
	maxDynamic  = 64 << 10 // bytes of its dynamic section
	maxNeeded   = 1 << 10  // libraries that it is linked to
	maxString   = 4 << 10  // bytes of a name, or of a search path
)

// machine is what tells libraries of one platform from those of another.
type machine struct {
	wide, big bool   // 64 bits; big-endian
	number    uint16 // e_machine
	// noteless says what a library without PT_GNU_STACK asks for: an executable stack.
	noteless bool
}

// machines are the platforms by GOARCH, as package inspect reads them from ELF headers.
var machines = map[string]machine{
	"386":      {number: 3, noteless: true},
	"amd64":    {wide: true, number: 62, noteless: true},
	"arm":      {number: 40, noteless: true},
	"arm64":    {wide: true, number: 183},
	"loong64":  {wide: true, number: 258},
	"mips":     {big: true, number: 8, noteless: true},
	"mips64":   {wide: true, big: true, number: 8, noteless: true},
	"mips64le": {wide: true, number: 8, noteless: true},
	"mipsle":   {number: 8, noteless: true},
	"ppc64":    {wide: true, big: true, number: 21, noteless: true},
	"ppc64le":  {wide: true, number: 21, noteless: true},
	"riscv64":  {wide: true, number: 243},
	"s390x":    {wide: true, big: true, number: 22, noteless: true},
}

// Why a file is not what it is looked for as. The dynamic linker passes over the first two in its search, and fails at others.
var (
	ErrWordSize = errors.New("of another word size (32 and 64 bits)")
	ErrForeign  = errors.New("made for another platform")
	ErrShort    = errors.New("file too short") // the dynamic linker says the same, or crashes
	ErrNoExec   = errors.New("on a file system that is mounted noexec")
	errHeader   = errors.New("invalid ELF header")
	errNoELF    = errors.New("not a shared library (ELF)")
)

// read returns what the library in r, size bytes long, says of itself. The error is one of those above, or that of reading.
func (m machine) read(r io.ReaderAt, size int64) (*header, error) {
	f := elf{machine: m, r: r, size: uint64(size)}
	if f.size < f.pick(52, 64) {
		return nil, ErrShort
	}
	head, err := f.bytes(0, f.pick(52, 64))
	if err != nil {
		return nil, err
	}
	if string(head[:4]) != "\x7fELF" || head[6] != 1 {
		return nil, errHeader
	}
	if (head[4] == 2) != m.wide {
		return nil, ErrWordSize
	}
	if (head[5] == 2) != m.big || f.u16(head[18:]) != m.number {
		return nil, ErrForeign
	}
	rest := head[f.pick(28, 32):]
	table := f.word(rest)
	rest = head[f.pick(42, 54):] // e_phentsize and on
	entry, n := uint64(f.u16(rest)), uint64(f.u16(rest[2:]))
	if kind := f.u16(head[16:]); kind != 3 || entry != f.pick(32, 56) || n == 0 || n > maxSegments {
		return nil, errNoELF
	}
	segments, err := f.bytes(table, n*entry)
	if err != nil {
		return nil, err
	}
	h := &header{execStack: m.noteless}
	var dynamic segment
	for ; len(segments) > 0; segments = segments[entry:] {
		s := segment{f.word(segments[f.pick(8, 16):]), f.word(segments[f.pick(4, 8):]), f.word(segments[f.pick(16, 32):])}
		const load, dynamicSection, gnuStack, executable = 1, 2, 0x6474e551, 1
		switch f.u32(segments) {
		case load:
			if s.off > f.size || s.size > f.size-s.off {
				return nil, ErrShort
			}
			f.segments = append(f.segments, s)
		case dynamicSection:
			dynamic = s
		case gnuStack:
			h.execStack = f.u32(segments[f.pick(24, 4):])&executable != 0
		}
	}
	if dynamic.size == 0 || dynamic.size > maxDynamic {
		return nil, errNoELF
	}
	return h, f.dynamic(dynamic, h)
}

// elf is a file while it is read.
type elf struct {
	machine
	r        io.ReaderAt
	size     uint64
	segments []segment
}

// segment is a run of addresses that lie in the file.
type segment struct{ addr, off, size uint64 }

// dynamic fills h from the dynamic section.
func (f *elf) dynamic(s segment, h *header) error {
	entry := f.pick(8, 16)
	table, err := f.bytes(s.off, s.size/entry*entry)
	if err != nil {
		return err
	}
	const null, needed, strTab, strSize, soName, rpath, runPath, flags1, pie = 0, 1, 5, 10, 14, 15, 29, 0x6ffffffb, 0x08000000
	at := map[uint64]uint64{}
	var names []uint64
	for ; len(table) > 0; table = table[entry:] {
		tag, value := f.word(table), f.word(table[f.pick(4, 8):])
		if tag == null {
			break
		}
		if tag == needed {
			if len(names) == maxNeeded {
				return errNoELF
			}
			names = append(names, value)
			continue
		}
		at[tag] = value
	}
	if at[flags1]&pie != 0 { // a program; the dynamic linker refuses it, too
		return errNoELF
	}
	start, ok := f.place(at[strTab], at[strSize])
	if !ok {
		return errNoELF
	}
	str := func(off uint64) (string, error) {
		if off >= at[strSize] {
			return "", errNoELF
		}
		b, err := f.bytes(start+off, min(at[strSize]-off, maxString))
		text, _, ended := strings.Cut(string(b), "\x00")
		if err == nil && !ended {
			err = errNoELF
		}
		return text, err
	}
	for _, off := range names {
		name, err := str(off)
		if err != nil {
			return err
		}
		h.needed = append(h.needed, name)
	}
	for tag, set := range map[uint64]func(string){
		soName:  func(s string) { h.soName = s },
		rpath:   func(s string) { h.rpath = strings.Split(s, ":") },
		runPath: func(s string) { h.runPath = strings.Split(s, ":") },
	} {
		if off, ok := at[tag]; ok {
			text, err := str(off)
			if err != nil {
				return err
			}
			set(text)
		}
	}
	if h.runPath != nil { // it has the dynamic linker ignore the other one
		h.rpath = nil
	}
	return nil
}

// place returns where in the file the n bytes at an address lie.
func (f *elf) place(addr, n uint64) (off uint64, ok bool) {
	for _, s := range f.segments {
		if addr >= s.addr && addr-s.addr < s.size && n <= s.size-(addr-s.addr) {
			return s.off + (addr - s.addr), true
		}
	}
	return 0, false
}

// bytes returns n bytes of the file.
func (f *elf) bytes(off, n uint64) ([]byte, error) {
	if off > f.size || n > f.size-off {
		return nil, errNoELF
	}
	b := make([]byte, n)
	if n, err := f.r.ReadAt(b, int64(off)); n < len(b) {
		return nil, err
	}
	return b, nil
}

// pick returns a size or an offset in files of 32 or 64 bits.
func (f *elf) pick(in32, in64 uint64) uint64 {
	if f.wide {
		return in64
	}
	return in32
}

func (f *elf) order() binary.ByteOrder {
	if f.big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (f *elf) u16(b []byte) uint16 { return f.order().Uint16(b) }
func (f *elf) u32(b []byte) uint32 { return f.order().Uint32(b) }

// word returns the machine word that b begins with.
func (f *elf) word(b []byte) uint64 {
	if f.wide {
		return f.order().Uint64(b)
	}
	return uint64(f.u32(b))
}

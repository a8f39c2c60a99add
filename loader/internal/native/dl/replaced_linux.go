//go:build amd64 || arm64

package dl

import (
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// mostReplaced bounds the list of Replaced: who reads it needs no more.
const mostReplaced = 256

// Replaced returns the symbols that the library defines and does not get: where it uses them, the system's loader has bound
// another library's of the same name, which was there before for all to see. It is read from where the loader has written
// the addresses, so it costs next to nothing, and a library that uses only its own has none, whatever names it exports.
// Weak symbols do not count: that of several one is used is what they are for (templates of C++).
//
// The tables that are read are those by which the loader has bound the library, so they are in order.
func (l Library) Replaced() []Replaced {
	base, dynamic, ok := l.linkMap()
	if !ok {
		return nil
	}
	order := binary.LittleEndian
	at := func(v uint64) uintptr { // glibc has made addresses of the offsets in the file, musl has not
		if uintptr(v) >= base {
			return uintptr(v)
		}
		return base + uintptr(v)
	}
	var symbols, names uintptr
	var tables [2]struct {
		at         uintptr
		skip, size uint64
	}
	const entry, entrySize, symbolSize = 16, 24, 24 // Elf64_Dyn, Elf64_Rela, Elf64_Sym
	for next := dynamic; ; next += entry {
		e := raw.Bytes(next, entry)
		tag, value := order.Uint64(e), order.Uint64(e[8:])
		if tag == 0 {
			break
		}
		switch tag {
		case 2: // DT_PLTRELSZ
			tables[1].size = value
		case 5: // DT_STRTAB
			names = at(value)
		case 6: // DT_SYMTAB
			symbols = at(value)
		case 7: // DT_RELA
			tables[0].at = at(value)
		case 8: // DT_RELASZ
			tables[0].size = value
		case 23: // DT_JMPREL
			tables[1].at = at(value)
		case 0x6ffffff9: // DT_RELACOUNT: how many there are at the start that have no symbol
			tables[0].skip = value * entrySize
		}
	}
	var own uintptr // found out when first needed: it costs more than all that is read here
	var found []Replaced
	for _, table := range tables {
		for off := table.skip; off+entrySize <= table.size && len(found) < mostReplaced; off += entrySize {
			e := raw.Bytes(table.at+uintptr(off), entrySize)
			info, addend := order.Uint64(e[8:]), order.Uint64(e[16:])
			if !slices.Contains(symbolAddress[:], uint32(info)) {
				continue
			}
			symbol := raw.Bytes(symbols+uintptr(info>>32)*symbolSize, symbolSize)
			const global, undefined, absolute = 1, 0, 0xfff1
			if where := order.Uint16(symbol[6:]); symbol[4]>>4 != global || symbol[5]&3 != 0 || where == undefined || where == absolute {
				continue
			}
			bound := uintptr(order.Uint64(raw.Bytes(base+uintptr(order.Uint64(e)), 8)) - addend)
			if bound == base+uintptr(order.Uint64(symbol[8:])) {
				continue
			}
			// It is still its own where it is chosen by code (STT_GNU_IFUNC), or is looked up later; and a constructor may have
			// written something else there, which has another name.
			if own == 0 {
				own, _ = holder(dynamic)
			}
			if holder, by := holder(bound); holder != 0 && holder != own {
				if name := cText(names + uintptr(order.Uint32(symbol))); program(name) == bound {
					found = append(found, Replaced{name, by})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b Replaced) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(found)
}

// symbolAddress are the relocations that write a symbol's address: of a variable, of a function, and wherever else it stands.
var symbolAddress = map[string][3]uint32{"amd64": {6, 7, 1}, "arm64": {1025, 1026, 257}}[runtime.GOARCH]

// cText returns the text at addr that ends by a NUL.
func cText(addr uintptr) string {
	var text []byte
	for ; ; addr++ {
		b := raw.Bytes(addr, 1)[0]
		if b == 0 {
			return string(text)
		}
		text = append(text, b)
	}
}

// program is what the process has by this name for all to see, 0 where there is nothing.
func program(name string) uintptr {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	addr, _ := purego.Dlsym(purego.RTLD_DEFAULT, name)
	return addr
}

var (
	dlinfo = sync.OnceValue(func() uintptr { return program("dlinfo") })
	dladdr = sync.OnceValue(func() uintptr { return program("dladdr") })
)

// linkMap returns what is added to the addresses in the library's file, and where its dynamic section is.
func (l Library) linkMap() (base, dynamic uintptr, ok bool) {
	if dlinfo() == 0 || dladdr() == 0 {
		return 0, 0, false
	}
	const linkMap = 2 // RTLD_DI_LINKMAP
	entry := new(uintptr)
	// Sound as in Lookup.
	if failed, _, _ := purego.SyscallN(dlinfo(), l.handle, linkMap, uintptr(unsafe.Pointer(entry))); int32(failed) != 0 || *entry == 0 {
		return 0, 0, false
	}
	m := raw.Bytes(*entry, 24) // l_addr, l_name, l_ld
	return uintptr(binary.LittleEndian.Uint64(m)), uintptr(binary.LittleEndian.Uint64(m[16:])), true
}

// Base returns what is added to the addresses in the library's file, 0 where that is not known.
func (l Library) Base() uintptr {
	base, _, _ := l.linkMap()
	return base
}

// holder returns the start of the library that has addr, 0 where none has, and its path.
func holder(addr uintptr) (start uintptr, path string) {
	info := new([4]uintptr) // Dl_info: the path, the start, the nearest symbol's name and address
	if found, _, _ := purego.SyscallN(dladdr(), addr, uintptr(unsafe.Pointer(info))); int32(found) == 0 {
		return 0, ""
	}
	return info[1], cText(info[0])
}

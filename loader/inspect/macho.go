package inspect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// The numbers of Mach-O that this reader knows.
const (
	mhDylib, mhBundle     = 6, 8
	mhAllowStackExecution = 0x20000

	lcSegment, lcSegment64, lcSymTab, lcBuildVersion        = 0x1, 0x19, 0x2, 0x32
	lcCodeSignature                                         = 0x1d
	lcLoadDylib, lcIDDylib, lcLazyLoadDylib                 = 0xc, 0xd, 0x20
	lcLoadWeakDylib, lcReexportDylib, lcLoadUpwardDylib     = 0x80000018, 0x8000001f, 0x80000023
	lcRPath, lcDyldInfo, lcDyldInfoOnly, lcDyldExportsTrie  = 0x8000001c, 0x22, 0x80000022, 0x80000033
	lcVersionMinMacOS, lcVersionMinIOS, lcVersionMinTV      = 0x24, 0x25, 0x2f
	lcVersionMinWatch                                       = 0x30
	segWrite, segExec, segReadOnly                          = 2, 4, 0x10
	cpu386, cpuAMD64, cpuARM, cpuARM64, cpuARM64E           = 7, 0x1000007, 12, 0x100000c, 2
	nStab, nPrivate, nType, nExternal                       = 0xe0, 0x10, 0x0e, 0x01
	nUndefined, nAbsolute, nIndirect, nSection, maxFatArchs = 0, 2, 0xa, 0xe, 44
)

// machoLead is what Mach-O puts before the names of C.
const machoLead = "_"

var machoKinds = map[uint32]string{1: "an object file", 2: "an executable program", 4: "a core dump",
	5: "a preloaded program", 7: "a dynamic linker", 9: "a stub of a library, without code",
	10: "separate debug information (.dSYM)", 11: "a kernel extension"}

// machoOS are the systems by the platform of LC_BUILD_VERSION; Go has no word for the others.
var machoOS = map[uint32]string{1: "darwin", 2: "ios", 6: "ios", 7: "ios"}

func isMachO(head []byte) bool {
	for _, magic := range [...]string{"\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe"} {
		if hasPrefix(head, magic) {
			return true
		}
	}
	return false
}

// isFat tells a fat file from a Java class, which starts with the same magic and then its version, 45 or more.
func isFat(head []byte) bool {
	return (hasPrefix(head, "\xca\xfe\xba\xbe") || hasPrefix(head, "\xca\xfe\xba\xbf")) &&
		(len(head) < 8 || binary.BigEndian.Uint32(head[4:]) <= maxFatArchs)
}

// machoMachine returns the GOARCH word and the words for a CPU type and subtype.
func machoMachine(cpu, subtype uint32) (goarch, words string) {
	switch subtype &= 0xffffff; cpu {
	case cpu386:
		goarch, words = "386", "x86"
	case cpuAMD64:
		goarch, words = "amd64", "x86-64"
	case cpuARM:
		goarch, words = "arm", "ARM"
	case cpuARM64:
		if goarch, words = "arm64", "ARM64"; subtype == cpuARM64E {
			goarch, words = "", "ARM64E" // another calling convention: other programs cannot load it
		}
	case 0x200000c:
		words = "ARM64 with 32-bit pointers"
	case 18:
		words = "PowerPC"
	case 0x1000012:
		words = "PowerPC 64"
	default:
		words = "unknown"
	}
	return goarch, fmt.Sprintf("%s (CPU type %#x)", words, cpu)
}

// readFat reads the slice that a host of this architecture would load, or else the first.
func (lib *Library) readFat(m *image, x *exports) error {
	lib.Format = MachO
	head, err := m.view("the fat header", 0, 8)
	if err != nil {
		return err
	}
	wide, n, entry := head[3] == 0xbf, uint64(binary.BigEndian.Uint32(head[4:])), uint64(20)
	if wide {
		entry = 32
	}
	if n == 0 {
		return malformed("a fat file without a slice")
	}
	table, err := m.view("the fat header", 8, n*entry)
	if err != nil {
		return err
	}
	big := order(true)
	var off, size uint64
	for i := range n {
		var sliceOff, sliceSize uint64
		e := table[i*entry:]
		if wide {
			sliceOff, sliceSize = big.u64(e[8:]), big.u64(e[16:])
		} else {
			sliceOff, sliceSize = uint64(big.u32(e[8:])), uint64(big.u32(e[12:]))
		}
		goarch, words := machoMachine(big.u32(e), big.u32(e[4:]))
		if end := saturate(sliceOff, sliceSize); end > m.size {
			return truncated("the slice for "+words, end, m.size)
		}
		if i == 0 || goarch == runtime.GOARCH && !slices.Contains(lib.Archs, goarch) {
			off, size = sliceOff, sliceSize
		}
		if goarch == "" {
			goarch = words
		}
		lib.Archs = append(lib.Archs, goarch)
	}
	slice := newImage(io.NewSectionReader(m.r, int64(off), int64(size)), size)
	defer slice.done()
	if head, err = slice.view("the start of a slice", 0, min(size, 4096)); err != nil {
		return err
	}
	if !isMachO(head) {
		return notLibrary("a fat file of which a slice is " + describe(head))
	}
	return lib.readMachO(slice, x)
}

// machoFile is a Mach-O file, or a slice of a fat one, while it is read.
type machoFile struct {
	*image
	wide             bool
	base             uint64 // the address of the file's first byte, from which the export trie counts
	goBuild          uint64 // where Go's build information is in the file, or 0
	trieOff, trieLen uint64
	symOff, symNum   uint64
	strOff, strLen   uint64
}

// readMachO reads what dyld reads: the load commands, and the export trie. Only a library without one, as old linkers
// made them, is looked up in the symbol table; where there is a trie, the symbol table may be stripped or say other
// things, and dlsym does not mind.
func (lib *Library) readMachO(m *image, x *exports) error {
	lib.Format, lib.OS = MachO, "darwin"
	magic, err := m.view("the Mach-O header", 0, 4)
	if err != nil {
		return err
	}
	m.order = magic[0] == 0xfe
	f := &machoFile{image: m, wide: m.u32(magic)&1 != 0}
	headSize := uint64(28)
	if f.wide {
		headSize = 32
	}
	head, err := m.view("the Mach-O header", 0, headSize)
	if err != nil {
		return err
	}
	lib.Arch, lib.Machine = machoMachine(m.u32(head[4:]), m.u32(head[8:]))
	if lib.Archs == nil {
		lib.Archs = lib.archs()
	}
	if kind := m.u32(head[12:]); kind != mhDylib && kind != mhBundle {
		if words := machoKinds[kind]; words != "" {
			return notLibrary(words + " (Mach-O)")
		}
		return malformed("the Mach-O file type %d", kind)
	}
	lib.Hardening = Hardening{ASLR: true, ExecStack: m.u32(head[24:])&mhAllowStackExecution != 0}
	n, size := m.u32(head[16:]), uint64(m.u32(head[20:]))
	commands, err := m.view("its load commands", headSize, size)
	if err != nil {
		return err
	}
	for i := range n {
		if len(commands) < 8 {
			return malformed("%d load commands in %s", n, count.Of(size, "byte"))
		}
		length := m.u32(commands[4:])
		if length < 8 || length%4 != 0 || uint64(length) > uint64(len(commands)) {
			return malformed("the load command %d with %s", i, count.Of(length, "byte"))
		}
		if err := lib.readCommand(f, m.u32(commands), commands[:length]); err != nil {
			return err
		}
		commands = commands[length:]
	}
	if err := m.seal(); err != nil {
		return err
	}
	if len(m.segments) == 0 {
		return malformed("no segment to load")
	}
	lib.Hardening.WriteExec = m.writeExec()
	x.strings = f.strings
	if f.trieLen > 0 {
		err = f.readTrie(x)
	} else {
		err = f.readSymTab(x)
	}
	if err != nil {
		return err
	}
	if err := lib.readContract(m, x); err != nil {
		return err
	}
	if f.goBuild != 0 {
		if lib.GoVersion, err = m.goVersion(f.goBuild); lib.GoVersion == "" {
			lib.GoVersion = goUnknown
		}
	}
	return err
}

// readCommand reads the load command c, of 8 bytes or more.
func (lib *Library) readCommand(f *machoFile, kind uint32, c []byte) error {
	need := 8
	switch kind {
	case lcSegment:
		need = 56
	case lcSegment64:
		need = 72
	case lcSymTab, lcLoadDylib, lcLoadWeakDylib, lcReexportDylib, lcLoadUpwardDylib, lcLazyLoadDylib, lcIDDylib:
		need = 24
	case lcDyldInfo, lcDyldInfoOnly:
		need = 48
	case lcDyldExportsTrie, lcBuildVersion, lcVersionMinMacOS, lcVersionMinIOS, lcVersionMinTV, lcVersionMinWatch:
		need = 16
	case lcRPath:
		need = 12
	}
	if len(c) < need {
		return malformed("the load command %#x with %s", kind, count.Of(len(c), "byte"))
	}
	switch kind {
	case lcSegment, lcSegment64:
		return f.readSegment(c, kind == lcSegment64)
	case lcSymTab:
		f.symOff, f.symNum = uint64(f.u32(c[8:])), uint64(f.u32(c[12:]))
		f.strOff, f.strLen = uint64(f.u32(c[16:])), uint64(f.u32(c[20:]))
	case lcDyldInfo, lcDyldInfoOnly:
		f.trieOff, f.trieLen = uint64(f.u32(c[40:])), uint64(f.u32(c[44:]))
	case lcDyldExportsTrie:
		f.trieOff, f.trieLen = uint64(f.u32(c[8:])), uint64(f.u32(c[12:]))
	case lcCodeSignature:
		lib.Hardening.Signed = true
	case lcVersionMinMacOS:
		lib.OS, lib.MinOS = "darwin", machoVersion(f.u32(c[8:]))
	case lcVersionMinIOS:
		lib.OS, lib.MinOS = "ios", machoVersion(f.u32(c[8:]))
	case lcVersionMinTV, lcVersionMinWatch:
		lib.OS, lib.MinOS = "", machoVersion(f.u32(c[8:]))
	case lcBuildVersion:
		lib.OS, lib.MinOS = machoOS[f.u32(c[8:])], machoVersion(f.u32(c[12:]))
	case lcIDDylib, lcRPath, lcLoadDylib, lcLoadWeakDylib, lcReexportDylib, lcLoadUpwardDylib, lcLazyLoadDylib:
		at := f.u32(c[8:])
		if uint64(at) >= uint64(len(c)) {
			return malformed("a library's name outside of its load command")
		}
		switch name := cstr(c[at:], maxPath); kind {
		case lcIDDylib:
			lib.SOName = name
		case lcRPath:
			lib.RunPath = append(lib.RunPath, name)
		default:
			if len(lib.Needed) == maxNeeded {
				return malformed("more than %d needed libraries", maxNeeded)
			}
			lib.Needed = append(lib.Needed, name)
		}
	}
	return nil
}

// machoVersion is a version of a system in words: 16 bits, 8 bits, and 8 bits that are mostly 0.
func machoVersion(v uint32) string {
	if v&0xff == 0 {
		return fmt.Sprintf("%d.%d", v>>16, v>>8&0xff)
	}
	return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
}

func (f *machoFile) readSegment(c []byte, wide bool) error {
	s := segment{name: "the segment " + cstr(c[8:24], 16)}
	var initProt, sections, flags uint32
	var table []byte
	entry, sectionOff := 68, 40
	if wide {
		s.addr, s.size, s.off, s.inFile = f.u64(c[24:]), f.u64(c[32:]), f.u64(c[40:]), f.u64(c[48:])
		initProt, sections, flags, table = f.u32(c[60:]), f.u32(c[64:]), f.u32(c[68:]), c[72:]
		entry, sectionOff = 80, 48
	} else {
		s.addr, s.size = uint64(f.u32(c[24:])), uint64(f.u32(c[28:]))
		s.off, s.inFile = uint64(f.u32(c[32:])), uint64(f.u32(c[36:]))
		initProt, sections, flags, table = f.u32(c[44:]), f.u32(c[48:]), f.u32(c[52:]), c[56:]
	}
	s.write, s.exec = initProt&segWrite != 0 && flags&segReadOnly == 0, initProt&segExec != 0
	if s.off == 0 && s.inFile > 0 {
		f.base = s.addr
	}
	for ; sections > 0 && len(table) >= entry; sections, table = sections-1, table[entry:] {
		if cstr(table[:16], 16) == "__go_buildinfo" {
			f.goBuild = uint64(f.u32(table[sectionOff:]))
		}
	}
	return f.addSegment(s)
}

// readTrie collects the exports from the export trie. A node of the trie has what the name that leads to it stands for,
// if it is one, and then edges, each with what it adds to the name and the offset of its node. Only the edges are
// followed that lead to names of the contract, or all of them where all names are wanted.
func (f *machoFile) readTrie(x *exports) error {
	const prefix = machoLead + abi.SymbolPrefix
	trie, err := f.view("its export trie", f.trieOff, f.trieLen)
	if err != nil {
		return err
	}
	bad := func(why string) error { return malformed("an export trie with %s", why) }
	type step struct {
		node uint64
		name string
	}
	walked := uint64(0)
	left := len(trie) // bytes that no node has: in a tree no two share one
	for todo := []step{{}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at.node >= uint64(len(trie)) {
			return bad("a node beyond its end")
		}
		b := trie[at.node:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size >= uint64(len(b)-n) {
			return bad("a node that is cut off")
		}
		info := b[n:][:size]
		if size > 0 && x.all && strings.HasPrefix(at.name, machoLead) {
			if err := x.addName(at.name[len(machoLead):]); err != nil {
				return err
			}
		}
		if size > 0 && strings.HasPrefix(at.name, prefix) {
			e, ok := f.trieExport(info)
			if !ok {
				return bad("an export that is cut off")
			}
			if err := x.add(at.name, machoLead, e); err != nil {
				return err
			}
		}
		edges := int(b[n:][size])
		for b = b[n:][size+1:]; edges > 0; edges-- {
			end := bytes.IndexByte(b, 0)
			if end < 0 {
				return bad("an edge that is cut off")
			}
			edge := b[:end]
			node, n := binary.Uvarint(b[end+1:])
			if n <= 0 { // an edge without a name is sound: Apple's classic linker adds one for a name that others begin with
				return bad("an edge without a node")
			}
			b = b[end+1+n:]
			name := at.name
			if len(name) < len(prefix) || x.all { // otherwise it has the prefix
				name += string(edge[:min(end, maxPath)])
				if ours := prefix[:min(len(prefix), len(name))]; !x.all && !strings.HasPrefix(name, ours) {
					continue
				}
			} else {
				name += string(edge[:min(end, maxSymbol)])
			}
			if walked += uint64(len(name)); walked > maxTable {
				return tooLong(walked, "bytes of names in its export trie")
			}
			if len(name) >= maxSymbol && strings.HasPrefix(name, prefix) { // every name from here on is too long
				return x.add(name, machoLead, export{})
			}
			todo = append(todo, step{node, name})
		}
		if left -= len(trie) - int(at.node) - len(b); left < 0 {
			return bad("nodes that overlap")
		}
	}
	return nil
}

// trieExport reads what a node says of its name.
func (f *machoFile) trieExport(info []byte) (e export, ok bool) {
	const kind, absolute, threadLocal, reexport = 3, 2, 1, 8
	flags, n := binary.Uvarint(info)
	if n <= 0 {
		return e, false
	}
	value, n := binary.Uvarint(info[n:])
	if n <= 0 {
		return e, false
	}
	e.addr = f.base + value
	switch {
	case flags&reexport != 0:
		e.addr, e.elsewhere = 0, "a re-export of another library's symbol"
	case flags&kind == threadLocal:
		e.elsewhere = "a thread-local variable"
	case flags&kind == absolute:
		e.addr = value
	}
	return e, true
}

// strings reads the string table.
func (f *machoFile) strings() (names, error) {
	strs, err := f.view("its string table", f.strOff, f.strLen)
	return f.keepNames(strs), err
}

// readSymTab collects the exports from the symbol table.
func (f *machoFile) readSymTab(x *exports) error {
	strs, err := f.strings()
	if err != nil {
		return err
	}
	entry := uint64(12)
	if f.wide {
		entry = 16
	}
	if end := saturate(f.symOff, f.symNum*entry); end > f.size {
		return truncated("its symbol table", end, f.size)
	}
	if f.symNum > maxCount {
		return tooLong(f.symNum, "symbols")
	}
	for i := uint64(0); i < f.symNum; {
		n := min(f.symNum-i, windowSize/entry)
		table, err := f.view("its symbol table", f.symOff+i*entry, n*entry)
		if err != nil {
			return err
		}
		for i += n; len(table) > 0; table = table[entry:] {
			name, kind := f.u32(table), table[4]
			ours := strs.hasPrefix(name, machoLead)
			if !ours && !x.all || kind&nStab != 0 || kind&nExternal == 0 || kind&nPrivate != 0 {
				continue
			}
			e := export{addr: uint64(f.u32(table[8:]))}
			if f.wide {
				e.addr = f.u64(table[8:])
			}
			switch kind & nType {
			case nSection, nAbsolute:
			case nIndirect:
				e.elsewhere = "an alias of another symbol"
			default:
				continue
			}
			if x.all && uint64(name) < uint64(len(strs.bytes)) && strs.bytes[name] == machoLead[0] {
				if err := x.name(strs, name+1); err != nil {
					return err
				}
			}
			if !ours {
				continue
			}
			if err := x.add(strs.at(name, maxSymbol), machoLead, e); err != nil {
				return err
			}
		}
	}
	return nil
}

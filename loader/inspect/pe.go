package inspect

import (
	"encoding/binary"
	"fmt"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// The numbers of PE that this reader knows.
const (
	peRelocsStripped, peDLL = 0x1, 0x2000 // characteristics: without base relocations, a library

	// DLL characteristics.
	dllHighEntropy, dllDynamicBase, dllNXCompat, dllGuardCF = 0x20, 0x40, 0x100, 0x4000

	dirExport, dirImport, dirCertificate, dirReloc, dirDelayImport, dirCLR = 0, 1, 4, 5, 13, 14
	dirCount                                                               = 16

	scnExec, scnWrite = 0x20000000, 0x80000000

	maxPENames = 1 << 16 // ordinals have 16 bits
)

var peMachines = map[uint16]struct{ goarch, words string }{
	0x14c:  {"386", "x86"},
	0x1c0:  {"", "ARM"},
	0x1c4:  {"arm", "ARM Thumb-2"},
	0x8664: {"amd64", "x86-64"},
	0xaa64: {"arm64", "ARM64"},
	0x5064: {"riscv64", "RISC-V 64"},
	0x6264: {"loong64", "LoongArch 64"},
	0x200:  {"", "Itanium"},
}

// isCOFFObject recognises an object file, which has no magic: a known machine and no optional header.
func isCOFFObject(head []byte) bool {
	if len(head) < 20 {
		return false
	}
	_, known := peMachines[binary.LittleEndian.Uint16(head)]
	return known && binary.LittleEndian.Uint16(head[16:]) == 0
}

// peFile is a PE file while it is read. Addresses are relative to the image's base, as PE has them.
type peFile struct {
	*image
	dirs  [dirCount]struct{ addr, size uint64 }
	flags uint16 // the DLL characteristics
	minOS string // the subsystem version
}

// readPE reads what the Windows loader reads: the headers and the directories of exports and imports.
func (lib *Library) readPE(m *image, x *exports) error {
	lib.Format, lib.OS = PE, "windows"
	f := &peFile{image: m}
	dos, err := m.view("the DOS header", 0, 64)
	if err != nil {
		return err
	}
	start := uint64(m.u32(dos[60:]))
	head, err := m.view("the PE header", start, 24)
	if err != nil {
		return err
	}
	if !hasPrefix(head, "PE\x00\x00") {
		return notLibrary("a DOS or 16-bit Windows program")
	}
	machine, count := m.u16(head[4:]), uint64(m.u16(head[6:]))
	symbols, symbolCount := uint64(m.u32(head[12:])), uint64(m.u32(head[16:]))
	optional, kind := uint64(m.u16(head[20:])), m.u16(head[22:])
	known := peMachines[machine]
	if known.words == "" {
		known.words = "unknown"
	}
	lib.Arch, lib.Machine = known.goarch, fmt.Sprintf("%s (machine %#x)", known.words, machine)
	lib.Archs = lib.archs()
	if kind&peDLL == 0 {
		return notLibrary("an executable program (.exe)")
	}
	if end := saturate(symbols, symbolCount*18); symbols != 0 && end > m.size {
		return truncated("its COFF symbols", end, m.size)
	}
	if err := f.readOptional(start+24, optional); err != nil {
		return err
	}
	if err := f.readSections(start+24+optional, count); err != nil {
		return err
	}
	if d := f.dirs[dirCertificate]; saturate(d.addr, d.size) > m.size { // the one directory that is placed by offset
		return truncated("its certificates", saturate(d.addr, d.size), m.size)
	}
	lib.MinOS = f.minOS
	lib.Hardening = Hardening{ASLR: f.flags&dllDynamicBase != 0 && kind&peRelocsStripped == 0,
		HighEntropy: f.flags&dllHighEntropy != 0, ExecStack: f.flags&dllNXCompat == 0, WriteExec: m.writeExec(),
		GuardCF: f.flags&dllGuardCF != 0, Signed: f.dirs[dirCertificate].size != 0}
	if lib.Needed, err = f.readNeeded(); err != nil {
		return err
	}
	x.strings = func() (names, error) {
		b, err := m.at("its exports", f.dirs[dirExport].addr, f.dirs[dirExport].size)
		return names{bytes: b}, err
	}
	if lib.SOName, err = f.readExports(x); err != nil {
		return err
	}
	m.relocated = f.relocations
	if err := lib.readContract(m, x); err != nil {
		return err
	}
	for i := range m.segments {
		if s := &m.segments[i]; s.write && lib.GoVersion == "" {
			if lib.GoVersion, err = m.scanGoVersion(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// readOptional reads the places of the directories.
func (f *peFile) readOptional(off, size uint64) error {
	head, err := f.view("the optional header", off, size)
	if err != nil {
		return err
	}
	at := 92 // of the number of directories
	switch {
	case len(head) >= 2 && f.u16(head) == 0x10b:
	case len(head) >= 2 && f.u16(head) == 0x20b:
		at = 108
	default:
		return malformed("no optional header of PE32 or PE32+")
	}
	if len(head) < at+4 {
		return malformed("an optional header of %s", count.Of(size, "byte"))
	}
	f.flags, f.minOS = f.u16(head[70:]), fmt.Sprintf("%d.%d", f.u16(head[48:]), f.u16(head[50:]))
	n := min(f.u32(head[at:]), dirCount)
	if head = head[at+4:]; uint64(len(head)) < 8*uint64(n) {
		return malformed("%s in an optional header of %s", count.Of(n, "directory"), count.Of(size, "byte"))
	}
	for i := range n {
		f.dirs[i].addr, f.dirs[i].size = uint64(f.u32(head[8*i:])), uint64(f.u32(head[8*i+4:]))
	}
	return nil
}

func (f *peFile) readSections(off, count uint64) error {
	const entry = 40
	table, err := f.view("its section headers", off, count*entry)
	if err != nil {
		return err
	}
	for ; len(table) > 0; table = table[entry:] {
		size, addr, inFile := uint64(f.u32(table[8:])), uint64(f.u32(table[12:])), uint64(f.u32(table[16:]))
		flags := f.u32(table[36:])
		s := segment{name: "the section " + cstr(table[:8], 8), addr: addr, size: size, off: uint64(f.u32(table[20:])),
			inFile: inFile, write: flags&scnWrite != 0, exec: flags&scnExec != 0}
		if end := saturate(s.off, inFile); inFile > 0 && end > f.size { // also what is only there to fill the block
			return truncated(s.name, end, f.size)
		}
		if s.size == 0 {
			s.size = inFile
		}
		if s.inFile = min(inFile, s.size); s.off == 0 {
			s.inFile = 0
		}
		if err := f.addSegment(s); err != nil {
			return err
		}
	}
	return f.seal()
}

// readNeeded lists the libraries of the import directory and of the one for delayed imports.
func (f *peFile) readNeeded() (needed []string, err error) {
	for _, dir := range [...]struct{ index, entry, name uint64 }{{dirImport, 20, 12}, {dirDelayImport, 32, 4}} {
		at := f.dirs[dir.index].addr
		if at == 0 {
			continue
		}
		for ; ; at += dir.entry {
			entry, err := f.at("its imports", at, dir.entry)
			if err != nil {
				return nil, err
			}
			name, relative := uint64(f.u32(entry[dir.name:])), dir.index == dirImport || f.u32(entry)&1 != 0
			if name == 0 {
				break
			}
			if len(needed) == maxNeeded {
				return nil, malformed("more than %d needed libraries", maxNeeded)
			}
			if !relative { // delayed imports of Visual C++ 6: absolute addresses
				continue
			}
			s, err := f.str("the name of a needed library", name)
			if err != nil {
				return nil, err
			}
			needed = append(needed, s)
		}
	}
	return needed, nil
}

// readExports collects the named exports, and returns the library's own name.
func (f *peFile) readExports(x *exports) (name string, err error) {
	const what = "its exports"
	dir := f.dirs[dirExport]
	if dir.addr == 0 || dir.size == 0 {
		if f.dirs[dirCLR].addr != 0 {
			return "", notLibrary("a .NET assembly without native exports")
		}
		return "", nil
	}
	head, err := f.at(what, dir.addr, 40)
	if err != nil {
		return "", err
	}
	own, functions, count := uint64(f.u32(head[12:])), uint64(f.u32(head[20:])), uint64(f.u32(head[24:]))
	functionsAt, namesAt, ordinalsAt := uint64(f.u32(head[28:])), uint64(f.u32(head[32:])), uint64(f.u32(head[36:]))
	if count > maxPENames {
		return "", malformed("%d exported names", count)
	}
	if own != 0 {
		if name, err = f.str("the library's name", own); err != nil {
			return "", err
		}
	}
	table, err := f.at(what, namesAt, 4*count)
	if err != nil {
		return "", err
	}
	longest := uint64(maxSymbol)
	if x.all {
		longest = maxPath // C++ names may be longer
	}
	table = append([]byte(nil), table...) // the next view may overwrite it
	var at []uint64                       // where each export's name stands in the table, and then its ordinal
	var in segment                        // the section of the last name: names stand together
	for i := range count {
		addr := uint64(f.u32(table[4*i:]))
		if addr-in.addr >= in.inFile {
			s := f.find(addr)
			if s == nil || addr-s.addr >= s.inFile {
				return "", malformed("an exported name at address %#x, which is not in the file", addr)
			}
			in = *s
		}
		b, err := f.view(what, in.off+(addr-in.addr), min(in.inFile-(addr-in.addr), longest))
		if err != nil {
			return "", err
		}
		if x.all {
			if err := x.addName(cstr(b, maxPath)); err != nil {
				return "", err
			}
		}
		if !hasPrefix(b, abi.SymbolPrefix) {
			continue
		}
		if err := x.add(cstr(b, maxSymbol), "", export{}); err != nil {
			return "", err
		}
		at = append(at, i)
	}
	for k, i := range at { // first all ordinals, then all addresses: each table is read once
		b, err := f.at(what, ordinalsAt+2*i, 2)
		if err != nil {
			return "", err
		}
		if at[k] = uint64(f.u16(b)); at[k] >= functions {
			return "", malformed("%s with ordinal %d of %d", x.list[k].name, at[k], functions)
		}
	}
	for k, ordinal := range at {
		b, err := f.at(what, functionsAt+4*ordinal, 4)
		if err != nil {
			return "", err
		}
		e := &x.list[k]
		if e.addr = uint64(f.u32(b)); e.addr-dir.addr < dir.size {
			to, err := f.str("a forwarder", e.addr)
			if err != nil {
				return "", err
			}
			e.elsewhere = fmt.Sprintf("a forwarder to %.100s", to)
		}
	}
	return name, nil
}

// relocations looks for a base relocation that writes to any of the spans.
func (f *peFile) relocations(spans []span) (addr uint64, found bool, err error) {
	const what, page, head = "its base relocations", 4096, 8
	dir := f.dirs[dirReloc]
	if dir.size > maxTable {
		return 0, false, tooLong(dir.size, "bytes of "+what)
	}
	for at, end := dir.addr, dir.addr+dir.size; at+head <= end; {
		b, err := f.at(what, at, head)
		if err != nil {
			return 0, false, err
		}
		base, size := uint64(f.u32(b)), uint64(f.u32(b[4:]))
		if size < head || size > end-at {
			return 0, false, malformed("a block of %s in its base relocations", count.Of(size, "byte"))
		}
		if touched(spans, base, page+8) {
			if b, err = f.at(what, at, size); err != nil {
				return 0, false, err
			}
			for b = b[head:]; len(b) >= 2; b = b[2:] {
				entry, width := f.u16(b), uint64(4)
				switch entry >> 12 {
				case 0: // fills the block
					continue
				case 10:
					width = 8
				}
				if target := base + uint64(entry&0xfff); touched(spans, target, width) {
					return target, true, nil
				}
			}
		}
		at += size
	}
	return 0, false, nil
}

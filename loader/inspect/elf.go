package inspect

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// The numbers of the ELF specification and its GNU extensions that this reader knows.
const (
	etRel, etExec, etDyn, etCore = 1, 2, 3, 4

	ptLoad, ptDynamic, ptInterp, ptNote, ptStack, ptRelro = 1, 2, 3, 4, 0x6474e551, 0x6474e552
	ptPhdr, ptTLS, ptEHFrame, ptProperty                  = 6, 7, 0x6474e550, 0x6474e553
	pfExec, pfWrite, pfRead                               = 1, 2, 4
	sttTLS, sttIFunc, shnAbs                              = 6, 10, 0xfff1

	dtNull, dtNeeded, dtHash, dtStrTab, dtSymTab, dtRela, dtRelaSize = 0, 1, 4, 5, 6, 7, 8
	dtStrSize, dtSOName, dtRPath, dtRel, dtRelSize, dtDebug          = 10, 14, 15, 17, 18, 21
	dtTextRel, dtBindNow, dtRunPath, dtFlags, dtRelrSize, dtRelr     = 22, 24, 29, 30, 35, 36
	dtGNUHash, dtVerSym, dtFlags1, dtMIPSSymTabNo                    = 0x6ffffef5, 0x6ffffff0, 0x6ffffffb, 0x70000011
	dtVerDef, dtVerNeed, dtRelaCount, dtRelCount                     = 0x6ffffffc, 0x6ffffffe, 0x6ffffff9, 0x6ffffffa
	dtPLTRelSize, dtPLTGot, dtRelaEntry, dtInit, dtFini, dtRelEntry  = 2, 3, 9, 12, 13, 19
	dtPLTRel, dtJmpRel, dtInitArray, dtFiniArray, dtInitArraySize    = 20, 23, 25, 26, 27
	dtFiniArraySize, dtRelrEntry, dtSymEntry                         = 28, 37, 11
	dtAndroidRel, dtAndroidRela, dtAndroidRelr                       = 0x6000000f, 0x60000011, 0x6fffe000
	dfTextRel, dfBindNow, dfStaticTLS, df1Now, df1PIE                = 4, 8, 0x10, 1, 0x08000000

	emMIPS, emPPC64, emS390, emIA64, emAlpha         = 8, 21, 22, 50, 0x9026
	emNios2, emAArch64, emRISCV, emCSKY, emLoongArch = 113, 183, 243, 252, 258
)

// elfMachines are the machines by e_machine: in words, and as GOARCH for 32 and 64 bits, little- and big-endian.
var elfMachines = map[uint16]struct {
	words  string
	goarch [4]string // 32 LE, 32 BE, 64 LE, 64 BE
}{
	2:      {"SPARC", [4]string{}},
	3:      {"x86", [4]string{0: "386"}},
	4:      {"Motorola 68000", [4]string{}},
	8:      {"MIPS", [4]string{"mipsle", "mips", "mips64le", "mips64"}},
	15:     {"PA-RISC", [4]string{}},
	20:     {"PowerPC", [4]string{}},
	21:     {"PowerPC 64", [4]string{2: "ppc64le", 3: "ppc64"}},
	22:     {"S/390", [4]string{3: "s390x"}},
	40:     {"ARM", [4]string{0: "arm"}},
	42:     {"SuperH", [4]string{}},
	43:     {"SPARC V9", [4]string{}},
	50:     {"Itanium", [4]string{}},
	62:     {"x86-64", [4]string{2: "amd64"}},
	183:    {"AArch64", [4]string{2: "arm64"}},
	243:    {"RISC-V", [4]string{2: "riscv64"}},
	247:    {"eBPF", [4]string{}},
	258:    {"LoongArch", [4]string{2: "loong64"}},
	0x9026: {"Alpha", [4]string{}},
}

// elfFile is an ELF file while it is read.
type elfFile struct {
	*image
	wide    bool // 64-bit
	machine uint16
	note    string // the version of Go that a note speaks for: goUnknown or ""
	tls     bool   // it has thread-local variables

	dynamicAt span   // the dynamic section
	headers   uint64 // the end of the headers at the start of the file

	symbols, symbolsAt uint64 // the number of symbols, 0 when that is not known, and where in the file they are
	maxVersion         uint16 // the highest number of a symbol version that it needs or defines

	system  elfSystem
	dynamic dynamicTable
	needed  []uint64
	names   names
}

// dynamicTable is what the dynamic section says, by tag. It is asked often: the tags of the specification are found by
// their number, and the few that it knows beyond in a list.
type dynamicTable struct {
	known uint64 // a bit for each tag of low that is there
	low   [lowTags]uint64
	high  []struct{ tag, value uint64 }
}

// lowTags is how many tags there are at the start of their range, from 0 on; at most 64.
const lowTags = 40

func (t *dynamicTable) find(tag uint64) (value uint64, ok bool) {
	if tag < lowTags {
		return t.low[tag], t.known>>tag&1 != 0
	}
	return t.findHigh(tag)
}

func (t *dynamicTable) findHigh(tag uint64) (value uint64, ok bool) {
	for i := range t.high {
		if t.high[i].tag == tag {
			return t.high[i].value, true
		}
	}
	return 0, false
}

func (t *dynamicTable) get(tag uint64) uint64 {
	value, _ := t.find(tag)
	return value
}

func (t *dynamicTable) set(tag, value uint64) {
	if tag < lowTags {
		t.low[tag], t.known = value, t.known|1<<tag
		return
	}
	for i := range t.high {
		if t.high[i].tag == tag {
			t.high[i].value = value
			return
		}
	}
	if t.high == nil {
		t.high = make([]struct{ tag, value uint64 }, 0, 8)
	}
	t.high = append(t.high, struct{ tag, value uint64 }{tag, value})
}

// word returns the machine word at b[at32:], or at b[at64:] in 64-bit files.
func (f *elfFile) word(b []byte, at32, at64 int) uint64 {
	if f.wide {
		return f.u64(b[at64:])
	}
	return uint64(f.u32(b[at32:]))
}

// pick returns the size of a structure in 32-bit or 64-bit files.
func (f *elfFile) pick(in32, in64 uint64) uint64 {
	if f.wide {
		return in64
	}
	return in32
}

// readELF reads what ld.so reads: the program headers and what the dynamic section points to. Section headers are used
// only to see that the file is whole and to find Go's build information sooner.
func (lib *Library) readELF(m *image, x *exports) error {
	lib.Format = ELF
	f := &elfFile{image: m}
	ident, err := m.view("the ELF header", 0, 16)
	if err != nil {
		return err
	}
	class, data, osabi := ident[4], ident[5], ident[7]
	if class != 1 && class != 2 || data != 1 && data != 2 || ident[6] != 1 {
		return malformed("class %d, byte order %d and version %d in the ELF header", class, data, ident[6])
	}
	f.wide, m.order = class == 2, data == 2
	head, err := m.view("the ELF header", 0, f.pick(52, 64))
	if err != nil {
		return err
	}
	f.machine = m.u16(head[18:])
	f.system.abi(osabi)
	m.opd = f.machine == emPPC64 && bool(m.order)
	lib.setELFMachine(f)
	switch kind := m.u16(head[16:]); kind {
	case etDyn:
	case etRel:
		return notLibrary("an object file (ELF)")
	case etExec:
		return notLibrary("an executable program (ELF)")
	case etCore:
		return notLibrary("a core dump (ELF)")
	default:
		return malformed("the ELF type %d", kind)
	}
	rest := head[f.pick(28, 32):] // e_phoff and on
	phoff, shoff := f.word(rest, 0, 0), f.word(rest, 4, 8)
	rest = rest[f.pick(14, 22):] // e_phentsize and on
	phsize, phnum, shsize, shnum, shstrndx := m.u16(rest), m.u16(rest[2:]), m.u16(rest[4:]), m.u16(rest[6:]),
		m.u16(rest[8:])
	if shoff != 0 && shnum != 0 {
		if end := saturate(shoff, uint64(shnum)*uint64(shsize)); end > m.size {
			return truncated("its section headers", end, m.size)
		}
	}
	f.headers = f.pick(52, 64)
	if phoff == f.headers {
		f.headers += uint64(phnum) * uint64(phsize)
	}
	if phnum == 0 || uint64(phsize) != f.pick(32, 56) {
		return malformed("%d program headers of %s", phnum, count.Of(phsize, "byte"))
	}
	if err := lib.readSegments(f, phoff, uint64(phnum)*uint64(phsize)); err != nil {
		return err
	}
	if err := lib.readNeeded(f); err != nil {
		return err
	}
	if err := f.readVersions(lib.Needed); err != nil {
		return err
	}
	lib.OS, lib.CLibrary, lib.MinGlibc = f.system.decide()
	lib.StaticTLS = f.dynamic.get(dtFlags)&dfStaticTLS != 0
	x.strings = func() (names, error) { return f.names, nil }
	if err := f.readSymbols(x); err != nil {
		return err
	}
	if err := f.checkRelocations(f.dynamicAt); err != nil {
		return err
	}
	m.relocated = f.relocations
	if err := lib.readContract(m, x); err != nil {
		return err
	}
	lib.GoVersion, err = f.findGoVersion(shoff, uint64(shnum), uint64(shsize), uint64(shstrndx))
	return err
}

func (lib *Library) setELFMachine(f *elfFile) {
	known := elfMachines[f.machine]
	i, bits, endian := 0, 32, "little"
	if f.order {
		i, endian = 1, "big"
	}
	if f.wide {
		i, bits = i+2, 64
	}
	lib.Arch = known.goarch[i]
	switch {
	case known.words == "":
		lib.Machine = fmt.Sprintf("EM %d, %d-bit, %s-endian", f.machine, bits, endian)
	case lib.Arch == "":
		lib.Machine = fmt.Sprintf("%s (EM %d), %d-bit, %s-endian", known.words, f.machine, bits, endian)
	default:
		lib.Machine = known.words + " (EM " + strconv.Itoa(int(f.machine)) + ")" // of nearly all: cheaper than by fmt
	}
	lib.Archs = lib.archs()
}

// readSegments reads the program headers, and then the dynamic section into f.dynamic.
func (lib *Library) readSegments(f *elfFile, phoff, size uint64) error {
	table, err := f.view("its program headers", phoff, size)
	if err != nil {
		return err
	}
	dynamic := make([]segment, 0, 1)
	notes := make([]segment, 0, 4)
	f.segments = make([]segment, 0, 8)
	parts := make([]part, 0, 4)
	interp, last := false, uint64(0)
	relro, stack := false, !slices.Contains(stackSafe[:], f.machine)
	for i := 0; len(table) > 0; i++ {
		var h []byte
		h, table = table[:f.pick(32, 56)], table[f.pick(32, 56):]
		s := segment{index: i, off: f.word(h, 4, 8), addr: f.word(h, 8, 16),
			inFile: f.word(h, 16, 32), size: f.word(h, 20, 40)}
		flags, align := f.u32(h[f.pick(24, 4):]), f.word(h, 28, 48)
		s.read, s.write, s.exec = flags&pfRead != 0, flags&pfWrite != 0, flags&pfExec != 0
		switch f.u32(h) {
		case ptLoad:
			if align > 1 && (align&(align-1) != 0 || (s.addr-s.off)&(align-1) != 0) || s.addr < last {
				return malformed("%s at offset %#x and address %#x with alignment %#x", s.String(), s.off, s.addr, align)
			}
			last = s.addr
			if err := f.addSegment(s); err != nil {
				return err
			}
		case ptDynamic:
			dynamic = append(dynamic, s)
		case ptPhdr, ptTLS, ptEHFrame, ptProperty:
			f.tls = f.tls || f.u32(h) == ptTLS && s.size > 0
			parts = append(parts, part{s, f.u32(h), align})
		case ptInterp:
			interp = true
			if err := f.readInterp(s); err != nil {
				return err
			}
		case ptNote:
			notes = append(notes, s)
		case ptStack:
			stack = s.exec
		case ptRelro:
			f.relro, relro = s, true
		}
	}
	if err := f.seal(); err != nil {
		return err
	}
	if len(f.segments) == 0 {
		return malformed("no segment to load")
	}
	if len(dynamic) != 1 {
		return malformed("%d dynamic sections", len(dynamic))
	}
	if _, rest := f.inFile(dynamic[0].addr); rest == 0 {
		return notLibrary("an ELF file without the bytes of its segments (separate debug information?)")
	}
	for i := range f.segments {
		var before *segment
		if i > 0 {
			before = &f.segments[i-1]
		}
		if err := f.checkSegment(&f.segments[i], before); err != nil {
			return err
		}
	}
	if err := f.readDynamicTable(dynamic[0]); err != nil {
		return err
	}
	// Programs are ET_DYN, too, when they are position-independent. Older linkers did not flag them; all give a program
	// DT_DEBUG. PT_INTERP alone is no sign: libc has it.
	if _, debug := f.dynamic.find(dtDebug); f.dynamic.get(dtFlags1)&df1PIE != 0 || interp && debug {
		return notLibrary("an executable program (ELF, position-independent)")
	}
	if err := f.checkDynamic(&dynamic[0]); err != nil {
		return err
	}
	if err := f.checkParts(phoff, size, parts); err != nil {
		return err
	}
	f.dynamicAt = span{dynamic[0].addr, saturate(dynamic[0].addr, dynamic[0].size)}
	for i := range notes {
		if err := f.readNotes(&notes[i]); err != nil {
			return err
		}
	}
	lib.Hardening = f.hardening(relro, stack)
	return nil
}

// stackSafe are the machines whose C libraries leave stacks alone for a library without PT_GNU_STACK.
var stackSafe = [...]uint16{emIA64, emNios2, emAArch64, emRISCV, emCSKY, emLoongArch}

// hardening sums up what the segments and the dynamic section say.
func (f *elfFile) hardening(relro, execStack bool) Hardening {
	h := Hardening{ASLR: true, ExecStack: execStack, WriteExec: f.writeExec(), TextRel: f.hasTextRel(), RELRO: RELRONone}
	_, now := f.dynamic.find(dtBindNow)
	h.BindNow = now || f.dynamic.get(dtFlags)&dfBindNow != 0 || f.dynamic.get(dtFlags1)&df1Now != 0
	switch {
	case relro && h.BindNow:
		h.RELRO = RELROFull
	case relro:
		h.RELRO = RELROPartial
	}
	return h
}

// hasTextRel reports whether there are relocations of memory that is not writable.
func (f *elfFile) hasTextRel() bool {
	_, ok := f.dynamic.find(dtTextRel)
	return ok || f.dynamic.get(dtFlags)&dfTextRel != 0
}

func (f *elfFile) readDynamicTable(s segment) error {
	entry := f.pick(8, 16)
	table, err := f.at("its dynamic section", s.addr, s.size/entry*entry)
	if err != nil {
		return err
	}
	for ; len(table) > 0; table = table[entry:] {
		tag, value := f.word(table, 0, 0), f.word(table, 4, 8)
		switch tag {
		case dtNull:
			return nil
		case dtNeeded:
			if len(f.needed) == maxNeeded {
				return malformed("more than %d needed libraries", maxNeeded)
			}
			if f.needed == nil {
				f.needed = make([]uint64, 0, 8)
			}
			f.needed = append(f.needed, value)
		case dtHash, dtStrTab, dtSymTab, dtRela, dtRelaSize, dtRelaEntry, dtStrSize, dtSymEntry, dtInit, dtFini,
			dtSOName, dtRPath, dtRel, dtRelSize, dtRelEntry, dtPLTRel, dtDebug, dtTextRel, dtJmpRel, dtBindNow,
			dtInitArray, dtFiniArray, dtInitArraySize, dtFiniArraySize, dtRunPath, dtFlags, dtRelrSize, dtRelr,
			dtRelrEntry, dtPLTRelSize, dtPLTGot, dtGNUHash, dtVerSym, dtVerDef, dtVerNeed, dtRelaCount, dtRelCount,
			dtFlags1, dtMIPSSymTabNo, dtAndroidRel, dtAndroidRela, dtAndroidRelr:
			f.dynamic.set(tag, value)
		}
	}
	return malformed("a dynamic section without end")
}

// readNotes looks for the system that the library is for, and for the Go linker's mark.
func (f *elfFile) readNotes(s *segment) error {
	if s.inFile > windowSize || saturate(s.off, s.inFile) > f.size {
		return nil // nothing that ld.so minds
	}
	b, err := f.view("a note", s.off, s.inFile)
	if err != nil {
		return err
	}
	const head = 12 // bytes before the owner's name
	for len(b) > head {
		nameSize, descSize, kind := uint64(f.u32(b)), uint64(f.u32(b[4:])), f.u32(b[8:])
		desc := (head + nameSize + 3) &^ 3
		if nameSize > uint64(len(b)) || descSize > uint64(len(b)) || desc+descSize > uint64(len(b)) {
			return nil
		}
		switch owner := cstr(b[head:head+nameSize], maxSymbol); {
		case owner == "Go":
			f.note = goUnknown
		case kind != 1: // not what identifies a system
		case owner == "GNU" && descSize >= 4:
			f.system.gnuNote(f.u32(b[desc:]))
		default:
			f.system.note(owner)
		}
		b = b[min(uint64(len(b)), (desc+descSize+3)&^3):]
	}
	return nil
}

// readNeeded reads the string table and what the library is linked to.
func (lib *Library) readNeeded(f *elfFile) error {
	strs, err := f.at("its string table", f.dynamic.get(dtStrTab), f.dynamic.get(dtStrSize))
	if err != nil {
		return err
	}
	if len(strs) == 0 || strs[len(strs)-1] != 0 {
		return malformed("a string table of %s without a NUL at its end", count.Of(len(strs), "byte"))
	}
	f.names = f.keepNames(strs)
	for _, off := range f.needed {
		name, err := f.names.str("the name of a needed library", off)
		if err != nil {
			return err
		}
		lib.Needed = append(lib.Needed, name)
		f.system.needs(name)
	}
	for _, tag := range [...]uint64{dtSOName, dtRPath, dtRunPath} { // a DT_RUNPATH makes ld.so ignore DT_RPATH
		off, ok := f.dynamic.find(tag)
		if !ok {
			continue
		}
		s, err := f.names.str("the library's name or search path", off)
		if err != nil {
			return err
		}
		if tag == dtSOName {
			lib.SOName = s
		} else {
			lib.RunPath, lib.RPath = strings.Split(s, ":"), tag == dtRPath
		}
	}
	return nil
}

// readSymbols collects the symbols that a look-up in this library can find, and checks all that ld.so reads.
func (f *elfFile) readSymbols(x *exports) error {
	first, end, err := f.symbolRange()
	if err != nil {
		return err
	}
	if end = max(first, end); end > maxCount {
		return tooLong(end, "symbols")
	}
	entry := f.pick(16, 24)
	start, rest := f.inFile(f.dynamic.get(dtSymTab))
	if end > rest/entry {
		return malformed("a symbol table of %s at address %#x, more than the file has", count.Of(end, "entry"),
			f.dynamic.get(dtSymTab))
	}
	f.symbols, f.symbolsAt = end, start
	versions, err := f.versionsOfSymbols()
	if err != nil {
		return err
	}
	other, section, value, size := f.pick(13, 5), f.pick(14, 6), f.pick(4, 8), f.pick(8, 16)
	info := other - 1
	for i := uint64(0); i < end; {
		n := min(end-i, windowSize/entry)
		table, err := f.view("its symbol table", start+i*entry, n*entry)
		if err != nil {
			return err
		}
		for ; len(table) > 0; i, table = i+1, table[entry:] {
			sym := table[:entry]
			name := f.u32(sym)
			if uint64(name) >= uint64(len(f.names.bytes)) {
				return malformed("the symbol %d with a name beyond the end of the string table", i)
			}
			where := f.u16(sym[section:])
			if where == 0 && sym[info]>>4 == 0 && i > 0 { // ld.so takes it for an address in this library
				return malformed("the symbol %d, which is local and undefined", i)
			}
			ours := f.names.hasPrefix(name, "")
			kind := sym[info] & 15
			if !ours && !x.all && kind != sttIFunc {
				continue
			}
			bind, visibility := sym[info]>>4, sym[other]&3
			if where == 0 { // undefined
				continue
			}
			e := export{addr: f.word(sym[value:], 0, 0), size: f.word(sym[size:], 0, 0)}
			if kind == sttIFunc && where != shnAbs && !f.isCode(e.addr) {
				return &Error{Symbol: f.names.at(name, maxSymbol), Kind: ErrMalformed,
					Found: "a resolver (STT_GNU_IFUNC) in " + f.place(e.addr), Expected: "code", Remedy: copyAgain}
			}
			if i < first ||
				bind != 1 && bind != 2 && bind != 10 || // neither global, weak nor unique
				visibility != 0 && visibility != 3 || // neither default nor protected
				kind > 2 && kind != 5 && kind != sttTLS && kind != sttIFunc { // a section, a file
				continue
			}
			if kind == sttTLS {
				e.elsewhere = "a thread-local variable"
			}
			if versions != nil {
				const hidden, index = 0x8000, 0x7fff // 0 and 1 are no versions
				v := f.u16(versions[2*i:])
				e.hidden = v&hidden != 0 && v&index > 1
			}
			if x.all && !e.hidden {
				if err := x.name(f.names, name); err != nil {
					return err
				}
			}
			if ours {
				if err := x.add(f.names.at(name, maxSymbol), "", e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// symbolRange returns the range of the symbols that ld.so can find: ELF has the size of the symbol table nowhere, only
// its hash tables know. Like ld.so it prefers the GNU one, which has the defined symbols only.
func (f *elfFile) symbolRange() (first, end uint64, err error) {
	if addr, ok := f.dynamic.find(dtGNUHash); ok {
		return f.gnuHashRange(addr)
	}
	if addr, ok := f.dynamic.find(dtHash); ok {
		return f.hashRange(addr)
	}
	if f.machine == emMIPS { // its own hash table is sorted otherwise; it also has the number
		return 1, f.dynamic.get(dtMIPSSymTabNo), nil
	}
	return 0, 0, nil
}

// hashRange also refuses a chain of symbols that leads out of the table, or back to itself: ld.so follows it.
func (f *elfFile) hashRange(addr uint64) (first, end uint64, err error) {
	const what = "its hash table"
	entry, word := uint64(4), func(b []byte) uint64 { return uint64(f.u32(b)) }
	if f.wide && (f.machine == emS390 || f.machine == emAlpha) { // the two whose hash table has 64-bit words
		entry, word = 8, f.u64
	}
	head, err := f.at(what, addr, 2*entry)
	if err != nil {
		return 0, 0, err
	}
	buckets, symbols := word(head), word(head[entry:])
	if buckets > maxCount || symbols > maxCount {
		return 0, 0, tooLong(max(buckets, symbols), "entries in its hash table")
	}
	table, err := f.at(what, addr+2*entry, (buckets+symbols)*entry)
	if err != nil {
		return 0, 0, err
	}
	chains := table[buckets*entry:]
	steps := uint64(0)
	for i := range buckets {
		for at := word(table[i*entry:]); at != 0; at = word(chains[at*entry:]) {
			if at >= symbols {
				return 0, 0, malformed("the symbol %d of %d in its hash table", at, symbols)
			}
			if steps++; steps > symbols {
				return 0, 0, malformed("a chain without end in its hash table")
			}
		}
	}
	return 1, symbols, nil
}

func (f *elfFile) gnuHashRange(addr uint64) (first, end uint64, err error) {
	const what = "its hash table"
	head, err := f.at(what, addr, 16)
	if err != nil {
		return 0, 0, err
	}
	buckets, first, bloom := uint64(f.u32(head)), uint64(f.u32(head[4:])), uint64(f.u32(head[8:]))
	if bloom == 0 || bloom&(bloom-1) != 0 { // ld.so stops the process
		return 0, 0, malformed("%s of the filter in its hash table, expected a power of two", count.Of(bloom, "word"))
	}
	off, rest := f.inFile(addr)
	skip := 16 + bloom*f.pick(4, 8)
	if skip > rest || buckets > (rest-skip)/4 {
		return 0, 0, malformed("%s behind %s in its hash table", count.Of(buckets, "bucket"), count.Of(bloom, "word"))
	}
	if buckets > maxCount {
		return 0, 0, tooLong(buckets, "buckets in its hash table")
	}
	off, rest = off+skip, rest-skip
	var last uint64 // the highest symbol that a bucket starts at
	for b := []byte(nil); buckets > 0; buckets -= uint64(len(b)) / 4 {
		if b, err = f.view(what, off, 4*min(buckets, windowSize/4)); err != nil {
			return 0, 0, err
		}
		for i := 0; i < len(b); i += 4 {
			bucket := uint64(f.u32(b[i:]))
			if bucket != 0 && bucket < first {
				return 0, 0, malformed("the symbol %d in its hash table, which starts at %d", bucket, first)
			}
			last = max(last, bucket)
		}
		off, rest = off+uint64(len(b)), rest-uint64(len(b))
	}
	if last < first {
		return 0, 0, nil
	}
	for i := last - first; i < min(rest/4, maxCount); i++ { // the chain from there on, whose last word is odd
		b, err := f.view(what, off+4*i, 4)
		if err != nil {
			return 0, 0, err
		}
		if f.u32(b)&1 != 0 {
			return first, first + i + 1, nil
		}
	}
	return 0, 0, malformed("a hash table without end")
}

// relocations looks for one that writes to any of the spans. Memory that is never writable has none.
func (f *elfFile) relocations(spans []span) (addr uint64, found bool, err error) {
	if !f.hasTextRel() {
		spans = slices.DeleteFunc(spans, func(s span) bool { return !f.find(s.lo).write })
	}
	if len(spans) == 0 {
		return 0, false, nil
	}
	word := f.pick(4, 8)
	check := func(at uint64) {
		if !found && touched(spans, at, word) {
			addr, found = at, true
		}
	}
	each := func(table, size, entry uint64, visit func(entry []byte)) {
		left := f.dynamic.get(size) / entry * entry
		off, rest := f.inFile(f.dynamic.get(table))
		switch {
		case err != nil:
		case left > rest:
			err = malformed("%s of relocations, more than the file has", count.Of(left, "byte"))
		case left > maxTable:
			err = tooLong(left, "bytes of relocations")
		}
		for err == nil && !found && left > 0 {
			var b []byte
			b, err = f.view("its relocations", off, min(left, windowSize/entry*entry))
			off, left = off+uint64(len(b)), left-uint64(len(b))
			for ; len(b) > 0; b = b[entry:] {
				visit(b)
			}
		}
	}
	each(dtRela, dtRelaSize, 3*word, func(b []byte) { check(f.word(b, 0, 0)) })
	each(dtRel, dtRelSize, 2*word, func(b []byte) { check(f.word(b, 0, 0)) })
	// DT_RELR: an even word is an address; an odd one says by its bits which of the words behind it are relocated too.
	var next uint64
	each(dtRelr, dtRelrSize, word, func(b []byte) {
		v := f.word(b, 0, 0)
		if v&1 == 0 {
			check(v)
			next = v + word
			return
		}
		for at := next; v > 1; at += word {
			if v >>= 1; v&1 != 0 {
				check(at)
			}
		}
		next += (8*word - 1) * word
	})
	return addr, found, err
}

// findGoVersion looks for the section .go.buildinfo, and where there are no section headers through the writable data.
func (f *elfFile) findGoVersion(shoff, shnum, shsize, shstrndx uint64) (string, error) {
	if entry := f.pick(40, 64); shoff != 0 && shsize == entry && shstrndx < shnum {
		off, err := f.findSection(".go.buildinfo", shoff, shnum, shstrndx)
		if err != nil || off == 0 {
			return f.note, err
		}
		return f.goVersion(off)
	}
	for i := range f.segments {
		if s := &f.segments[i]; s.write {
			if version, err := f.scanGoVersion(s); version != "" || err != nil {
				return version, err
			}
		}
	}
	return f.note, nil
}

// findSection returns where in the file the section called name is, 0 when there is none.
func (f *elfFile) findSection(name string, shoff, shnum, shstrndx uint64) (uint64, error) {
	const what = "its section headers"
	entry := f.pick(40, 64)
	h, err := f.view(what, shoff+shstrndx*entry, entry)
	if err != nil {
		return 0, err
	}
	off, size := f.word(h, 16, 24), f.word(h, 20, 32)
	if saturate(off, size) > f.size || size > 1<<20 {
		return 0, nil // ld.so does not mind
	}
	strs, err := f.view("its section names", off, size)
	if err != nil {
		return 0, err
	}
	at := bytes.Index(strs, []byte(name+"\x00"))
	if at < 0 {
		return 0, nil
	}
	table, err := f.view(what, shoff, shnum*entry)
	if err != nil {
		return 0, err
	}
	for ; len(table) > 0; table = table[entry:] {
		if f.u32(table) == uint32(at) {
			return f.word(table, 16, 24), nil
		}
	}
	return 0, nil
}

package inspect

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// What ld.so believes: it checks little of a library and dies of what is wrong, and the process with it. So all is
// checked here that it follows: each table lies in the library's memory, each place that it writes to is writable, each
// function that it calls is code. What a table says beyond that (a function's own code, a value that is merely another
// one) cannot be known to be wrong.

// pageSize is the smallest one of all systems: the parts of a library are mapped in pages, and what is checked by them
// holds for longer ones all the more.
const pageSize = 4096

// maxInit is how many functions ld.so may be asked to call at the start or at the end.
const maxInit = 1 << 16

// elfRelocs are a machine's relocations that are treated specially, by number; 0 for none.
type elfRelocs struct {
	rela                     bool // in DT_RELA, and not in DT_REL
	relative, copy, resolver uint32
	tls                      [4]uint32 // of thread-local variables
	symbol                   [3]uint32 // a symbol's address: anywhere, in the GOT, in the PLT's part of it
}

var elfRelocKinds = map[uint16]elfRelocs{
	3:           {false, 8, 5, 42, [4]uint32{14, 35, 36, 41}, [3]uint32{1, 6, 7}},
	40:          {false, 23, 20, 160, [4]uint32{13, 17, 18, 19}, [3]uint32{2, 21, 22}},
	62:          {true, 8, 5, 37, [4]uint32{16, 17, 18, 36}, [3]uint32{1, 6, 7}},
	emPPC64:     {true, 22, 19, 248, [4]uint32{68, 73, 78}, [3]uint32{}},
	emS390:      {true, 12, 9, 61, [4]uint32{54, 55, 56}, [3]uint32{}},
	emAArch64:   {true, 1027, 1024, 1032, [4]uint32{1028, 1029, 1030, 1031}, [3]uint32{257, 1025, 1026}},
	emRISCV:     {true, 3, 4, 58, [4]uint32{7, 9, 11, 12}, [3]uint32{}},
	emLoongArch: {true, 3, 4, 12, [4]uint32{7, 9, 11, 14}, [3]uint32{}},
}

func badEntry(tag, found, expected string) error {
	return &Error{Kind: ErrMalformed, Found: found + " in " + tag, Expected: expected, Remedy: copyAgain}
}

// checkSegment refuses a segment to load that ld.so maps, but not as it is meant. last is the one before, or nil.
func (f *elfFile) checkSegment(s, last *segment) error {
	page := func(addr uint64) uint64 { return addr &^ (pageSize - 1) }
	switch {
	case last != nil && page(s.addr) < page(saturate(last.addr+last.size, pageSize-1)):
		return malformed("%s and %s in the same page", last.String(), s.String())
	case !s.read && !s.exec:
		return malformed("%s without any right", s.String())
	case s.size > s.inFile && !s.write:
		return malformed("%s with %s to fill with zeros and no right to write", s.String(), count.Of(s.size-s.inFile, "byte"))
	case s.inFile == 0 && s.addr%pageSize != 0 && page(s.off) >= f.size:
		return truncated(s.String(), page(s.off)+1, f.size) // the rest of the page is the file's
	case last != nil && s.inFile > 0 && last.inFile > 0 && s.off < last.off+last.inFile:
		return malformed("%s and %s in the same bytes of the file", last.String(), s.String())
	}
	return nil
}

// inside reports whether the n bytes at addr are in one segment, and that segment.
func (m *image) inside(addr, n uint64) (*segment, bool) {
	s := m.find(addr)
	return s, s != nil && s.size-(addr-s.addr) >= n
}

// checkPart refuses a part of the library, described by a program header, that is not where a segment is.
func (f *elfFile) checkPart(kind string, s *segment) error {
	if s.size == 0 {
		return nil
	}
	if _, ok := f.inside(s.addr, s.size); !ok {
		return malformed("%s at address %#x with %s, which are in no segment", kind, s.addr, count.Of(s.size, "byte"))
	}
	if _, rest := f.inFile(s.addr); rest < s.inFile || s.inFile > s.size {
		return malformed("%s with %s that are not in the file", kind, count.Of(s.inFile, "byte"))
	}
	return nil
}

// checkDynamic checks what the dynamic section says against the segments.
func (f *elfFile) checkDynamic(s *segment) error {
	if in := f.find(s.addr); s.write && !in.write {
		return malformed("a dynamic section that is writable, in %s, which is not", in.String())
	}
	known := elfRelocKinds[f.machine]
	get := f.dynamic.get
	word := f.pick(4, 8)
	pltEntry := 2 * word
	if get(dtPLTRel) == dtRela {
		pltEntry = 3 * word
	}
	for _, e := range [...]struct {
		name       string
		tag, align uint64
	}{{"DT_SYMTAB", dtSymTab, word}, {"DT_GNU_HASH", dtGNUHash, word}, {"DT_HASH", dtHash, 4}, {"DT_VERSYM", dtVerSym, 2},
		{"DT_VERNEED", dtVerNeed, 4}, {"DT_VERDEF", dtVerDef, 4}} {
		if addr := get(e.tag); addr%e.align != 0 {
			return badEntry(e.name, fmt.Sprintf("the address %#x", addr), fmt.Sprintf("a multiple of %d", e.align))
		}
	}
	if _, ok := f.dynamic.find(dtVerSym); !ok && get(dtVerNeed)|get(dtVerDef) != 0 {
		return malformed("symbol versions, and no DT_VERSYM that says which symbol is in which")
	}
	for _, e := range [...]struct {
		name      string
		tag, want uint64
	}{{"DT_RELAENT", dtRelaEntry, 3 * word}, {"DT_RELENT", dtRelEntry, 2 * word}, {"DT_RELRENT", dtRelrEntry, word},
		{"DT_SYMENT", dtSymEntry, f.pick(16, 24)}} {
		if v, ok := f.dynamic.find(e.tag); ok && v != e.want {
			return badEntry(e.name, fmt.Sprint(v), fmt.Sprint(e.want))
		}
	}
	for _, e := range [...]struct {
		name        string
		at, size    uint64
		entry, also uint64 // also: a tag that ld.so needs where at is
		functions   bool   // an array of them, and not a table of relocations
	}{
		{"DT_RELA", dtRela, dtRelaSize, 3 * word, dtRelaEntry, false},
		{"DT_REL", dtRel, dtRelSize, 2 * word, dtRelEntry, false},
		{"DT_RELR", dtRelr, dtRelrSize, word, dtRelrEntry, false},
		{"DT_JMPREL", dtJmpRel, dtPLTRelSize, pltEntry, dtPLTRel, false},
		{"DT_INIT_ARRAY", dtInitArray, dtInitArraySize, word, dtInitArraySize, true},
		{"DT_FINI_ARRAY", dtFiniArray, dtFiniArraySize, word, dtFiniArraySize, true},
	} {
		addr, ok := f.dynamic.find(e.at)
		size, sized := f.dynamic.find(e.size)
		if !ok && !sized {
			continue
		}
		if _, also := f.dynamic.find(e.also); !ok && size != 0 || ok && (!sized || !also) {
			return malformed("%s without the entries that belong to it", e.name)
		}
		if size == 0 {
			continue
		}
		_, inside := f.inside(addr, size)
		switch _, rest := f.inFile(addr); {
		case !inside || !e.functions && rest < size || addr%word != 0:
			return badEntry(e.name, fmt.Sprintf("address %#x with %s", addr, count.Of(size, "byte")), "an aligned table in one segment")
		case size%e.entry != 0:
			return badEntry(e.name+"'s size", fmt.Sprint(size), fmt.Sprintf("a multiple of %d", e.entry))
		case e.functions && size/word > maxInit:
			return badEntry(e.name, fmt.Sprintf("address %#x with %s", addr, count.Of(size, "byte")), "an array of functions")
		}
	}
	if v, ok := f.dynamic.find(dtPLTRel); ok {
		want := known.rela
		if known.relative != 0 && (v == dtRela) != want || v != dtRela && v != dtRel {
			return badEntry("DT_PLTREL", fmt.Sprint(v), fmt.Sprint(map[bool]int{true: dtRela, false: dtRel}[want]))
		}
		if _, ok := f.dynamic.find(dtJmpRel); !ok {
			return malformed("DT_PLTREL without the entries that belong to it")
		}
	}
	if addr, ok := f.dynamic.find(dtPLTGot); ok && f.find(addr) == nil && get(dtPLTRelSize) != 0 {
		return badEntry("DT_PLTGOT", fmt.Sprintf("the address %#x, which is not in the library", addr), "a table in it")
	}
	for _, e := range [...]struct {
		name string
		tag  uint64
	}{{"DT_INIT", dtInit}, {"DT_FINI", dtFini}} {
		if addr, ok := f.dynamic.find(e.tag); ok && (!f.isCode(addr) || f.isTable(addr)) {
			return badEntry(e.name, f.place(addr), "code")
		}
	}
	if r := &f.relro; r.size != 0 {
		in := f.find(r.addr)
		if in == nil || !in.write || saturate(r.addr, r.size) > saturate(in.addr+in.size, relroSlack) {
			return malformed("PT_GNU_RELRO at address %#x with %s, which are in no writable segment", r.addr, count.Of(r.size, "byte"))
		}
	}
	return nil
}

// isTable reports whether addr is in the headers or in a table, which older linkers put into the segment of the code.
func (f *elfFile) isTable(addr uint64) bool {
	off, _ := f.inFile(addr)
	return off < f.headers || addr-f.dynamic.get(dtStrTab) < f.dynamic.get(dtStrSize) ||
		addr-f.dynamic.get(dtRela) < f.dynamic.get(dtRelaSize)
}

// relroSlack is how far PT_GNU_RELRO may go beyond its segment: up to the end of the page, of the longest size.
const relroSlack = 64<<10 - 1

// checkParts refuses what remains: what the other program headers describe, once all segments are known.
func (f *elfFile) checkParts(phoff, size uint64, parts []part) error {
	for i := range parts {
		p := &parts[i]
		switch p.kind {
		case ptPhdr:
			if off, rest := f.inFile(p.addr); p.size != 0 && (off != phoff || rest < size) {
				return malformed("PT_PHDR at address %#x, where the program headers are not", p.addr)
			}
		case ptTLS:
			if p.align&(p.align-1) != 0 || p.size > maxTLS || p.inFile > p.size {
				return malformed("PT_TLS with %s, %d of them in the file, and alignment %#x", count.Of(p.size, "byte"), p.inFile,
					p.align)
			}
			if _, rest := f.inFile(p.addr); rest < p.inFile {
				return malformed("PT_TLS at address %#x with %s that are not in the file", p.addr, count.Of(p.inFile, "byte"))
			}
		case ptEHFrame:
			if err := f.checkPart("PT_GNU_EH_FRAME", &p.segment); err != nil {
				return err
			}
		case ptProperty:
			if err := f.checkPart("PT_GNU_PROPERTY", &p.segment); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxTLS is how many bytes of thread-local variables a library may have: each thread gets as many.
const maxTLS = 1 << 28

// part is a program header that describes a part of a segment.
type part struct {
	segment
	kind  uint32
	align uint64
}

// versionsOfSymbols returns DT_VERSYM, two bytes for each symbol, or nil, and refuses a number that is nobody's: ld.so
// takes it for an index.
func (f *elfFile) versionsOfSymbols() ([]byte, error) {
	addr, ok := f.dynamic.find(dtVerSym)
	if !ok || f.symbols == 0 {
		return nil, nil
	}
	b, err := f.at("its symbol versions", addr, 2*f.symbols)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b)
	highest := max(f.maxVersion, 1) // 0 and 1 are no versions
	for i := 0; i < len(b); i += 2 {
		if v := f.u16(b[i:]) & 0x7fff; v > highest {
			return nil, malformed("the symbol %d in the version %d, the highest is %d", i/2, v, highest)
		}
	}
	return b, nil
}

// relocWalk is what the walk through the relocations has to know and learns.
type relocWalk struct {
	*elfFile
	kinds     elfRelocs
	protected []span  // the tables that must stay as they are, in memory that can be written
	slots     [2]span // of DT_INIT_ARRAY and DT_FINI_ARRAY
	seen      [2][]slotState
	last      segment // the one of the relocation before: mostly that of the next, too

	// An address that is less than open.hi-open.lo behind open.lo is one that a relocation may write a word to, whatever
	// its kind: in last, and in none of protected and slots. Nearly all are such.
	open span

	textRel bool
	word    uint64
	mips64  bool
}

// slotState is what the relocations say of an entry of an array of functions.
type slotState uint8

const (
	slotRaw     slotState = iota // nothing: what is in the file is no address
	slotByRela                   // the relocation says its address: an addend, which is checked with it, or a symbol
	slotInPlace                  // its address is what is in the file, as for DT_RELR and for the relative ones of DT_REL
)

var slotNames = [2]string{"DT_INIT_ARRAY", "DT_FINI_ARRAY"}

// checkRelocations refuses relocations that make ld.so write or jump where it must not, and functions to call at the start
// and at the end that are none. It reads them all: one takes a few nanoseconds, and ld.so does more with each.
func (f *elfFile) checkRelocations(dynamic span) error {
	word := f.pick(4, 8)
	w := &relocWalk{elfFile: f, kinds: elfRelocKinds[f.machine], protected: f.tables(dynamic), textRel: f.hasTextRel(), word: word,
		mips64: f.machine == emMIPS && f.wide}
	for i, tags := range [...][2]uint64{{dtInitArray, dtInitArraySize}, {dtFiniArray, dtFiniArraySize}} {
		addr, size := f.dynamic.get(tags[0]), f.dynamic.get(tags[1])
		w.slots[i] = span{addr, addr + size/word*word}
		w.seen[i] = make([]slotState, size/word)
	}
	get := f.dynamic.get
	if err := w.table("DT_RELA", get(dtRela), get(dtRelaSize), get(dtRelaCount), true); err != nil {
		return err
	}
	if err := w.table("DT_REL", get(dtRel), get(dtRelSize), get(dtRelCount), false); err != nil {
		return err
	}
	if err := w.table("DT_JMPREL", get(dtJmpRel), get(dtPLTRelSize), 0, get(dtPLTRel) == dtRela); err != nil {
		return err
	}
	if err := w.relr(get(dtRelr), get(dtRelrSize)); err != nil {
		return err
	}
	return w.checkSlots()
}

// tables are what the dynamic linker reads while it relocates, and after: what is in writable memory, as after patchelf.
func (f *elfFile) tables(dynamic span) []span {
	get := f.dynamic.get
	list := make([]span, 0, 8)
	for _, s := range [...]span{dynamic, {get(dtRela), get(dtRelaSize)}, {get(dtRel), get(dtRelSize)},
		{get(dtRelr), get(dtRelrSize)}, {get(dtJmpRel), get(dtPLTRelSize)}, {get(dtStrTab), get(dtStrSize)},
		{get(dtSymTab), f.symbols * f.pick(16, 24)}, {get(dtVerSym), 2 * f.symbols}} {
		if in := f.find(s.lo); s != dynamic {
			s.hi = saturate(s.lo, s.hi)
			if s.lo == 0 || in == nil || !in.write && !f.hasTextRel() {
				continue
			}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	return list
}

// isFunction reports whether a symbol is defined in this library, as code.
func (w *relocWalk) isFunction(symbol uint64) bool {
	entry := w.pick(16, 24)
	b := make([]byte, entry)
	if w.symbols == 0 || w.read(b, w.symbolsAt+symbol*entry) != nil { // view's bytes are in use
		return false
	}
	return w.u16(b[w.pick(14, 6):]) != 0 && w.isCode(w.elfFile.word(b, 4, 8))
}

// table checks the relocations of one table, of which the first are relative ones, as many as relative says.
func (w *relocWalk) table(name string, addr, size, relative uint64, rela bool) error {
	entry := 2 * w.word
	if rela {
		entry = 3 * w.word
	}
	if size > maxTable {
		return tooLong(size, "bytes of relocations")
	}
	size = size / entry * entry
	off, rest := w.inFile(addr)
	if size > rest {
		return malformed("%s of relocations, more than the file has", count.Of(size, "byte"))
	}
	for i := uint64(0); size > 0; {
		b, err := w.view("its relocations", off, min(size, windowSize/entry*entry))
		if err != nil {
			return err
		}
		off, size = off+uint64(len(b)), size-uint64(len(b))
		for ; len(b) > 0; b, i = b[entry:], i+1 {
			if n := w.plain(b, entry); n > 0 {
				if i, b = i+n, b[n*entry:]; len(b) == 0 {
					break
				}
			}
			at, info, addend := w.elfFile.word(b, 0, 0), w.elfFile.word(b, 4, 8), uint64(0)
			if rela {
				addend = w.elfFile.word(b, 8, 16)
			}
			kind, symbol := uint32(info&0xff), info>>8
			switch {
			case w.mips64:
				symbol, kind = uint64(w.u32(b[8:])), uint32(b[15])
			case w.wide:
				symbol, kind = info>>32, uint32(info)
			}
			if kind == 0 && i >= relative && (symbol < w.symbols || symbol == 0) {
				continue // fills a place
			}
			if why := w.check(at, kind, symbol, addend, rela, i < relative); why != "" {
				return badEntry(fmt.Sprintf("the relocation %d of %s", i, name), why, "one that this library can have")
			}
		}
	}
	return nil
}

// plain returns how many relocations at the start of b check would find nothing in: relative ones without a symbol, as most
// are, in w.open. Only 64-bit files have so many that it matters.
func (w *relocWalk) plain(b []byte, entry uint64) (n uint64) {
	lo, length, relative, order := w.open.lo, w.open.hi-w.open.lo, uint64(w.kinds.relative), w.order
	if relative == 0 || !w.wide {
		return 0
	}
	for ; uint64(len(b)) >= entry && len(b) >= 16; n++ {
		if order.u64(b[8:]) != relative || order.u64(b)-lo >= length {
			break
		}
		b = b[entry:]
	}
	return n
}

// check says what is wrong with a relocation, or "".
func (w *relocWalk) check(at uint64, kind uint32, symbol, addend uint64, rela, relative bool) string {
	ordinary := at-w.open.lo < w.open.hi-w.open.lo
	if !ordinary {
		if why := w.checkPlace(at); why != "" {
			return why
		}
	}
	switch {
	case relative && w.kinds.relative != 0 && kind != w.kinds.relative:
		return fmt.Sprintf("kind %d among the relative ones", kind)
	case symbol != 0 && symbol >= w.symbols && w.symbols != 0:
		return fmt.Sprintf("symbol %d of %d", symbol, w.symbols)
	}
	for i := range w.slots {
		if before := w.slots[i].lo - at; !ordinary && before-1 < w.word-1 && w.slots[i].lo < w.slots[i].hi && w.wholeWord(kind) {
			return fmt.Sprintf("the address %#x, which reaches into %s,", at, slotNames[i])
		}
		if n := at - w.slots[i].lo; !ordinary && n < w.slots[i].hi-w.slots[i].lo {
			if kind == w.kinds.relative && rela && w.kinds.relative != 0 && (!w.isCode(addend) || w.isTable(addend)) {
				return fmt.Sprintf("%s as a function of %s", w.place(addend), slotNames[i])
			}
			if kind != w.kinds.relative && symbol != 0 && !w.isFunction(symbol) {
				return fmt.Sprintf("the symbol %d, which is no function of this library, in %s", symbol, slotNames[i])
			}
			if n%w.word != 0 {
				return fmt.Sprintf("address %#x, a part of an entry of %s,", at, slotNames[i])
			}
			state := slotByRela
			if kind == w.kinds.relative && !rela {
				state = slotInPlace
			}
			seen := &w.seen[i][n/w.word]
			if *seen != slotRaw && (state == slotInPlace || *seen == slotInPlace) {
				return fmt.Sprintf("the entry %d of %s, which another one relocates, too,", n/w.word, slotNames[i])
			}
			*seen = state
		}
	}
	switch kind {
	case w.kinds.relative:
		return ""
	case w.kinds.copy:
		if kind != 0 {
			return "a copy of another library's data"
		}
	case w.kinds.symbol[0], w.kinds.symbol[1], w.kinds.symbol[2]:
		if kind != 0 && (symbol == 0 || kind != w.kinds.symbol[0] && at%w.word != 0) {
			return fmt.Sprintf("the address of symbol %d at address %#x", symbol, at)
		}
	case w.kinds.resolver:
		if kind != 0 && rela && !w.isCode(addend) {
			return w.place(addend) + " as a resolver"
		}
	case w.kinds.tls[0], w.kinds.tls[1], w.kinds.tls[2], w.kinds.tls[3]:
		if kind != 0 && symbol == 0 && !w.tls {
			return "a thread-local variable where the library has none"
		}
	}
	return ""
}

// wholeWord reports whether a relocation of this kind is known to write a machine word.
func (w *relocWalk) wholeWord(kind uint32) bool {
	return kind != 0 && (kind == w.kinds.relative || slices.Contains(w.kinds.symbol[:], kind))
}

// checkPlace says what is wrong with the place that a relocation writes to, or "". Then w.open is what is around it: up to
// the next table, array and end of the segment, on both sides.
func (w *relocWalk) checkPlace(at uint64) string {
	if at-w.last.addr >= w.last.size {
		s := w.find(at)
		if s == nil || !s.write && !w.textRel {
			return w.place(at)
		}
		w.last = *s
	}
	switch {
	case w.last.size-(at-w.last.addr) < 4:
		return fmt.Sprintf("the address %#x, the end of a segment", at)
	case touched(w.protected, at, w.word):
		return fmt.Sprintf("the address %#x, in a table that the dynamic linker reads", at)
	}
	open := span{w.last.addr, w.last.addr + w.last.size}
	narrow := func(s span) {
		switch {
		case s.lo >= s.hi || s.hi <= open.lo || s.lo >= open.hi:
		case s.hi <= at:
			open.lo = min(s.hi, open.hi)
		default: // behind at, or around it
			open.hi = max(open.lo, s.lo)
		}
	}
	for _, s := range w.protected {
		narrow(s)
	}
	for _, s := range w.slots {
		narrow(s)
	}
	open.hi -= min(w.word-1, open.hi-open.lo) // where a whole word no longer fits
	w.open = open
	return ""
}

// relr checks DT_RELR: an even word is an address; an odd one says by its bits which of the words behind it are
// relocated, too. All are relative.
func (w *relocWalk) relr(addr, size uint64) error {
	off, rest := w.inFile(addr)
	if size = size / w.word * w.word; size > rest {
		return malformed("%s of relocations, more than the file has", count.Of(size, "byte"))
	}
	visit := func(at uint64) error {
		if why := w.check(at, w.kinds.relative, 0, 0, false, true); why != "" {
			return badEntry("DT_RELR", why, "writable memory")
		}
		return nil
	}
	for next := uint64(0); size > 0; {
		b, err := w.view("its relocations", off, min(size, windowSize))
		if err != nil {
			return err
		}
		off, size = off+uint64(len(b)), size-uint64(len(b))
		for ; len(b) > 0; b = b[w.word:] {
			v := w.elfFile.word(b, 0, 0)
			if v&1 == 0 {
				if err := visit(v); err != nil {
					return err
				}
				next = v + w.word
				continue
			}
			for at := next; v > 1; at += w.word {
				if v >>= 1; v&1 != 0 {
					if err := visit(at); err != nil {
						return err
					}
				}
			}
			next += (8*w.word - 1) * w.word
		}
	}
	return nil
}

// checkSlots refuses an array of functions in which one is not relocated, so that it is no address, or is not code.
// Android leaves such entries out when it calls them; it and others have relocations in forms that are not read here.
func (w *relocWalk) checkSlots() error {
	_, rel := w.elfFile.dynamic.find(dtAndroidRel)
	_, rela := w.elfFile.dynamic.find(dtAndroidRela)
	_, relr := w.elfFile.dynamic.find(dtAndroidRelr)
	if w.kinds.relative == 0 || rel || rela || relr || w.system.libc == Bionic {
		return nil
	}
	for i := range w.slots {
		for k, seen := range w.seen[i] {
			at := w.slots[i].lo + uint64(k)*w.word
			switch seen {
			case slotRaw:
				return badEntry(slotNames[i], fmt.Sprintf("entry %d without a relocation", k), "the address of a function")
			case slotByRela:
				continue
			}
			b, err := w.at("its functions to call at the start and at the end", at, w.word)
			if err != nil {
				return err
			}
			if v := w.elfFile.word(b, 0, 0); !w.isCode(v) || w.isTable(v) {
				return badEntry(slotNames[i], w.place(v)+fmt.Sprintf(" as entry %d", k), "the address of a function")
			}
		}
	}
	return nil
}

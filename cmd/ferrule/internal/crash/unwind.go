package crash

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/go-delve/delve/pkg/dwarf/frame"
	"github.com/ianlancetaylor/demangle"

	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// registers are a thread's, by their numbers in DWARF.
type registers struct {
	values     [33]uint64
	pc         uint64
	sp, fp, ra uint64 // the numbers of those
}

// registersOf reads them from a ucontext_t of Linux.
func registersOf(context []byte) (r registers, ok bool) {
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(context[at:]) }
	switch runtime.GOARCH {
	case "amd64": // gregs, in the kernel's order
		for i, number := range [...]int{8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7} {
			r.values[number] = word(40 + 8*i)
		}
		r.pc, r.sp, r.fp, r.ra = word(40+8*16), 7, 6, 16
	case "arm64":
		for i := range 32 { // x0 to x30, sp
			r.values[i] = word(184 + 8*i)
		}
		r.pc, r.sp, r.fp, r.ra = word(440), 31, 29, 30
	default:
		return r, false
	}
	return r, true
}

// unwinder finds what had called what.
type unwinder struct {
	maps    []mapping
	program uint64 // an address in the program's own code
	stack   []byte // from bottom on
	bottom  uint64
	files   map[string]*image // nil for those that cannot be read
}

// image is a file with code.
type image struct {
	opened *os.File
	file   *elf.File
	debug  *dwarf.Data
	tables frame.FrameDescriptionEntries

	functions []elf.Symbol // those of the file's own table before those that it exports
}

func (u *unwinder) close() {
	for _, i := range u.files {
		if i != nil {
			i.opened.Close()
		}
	}
}

// mostFrames is how many frames are looked at. A recursion without end has more.
const mostFrames = 48

// frames unwinds the stack, up to the program's own code.
func (u *unwinder) frames(r registers) (all []Frame) {
	for len(all) < mostFrames {
		at := r.pc
		if len(all) > 0 {
			at-- // a call's own instruction is before that to which it returns, which may be another function's
		}
		m := u.mapping(at)
		if m == nil {
			if len(all) > 0 {
				return all
			}
			all = append(all, Frame{Offset: r.pc}) // a call of what is no code: only the return address was left
			if !u.back(&r) {
				return all
			}
			continue
		}
		if u.program >= m.start && u.program < m.end {
			return all
		}
		i := u.image(m.path)
		if i == nil {
			return append(all, Frame{File: m.path, Offset: at - m.start + m.offset})
		}
		bias, ok := i.bias(m)
		if !ok {
			return all
		}
		all = append(all, i.frame(m.path, r.pc-bias, at-bias))
		if !u.caller(&r, i, at-bias) {
			return all
		}
	}
	return all
}

func (u *unwinder) mapping(at uint64) *mapping {
	for i := range u.maps {
		if m := &u.maps[i]; at >= m.start && at < m.end {
			return m
		}
	}
	return nil
}

// word reads a word of the stack.
func (u *unwinder) word(at uint64) (uint64, bool) {
	if off := at - u.bottom; at >= u.bottom && off+8 <= uint64(len(u.stack)) {
		return binary.NativeEndian.Uint64(u.stack[off:]), true
	}
	return 0, false
}

// back undoes a call that has done nothing yet.
func (u *unwinder) back(r *registers) (ok bool) {
	if runtime.GOARCH != "amd64" {
		r.pc = r.values[r.ra]
		return true
	}
	if r.pc, ok = u.word(r.values[r.sp]); ok {
		r.values[r.sp] += 8
	}
	return ok
}

// caller makes r the registers of the caller, by the tables for exceptions, and where there are none by the frame pointer.
func (u *unwinder) caller(r *registers, i *image, at uint64) (ok bool) {
	defer func() {
		if recover() != nil { // tables that make no sense
			ok = false
		}
	}()
	entry, err := i.tables.FDEForPC(at)
	if err != nil {
		return u.byFramePointer(r)
	}
	rules, err := entry.EstablishFrame(at)
	if err != nil || rules.CFA.Rule != frame.RuleCFA || rules.CFA.Reg >= uint64(len(r.values)) {
		return false
	}
	canonical := r.values[rules.CFA.Reg] + uint64(rules.CFA.Offset) // frame address
	next := *r
	next.values[r.sp] = canonical
	for number, rule := range rules.Regs {
		if number >= uint64(len(next.values)) {
			continue
		}
		switch rule.Rule {
		case frame.RuleOffset:
			if next.values[number], ok = u.word(canonical + uint64(rule.Offset)); !ok && number == rules.RetAddrReg {
				return false
			}
		case frame.RuleValOffset:
			next.values[number] = canonical + uint64(rule.Offset)
		case frame.RuleRegister:
			if rule.Reg < uint64(len(r.values)) {
				next.values[number] = r.values[rule.Reg]
			}
		case frame.RuleUndefined:
			if number == rules.RetAddrReg {
				return false // the outermost
			}
		}
	}
	if rules.RetAddrReg >= uint64(len(next.values)) {
		return false
	}
	next.pc = next.values[rules.RetAddrReg]
	if next.pc == 0 || canonical < r.values[r.sp] || canonical == r.values[r.sp] && next.pc == r.pc {
		return false
	}
	*r = next
	return true
}

func (u *unwinder) byFramePointer(r *registers) bool {
	frame := r.values[r.fp]
	pc, ok := u.word(frame + 8)
	up, also := u.word(frame)
	if !ok || !also || frame < r.values[r.sp] {
		return false
	}
	r.pc, r.values[r.fp], r.values[r.sp] = pc, up, frame+16
	return true
}

// image opens a file once; nil where it cannot be read as ELF.
func (u *unwinder) image(path string) (i *image) {
	if i, known := u.files[path]; known {
		return i
	}
	u.files[path] = nil
	opened, err := regular.Open(path) // the path is the dead process's word
	if err != nil {
		return nil
	}
	file, err := elf.NewFile(opened)
	if err != nil {
		opened.Close()
		return nil
	}
	i = &image{file: file, opened: opened}
	u.files[path] = i
	func() {
		defer func() { _ = recover() }() // tables that make no sense are none
		if s := file.Section(".eh_frame"); s != nil && s.Type != elf.SHT_NOBITS {
			if data, err := s.Data(); err == nil {
				tables, _ := frame.Parse(data, file.ByteOrder, 0, 8, s.Addr)
				i.tables = i.tables.Append(tables) // which sorts them, as a search expects
			}
		}
	}()
	for _, table := range []func() ([]elf.Symbol, error){file.Symbols, file.DynamicSymbols} {
		symbols, _ := table()
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF {
				i.functions = append(i.functions, s)
			}
		}
	}
	const most = 512 << 20 // bytes of debug information that are worth it
	size := uint64(0)
	for _, s := range file.Sections {
		if strings.HasPrefix(s.Name, ".debug_") || strings.HasPrefix(s.Name, ".zdebug_") {
			size += max(s.Size, s.FileSize)
		}
	}
	if size > 0 && size < most {
		i.debug, _ = file.DWARF()
	}
	return i
}

// bias is what is added to the file's own addresses in a mapping of it.
func (i *image) bias(m *mapping) (uint64, bool) {
	for _, p := range i.file.Progs {
		const page = 64 << 10 // the largest of any system: where in the file a mapping may begin before a segment does
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && m.offset < p.Off+p.Filesz && m.offset+page > p.Off {
			return m.start - (p.Vaddr + m.offset - p.Off), true
		}
	}
	return 0, false
}

// frame describes an instruction. offset is what is told of it; at is in the same instruction, or the one before.
func (i *image) frame(path string, offset, at uint64) Frame {
	f := Frame{File: path, Offset: offset}
	for _, s := range i.functions {
		if at-s.Value < s.Size {
			f.Function = demangle.Filter(s.Name, demangle.NoParams, demangle.NoTemplateParams, demangle.NoClones)
			break
		}
	}
	if i.debug == nil {
		return f
	}
	unit, err := i.debug.Reader().SeekPC(at)
	if err != nil {
		return f
	}
	lines, err := i.debug.LineReader(unit)
	if err != nil || lines == nil {
		return f
	}
	var line dwarf.LineEntry
	if lines.SeekPC(at, &line) == nil && line.File != nil {
		f.Source, f.Line = filepath.Base(line.File.Name), line.Line
	}
	return f
}

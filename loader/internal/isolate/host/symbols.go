package host

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// symbols finds names in a 64-bit ELF file, which is the plug-in's word: everything has a bound, and nothing is unpacked.
// Package debug/elf takes as much memory as a file says, and more for tables that are compressed.
type symbols struct {
	file     io.ReaderAt
	segments []elf.Prog64
	sections []elf.Section64
	left     int // symbols that may still be looked at
}

const (
	mostSegments = 256
	mostSections = 4096
	mostSymbols  = 1 << 20 // of all tables together: 24 MiB
	mostName     = 256     // bytes of a name that is told
)

// newSymbols reads where a file has what. A file with more segments or sections than there may be has no names.
func newSymbols(file io.ReaderAt) (*symbols, bool) {
	var h elf.Header64
	s := &symbols{file: file, left: mostSymbols}
	if !s.read(0, &h) || string(h.Ident[:4]) != elf.ELFMAG || elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB || h.Phnum > mostSegments || h.Shnum > mostSections {
		return nil, false
	}
	s.segments, s.sections = make([]elf.Prog64, h.Phnum), make([]elf.Section64, h.Shnum)
	return s, s.read(h.Phoff, s.segments) && s.read(h.Shoff, s.sections)
}

// read reads a structure, or a slice of them.
func (s *symbols) read(at uint64, v any) bool {
	if int64(at) < 0 {
		return false
	}
	return binary.Read(io.NewSectionReader(s.file, int64(at), int64(binary.Size(v))), binary.LittleEndian, v) == nil
}

// runs reports whether there is code at an address.
func (s *symbols) runs(address uint64) bool {
	for _, p := range s.segments {
		if elf.ProgType(p.Type) == elf.PT_LOAD && elf.ProgFlag(p.Flags)&elf.PF_X != 0 && address-p.Vaddr < p.Memsz {
			return true
		}
	}
	return false
}

// each visits the symbols of the tables of a kind, until visit says that it is enough. names is the section of their names.
func (s *symbols) each(kind elf.SectionType, visit func(symbol elf.Sym64, names *elf.Section64) bool) {
	var chunk [1024 * elf.Sym64Size]byte
	for i := range s.sections {
		table := &s.sections[i]
		if elf.SectionType(table.Type) != kind || s.packed(table) || uint64(table.Link) >= uint64(len(s.sections)) {
			continue
		}
		names := &s.sections[table.Link]
		if s.packed(names) {
			continue
		}
		for at, end := table.Off, table.Off+table.Size; at < end && int64(at) >= 0 && s.left > 0; at += uint64(len(chunk)) {
			n, _ := s.file.ReadAt(chunk[:min(uint64(len(chunk)), end-at)], int64(at))
			for b := chunk[:n]; len(b) >= elf.Sym64Size; b = b[elf.Sym64Size:] {
				if s.left--; s.left < 0 {
					return
				}
				symbol := elf.Sym64{Name: binary.LittleEndian.Uint32(b), Info: b[4], Other: b[5], Shndx: binary.LittleEndian.Uint16(b[6:]),
					Value: binary.LittleEndian.Uint64(b[8:]), Size: binary.LittleEndian.Uint64(b[16:])}
				if visit(symbol, names) {
					return
				}
			}
			if n < len(chunk) {
				break
			}
		}
	}
}

func (s *symbols) packed(section *elf.Section64) bool {
	return elf.SectionFlag(section.Flags)&elf.SHF_COMPRESSED != 0
}

// name returns the symbol's name, up to the length of room.
func (s *symbols) name(symbol elf.Sym64, names *elf.Section64, room []byte) (name []byte, whole bool) {
	at := names.Off + uint64(symbol.Name)
	if uint64(symbol.Name) >= names.Size || int64(at) < 0 {
		return nil, false
	}
	n, _ := s.file.ReadAt(room[:min(uint64(len(room)), names.Size-uint64(symbol.Name))], int64(at))
	if end := bytes.IndexByte(room[:n], 0); end >= 0 {
		return room[:end], true
	}
	return room[:n], false
}

// function returns the function that an address is in, and where it begins.
func (s *symbols) function(address uint64) (name string, start uint64, ok bool) {
	for _, kind := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} { // the first is that of a file that is not stripped
		s.each(kind, func(symbol elf.Sym64, names *elf.Section64) bool {
			if elf.ST_TYPE(symbol.Info) != elf.STT_FUNC || address-symbol.Value >= symbol.Size {
				return false
			}
			text, whole := s.name(symbol, names, make([]byte, mostName+1))
			if name, start, ok = string(text), symbol.Value, len(text) > 0; !whole {
				name += "…"
			}
			return true
		})
		if ok {
			break
		}
	}
	return name, start, ok
}

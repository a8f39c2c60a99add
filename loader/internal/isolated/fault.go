package isolated

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/transport"
)

// where says in words where a worker's fault was, or nothing. f is the worker's word, so none of its text is: the names are
// those of what the worker has loaded, whatever is at the library's path by now.
func where(f transport.FaultReport, ended os.Signal, path string, library *libfile.Copy) string {
	if signal, ok := ended.(syscall.Signal); !ok || uint32(signal) != f.Signal {
		return ""
	}
	// A stack ends in a page that nobody may touch, near to which the stack pointer is then.
	const near = 64 << 10
	kind := ""
	if ended == syscall.SIGSEGV && f.Address-f.SP+near < 2*near {
		kind = "stack overflow, "
	}
	address := ""
	if f.Address != f.PC { // of an instruction that is not one, it is the instruction's
		address = fmt.Sprintf("at the address %#x, ", f.Address)
	}
	return kind + address + "in " + place(f.PC, f.Anchor, filepath.Base(path), library)
}

// anchorSymbol is the symbol whose address the worker tells, for the library's place in its memory.
const anchorSymbol = abi.SymbolManifest

// place names the instruction at pc: by the function and the library's name, where it is in that.
func place(pc, anchor uint64, base string, library *libfile.Copy) string {
	elsewhere := fmt.Sprintf("code outside of the plug-in's file (%#x)", pc)
	unknown := fmt.Sprintf("the code at %#x", pc)
	if anchor == 0 || library == nil || library.Check() != nil {
		return unknown
	}
	file, err := elf.NewFile(library)
	if err != nil {
		return unknown
	}
	exported, _ := file.DynamicSymbols()
	all, _ := file.Symbols() // of a file that is not stripped
	offset, known := uint64(0), false
	for _, s := range exported {
		if s.Name == anchorSymbol {
			offset, known = pc-(anchor-s.Value), true
		}
	}
	if !known {
		return unknown
	}
	inside := false
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && offset-p.Vaddr < p.Memsz {
			inside = true
		}
	}
	if !inside {
		return elsewhere
	}
	name := fmt.Sprintf("%s+%#x", base, offset)
	for _, s := range append(all, exported...) {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && offset-s.Value < s.Size {
			return fmt.Sprintf("%q+%#x (%s)", s.Name, offset-s.Value, name)
		}
	}
	return name
}

// Package mark tells by a program's file whether it can be a worker. Any other program would run its own main function in
// the worker's place, without any sandbox.
//
// Packages isolate and sandbox link a mark into the program: a function that has, after its last instruction, four words
// that are nowhere else, what the program can be, and a version. A mark counts only among the program's machine code. A
// worker that another program carries as data (a launcher that brings it along, an archive at the end of the file) is not there.
package mark

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"io"
	"runtime"
)

// Version is that of the protocol between hosts and workers.
const Version = 7

// Kind is what a program can be.
type Kind uint32

// The kinds.
const (
	Worker    Kind = 1 + iota
	Sandboxed      // a worker with a sandbox
)

// OfWorker is the mark of a worker. It does nothing. Whoever calls it has the mark in the program: only the package that makes a
// program a worker may.
func OfWorker()

// OfSandbox is OfWorker for a worker with a sandbox.
func OfSandbox()

// The words mean nothing. The assembler takes them from here.
const word1, word2, word3, word4 = 0x9d1b6f0e, 0xa7c45238, 0x41e3d892, 0x5bf06ac7

// words is a variable: constants may get among the code.
var words = [...]uint32{word1, word2, word3, word4}

// Number is the four words as they are in a file.
var Number = func() (number []byte) {
	for _, word := range words {
		number = binary.NativeEndian.AppendUint32(number, word)
	}
	return number
}()

// Found is what a program's marks say: by what it can be, the versions.
type Found map[Kind]map[uint32]bool

// Find returns the marks of a program for this machine; nil if it has none, or is none. It reads the code once, in bounded
// memory. The error is one of reading.
func Find(file io.ReaderAt) (found Found, err error) {
	code, err := codeOf(file)
	if code == nil {
		return nil, err
	}
	return findIn(code)
}

func findIn(code io.ReaderAt) (found Found, err error) {
	length := len(Number) + 8
	window := make([]byte, 256<<10)
	for begin := int64(0); ; begin += int64(len(window) - length + 1) {
		n, err := code.ReadAt(window, begin)
		if err != nil && err != io.EOF {
			return nil, err
		}
		for rest := window[:n]; ; {
			_, after, ok := bytes.Cut(rest, Number)
			if !ok || len(after) < 8 {
				break
			}
			kind := Kind(binary.NativeEndian.Uint32(after))
			if found == nil {
				found = make(Found)
			}
			if found[kind] == nil {
				found[kind] = make(map[uint32]bool)
			}
			found[kind][binary.NativeEndian.Uint32(after[4:])] = true
			rest = after
		}
		if err == io.EOF {
			return found, nil
		}
	}
}

// codeOf returns a program's machine code; nil of what is no program, or has a header that is broken.
func codeOf(file io.ReaderAt) (io.ReaderAt, error) {
	var head [4]byte
	if _, err := file.ReadAt(head[:], 0); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	switch {
	case string(head[:]) == elf.ELFMAG:
		if f, err := elf.NewFile(file); err == nil {
			if s := f.Section(".text"); s != nil && s.Type == elf.SHT_PROGBITS && s.Flags&elf.SHF_COMPRESSED == 0 {
				return s.ReaderAt, nil
			}
			for _, p := range f.Progs {
				if len(f.Sections) == 0 && p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 { // they were stripped as well
					return p.ReaderAt, nil
				}
			}
		}
	case string(head[:2]) == "MZ":
		if f, err := pe.NewFile(file); err == nil {
			if s := f.Section(".text"); s != nil {
				return s.ReaderAt, nil
			}
		}
	case binary.LittleEndian.Uint32(head[:]) == macho.Magic64:
		if f, err := macho.NewFile(file); err == nil {
			if s := f.Section("__text"); s != nil {
				return s.ReaderAt, nil
			}
		}
	case binary.BigEndian.Uint32(head[:]) == macho.MagicFat: // several programs in one: this machine's runs
		if f, err := macho.NewFatFile(file); err == nil {
			for _, a := range f.Arches {
				if s := a.Section("__text"); s != nil && a.Cpu == machine {
					return s.ReaderAt, nil
				}
			}
		}
	}
	return nil, nil
}

var machine = map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[runtime.GOARCH]

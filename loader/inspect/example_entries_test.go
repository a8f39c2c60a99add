package inspect_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// A library that comes from anywhere, not from a file.
func ExampleRead() {
	data, err := os.ReadFile("testdata/macho-arm64-clang.dylib")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(inspect.Recognises(data[:min(len(data), 4096)]), inspect.Recognises([]byte("#!/bin/sh\n")))
	lib, err := inspect.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		fmt.Println(err)
		return
	}
	var format inspect.Format = lib.Format
	fmt.Println(lib.Manifest.Name, format == inspect.MachO, lib.OS, lib.Arch)
	// Output:
	// true false
	// probe true darwin arm64
}

// What a library is, asks of its system and exports, also where it is no plug-in.
func ExampleDescribe() {
	show := func(lib *inspect.Library) {
		var h inspect.Hardening = lib.Hardening
		var relro inspect.RELRO = h.RELRO
		var c inspect.CLibrary = lib.CLibrary
		fmt.Printf("%s: linked to %q, RELRO %q, executable stack: %v\n", lib.Machine, c, relro, h.ExecStack)
	}
	lib, err := inspect.Describe("testdata/elf-amd64-gcc.so")
	if err != nil {
		fmt.Println(err)
		return
	}
	show(lib)
	data, err := os.ReadFile("testdata/elf-riscv64-clang.so")
	if err != nil {
		fmt.Println(err)
		return
	}
	if lib, err = inspect.DescribeReader(bytes.NewReader(data), int64(len(data))); err != nil {
		fmt.Println(err)
		return
	}
	show(lib)
	// Output:
	// x86-64 (EM 62): linked to "glibc", RELRO "partial", executable stack: false
	// RISC-V (EM 243): linked to "", RELRO "partial", executable stack: false
}

// A host that chooses by what a file is.
func ExampleIsWasm() {
	fmt.Println(inspect.IsWasm([]byte("\x00asm\x01\x00\x00\x00")), inspect.IsWasm([]byte("\x7fELF")))
	// Output: true false
}

// A script is one by its header, whatever its file is called; what it imports beneath its folder belongs to it.
func ExampleImported() {
	folder, err := os.MkdirTemp("", "scripts")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "discount.js")
	text := []byte("// ferrule: name=discount version=1.2.0 fn=off\nimport { rate } from \"./parts/rate.mjs\";\nexport const off = (x) => x * rate;\n")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(inspect.ScriptOf(text), inspect.ScriptOf([]byte("export const rate = 1;\n")) == "")
	fmt.Println(inspect.Imported(path))
	fmt.Println(inspect.RunsOther([]byte("#!/usr/bin/env -S pipx run\n# ferrule: name=discount version=1.2.0 fn=off\n")))
	// Output:
	// JavaScript true
	// [parts/rate.mjs] <nil>
	// #!/usr/bin/env -S pipx run
}

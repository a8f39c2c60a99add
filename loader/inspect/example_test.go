package inspect_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// What a DLL for Windows on ARM has, read on any system.
func ExampleFile() {
	lib, err := inspect.File("testdata/pe-arm64-lld.dll")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lib.Manifest.Name, lib.Manifest.Version, "for", lib.OS, lib.Arch)
	for _, f := range lib.Funcs {
		fmt.Printf("function %s: %q\n", f.Name, f.Doc)
	}
	for _, i := range lib.Imports {
		fmt.Printf("needs %s: %q\n", i.Name, i.Doc)
	}
	// Output:
	// probe 1.2.3 for windows arm64
	// function add: ""
	// function count: "Counts things."
	// needs Zone: ""
	// needs points: "The customer's points."
}

// An error says what was found, what was expected and what to do.
func ExampleError() {
	_, err := inspect.File("testdata/probe.c")
	fmt.Println(errors.Is(err, inspect.ErrNotLibrary))
	fmt.Println(strings.ReplaceAll(err.Error(), ". ", ".\n"))
	// Output:
	// true
	// testdata/probe.c: not a shared library: found a text file, expected ELF (.so), Mach-O (.dylib), PE (.dll) or WebAssembly (.wasm).
	// Link the plug-in as a shared library (cc -shared, crate-type cdylib).
}

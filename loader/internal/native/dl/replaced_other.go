//go:build !linux || (!amd64 && !arm64)

package dl

// Replaced is for Linux, where the system's loader looks for a library's symbols in the program first, and for the machines
// whose relocations are known. Windows and macOS look in the library that was meant when it was linked.
func (Library) Replaced() []Replaced { return nil }

// Base returns what is added to the addresses in the library's file: that is not known here.
func (l Library) Base() uintptr { return 0 }

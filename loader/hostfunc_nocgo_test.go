//go:build !cgo && (ferrule_portable || !((linux || darwin) && (amd64 || arm64)))

package loader_test

// purego's callbacks allocate their arguments.
const hostFuncAllocs = portableAllocs*2 + 6

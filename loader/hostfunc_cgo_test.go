//go:build cgo && (ferrule_portable || !((linux || darwin) && (amd64 || arm64)))

package loader_test

// A host function's call allocates nothing by itself.
const hostFuncAllocs = portableAllocs * 2

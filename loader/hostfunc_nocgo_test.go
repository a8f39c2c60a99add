//go:build !cgo

package loader_test

// purego's callbacks allocate their arguments.
const hostFuncAllocs = portableAllocs*2 + 6

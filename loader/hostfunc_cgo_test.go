//go:build cgo

package loader_test

// A host function's call allocates nothing by itself.
const hostFuncAllocs = portableAllocs * 2

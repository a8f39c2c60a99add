//go:build !ferrule_portable && (linux || darwin) && (amd64 || arm64)

package loader_test

const portableAllocs = 0

// Neither the call nor the way back into Go allocates anything, with cgo and without.
const hostFuncAllocs = 0

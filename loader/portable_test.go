//go:build ferrule_portable || !((linux || darwin) && (amd64 || arm64))

package loader_test

// purego.SyscallN allocates its arguments.
const portableAllocs = 1

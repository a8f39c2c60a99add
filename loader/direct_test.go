//go:build !ferrule_portable && (linux || darwin) && (amd64 || arm64)

package loader_test

const portableAllocs = 0

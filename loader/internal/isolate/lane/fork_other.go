//go:build !linux || !(amd64 || arm64)

package lane

// shared and unshared do nothing here: a forked child shares what its parent shares with the host.
func shared([]byte, uint64, uintptr) {}
func unshared([]byte)                {}

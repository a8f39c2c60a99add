//go:build amd64 || arm64

package lane

// pause tells the processor that this is a loop which waits for another one.
func pause()

//go:build windows && !amd64 && !arm64

package worker

// surrender does nothing here: a fault ends the process with the Go runtime's own report, and exit code 2.
func surrender() {}

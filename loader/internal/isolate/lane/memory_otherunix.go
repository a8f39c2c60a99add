//go:build unix && !linux

package lane

import "os"

// createFile makes a file in the folder for temporary files and takes its name away at once, so that nothing of it
// remains, whoever crashes. It is no shm_open: macOS lets such memory be given its length only once, and it has to grow.
// Built, not run: see docs/macos.md for what it relies on.
func createFile() (*os.File, error) {
	f, err := os.CreateTemp("", "ferrule")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sealFile does nothing: this system knows no seals. A worker that means harm can make the file shorter and end the host
// by SIGBUS.
func sealFile(*os.File) error { return nil }

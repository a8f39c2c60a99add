//go:build !linux || (!amd64 && !arm64)

package crash

import "os"

// Record does nothing on this system: what Go's runtime says of a fault is all that is known.
func Record(*os.File) error { return nil }

// File makes a file for Record: nil, as nothing is recorded.
func File() (*os.File, error) { return nil, nil }

func signalName(int) string { return "" }

//go:build !linux

package examples_test

import "os"

// peakMemory is known on Linux only.
func peakMemory(*os.ProcessState) (bytes int64, known bool) { return 0, false }

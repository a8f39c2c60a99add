package examples_test

import (
	"os"
	"syscall"
)

// peakMemory is the most memory that a process had in use at one time, or one that it has started and waited for, in bytes.
func peakMemory(p *os.ProcessState) (bytes int64, known bool) {
	return int64(p.SysUsage().(*syscall.Rusage).Maxrss) * 1024, true
}

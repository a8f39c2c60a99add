package confine

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// memoryOf returns how many bytes of memory a process has to itself, and how many its limit of writable memory lets it have.
func memoryOf(pid int) (used, limit uint64, ok bool) {
	var l unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &l); err != nil {
		return 0, 0, false
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 3 {
		return 0, 0, false
	}
	resident, err := strconv.ParseUint(string(fields[1]), 10, 52)
	if err != nil {
		return 0, 0, false
	}
	shared, err := strconv.ParseUint(string(fields[2]), 10, 52)
	if err != nil || shared > resident {
		return 0, 0, false
	}
	return (resident - shared) * uint64(os.Getpagesize()), l.Cur, true
}

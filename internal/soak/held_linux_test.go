package soak

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// held is what this process and those beneath it have of the system.
type held struct {
	memory, below          float64 // MiB of its own, and of all processes beneath it
	descriptors, threads   int
	mappings, goroutines   int
	processes              int // beneath it
	theirFiles, theirTasks int
	files                  int // in the folder for temporary files
}

// own is the memory of a process that is no file's, in MiB, and its threads.
func own(pid int) (mib float64, threads int, ok bool) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, false
	}
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.Atoi(string(fields[0]))
		switch string(key) {
		case "RssAnon", "RssShmem":
			mib += float64(n) / 1024
		case "Threads":
			threads = n
		}
	}
	return mib, threads, true
}

// parents are those of all processes.
func parents() map[int]int {
	all := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if at := bytes.LastIndexByte(text, ')'); at >= 0 {
			fields := strings.Fields(string(text[at+1:]))
			if fields[0] != "Z" { // what is dead and not buried holds nothing
				all[pid], _ = strconv.Atoi(fields[1])
			}
		}
	}
	return all
}

// descendants are the processes beneath this one.
func descendants() (pids []int) {
	all := parents()
	for pid := range all {
		for at := pid; at > 1; at = all[at] {
			if all[at] == os.Getpid() {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func entries(path string) int {
	all, _ := os.ReadDir(path)
	return len(all)
}

// holds looks at all of it, once what nobody uses was collected.
func holds(tmp string) (h held) {
	runtime.GC()
	debug.FreeOSMemory()
	h.memory, h.threads, _ = own(os.Getpid())
	h.goroutines = runtime.NumGoroutine()
	h.descriptors = entries("/proc/self/fd") - 1 // of the folder itself
	maps, _ := os.ReadFile("/proc/self/maps")
	h.mappings = bytes.Count(maps, []byte("\n"))
	for _, pid := range descendants() {
		mib, threads, ok := own(pid)
		if !ok {
			continue
		}
		h.processes++
		h.below += mib
		h.theirTasks += threads
		h.theirFiles += entries("/proc/" + strconv.Itoa(pid) + "/fd")
	}
	_ = filepath.WalkDir(tmp, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			h.files++
		}
		return nil
	})
	return h
}

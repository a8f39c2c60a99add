package supervise

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sweepTime is how long sweep goes on finding more before it kills what it has found.
const sweepTime = 100 * time.Millisecond

// sweep stops all that descends from a process, for which mine is true, until it finds nothing new, and kills it then. So
// nobody is there who sees another one end and starts it again, and of processes each of which starts the next one and ends, the
// one is stopped that would go on. It returns what it has found, zombies with it.
//
// One sweep does not prove that nothing is left: the system's lists change as they are read.
func sweep(root int, mine func(pid int, s stat) bool) map[int]stat {
	found := map[int]stat{}
	for begun, more := time.Now(), true; more && time.Since(begun) < sweepTime; {
		more = false
		descend(root, func(pid, parent int) bool {
			if s, known := found[pid]; known {
				return !s.zombie
			}
			// What has the number when its descriptor is opened, and is the one that is looked for after that, is what gets the signal.
			fd, err := unix.PidfdOpen(pid, 0)
			if err == nil {
				defer unix.Close(fd)
			}
			s, ok := statOf(pid)
			if !ok || s.parent != parent && s.parent != root || !mine(pid, s) {
				return false
			}
			if s.zombie { // there are many of them where processes end as fast as they start; threads of one may run, until it is killed
				found[pid] = s
				return false
			}
			if err == nil {
				err = unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0)
			} else { // before Linux 5.3
				err = unix.Kill(pid, unix.SIGSTOP)
			}
			if err == nil && s.group > 1 { // none of its group starts another one meanwhile; a group of this process's session has none of them in it
				_ = unix.Kill(-s.group, unix.SIGSTOP)
			}
			found[pid], more = s, true
			return true
		})
	}
	for pid := range found { // which nobody reaps: who would is stopped, or is this process
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return found
}

// descend calls found for each process that descends from root, its parent before it, and looks no further where that
// returns false.
func descend(root int, found func(pid, parent int) bool) {
	children := childrenOf
	if !listsChildren() {
		all := map[int][]int{}
		for pid, s := range processes() {
			all[s.parent] = append(all[s.parent], pid)
		}
		children = func(pid int) []int { return all[pid] }
	}
	for parents := []int{root}; len(parents) > 0; {
		parent := parents[len(parents)-1]
		parents = parents[:len(parents)-1]
		for _, pid := range slices.Backward(children(parent)) { // the youngest first: it is the one that will start another
			if found(pid, parent) {
				parents = append(parents, pid)
			}
		}
	}
}

// ownProc reports whether /proc is there and has this process's numbers: that of another PID namespace has others.
var ownProc = sync.OnceValue(func() bool {
	self, err := os.Readlink("/proc/self")
	return err == nil && self == strconv.Itoa(os.Getpid())
})

// listsChildren reports whether the system lists a process's children (CONFIG_PROC_CHILDREN).
var listsChildren = sync.OnceValue(func() bool {
	_, err := os.Stat("/proc/thread-self/children")
	return err == nil && ownProc()
})

// childrenOf returns the numbers of a process's children, which it lists by the threads that have started them.
func childrenOf(pid int) (pids []int) {
	tasks, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	defer tasks.Close()
	names, _ := tasks.Readdirnames(-1)
	for _, name := range names {
		text, _ := os.ReadFile(tasks.Name() + "/" + name + "/children")
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// stat is what the system says of a process.
type stat struct {
	name                   string
	parent, group, session int
	zombie, stopped        bool
}

// statOf returns that of one process.
func statOf(pid int) (s stat, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name is in brackets, and may have any character in it.
	from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if err != nil || from < 0 || to < from {
		return s, false // it has ended
	}
	fields := strings.Fields(string(text[to+1:]))
	if len(fields) < 4 {
		return s, false
	}
	state := fields[0]
	s = stat{name: string(text[from+1 : to]), zombie: state == "Z" || state == "X", stopped: state == "T" || state == "t"}
	s.parent, _ = strconv.Atoi(fields[1])
	s.group, _ = strconv.Atoi(fields[2])
	s.session, _ = strconv.Atoi(fields[3])
	return s, true
}

// processes returns all processes of the system.
func processes() map[int]stat {
	folder, err := os.Open("/proc")
	if err != nil || !ownProc() {
		return nil
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	all := make(map[int]stat, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if s, ok := statOf(pid); ok {
				all[pid] = s
			}
		}
	}
	return all
}

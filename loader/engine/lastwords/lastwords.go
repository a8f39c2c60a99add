// Package lastwords is about what a program wrote before it ended: which of its lines says why.
//
// Of most programs that is the last one. A Go runtime that ends its program begins with it ("panic: …", "fatal error: …"), and writes what its goroutines were doing behind that,
// which may be thousands of lines.
package lastwords

import (
	"bytes"
	"os"
	"regexp"
	"strings"
)

// How much of a report is kept.
const (
	maxLines = 20
	maxLine  = 1 << 10
	maxHead  = 16 // lines between what it begins with and its first goroutine
)

// Report looks for a Go runtime's report in what a program writes. Its zero value is ready. It is used by one goroutine at a time.
type Report struct {
	line   []byte   // the beginning of the one that has not ended
	lines  []string // of the report, the first ones
	n      int      // how many it has had
	traced bool     // it has come to a goroutine
}

// Take takes in what the program has written.
func (r *Report) Take(b []byte) {
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte{'\n'})
		r.line = append(r.line, part[:min(len(part), maxLine-len(r.line))]...)
		if ended {
			r.end()
			r.line = r.line[:0]
		}
		b = rest
	}
}

// end takes in the line that has ended.
func (r *Report) end() {
	switch {
	case begins(r.line), r.n == 0 && faults(r.line):
		r.lines, r.n, r.traced = r.lines[:0], 0, false
	case r.n == 0:
		return
	case traces(r.line):
		r.traced = true
	case !r.traced && r.n > maxHead, r.traced && !within(r.line): // it was something else, or the program has gone on
		r.lines, r.n, r.traced = r.lines[:0], 0, false
		return
	}
	if r.n++; len(r.lines) < maxLines {
		r.lines = append(r.lines, strings.ToValidUTF8(string(r.line), "\uFFFD"))
	}
}

// Lines returns the first lines of the report that the output ends with, 20 at most, where it has more than those. Of any other output it is last, its last lines.
func (r *Report) Lines(last []string) []string {
	if r.traced && r.n > len(r.lines) {
		return append([]string(nil), r.lines...)
	}
	return last
}

// begins reports whether a Go runtime's report begins with a line.
func begins[T string | []byte](line T) bool {
	s := string(line[:min(len(line), len(fatal))])
	return s == fatal || strings.HasPrefix(s, "panic: ") || s == ofCgo
}

// The second is of a program that the system gives no thread: what follows is the report of the signal by which it ends itself.
const (
	fatal = "fatal error: "
	ofCgo = "runtime/cgo: "
)

// faults reports whether a line is about a signal in code that is not the program's own, with which a report begins where nothing else is said.
func faults[T string | []byte](line T) bool {
	s := string(line[:min(len(line), 64)])
	return strings.HasPrefix(s, "SIG") && strings.Contains(s, ": ")
}

// traces reports whether what goroutines were doing begins with a line.
func traces[T string | []byte](line T) bool {
	s := string(line[:min(len(line), 32)])
	return strings.HasPrefix(s, "goroutine ") || strings.HasPrefix(s, "runtime stack:") || strings.HasPrefix(s, "[signal ")
}

// within reports whether a line is one of those that follow: a function, where it is, how its goroutine was made, what is on its stack.
func within(line []byte) bool {
	if len(line) == 0 || line[0] == '\t' || line[0] == ' ' || line[0] == '[' || line[len(line)-1] == ')' || len(line) == maxLine {
		return true
	}
	for _, prefix := range []string{"created by ", "...", "runtime: ", "stack: ", "SIG", "PC="} {
		if bytes.HasPrefix(line, []byte(prefix)) {
			return true
		}
	}
	name, value, ok := bytes.Cut(line, []byte{' '})
	return ok && (len(name) <= 8 && bytes.HasPrefix(bytes.TrimLeft(value, " "), []byte("0x")) || len(name) > 8 && len(name) <= 17 && bytes.HasSuffix(name, []byte{':'})) // a register, or a line of memory
}

// Of returns what a program has said last, as an error has it behind how it ended: "; its last line: …", or, of a Go runtime's report, "; it wrote: …" with what that begins with. Of no lines it is "".
func Of(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	traced, fault := false, ""
	for i := len(lines) - 1; i >= 0; i-- {
		switch {
		case traces(lines[i]):
			traced = true
		case traced && begins(lines[i]):
			return "; it wrote: " + lines[i]
		case traced && faults(lines[i]):
			fault = "; it wrote: " + lines[i]
		}
	}
	if fault != "" {
		return fault
	}
	return "; its last line: " + lines[len(lines)-1]
}

// NoMemory reports whether a line is what a runtime, Go's, C++'s, Rust's or Python's, writes when it gets no memory and ends its program for that.
func NoMemory(line string) bool {
	if said, is := strings.CutPrefix(line, "Fatal Python error: "); is {
		return saysNoMemory(said)
	}
	return goNoMemory.MatchString(line) || badAlloc.MatchString(line) || strings.HasPrefix(line, "memory allocation of ") && strings.HasSuffix(line, " bytes failed")
}

// NoThread reports whether a line is what a runtime writes when it gets no thread and ends its program for that: for one there is no memory left, or the system allows no more of them.
func NoThread(line string) bool {
	if what, is := strings.CutPrefix(strings.TrimSpace(line), "what():"); is { // C++'s, of std::thread
		return strings.TrimSpace(what) == "Resource temporarily unavailable"
	}
	for _, words := range []string{"pthread_create failed", "failed to create new OS thread", "failed to create thread", "failed to spawn thread", "cannot create thread", "can't start new thread"} {
		if strings.Contains(line, words) {
			return true
		}
	}
	return false
}

// ShortOfMemory reports whether a line has words of the system's for memory that it does not give. A program may write them for other reasons, and go on: it is for the last line of
// one whose memory was limited.
func ShortOfMemory(line string) bool {
	return NoMemory(line) || NoThread(line) || saysNoMemory(line) || strings.Contains(line, "failed to map segment") || strings.Contains(line, "MemoryError")
}

func saysNoMemory(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "cannot allocate memory") || strings.Contains(text, "out of memory")
}

// goNoMemory is what Go's runtime writes: runtime.throw's words, the line before them, and those of its part in C. What a program writes of memory itself goes on in another way.
var goNoMemory = regexp.MustCompile(`^fatal error: (?:failed to reserve page summary memory|(?:\w+: )?(?:cannot allocate memory|out of memory(?: allocating [\w ]+| \(stackalloc\))?))$` +
	`|^runtime: out of memory: cannot allocate |^runtime/cgo: (?:out of memory in |malloc failed: )`)

// badAlloc is the line by which a C++ runtime ends its program for an exception that nobody catches: libstdc++'s or libc++'s.
var badAlloc = regexp.MustCompile(`^(?:terminate called after throwing |libc\+\+abi(?:\.dylib)?: terminating ).*std::bad_alloc`)

// Unpreloaded reports whether a line is what AddressSanitizer's runtime writes when it ends its program because a library has brought it there.
func Unpreloaded(line string) bool { return unpreloaded.MatchString(line) }

var unpreloaded = regexp.MustCompile(`^==\d+== ?ASan runtime does not come first`)

// ByRuntime reports whether a program may have been ended by a runtime in it, whose lines say why: one exits, or aborts. Go's does so whatever it lacks. signal is what has ended the program, or nil; code is its
// exit code then. Of another signal, such as that of a fault, and of the exit code of a fault, which Windows has in its place, no line is why.
func ByRuntime(signal os.Signal, code int) bool {
	if signal != nil {
		return signal == aborted
	}
	return !ofSystem(uint32(code)) || uint32(code) == failFast || uint32(code) == noMemory
}

// What a runtime on Windows ends a program by: abort's exit code, and that of an allocation that raises.
const (
	failFast = 0xc0000409
	noMemory = 0xc0000017
)

// ofSystem reports whether an exit code is an exception of Windows itself: an error or a warning, and none of those that languages raise, such as C++. No other system has such codes.
func ofSystem(code uint32) bool {
	const warning, customer = 1 << 31, 1 << 29
	return code&warning != 0 && code&customer == 0
}

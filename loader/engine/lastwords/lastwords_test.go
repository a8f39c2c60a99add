package lastwords_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
)

const trace = "goroutine 1 [running]:\nmain.f({0x1, 0x2})\n\t/src/main.go:10 +0x1d\n"

func TestReports(t *testing.T) {
	long := strings.Repeat("main.deeper(...)\n\t/src/main.go:7 +0x2\n", 100)
	for name, c := range map[string]struct{ text, first, says string }{
		"nothing":       {"", "", ""},
		"a last line":   {"one\ntwo\n", "", "; its last line: two"},
		"a panic":       {"before\npanic: oh no\n\n" + trace, "", "; it wrote: panic: oh no"},
		"a long one":    {"before\npanic: oh no\n\n" + trace + long, "panic: oh no", "; it wrote: panic: oh no"},
		"a fatal error": {"runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow\n\nruntime stack:\nruntime.throw()\n\t/x.go:1\n\n" + trace + long, "fatal error: stack overflow", "; it wrote: fatal error: stack overflow"},
		"a signal":      {"panic: runtime error: nil\n[signal SIGSEGV: segmentation violation code=0x1]\n\n" + trace + long + "rax    0x0\nrip    0x1\n", "panic: runtime error: nil", "; it wrote: panic: runtime error: nil"},
		"a broken stack": {"fatal error: out of memory\n\nruntime stack:\nruntime.morestack()\n\t/x.s:1\nruntime: g 0: unexpected return pc for runtime.morestack called from 0x1\nstack: frame={sp:0x1, fp:0x2} stack=[0x3,0x4)\n" +
			"                   7 6 5 4  3 2 1 0\n0000000000240580: 00000000 044603a0  ..F.\n                  ^ <runtime.x+0x2>\n" + long, "fatal error: out of memory", "; it wrote: fatal error: out of memory"},
		"a fault":            {"SIGSEGV: segmentation violation\nPC=0x432e1d m=6 sigcode=1 addr=0x0\n\ngoroutine 0 gp=0x1 m=6 mp=0x2 [idle]:\n" + long + "rax    0x0\n", "SIGSEGV: segmentation violation", "; it wrote: SIGSEGV: segmentation violation"},
		"a fault at the end": {"panic: one\n\n" + trace + "SIGABRT: abort\nPC=0x1 m=0 sigcode=0\n\n" + trace, "", "; it wrote: panic: one"},
		"no thread": {"runtime/cgo: pthread_create failed: Resource temporarily unavailable\nSIGABRT: abort\nPC=0x432e1d m=0 sigcode=18446744073709551610\n\ngoroutine 0 gp=0x1 m=0 mp=0x2 [idle]:\n" + long,
			"runtime/cgo: pthread_create failed: Resource temporarily unavailable", "; it wrote: runtime/cgo: pthread_create failed: Resource temporarily unavailable"},
		"several":            {"panic: one\n\tpanic: two\n\n" + trace + long, "panic: one", "; it wrote: panic: one"},
		"lines of a text":    {"panic: one\n\ttwo\n\tthree\n\n" + trace + long, "panic: one", "; it wrote: panic: one"},
		"a word of its own":  {"panic: not really\ngone on\n", "", "; its last line: gone on"},
		"survived":           {"panic: caught\n\n" + trace + long + "and on it went\nuntil it was killed\n", "", "; its last line: until it was killed"},
		"survived, then not": {"panic: caught\n\n" + trace + "and on it went\npanic: the end\n\n" + trace + long, "panic: the end", "; it wrote: panic: the end"},
		"other words":        {"panic: x\n" + strings.Repeat("word\n", 30) + trace, "", "; its last line: \t/src/main.go:10 +0x1d"},
		"long lines":         {"panic: " + strings.Repeat("x", 1<<20) + "\n\n" + trace + long, "panic: " + strings.Repeat("x", 1<<10-7), "; it wrote: panic: " + strings.Repeat("x", 1<<10-7)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 7, len(c.text) + 1} {
				var r lastwords.Report
				for text := []byte(c.text); len(text) > 0; text = text[min(piece, len(text)):] {
					r.Take(text[:min(piece, len(text))])
				}
				last := strings.Split(strings.TrimSuffix(c.text, "\n"), "\n")
				last = last[max(0, len(last)-20):]
				if c.text == "" {
					last = nil
				}
				found := r.Lines(last)
				if c.first != "" {
					assert.Len(t, found, 20)
					assert.Equal(t, c.first, found[0])
				} else {
					assert.Equal(t, last, found)
				}
				assert.Equal(t, c.says, lastwords.Of(found))
			}
		})
	}
}

func TestNoMemory(t *testing.T) {
	for line, want := range map[string]bool{"fatal error: runtime: cannot allocate memory": true, "fatal error: runtime: out of memory": true, "fatal error: out of memory allocating heap arena map": true,
		"terminate called after throwing an instance of 'std::bad_alloc'":                         true,
		"libc++abi: terminating due to uncaught exception of type std::bad_alloc: std::bad_alloc": true, "libc++abi.dylib: terminating with uncaught exception of type std::bad_alloc": true,
		"runtime: out of memory: cannot allocate 4194304-byte block (8192 in use)": true, "memory allocation of 8192 bytes failed": true, "Fatal Python error: PyThreadState_Clear: Out of memory": true,
		"fatal error: pageAlloc: out of memory": true, "fatal error: out of memory (stackalloc)": true, "fatal error: failed to reserve page summary memory": true,
		"runtime/cgo: out of memory in thread_start": true, "runtime/cgo: malloc failed: Cannot allocate memory": true,
		"runtime: free out of memory hints list": false, "fatal error: plug-in table out of memory, going on": false,
		"cache: std::bad_alloc caught, going on without it": false, "terminate called after throwing an instance of 'std::runtime_error'": false,
		"out of memory, says a program, and goes on": false, "fatal error: all goroutines are asleep - deadlock!": false, "runtime: may need to increase max user processes (ulimit -u)": false, "": false} {
		assert.Equal(t, want, lastwords.NoMemory(line), line)
	}
}

// No thread is not always for want of memory, and a line about memory that is not given not always the end.
func TestNoThread(t *testing.T) {
	for _, line := range []string{"pthread_create failed: Resource temporarily unavailable", "runtime/cgo: pthread_create failed: Resource temporarily unavailable",
		"runtime: failed to create new OS thread (have 2 already; errno=11)", "  what():  Resource temporarily unavailable", "RuntimeError: can't start new thread",
		`failed to spawn thread: Os { code: 11, kind: WouldBlock, message: "Resource temporarily unavailable" }`} {
		assert.True(t, lastwords.NoThread(line), line)
		assert.False(t, lastwords.NoMemory(line), line)
		assert.True(t, lastwords.ShortOfMemory(line), line)
	}
	for line, short := range map[string]bool{"mmap: Cannot allocate memory": true, "libstdc++.so.6: failed to map segment from shared object": true, "Out of memory!": true, "MemoryError": true,
		"fatal error: runtime: cannot allocate memory": true, "read: Resource temporarily unavailable": false, "  what():  vector": false, "": false} {
		assert.False(t, lastwords.NoThread(line), line)
		assert.Equal(t, short, lastwords.ShortOfMemory(line), line)
	}
}

// What a program has written before is not why a fault, or somebody else, has ended it.
func TestByRuntime(t *testing.T) {
	for signal, want := range map[os.Signal]bool{nil: true, syscall.SIGABRT: true, syscall.SIGSEGV: false, syscall.SIGBUS: false, os.Kill: false} {
		assert.Equal(t, want, lastwords.ByRuntime(signal, -1), signal)
	}
	for code, want := range map[uint32]bool{0: true, 2: true, 255: true, 0xffffffff: true, 0x80000003: false, 0xc0000005: false, 0xc00000fd: false, 0xc0000374: false, 0xc000013a: false,
		0xc0000017: true, 0xc0000409: true, 0xe06d7363: true} { // no memory, abort, and a C++ exception
		assert.Equal(t, want, lastwords.ByRuntime(nil, int(code)), "%#x", code)
	}
	for line, want := range map[string]bool{"==17==ASan runtime does not come first in initial library list; you should": true, "note: the ASan runtime does not come first here": false} {
		assert.Equal(t, want, lastwords.Unpreloaded(line), line)
	}
}

// Package crash tells where a process has crashed: the process that may crash has its faults recorded, into a file, and
// another one reads that file when it is dead. What is recorded is the signal, the registers, the stack and what was mapped;
// functions and lines are found by the reader, in the files that were mapped.
package crash

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Crash is what ended a process.
type Crash struct {
	Signal   int     // its number
	Address  uint64  // what could not be accessed, or the instruction that could not be executed
	Anywhere bool    // the address is not known, as it is one that no memory can have
	Stack    uint64  // the stack pointer
	Frames   []Frame // where it was, and what had called that, up to what had entered the library

	overflow bool
}

// Frame is a place in the code.
type Frame struct {
	File     string // path of the program or the library; empty where no file is mapped
	Offset   uint64 // of the instruction, as that file's own addresses are; an address in memory where there is no file
	Function string // readable by people; empty where the file has no symbol
	Source   string // the source file's name; empty without debug information
	Line     int
}

// String is the frame in words, with what is known of it.
func (f Frame) String() string {
	if f.File == "" {
		return "no code (" + hex(f.Offset) + ")"
	}
	place := filepath.Base(f.File) + "+" + hex(f.Offset)
	if f.Source != "" {
		place = f.Source + ":" + strconv.Itoa(f.Line) + ", " + place
	}
	if f.Function == "" {
		return place
	}
	return f.Function + " (" + place + ")"
}

func hex(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// Overflow reports whether a stack has overflowed: the address is below the memory that the stack pointer is in, and near that, or the stack
// pointer itself is below it, where a large array is.
func (c *Crash) Overflow() bool { return c.overflow }

// Below reports whether the stack has overflowed whose lowest address is bottom: the stack pointer was below it, where a large array is, and may be in whatever the
// system has put there, and what was accessed is between the two.
func (c *Crash) Below(bottom uint64) bool {
	return c.Signal == sigsegv && !c.Anywhere && c.Stack < bottom && bottom-c.Stack < array && c.Address >= c.Stack && c.Address < bottom
}

// The signal of an overflow, and how large an array on a stack may be, in bytes.
const (
	sigsegv = 11
	array   = 1 << 30
)

// overflows is Overflow, of the mappings and the instruction.
func (c *Crash) overflows(maps []mapping, pc uint64) bool {
	const near = 64 << 10
	if c.Signal != sigsegv || c.Anywhere || c.Address == pc {
		return false
	}
	for _, m := range maps { // from below
		if !m.writable || m.end <= c.Stack {
			continue
		}
		if c.Stack >= m.start {
			return c.Address < m.start && c.Address-c.Stack+near < 2*near
		}
		return c.Stack > near && m.start-c.Stack < array && c.Address < m.start
	}
	return false
}

// Place says where it was: in which code, and from where in the library at that path, if that is another one's. It is empty where that is not known.
func (c *Crash) Place(library string) string {
	if c == nil || len(c.Frames) == 0 {
		return ""
	}
	text, is := "in "+c.Frames[0].String(), IsFile(library)
	if !is(c.Frames[0].File) {
		for _, f := range c.Frames[1:] {
			if is(f.File) {
				return text + ", called from " + f.String()
			}
		}
	}
	return text
}

// IsFile returns whether a path is that of the same file as the one at library, which may be a symbolic link: what is mapped is known by the path that
// the link leads to.
func IsFile(library string) func(path string) bool {
	resolved, err := filepath.EvalSymlinks(library)
	return func(path string) bool { return path == library || err == nil && path == resolved }
}

// Name is the signal's, as in "SIGSEGV".
func (c *Crash) Name() string { return signalName(c.Signal) }

// Accessed reports whether memory was accessed that is not there, or not for that.
func (c *Crash) Accessed() bool { return c.Name() == "SIGSEGV" || c.Name() == "SIGBUS" }

// Where things are in the file that the handler writes. It is sparse. What is mapped comes last: where that is missing, there
// was no crash, or the process was ended meanwhile.
const (
	infoAt    = 0       // siginfo_t
	contextAt = 128     // ucontext_t
	programAt = 1 << 10 // the address of the program's own code, below which no frame is told
	stackAt   = 1 << 12 // the stack, from the page of the stack pointer up
	mapsAt    = 1 << 20 // the text of /proc/self/maps

	infoSize    = 128
	contextSize = 448
	stackSize   = 256 << 10
)

// mapping is a line of /proc/self/maps.
type mapping struct {
	start, end, offset   uint64
	path                 string // empty where it is no file's
	writable, executable bool
}

// Read reads what a process has recorded; nil where that is nothing. What the file says is the dead process's word:
// no frame is told that cannot be found.
func Read(file io.ReaderAt) *Crash {
	head := make([]byte, stackAt)
	text, err := io.ReadAll(io.NewSectionReader(file, mapsAt, 4<<20))
	if n, _ := file.ReadAt(head, 0); err != nil || n < len(head) || len(text) == 0 {
		return nil
	}
	r, ok := registersOf(head[contextAt : contextAt+contextSize])
	if !ok {
		return nil
	}
	info := head[infoAt:]
	c := &Crash{Signal: int(int32(binary.NativeEndian.Uint32(info))), Address: binary.NativeEndian.Uint64(info[16:]), Stack: r.values[r.sp]}
	const byKernel = 128 // si_code of an address that is not canonical
	c.Anywhere = int32(binary.NativeEndian.Uint32(info[8:])) == byKernel
	maps := mappings(text)
	c.overflow = c.overflows(maps, r.pc)
	stack := make([]byte, stackSize+pageSize)
	n, _ := file.ReadAt(stack, stackAt)
	u := &unwinder{maps: code(maps), program: binary.NativeEndian.Uint64(head[programAt:]), stack: stack[:n],
		bottom: c.Stack &^ (pageSize - 1), files: map[string]*image{}}
	defer u.close()
	c.Frames = u.frames(r)
	return c
}

const pageSize = 4 << 10 // what the handler takes for one

func mappings(text []byte) (all []mapping) {
	for line := range strings.Lines(string(text)) { // start-end perms offset device inode path
		line = strings.TrimSuffix(line, "\n")
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		m := mapping{writable: strings.Contains(f[1], "w"), executable: strings.Contains(f[1], "x")}
		var errs [3]error
		m.start, errs[0] = strconv.ParseUint(from, 16, 64)
		m.end, errs[1] = strconv.ParseUint(to, 16, 64)
		m.offset, errs[2] = strconv.ParseUint(f[2], 16, 64)
		if errs != [3]error{} {
			continue
		}
		if _, path, found := strings.Cut(line, " /"); found { // which may have blanks
			m.path = unescaped("/" + path)
		}
		all = append(all, m)
	}
	return all
}

// unescaped is a path with its newlines, for which the system writes \012. It escapes no backslash, and so a file may be called that, too.
func unescaped(path string) string {
	const newline = `\012`
	if !strings.Contains(path, newline) {
		return path
	}
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	return strings.ReplaceAll(path, newline, "\n")
}

// code are the mappings that are a file's code.
func code(maps []mapping) []mapping {
	return slices.DeleteFunc(slices.Clone(maps), func(m mapping) bool { return m.path == "" || !m.executable })
}

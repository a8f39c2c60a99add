package inspect

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// Limits that keep a hostile file from costing the host more than a real library would.
const (
	headSize   = 24 << 10  // bytes of the file that are read first, and kept: all of a small library
	windowSize = 16 << 10  // bytes of the longest view on the rest without a buffer of its own, and of a short table
	windowStep = 4 << 10   // bytes of a page: reads of the file start and end at one
	maxTable   = 256 << 20 // bytes of the longest table: of strings, exports, relocations
	maxCount   = 1 << 24   // entries of the longest symbol table
	maxSymbol  = 1 << 10   // bytes of the longest exported name that is looked at
	maxPath    = 4 << 10   // bytes of the longest path or name of a library
	maxExports = 1 << 16   // exported ferrule_ symbols of one library
	maxTexts   = 8 << 20   // bytes of all its texts together
	maxSchema  = 1 << 20   // bytes of the text at ferrule_meta_config (rule R32)
	maxNeeded  = 1 << 12   // libraries that one library needs
)

// image is a library's file and how it will lie in memory: it turns addresses of the loaded library into bytes of the
// file. Every length is checked against the file's size before anything is allocated or read.
type image struct {
	order
	r    io.ReaderAt
	size uint64

	head     []byte // the first bytes of the file: there is most of what says where the rest is
	window   []byte // bytes of the file from windowAt on
	windowAt uint64
	buffers  *buffers // what window, a short string table and the list of exports lie in; see done

	segments []segment // sorted by address, none overlaps another; see seal
	relro    segment   // ELF: the part that the dynamic linker makes read-only again
	opd      bool      // functions are known by descriptors, in memory that is not executable (ELFv1 of ppc64)

	wrongType func(e *export) error // WebAssembly: refuses a function of another type than the contract's; nil elsewhere
	notHere   string                // what to do about an export without an address, where a format has other words for it

	// relocated returns an address in one of the spans, which are sorted, that the dynamic linker writes to. nil where
	// the format's reader cannot say.
	relocated func(spans []span) (addr uint64, found bool, err error)
}

// segment is a run of addresses with one protection: an ELF or Mach-O segment, a PE section.
type segment struct {
	name        string // for errors; see String
	index       int    // where it has no name: its number
	addr, size  uint64
	off, inFile uint64 // the first inFile bytes are the file's, from off on; the others are zero
	write, exec bool
	read        bool // ELF only
}

// String names the segment in errors.
func (s *segment) String() string {
	if s.name == "" {
		return fmt.Sprintf("segment %d", s.index)
	}
	return s.name
}

// buffers are memory that reading one library needs and nobody keeps.
type buffers struct {
	head    [headSize]byte
	window  [windowSize + windowStep]byte
	names   [windowSize]byte
	exports [usualExports]export
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// newImage begins the reading of the size bytes in r; done ends it.
func newImage(r io.ReaderAt, size uint64) *image {
	return &image{r: r, size: size, buffers: bufferPool.Get().(*buffers)}
}

// span is the addresses from lo up to hi, without hi.
type span struct{ lo, hi uint64 }

// touched reports whether one of the sorted spans has any of the n addresses from addr on.
func touched(spans []span, addr, n uint64) bool {
	i, _ := slices.BinarySearchFunc(spans, addr, func(s span, addr uint64) int {
		if s.hi <= addr {
			return -1
		}
		return 1
	})
	return i < len(spans) && spans[i].lo < saturate(addr, n)
}

// order is a byte order; true is big-endian. Unlike binary.ByteOrder its methods are inlined.
type order bool

func (big order) u16(b []byte) uint16 {
	if big {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

func (big order) u32(b []byte) uint32 {
	if big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (big order) u64(b []byte) uint64 {
	if big {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

// view returns n bytes of the file from off on. They are valid until the next view. what names them in errors.
func (m *image) view(what string, off, n uint64) ([]byte, error) {
	if off > m.size || n > m.size-off {
		return nil, truncated(what, saturate(off, n), m.size)
	}
	if off+n <= uint64(len(m.head)) {
		return m.head[off:][:n], nil
	}
	if off >= m.windowAt && off-m.windowAt <= uint64(len(m.window)) && n <= uint64(len(m.window))-(off-m.windowAt) {
		return m.window[off-m.windowAt:][:n], nil
	}
	if n > maxTable {
		return nil, tooLong(n, "bytes of "+what)
	}
	if n > windowSize {
		table := make([]byte, n)
		return table, m.read(table, off)
	}
	if m.head == nil {
		head := m.buffers.head[:min(headSize, m.size)]
		if err := m.read(head, 0); err != nil {
			return nil, err
		}
		m.head = head
		return m.view(what, off, n)
	}
	// Whole pages: what belongs together is mostly in one, and asked for in any order.
	m.windowAt = off &^ (windowStep - 1)
	m.window = m.buffers.window[:min((off+n+windowStep-1)&^(windowStep-1), m.size)-m.windowAt]
	if err := m.read(m.window, m.windowAt); err != nil {
		m.window = m.window[:0]
		return nil, err
	}
	return m.window[off-m.windowAt:][:n], nil
}

// done ends the reading: what view returned is somebody else's from now on.
func (m *image) done() {
	clear(m.buffers.exports[:]) // their names hold the string table
	bufferPool.Put(m.buffers)
	m.head, m.window, m.buffers = nil, nil, nil
}

func (m *image) read(b []byte, off uint64) error {
	n, err := m.r.ReadAt(b, int64(off))
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF): // it was longer when it was opened
		return truncated("what it had when it was opened", m.size, off+uint64(n))
	}
	return &Error{Kind: ErrRead, Err: err}
}

// saturate adds without overflow.
func saturate(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// addSegment refuses a segment that the file does not cover: reading such memory ends the process with SIGBUS.
func (m *image) addSegment(s segment) error {
	if s.inFile > 0 && saturate(s.off, s.inFile) > m.size {
		return truncated(s.String(), saturate(s.off, s.inFile), m.size)
	}
	if s.inFile > s.size || s.addr > math.MaxUint64-s.size {
		return malformed("%s with %s in the file and %d at address %#x in memory", s.String(), count.Of(s.inFile, "byte"), s.size,
			s.addr)
	}
	if s.size > 0 {
		m.segments = append(m.segments, s)
	}
	return nil
}

// seal ends the list of segments.
func (m *image) seal() error {
	slices.SortFunc(m.segments, func(a, b segment) int { return cmp.Compare(a.addr, b.addr) })
	for i := 1; i < len(m.segments); i++ {
		if a, b := &m.segments[i-1], &m.segments[i]; a.addr+a.size > b.addr {
			return malformed("%s and %s at the same address", a.String(), b.String())
		}
	}
	return nil
}

// writeExec reports whether a segment is writable and executable at the same time.
func (m *image) writeExec() bool {
	return slices.ContainsFunc(m.segments, func(s segment) bool { return s.write && s.exec })
}

// find returns the segment at addr, or nil.
func (m *image) find(addr uint64) *segment {
	i, _ := slices.BinarySearchFunc(m.segments, addr, func(s segment, addr uint64) int {
		if addr < s.addr {
			return 1
		}
		return -1
	})
	if i > 0 {
		if s := &m.segments[i-1]; addr-s.addr < s.size {
			return s
		}
	}
	return nil
}

// inFile returns where in the file the byte at addr is, and how many bytes of the file go on from there; 0 when none.
func (m *image) inFile(addr uint64) (off, rest uint64) {
	if s := m.find(addr); s != nil && addr-s.addr < s.inFile {
		return s.off + (addr - s.addr), s.inFile - (addr - s.addr)
	}
	return 0, 0
}

// at returns the n bytes at addr, as view does.
func (m *image) at(what string, addr, n uint64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	off, rest := m.inFile(addr)
	if rest < n {
		return nil, malformed("%s at address %#x, %s that are not in the file", what, addr, count.Of(n, "byte"))
	}
	return m.view(what, off, n)
}

// str returns the NUL-terminated string at addr, cut at maxPath bytes.
func (m *image) str(what string, addr uint64) (string, error) {
	off, rest := m.inFile(addr)
	if rest == 0 {
		return "", malformed("%s at address %#x, which is not in the file", what, addr)
	}
	b, err := m.view(what, off, min(rest, maxPath))
	return cstr(b, maxPath), err
}

// text returns the bytes at addr up to the end of the text that starts there, or size bytes where size is not 0, or
// longest bytes, whatever is shortest. It returns nil when the file has no byte at addr.
func (m *image) text(addr, size, longest uint64, end string) ([]byte, error) {
	off, rest := m.inFile(addr)
	if size != 0 {
		rest = min(rest, size)
	}
	if rest = min(rest, longest); rest == 0 {
		return nil, nil
	}
	for n := min(rest, 512); ; n = min(rest, n*8) {
		b, err := m.view("a text", off, n)
		if err != nil {
			return nil, err
		}
		if b[0] == 0 {
			return b[:1], nil
		}
		if at := bytes.Index(b, []byte(end)); at >= 0 {
			return b[:at+len(end)], nil
		}
		if n == rest {
			return b, nil
		}
	}
}

// cstr returns the string up to b's first NUL, cut at limit bytes.
func cstr(b []byte, limit int) string {
	b = b[:min(len(b), limit)]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// names is a string table.
type names struct {
	bytes []byte
	text  string // of a short table, the same: its parts are strings without being copied
}

// keepNames makes a string table of what view returned, which stays valid until the file has been read.
func (m *image) keepNames(table []byte) names {
	if len(table) == 0 || len(table) > windowSize {
		return names{bytes: table} // a view of its own
	}
	return names{m.buffers.names[:copy(m.buffers.names[:], table)], string(table)}
}

// hasPrefix reports whether the string at off starts with lead and ferrule_. It is asked for each symbol.
func (t names) hasPrefix(off uint32, lead string) bool {
	const n = len(abi.SymbolPrefix)
	from := uint64(off) + uint64(len(lead))
	return from+uint64(n) <= uint64(len(t.bytes)) && string(t.bytes[from:from+uint64(n)]) == abi.SymbolPrefix &&
		string(t.bytes[off:from]) == lead
}

// at returns the string at off, which is in the table, cut at limit bytes.
func (t names) at(off uint32, limit int) string {
	if t.text == "" {
		return cstr(t.bytes[off:], limit)
	}
	s := t.text[off:]
	s = s[:min(len(s), limit)]
	if end := strings.IndexByte(s, 0); end >= 0 {
		s = s[:end]
	}
	return s
}

// str returns the string at off, cut at maxPath bytes.
func (t names) str(what string, off uint64) (string, error) {
	if off >= uint64(len(t.bytes)) {
		return "", malformed("%s beyond the end of the string table", what)
	}
	return t.at(uint32(off), maxPath), nil
}

// containing returns the first string that has word in it, or "".
func (t names) containing(word string) string {
	at := bytes.Index(t.bytes, []byte(word))
	if at < 0 {
		return ""
	}
	from := max(0, at-maxSymbol)
	return cstr(t.bytes[from+bytes.LastIndexByte(t.bytes[from:at], 0)+1:], 2*maxSymbol)
}

// otherMajor returns the first name in the table that is the manifest's of another major version of the contract, or "".
func (t names) otherMajor() string {
	const end = "_manifest"
	for rest := t.bytes; ; {
		at := bytes.Index(rest, []byte(end))
		if at < 0 {
			return ""
		}
		name := strings.TrimPrefix(cstr(rest[max(0, bytes.LastIndexByte(rest[:at], 0)+1):], maxSymbol), machoLead)
		if kind, _ := abi.ParseSymbol(name); kind == abi.KindOtherMajor {
			return name
		}
		rest = rest[at+len(end):]
	}
}

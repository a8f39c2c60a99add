package host

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An ELF file with an executable segment of 4 KiB at 0x1000, and a function at 0x1100 that is named in
// .dynsym, .symtab or both. A change is made to its section headers: 1 is .dynsym, 2 its names, 3 .symtab, 4 its names.
func elfWith(t *testing.T, exported, local string, change func(sections []elf.Section64, file []byte) []byte) []byte {
	t.Helper()
	names := func(name string) []byte { return []byte("\x00" + name + "\x00") }
	function := elf.Sym64{Name: 1, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 9, Value: 0x1100, Size: 0x100}
	variable := elf.Sym64{Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT), Shndx: 9, Value: 0x1180, Size: 8}
	var file bytes.Buffer
	put := func(v any) (at uint64) {
		at = uint64(file.Len())
		require.NoError(t, binary.Write(&file, binary.LittleEndian, v))
		return at
	}
	h := elf.Header64{Phoff: 64, Phnum: 1, Shnum: 5}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	put(h)
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_X | elf.PF_R), Vaddr: 0x1000, Memsz: 0x1000})
	sections := make([]elf.Section64, 5)
	table := func(i int, kind elf.SectionType, name string, symbols ...elf.Sym64) {
		sections[i] = elf.Section64{Type: uint32(kind), Link: uint32(i + 1), Off: put(symbols), Size: uint64(len(symbols) * elf.Sym64Size)}
		sections[i+1] = elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: put(names(name)), Size: uint64(len(names(name)))}
	}
	if exported == "" {
		table(1, elf.SHT_DYNSYM, "", elf.Sym64{}, variable)
	} else {
		table(1, elf.SHT_DYNSYM, exported, elf.Sym64{}, variable, function)
	}
	if local != "" {
		table(3, elf.SHT_SYMTAB, local, elf.Sym64{}, function)
	}
	image := file.Bytes()
	if change != nil {
		image = change(sections, image)
	}
	binary.LittleEndian.PutUint64(image[40:], uint64(len(image))) // Shoff
	out, err := binary.Append(image, binary.LittleEndian, sections)
	require.NoError(t, err)
	return out
}

// readings counts what is read of a file, which goes on with zeros for ever.
type readings struct {
	file  []byte
	bytes int64
	calls int
}

func (r *readings) ReadAt(b []byte, at int64) (int, error) {
	r.bytes += int64(len(b))
	r.calls++
	clear(b)
	if at < int64(len(r.file)) {
		copy(b, r.file[at:])
	}
	return len(b), nil
}

// find returns what is at 0x1180.
func find(t *testing.T, r io.ReaderAt) (string, bool) {
	t.Helper()
	s, ok := newSymbols(r)
	require.True(t, ok)
	assert.True(t, s.runs(0x1180))
	assert.False(t, s.runs(0x2000))
	name, start, ok := s.function(0x1180)
	if ok {
		assert.Equal(t, uint64(0x1100), start)
	}
	return name, ok
}

func TestSymbols(t *testing.T) {
	long := strings.Repeat("n", 1<<20)
	for _, c := range []struct{ exported, local, want string }{
		{"exported", "", "exported"},
		{"", "local", "local"},
		{"exported", "local", "local"},
		{"", "", ""},
		{"", strings.Repeat("n", mostName), strings.Repeat("n", mostName)},
		{"", long, long[:mostName+1] + "…"},
	} {
		name, ok := find(t, bytes.NewReader(elfWith(t, c.exported, c.local, nil)))
		assert.Equal(t, c.want != "", ok)
		assert.Equal(t, c.want, name)
	}
	name, _ := find(t, bytes.NewReader(elfWith(t, "exported", "local", func(s []elf.Section64, file []byte) []byte {
		s[3].Link = math.MaxUint32
		return file
	})))
	assert.Equal(t, "exported", name, "the other table has no names")
}

// A table that is compressed is passed over: nobody knows how long it is before it is unpacked.
func TestSymbolsCompressed(t *testing.T) {
	var packed bytes.Buffer
	require.NoError(t, binary.Write(&packed, binary.LittleEndian, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: 64 << 20, Addralign: 8}))
	z := zlib.NewWriter(&packed)
	_, err := z.Write(make([]byte, 64<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	file := elfWith(t, "exported", "local", func(s []elf.Section64, file []byte) []byte {
		s[3].Flags = uint64(elf.SHF_COMPRESSED)
		s[3].Off, s[3].Size = uint64(len(file)), uint64(packed.Len())
		return append(file, packed.Bytes()...)
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	name, _ := find(t, bytes.NewReader(file))
	runtime.ReadMemStats(&after)
	assert.Equal(t, "exported", name)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

// What a file claims to have is read up to a bound.
func TestSymbolsBounds(t *testing.T) {
	const bound = 32 << 20
	endless := &readings{file: elfWith(t, "", "local", func(s []elf.Section64, file []byte) []byte {
		s[3].Off, s[3].Size = uint64(len(file))+1<<20, 1<<50
		return file
	})}
	_, ok := find(t, endless)
	assert.False(t, ok)
	assert.Less(t, endless.bytes, int64(bound))

	many := elfWith(t, "", "", nil)
	binary.LittleEndian.PutUint16(many[60:], mostSections+1)
	_, ok = newSymbols(&readings{file: many})
	assert.False(t, ok)
	for n := range 64 {
		_, ok = newSymbols(bytes.NewReader(many[:n]))
		assert.False(t, ok, "%d bytes", n)
	}
}

// Whatever a file says, looking into it comes to an end.
func FuzzSymbols(f *testing.F) {
	f.Add([]byte("\x7fELF"), uint64(0))
	f.Fuzz(func(t *testing.T, noise []byte, at uint64) {
		file := elfWith(t, "exported", "local", nil)
		copy(file[at%uint64(len(file)):], noise)
		r := &readings{file: file}
		if s, ok := newSymbols(r); ok {
			name, _, _ := s.function(0x1180)
			assert.LessOrEqual(t, len(name), mostName+1+len("…"))
		}
		assert.Less(t, r.bytes, int64(64<<20))
	})
}

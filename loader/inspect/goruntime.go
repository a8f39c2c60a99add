package inspect

import (
	"bytes"
	"encoding/binary"
)

// What the Go linker leaves in every program and library, and strip does not remove. The Go runtime reads it for
// debug.ReadBuildInfo; package debug/buildinfo documents it and finds it the same way, but reads whole data sections.
const (
	goMagic    = "\xff Go buildinf:"
	goAlign    = 16
	goHeader   = 32
	goInline   = 2 // the flag of the form that has the version in place, since Go 1.18
	goUnknown  = "unknown"
	goScanSize = 1 << 20 // how much data is looked through for it where no section has its name
)

// goVersion returns the version in the build information at off in the file, or "" when there is none.
func (m *image) goVersion(off uint64) (string, error) {
	if off >= m.size {
		return "", nil
	}
	b, err := m.view("Go's build information", off, min(m.size-off, 256))
	if err != nil || len(b) < goHeader || !hasPrefix(b, goMagic) {
		return "", err
	}
	if b[15]&goInline == 0 {
		return goUnknown, nil
	}
	n, head := binary.Uvarint(b[goHeader:])
	if b = b[goHeader:]; head <= 0 || n == 0 || n > uint64(len(b)-head) {
		return goUnknown, nil
	}
	return string(b[head:][:n]), nil
}

// scanGoVersion looks for build information in the first part of s.
func (m *image) scanGoVersion(s *segment) (string, error) {
	skip := -s.addr % goAlign // it is aligned in memory
	for end := min(s.inFile, goScanSize); skip+goHeader <= end; skip += windowSize {
		b, err := m.view(s.name, s.off+skip, min(windowSize, end-skip))
		if err != nil {
			return "", err
		}
		for i := 0; ; i++ {
			next := bytes.Index(b[i:], []byte(goMagic))
			if next < 0 {
				break
			}
			if i += next; i%goAlign == 0 {
				return m.goVersion(s.off + skip + uint64(i))
			}
		}
	}
	return "", nil
}

package host

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// notStarted returns err, or what it means where the system says "no such file" of a program that is there: the dynamic
// linker that the program names is missing, or what programs are started by that were checked by their descriptor.
func (x *executable) notStarted(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if x.own && x.file != nil {
		if _, statErr := os.Stat("/proc/self/fd"); statErr != nil {
			return fmt.Errorf("/proc is not mounted, by which the very program is started that was checked: mount it (%w)", err)
		}
	}
	var f *elf.File
	var openErr error
	if x.file != nil {
		f, openErr = elf.NewFile(x.file)
	} else {
		f, openErr = elf.Open(x.path)
	}
	if openErr != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		text, readErr := io.ReadAll(p.Open())
		linker := strings.TrimRight(string(text), "\x00")
		if _, statErr := os.Stat(linker); readErr == nil && errors.Is(statErr, fs.ErrNotExist) {
			return fmt.Errorf("%s is there, and its dynamic linker %s is not: a program that loads plug-ins is linked dynamically, also one built with "+
				"CGO_ENABLED=0; run it where the C library is that it was linked for, not in an image without one (scratch, distroless/static): %w", x.path, linker, err)
		}
	}
	return err
}

package isolated

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
// linker that the program names is missing.
func notStarted(program string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, openErr := elf.Open(program)
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
				"CGO_ENABLED=0; run it where the C library is that it was linked for, not in an image without one (scratch, distroless/static): %w", program, linker, err)
		}
	}
	return err
}

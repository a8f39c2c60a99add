package inspect

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the system's own dynamic linker does with what this package lets through.

const opener = `
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    alarm(20);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fputs(dlerror(), stderr);
        _exit(1);
    }
    if (argc > 2)
        dlclose(library); /* what runs at the end */
    _exit(0);
}
`

// linker opens libraries in processes of their own.
type linker struct{ program, file string }

func newLinker(t testing.TB) *linker {
	t.Helper()
	needCC(t)
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("changes the headers of 64-bit little-endian files")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "opener.c")
	require.NoError(t, os.WriteFile(source, []byte(opener), 0o666))
	run(t, "cc", "-O1", "-o", filepath.Join(dir, "opener"), source, "-ldl")
	return &linker{filepath.Join(dir, "opener"), filepath.Join(dir, "changed.so")}
}

// open says what became of the library: "opened", "refused" by the dynamic linker, or how it died.
func (l *linker) open(t testing.TB, data []byte, more ...string) string {
	require.NoError(t, os.WriteFile(l.file, data, 0o700))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, l.program, append([]string{l.file}, more...)...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "opened"
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return "refused: " + string(out)
	}
	return fmt.Sprintf("CRASH: %v %s", err, out)
}

// mutants are libraries with one of each thing that the dynamic linker follows.
func mutants(t testing.TB) map[string][]byte {
	t.Helper()
	source := probeSource(t) + `
#include <stdlib.h>
static __thread int calls = 7; int ferrule_calls(void) { return ++calls; }
__attribute__((constructor)) static void begin(void) { free(malloc(8)); }
__attribute__((destructor)) static void end(void) { free(malloc(8)); }
static int one(void) { return 1; } static void *pick(void) { return (void *)one; }
int chosen(void) __attribute__((ifunc("pick"))); int (*const table[])(void) = {one, chosen, ferrule_calls};
`
	versions := filepath.Join(t.TempDir(), "versions.map")
	require.NoError(t, os.WriteFile(versions, []byte("V1 { global: *; };\n"), 0o666))
	libraries := make(map[string][]byte)
	for name, flags := range map[string]string{
		"usual":       "-Wl,-z,lazy -Wl,-z,relro",
		"bound early": "-Wl,-z,now -Wl,--hash-style=sysv -Wl,-z,noseparate-code -Wl,--version-script=" + versions,
		"packed":      "-Wl,-z,pack-relative-relocs -Wl,--hash-style=both -Wl,-z,norelro -s",
	} {
		data, err := os.ReadFile(buildELF(t, source, strings.Fields(flags)...))
		require.NoError(t, err)
		libraries[name] = data
	}
	return libraries
}

// word is a place in a file where a machine word stands.
type word struct {
	name string
	at   uint64
}

const shtRelr = elf.SectionType(19) // the sections of relocations that are packed

// words are all fields of the program headers, all values in the dynamic section, and what is in some tables.
func words(t testing.TB, data []byte) (list []word) {
	le := binary.LittleEndian
	phoff, n := le.Uint64(data[32:]), uint64(le.Uint16(data[56:]))
	fields := [...]string{"type", "offset", "vaddr", "paddr", "filesz", "memsz", "align"}
	for i := range n {
		at := phoff + 56*i
		kind := elf.ProgType(le.Uint32(data[at:]))
		for k, field := range fields {
			list = append(list, word{fmt.Sprintf("%v.%s", kind, field), at + 8*uint64(k)})
		}
		if kind != elf.PT_DYNAMIC {
			continue
		}
		for entry := le.Uint64(data[at+8:]); ; entry += 16 {
			tag := elf.DynTag(le.Uint64(data[entry:]))
			if tag == elf.DT_NULL {
				break
			}
			list = append(list, word{tag.String(), entry + 8}, word{tag.String() + "'s tag", entry})
			switch table := le.Uint64(data[entry+8:]); tag {
			case elf.DT_HASH, elf.DT_GNU_HASH, elf.DT_VERSYM, elf.DT_VERNEED, elf.DT_VERDEF, elf.DT_SYMTAB, elf.DT_RELA,
				elf.DT_JMPREL: // in the first segment, where addresses are offsets
				words := uint64(18)
				if tag == elf.DT_JMPREL {
					words = 3 // it may have one entry only, and code behind it
				}
				for k := range words {
					list = append(list, word{fmt.Sprintf("word %d of %v", k, tag), table + 8*k})
				}
			}
		}
	}
	require.NotEmpty(t, list)
	f, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	for _, section := range f.Sections { // which are not read by what is tested
		switch section.Type {
		case elf.SHT_INIT_ARRAY, elf.SHT_FINI_ARRAY, shtRelr:
			for k := range section.FileSize / 8 {
				list = append(list, word{fmt.Sprintf("word %d of %s", k, section.Name), section.Offset + 8*k})
			}
		}
	}
	return list
}

// TestMutatedHeaders sets each entry of the dynamic section, each field of each program header, and the first words of the
// tables, to values of all sorts. What passes may be no plug-in any more, but the dynamic linker must not die of it.
func TestMutatedHeaders(t *testing.T) {
	l := newLinker(t)
	for name, base := range mutants(t) {
		require.Equal(t, "opened", l.open(t, base, "close"))
		_, err := readBytes(base)
		require.NoError(t, err)
		f, err := elf.NewFile(bytes.NewReader(base))
		require.NoError(t, err)
		isCode := func(addr uint64) bool {
			return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool {
				return p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr-p.Vaddr < p.Memsz
			})
		}
		tags, err := f.DynValue(elf.DT_RELA)
		require.NoError(t, err)
		sizes, err := f.DynValue(elf.DT_RELASZ)
		require.NoError(t, err)
		rela, relaSize := tags[0], sizes[0]
		size, accepted, crashed := uint64(len(base)), 0, 0
		for _, w := range words(t, base) {
			old := binary.LittleEndian.Uint64(base[w.at:])
			for _, value := range []uint64{0, 1, 7, 8, 17, 0xfff, 0x1000, 0x2000, 0x100000, size - 8, size, 1 << 40, 1<<63 - 1,
				^uint64(0), old + 1, old + 8, old - 8, old + 0x1000, old - 0x1000, old * 2, old / 2, old ^ 0x10} {
				data := bytes.Clone(base)
				binary.LittleEndian.PutUint64(data[w.at:], value)
				// Other code is code, too, and a relocation may be relative wherever a pointer is.
				if value == old || isCode(old) && isCode(value) || value == 8 && w.at-rela < relaSize && (w.at-rela)%24 == 8 {
					continue
				}
				if _, err := readBytes(data); err != nil {
					continue
				}
				accepted++
				if got := l.open(t, data, "close"); strings.HasPrefix(got, "CRASH") {
					crashed++
					t.Errorf("%s: %s changed from %#x to %#x: %s", name, w.name, old, value, got)
				}
			}
		}
		t.Logf("%s: %d accepted, %d of them end the process", name, accepted, crashed)
	}
}

// A relocation that writes to the end of what is before an array of functions, and so to the first of these, too.
func TestRelocationBesideAnArray(t *testing.T) {
	for name, base := range mutants(t) {
		f, err := elf.NewFile(bytes.NewReader(base))
		require.NoError(t, err)
		value := func(tag elf.DynTag) uint64 {
			values, err := f.DynValue(tag)
			require.NoError(t, err)
			require.NotEmpty(t, values)
			return values[0]
		}
		const relative = 8 // R_X86_64_RELATIVE
		array, rela := value(elf.DT_INIT_ARRAY), value(elf.DT_RELA)
		inArray := func(where uint64) bool {
			return where-array < value(elf.DT_INIT_ARRAYSZ) || where-value(elf.DT_FINI_ARRAY) < value(elf.DT_FINI_ARRAYSZ)
		}
		changed := 0
		for at := rela; at < rela+value(elf.DT_RELASZ); at += 24 { // in the first segment, where addresses are offsets
			where := binary.LittleEndian.Uint64(base[at:])
			if binary.LittleEndian.Uint64(base[at+8:]) != relative || inArray(where) {
				continue
			}
			for before := uint64(1); before < 8; before++ {
				data := bytes.Clone(base)
				binary.LittleEndian.PutUint64(data[at:], array-before)
				_, err := readBytes(data)
				require.ErrorIs(t, err, ErrMalformed, "%s: %d bytes before", name, before)
				changed++
			}
			break
		}
		if changed == 0 {
			t.Logf("%s has no other relative relocation in DT_RELA", name)
		}
	}
}

// TestMutatedRandomly says how often the dynamic linker dies of what passes. Never is out of reach: what is changed may be
// the code of a function that it calls.
func TestMutatedRandomly(t *testing.T) {
	l := newLinker(t)
	seed, count := int64(1), 1500
	if s := os.Getenv("FERRULE_TEST_MUTATED"); s != "" { // SEED,COUNT
		a, b, _ := strings.Cut(s, ",")
		var err error
		seed, err = strconv.ParseInt(a, 10, 64)
		require.NoError(t, err)
		count, err = strconv.Atoi(b)
		require.NoError(t, err)
	} else if testing.Short() {
		count = 300
	}
	libraries := mutants(t)
	for _, path := range strings.Fields(os.Getenv("FERRULE_TEST_LIBRARIES")) { // others, which need be no plug-ins
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		libraries[path] = data
	}
	names := make([]string, 0, len(libraries))
	for name := range libraries {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		base := libraries[name]
		r := rand.New(rand.NewSource(seed))
		accepted, crashed, opened := 0, 0, 0
		kinds := make(map[string]int)
		for range count {
			data := mutate(r, base)
			_, err := DescribeReader(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				continue
			}
			accepted++
			switch got := l.open(t, data); {
			case got == "opened":
				opened++
			case strings.HasPrefix(got, "CRASH"):
				crashed++
				if dir := os.Getenv("FERRULE_TEST_KEEP"); dir != "" {
					require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("crash-%d-%d.so", seed, crashed)), data, 0o666))
				}
				kinds[strings.Split(got, "\n")[0]]++
			}
		}
		require.Positive(t, accepted, name)
		require.Positive(t, opened, name)
		t.Logf("%s, seed %d: of %d changed files %d pass, %d of them open, %d end the process (%.1f %%) %v", name, seed, count,
			accepted, opened, crashed, 100*float64(crashed)/float64(accepted), kinds)
	}
}

var extremes = [...]uint64{0, 1, 2, 7, 8, 0xff, 0xfff, 0x1000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32,
	1 << 40, 1<<63 - 1, 1 << 63, ^uint64(7), ^uint64(0)}

// mutate changes a library in one to six places, most of them where its tables are.
func mutate(r *rand.Rand, base []byte) []byte {
	b := bytes.Clone(base)
	for range 1 + r.Intn(6) {
		at := r.Intn(len(b) - 16)
		if r.Intn(3) > 0 {
			at = r.Intn(min(len(b)-16, 4096))
		}
		even := at &^ 7
		switch extreme := extremes[r.Intn(len(extremes))]; r.Intn(7) {
		case 0:
			b[at] ^= 1 << r.Intn(8)
		case 1:
			binary.LittleEndian.PutUint32(b[at&^3:], uint32(extreme))
		case 2:
			binary.LittleEndian.PutUint64(b[even:], extreme)
		case 3: // a block over another
			n := min(r.Intn(200), len(b)-at)
			copy(b[at:at+n], b[r.Intn(len(b)-n+1):])
		case 4: // the value of another word
			copy(b[even:even+8], b[r.Intn(len(b)-8)&^7:])
		case 5: // near the file's size
			binary.LittleEndian.PutUint64(b[even:], uint64(len(b)+r.Intn(64)-32))
		case 6: // near its old value
			old := binary.LittleEndian.Uint64(b[even:])
			binary.LittleEndian.PutUint64(b[even:], old+uint64(int64(r.Intn(256)-128)))
		}
	}
	return b
}

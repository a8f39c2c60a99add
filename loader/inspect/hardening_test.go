package inspect

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// committedHardening is what readelf, otool and objdump say of the libraries in testdata.
func committedHardening(file string, format Format) Hardening {
	h := Hardening{ASLR: true}
	switch format {
	case ELF:
		h.RELRO = RELROPartial
	case PE:
		h.HighEntropy = true
	}
	switch file {
	case "elf-amd64-rust.so":
		h.RELRO, h.BindNow = RELROFull, true
	case "elf-mips-clang.so":
		h.RELRO = RELRONone
	case "macho-arm64-clang.dylib":
		h.Signed = true // lld signs for ARM64, which loads nothing else
	case "pe-386-mingw.dll":
		h.HighEntropy = false
	}
	return h
}

// TestHardeningOfBuilds builds probe.c with the linker's options for each of it.
func TestHardeningOfBuilds(t *testing.T) {
	const textRel = `__asm__(".text\n.quad probe_here\nprobe_here: ret\n");`
	lazy, usual := "-Wl,-z,lazy -Wl,-z,relro", Hardening{ASLR: true, RELRO: RELROPartial}
	for _, c := range []struct {
		name, flags, source string
		want                func(*Hardening)
	}{
		{"usual", "", "", func(*Hardening) {}},
		{"bound at once", "-Wl,-z,now", "", func(h *Hardening) { h.RELRO, h.BindNow = RELROFull, true }},
		{"bound at once, by the old tag only", "-Wl,-z,now -Wl,--disable-new-dtags", "",
			func(h *Hardening) { h.RELRO, h.BindNow = RELROFull, true }},
		{"without RELRO", "-Wl,-z,norelro", "", func(h *Hardening) { h.RELRO = RELRONone }},
		{"bound at once, without RELRO", "-Wl,-z,norelro -Wl,-z,now", "",
			func(h *Hardening) { h.RELRO, h.BindNow = RELRONone, true }},
		{"an executable stack", "-Wl,-z,execstack", "", func(h *Hardening) { h.ExecStack = true }},
		{"one segment", "-Wl,-N -nostdlib", "", func(h *Hardening) { h.WriteExec = true }},
		{"text relocations", "-Wl,-z,notext", textRel, func(h *Hardening) { h.TextRel = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := buildELF(t, probeSource(t)+c.source, strings.Fields(lazy+" "+c.flags)...)
			want := usual
			c.want(&want)
			lib, err := File(path)
			require.NoError(t, err)
			if c.name == "one segment" {
				want.RELRO = lib.Hardening.RELRO // linkers differ, and it has nothing to protect
			}
			assert.Equal(t, want, lib.Hardening)

			lib, err = readBytes(wipeSections(t, path))
			require.NoError(t, err)
			assert.Equal(t, want, lib.Hardening, "without section headers")
		})
	}
}

// TestNoStackHeader: what a library says that does not speak of stacks depends on the machine.
func TestNoStackHeader(t *testing.T) {
	for file, want := range map[string]bool{
		"elf-amd64-gcc.so": true, "elf-386-gcc.so": true, "elf-s390x-sysv.so": true,
		"elf-arm64-gcc.so": false, "elf-riscv64-clang.so": false,
	} {
		data := testdata(t, file)
		order := binary.ByteOrder(binary.LittleEndian)
		if data[5] == 2 {
			order = binary.BigEndian
		}
		kind := make([]byte, 4)
		order.PutUint32(kind, ptStack)
		at := bytes.Index(data, kind)
		require.Positive(t, at, file)
		order.PutUint32(data[at:], 0) // PT_NULL
		lib, err := readBytes(data)
		require.NoError(t, err, file)
		assert.Equal(t, want, lib.Hardening.ExecStack, file)
	}
}

func TestHardeningOfMachO(t *testing.T) {
	data := testdata(t, "macho-amd64-clang.dylib")
	flags := binary.LittleEndian.Uint32(data[24:])
	binary.LittleEndian.PutUint32(data[24:], flags|mhAllowStackExecution)
	lib, err := readBytes(data)
	require.NoError(t, err)
	assert.Equal(t, Hardening{ASLR: true, ExecStack: true}, lib.Hardening)

	lib, err = readBytes(fat(false, testdata(t, "macho-arm64-clang.dylib")))
	require.NoError(t, err)
	assert.Equal(t, Hardening{ASLR: true, Signed: true}, lib.Hardening)
}

func TestHardeningOfPE(t *testing.T) {
	for _, c := range []struct {
		name            string
		characteristics uint16
		kind            uint16 // what is added to the file's characteristics
		want            Hardening
	}{
		{"none", 0, 0, Hardening{ExecStack: true}},
		{"all", dllHighEntropy | dllDynamicBase | dllNXCompat | dllGuardCF, 0,
			Hardening{ASLR: true, HighEntropy: true, GuardCF: true}},
		{"without relocations", dllDynamicBase | dllNXCompat, peRelocsStripped, Hardening{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, file := range []string{"pe-386-mingw.dll", "pe-amd64-mingw.dll", "pe-arm64-lld.dll"} {
				data := testdata(t, file)
				head := data[binary.LittleEndian.Uint32(data[60:]):]
				kind := binary.LittleEndian.Uint16(head[22:])
				binary.LittleEndian.PutUint16(head[22:], kind|c.kind)
				binary.LittleEndian.PutUint16(head[24+70:], c.characteristics)
				lib, err := readBytes(data)
				require.NoError(t, err, file)
				assert.Equal(t, c.want, lib.Hardening, file)
			}
		})
	}
	t.Run("a section for everything", func(t *testing.T) {
		data := testdata(t, "pe-amd64-mingw.dll")
		head := data[binary.LittleEndian.Uint32(data[60:]):]
		section := head[24+binary.LittleEndian.Uint16(head[20:]):]
		flags := binary.LittleEndian.Uint32(section[36:])
		binary.LittleEndian.PutUint32(section[36:], flags|scnExec|scnWrite)
		lib, err := readBytes(data)
		require.NoError(t, err)
		assert.True(t, lib.Hardening.WriteExec)
	})
	t.Run("a signature", func(t *testing.T) {
		data := testdata(t, "pe-amd64-mingw.dll")
		head := data[binary.LittleEndian.Uint32(data[60:]):]
		entry := head[24+112+8*dirCertificate:]
		binary.LittleEndian.PutUint32(entry, uint32(len(data)))
		binary.LittleEndian.PutUint32(entry[4:], 8)
		lib, err := readBytes(append(data, 8, 0, 0, 0, 0, 2, 2, 0))
		require.NoError(t, err)
		assert.True(t, lib.Hardening.Signed)
	})
}

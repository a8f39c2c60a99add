package inspect

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// CLibrary is the C library that a library is linked to. One process has one: another one's libraries cannot be loaded.
type CLibrary string

// The C libraries that are told apart. Others are known by their system: FreeBSD's has no name but libc.
const (
	Glibc  CLibrary = "glibc"
	Musl   CLibrary = "musl"
	Bionic CLibrary = "bionic" // Android's
)

// elfSystem collects what says which operating system and C library an ELF file is for. No one thing does: EI_OSABI is 0
// in Linux's libraries and in most others, and only some linkers add a note. So three kinds of witnesses are heard, and
// the most certain one decides: notes, which are there for nothing else; then what it is linked to; then EI_OSABI.
type elfSystem struct {
	noted, linked, osabi string // GOOS words, "" where the witness says nothing
	libc                 CLibrary
	plainLibc            bool   // it needs libc.so without a version: musl's, or Android's
	minor                int    // of the newest GLIBC_2.minor that it needs; -1 for none
	glibc                string // that version
}

// What the witnesses call each system, as GOOS words where Go has one. Each system's C library has a number of its own.
var (
	elfABIs  = map[byte]string{0: "", 3: "", 1: "hpux", 2: "netbsd", 6: "solaris", 9: "freebsd", 12: "openbsd"} // 3: GNU extensions, which other systems' linkers write, too
	gnuNotes = map[uint32]string{0: "linux", 1: "hurd", 2: "solaris", 3: "freebsd", 4: "netbsd"}
	owners   = map[string]string{"Android": "android", "FreeBSD": "freebsd", "NetBSD": "netbsd", "OpenBSD": "openbsd", "DragonFly": "dragonfly"}
	numbers  = map[string]string{"7": "freebsd", "8": "dragonfly", "12": "netbsd", "1": "solaris"}
)

// abi hears EI_OSABI.
func (s *elfSystem) abi(osabi byte) {
	s.minor = -1
	system, known := elfABIs[osabi]
	if !known {
		system = "another"
	}
	s.osabi = system
}

// gnuNote hears the system of a note NT_GNU_ABI_TAG.
func (s *elfSystem) gnuNote(system uint32) { s.noted = cmp.Or(gnuNotes[system], s.noted) }

// note hears the owner of another note of the same number.
func (s *elfSystem) note(owner string) {
	s.noted = cmp.Or(owners[owner], s.noted)
	if owner == "Android" {
		s.libc = Bionic
	}
}

// needs hears the name of a library that the file is linked to.
func (s *elfSystem) needs(name string) {
	base, number, _ := strings.Cut(name, ".so")
	number = strings.TrimPrefix(number, ".")
	switch {
	case strings.HasPrefix(base, "libc.musl-") || strings.HasPrefix(base, "ld-musl-"):
		s.is("linux", Musl)
	case base == "ld-android" || base == "liblog" && number == "" || base == "libandroid":
		s.is("android", Bionic)
	case (base == "libm" || base == "libdl") && number == "" && s.libc == "": // musl has none beside its libc
		s.is("android", Bionic)
	case strings.HasPrefix(base, "ld-linux") || base == "ld64" && number != "":
		s.is("linux", Glibc)
	case base != "libc":
	case number == "6" || number == "6.1" || number == "0.3": // the last two of Alpha and Itanium, and of Hurd
		s.is("linux", Glibc)
		if number == "0.3" {
			s.linked = "hurd"
		}
	case numbers[number] != "":
		s.is(numbers[number], "")
	case number == "":
		s.plainLibc = true
	case strings.Contains(number, "."): // libc.so.97.1
		s.is("openbsd", "")
	}
}

// version hears the name of a symbol version that the file needs.
func (s *elfSystem) version(name string) {
	switch {
	case strings.HasPrefix(name, "GLIBC_"):
		if s.linked != "hurd" {
			s.is("linux", Glibc)
		}
		s.newest(strings.TrimPrefix(name, "GLIBC_"))
	case strings.HasPrefix(name, "FBSD_"):
		s.is("freebsd", "")
	case strings.HasPrefix(name, "SUNW_") || strings.HasPrefix(name, "SYSVABI_"):
		s.is("solaris", "")
	case strings.HasPrefix(name, "ILLUMOS_"):
		s.is("illumos", "")
	case name == "LIBC":
		s.is("android", Bionic)
	}
}

// newest keeps the newest version of glibc.
func (s *elfSystem) newest(version string) {
	switch version {
	case "ABI_DT_RELR": // no symbol has it: it says that the dynamic linker must know DT_RELR
		version = "2.36"
	case "ABI_GNU_TLS", "ABI_GNU2_TLS":
		version = "2.42"
	}
	major, rest, _ := strings.Cut(version, ".")
	word, _, _ := strings.Cut(rest, ".")
	minor, err := strconv.Atoi(word)
	if major != "2" || err != nil || minor < s.minor || minor == s.minor && version < s.glibc {
		return // GLIBC_PRIVATE, among others
	}
	s.minor, s.glibc = minor, version
}

// interpreter hears the path of the dynamic linker, which a library has that can be run, too.
func (s *elfSystem) interpreter(path string) {
	switch {
	case strings.Contains(path, "/ld-musl-"):
		s.is("linux", Musl)
	case strings.Contains(path, "/ld-linux") || strings.Contains(path, "/ld64.so"):
		s.is("linux", Glibc)
	case strings.HasPrefix(path, "/system/bin/linker"):
		s.is("android", Bionic)
	case strings.HasSuffix(path, "/libexec/ld-elf.so.1"):
		s.is("freebsd", "")
	case path == "/usr/libexec/ld.so":
		s.is("openbsd", "")
	case path == "/usr/libexec/ld.elf_so":
		s.is("netbsd", "")
	}
}

func (s *elfSystem) is(system string, libc CLibrary) {
	s.linked = system
	if s.libc == "" {
		s.libc = libc
	}
}

// decide returns the system as a GOOS word, "" where Go has none, the C library and the newest version of glibc needed.
func (s *elfSystem) decide() (goos string, libc CLibrary, glibc string) {
	goos = cmp.Or(s.noted, s.osabi, s.linked, "linux")
	libc = s.libc
	switch goos {
	case "linux", "android":
		if s.plainLibc && libc == "" {
			libc = Musl
		}
		if libc == Bionic {
			goos = "android"
		}
	case "another", "hpux":
		goos = ""
	}
	if goos == "android" {
		libc = Bionic
	}
	return goos, libc, s.glibc
}

// readInterp reads the path of the dynamic linker in s, from PT_INTERP.
func (f *elfFile) readInterp(s segment) error {
	if s.inFile == 0 || s.inFile > maxPath || saturate(s.off, s.inFile) > f.size {
		return nil // nothing that ld.so minds in a library
	}
	b, err := f.view("the path of its dynamic linker", s.off, s.inFile)
	if err == nil {
		f.system.interpreter(cstr(b, maxPath))
	}
	return err
}

// maxVersions bounds the symbol versions of one library: their numbers have 15 bits.
const maxVersions = 1 << 15

// readVersions reads the symbol versions that the library needs and those that it defines.
func (f *elfFile) readVersions(needed []string) error {
	if err := f.readNeededVersions(needed); err != nil {
		return err
	}
	const what, head = "the symbol versions that it defines", 20
	next, ok := f.dynamic.find(dtVerDef)
	for n, more := 0, ok; more; n++ {
		if n > maxVersions {
			return malformed("more than %d defined symbol versions", maxVersions)
		}
		b, err := f.at(what, next, head)
		if err != nil {
			return err
		}
		index, aux, skip := f.u16(b[4:])&versionIndex, saturate(next, uint64(f.u32(b[12:]))), f.u32(b[16:])
		f.maxVersion = max(f.maxVersion, index)
		if b, err = f.at(what, aux, 8); err != nil {
			return err
		}
		if _, err := f.names.str("the name of a symbol version", uint64(f.u32(b))); err != nil {
			return err
		}
		next, more = saturate(next, uint64(skip)), skip != 0
	}
	return nil
}

// versionIndex are the bits of a symbol version's number; the other one says that the version is not the default.
const versionIndex = 0x7fff

func (f *elfFile) readNeededVersions(needed []string) error {
	const what, head = "the symbol versions that it needs", 16
	next, ok := f.dynamic.find(dtVerNeed)
	for n, more := 0, ok; more; {
		b, err := f.at(what, next, head)
		if err != nil {
			return err
		}
		version, aux, skip := f.u16(b), saturate(next, uint64(f.u32(b[8:]))), f.u32(b[12:])
		file := uint64(f.u32(b[4:]))
		if version != 1 {
			return malformed("version %d of the table of symbol versions, expected 1", version)
		}
		if file, err := f.names.str("the name of a library", file); err != nil || !slices.Contains(needed, file) {
			return cmp.Or(err, malformed("symbol versions of %.100q, which the library does not need", file))
		}
		for more := true; more; { // as ld.so, which does not ask for their number
			if n++; n > maxVersions {
				return malformed("more than %d needed symbol versions", maxVersions)
			}
			if b, err = f.at(what, aux, head); err != nil {
				return err
			}
			name, skip := uint64(f.u32(b[8:])), f.u32(b[12:])
			f.maxVersion = max(f.maxVersion, f.u16(b[6:])&versionIndex)
			s, err := f.names.str("the name of a symbol version", name)
			if err != nil {
				return err
			}
			f.system.version(s)
			aux, more = saturate(aux, uint64(skip)), skip != 0
		}
		if n++; n > maxVersions {
			return malformed("more than %d needed symbol versions", maxVersions)
		}
		next, more = saturate(next, uint64(skip)), skip != 0
	}
	return nil
}

package install

import (
	"context"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// isProgram reports whether files of a kind are sidecars: nothing in them says what they are, so their description does, and they themselves once they run.
func isProgram(kind registry.Kind) bool { return kind == registry.Program || kind == registry.Script }

// ProgramKind returns what a sidecar's file is: registry.Script of what begins with #! and has no header of a plug-in, registry.Program of an executable, of whatever system, that is no library; "" of another file. The error is the system's, or an
// inspect.Error.
func ProgramKind(path string) (registry.Kind, error) {
	file := &engine.File{Path: path}
	defer file.Close()
	head, err := file.Head()
	switch {
	case err != nil:
		return "", err
	case inspect.ScriptOf(head) != "": // a plug-in, whatever its first line says
		return "", nil
	case strings.HasPrefix(string(head), "#!"):
		return registry.Script, nil
	case sidecar.Engine().Recognises(file):
		return registry.Program, nil
	}
	return "", nil
}

// takeProgram is take for a sidecar's file: what it says is its description's, or the lock's, until it runs.
func (c *candidate) takeProgram(s *session, path string) {
	r := *c.release
	fault := func(kind error, found, expected, remedy string) {
		c.err = &registry.Error{Plugin: r.Name, Version: r.Version, Source: c.from(), Kind: kind, Found: found, Expected: expected, Remedy: remedy}
	}
	kind, err := ProgramKind(path)
	switch {
	case err != nil:
		c.err = unreadable(r.Name, r.Version, c.from(), err)
	case kind != r.Kind:
		fault(registry.ErrKind, "a file that is no "+string(r.Kind), "one, as its description says", "Ask whoever publishes it to push it again as another version")
	case r.Kind == registry.Script && c.on != registry.AnyPlatform:
		fault(registry.ErrPlatform, "a script for "+c.on, "one for "+registry.AnyPlatform, "Ask whoever publishes it to push it again as another version")
	case c.entry == nil && !c.described:
		fault(registry.ErrMalformed, "a "+string(r.Kind)+" that no description says anything of", "an index beside it", "Ask whoever publishes it to push it by ferrule push")
	default:
		c.has, c.platform = &r, c.on
		c.err = c.check(s)
	}
}

// says is what a lock keeps of the description of a script or a program beside what it asks for: its file does not say it. Of the words that are for people alone, those that no lock can have are left out.
func says(r *registry.Release) []string {
	if !isProgram(r.Kind) {
		return nil
	}
	var all []string
	for _, list := range []struct {
		what  string
		items []string
	}{{"conflicts", r.Conflicts}, {"host", pairs(r.Host)}, {"provides", r.Provides}, {"requires", r.Requires}} {
		for _, item := range list.items {
			all = append(all, list.what+" "+item)
		}
	}
	for what, text := range map[string]string{"license": r.License, "summary": r.Summary} {
		if text != "" && lock.ValidLine(what+" "+text) {
			all = append(all, what+" "+text)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// say adds what a lock's entry knows of the description of a script or a program.
func say(r *registry.Release, e *lock.Entry) {
	for _, line := range e.Says {
		what, text, _ := strings.Cut(line, " ")
		switch what {
		case "conflicts":
			r.Conflicts = append(r.Conflicts, text)
		case "host":
			app, versions, _ := strings.Cut(text, " ")
			if r.Host == nil {
				r.Host = map[string]string{}
			}
			r.Host[app] = versions
		case "license":
			r.License = text
		case "provides":
			r.Provides = append(r.Provides, text)
		case "requires":
			r.Requires = append(r.Requires, text)
		case "summary":
			r.Summary = text
		}
	}
	for _, text := range e.Grants {
		what, item, _ := strings.Cut(text, " ")
		if what == "function" {
			r.Imports = append(r.Imports, item)
			continue
		}
		if r.Permits == nil {
			r.Permits = map[string][]string{}
		}
		r.Permits[what] = append(r.Permits[what], item)
	}
}

var errAsked = errors.New("what it is was all that was asked")

// AskProgram starts the sidecar whose file this is, and has it say what it is: nothing else of it runs. The error says why it did not. digest is that of the bytes that were verified, as sha256:…: a copy of them is
// what runs, and a file that has others by now is a *registry.Error of the kind registry.ErrDigest, of which nothing runs. "" is any file.
func AskProgram(ctx context.Context, path, digest string) (about *abi.Description, err error) {
	how := &engine.Options{Instances: 1}
	if digest != "" {
		bytes, err := hex.DecodeString(registry.Hex(digest))
		if err != nil || len(bytes) != len(engine.Digest{}) {
			return nil, &registry.Error{Path: path, Kind: registry.ErrDigest, Found: fmt.Sprintf("the digest %q", digest), Expected: "sha256: and 64 hexadecimal digits", Remedy: "Give that of the file that was verified"}
		}
		how.SHA256 = (*engine.Digest)(bytes)
	}
	file := &engine.File{Path: path}
	defer file.Close()
	_, _, err = sidecar.Engine().Open(ctx, file, how, func(d *abi.Description) (engine.Host, error) {
		about = d
		return nil, errAsked
	})
	if about != nil {
		return about, nil
	}
	if errors.Is(err, loader.ErrDigest) {
		return nil, &registry.Error{Path: path, Kind: registry.ErrDigest, Found: "another file than the one that was verified", Expected: digest, Remedy: "See who changes it meanwhile, and try again"}
	}
	if crash, ok := errors.AsType[*engine.Crash](err); ok {
		found := "a sidecar that does not say what it is: " + crash.Error() + escape.Line(crash.LastWords())
		err = &registry.Error{Path: path, Kind: registry.ErrMalformed, Found: found, Expected: "its manifest", Remedy: "See what it says, and have it begin as docs/wire.md says"}
	}
	return nil, err
}

// ReleaseOfPrograms is Release for a sidecar, whose files do not say what they are: about is what it says of itself, as whoever publishes it has asked it. There is one script, which
// is for all platforms, or a program for each.
func ReleaseOfPrograms(about *abi.Description, paths ...string) (r *registry.Release, contents map[string]registry.Content, err error) {
	r, contents = Described(about), map[string]registry.Content{}
	fault := func(path string, kind error, found, expected, remedy string) (*registry.Release, map[string]registry.Content, error) {
		return nil, nil, &registry.Error{Plugin: r.Name, Version: r.Version, Path: path, Kind: kind, Found: found, Expected: expected, Remedy: remedy}
	}
	for i, path := range paths {
		if r.Name != "" { // else it was not asked yet
			if err := publishable(r, path); err != nil {
				return nil, nil, err
			}
		}
		kind, err := ProgramKind(path)
		switch {
		case err != nil:
			return nil, nil, unfit(path, err)
		case kind == "":
			return fault(path, registry.ErrMalformed, "a file that is no program", "a script that begins with #!, or an executable", "Write #! and what runs it into its first line, or build a program")
		case i > 0 && kind != r.Kind:
			return fault(path, registry.ErrKind, "a file of the kind "+string(kind)+", beside one of the kind "+string(r.Kind), "files of one kind", "Leave one of the two out. If they are two plug-ins, publish one at a time")
		}
		r.Kind = kind
		platform := registry.AnyPlatform
		if kind == registry.Program {
			if platform = executable(path); platform == "" {
				return fault(path, registry.ErrPlatform, "a program for a system or a processor that it does not say", "one of Linux, macOS or Windows", "Leave it out")
			}
		}
		if other, ok := contents[platform]; ok {
			return fault(path, registry.ErrPlatform, fmt.Sprintf("a second %s for %s, beside %s", kind, platform, other.Path), "one for each platform", "Leave one of the two out")
		}
		contents[platform] = registry.Content{Path: path}
	}
	return r, contents, nil
}

// executable is the platform of a program, "" where it is of none that is known.
func executable(path string) string {
	f, err := regular.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, read := range []func(io.ReaderAt) (string, error){ofELF, ofMachO, ofPE} {
		if platform, err := read(f); err == nil {
			return platform
		}
	}
	return ""
}

var errOther = errors.New("another system or processor")

func platformOf[M comparable](system string, machine M, all map[M]string) (string, error) {
	arch, ok := all[machine]
	if !ok {
		return "", errOther
	}
	return system + "/" + arch, nil
}

func ofELF(r io.ReaderAt) (string, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if f.OSABI != elf.ELFOSABI_NONE && f.OSABI != elf.ELFOSABI_LINUX {
		return "", errOther
	}
	if f.Machine == elf.EM_PPC64 && f.ByteOrder.String() == "LittleEndian" {
		return "linux/ppc64le", nil
	}
	return platformOf("linux", f.Machine, map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x",
		elf.EM_LOONGARCH: "loong64", elf.EM_PPC64: "ppc64"})
}

func ofMachO(r io.ReaderAt) (string, error) {
	f, err := macho.NewFile(r)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return platformOf("darwin", f.Cpu, map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"})
}

func ofPE(r io.ReaderAt) (string, error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return platformOf("windows", f.Machine, map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64", pe.IMAGE_FILE_MACHINE_I386: "386"})
}

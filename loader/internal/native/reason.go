package native

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/deps"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
)

// reason returns the error for a library that the system's loader refused, with what to do about that very cause. at is the
// path that the loader was given: the library's own, or a private copy's; b is what was loaded before a copy, or nil. The
// loader's own words are the error's cause.
func reason(lib *inspect.Library, at string, b *Brought, err error) *inspect.Error {
	if b != nil {
		for name, cause := range b.kept { // the system has not found it in the place where load found it
			if strings.Contains(err.Error(), name+": ") {
				err = cause
				break
			}
		}
	}
	e := &inspect.Error{Path: lib.Path, Kind: ErrLoad, Err: err}
	text := err.Error()
	if lib.Path != "" && at != lib.Path && strings.Contains(text, at) {
		text = strings.ReplaceAll(text, at, lib.Path) // the path of a copy is nobody's to know
		e.Err = &dl.Error{Text: text}
	}
	f := failure{lib: lib, at: at, text: text, brought: b}
	switch {
	case f.otherLibc(e):
	case f.sanitized(e):
	case f.noProc(e):
	default:
		for _, r := range reasons() {
			if m := r.words.FindStringSubmatch(text); m != nil {
				r.explain(&f, m, e)
				return e
			}
		}
		e.Found, e.Expected, e.Remedy = text, "a library that the system's loader takes", otherwise(lib)
	}
	return e
}

// What says that a library was built with a sanitizer whose runtime is not there: a symbol of that, or its library.
var (
	sanitizerSymbol  = regexp.MustCompile(`undefined symbol: (__(asan|hwasan|lsan|msan|tsan|ubsan)_[A-Za-z0-9_]+)`)
	sanitizerLibrary = regexp.MustCompile(`\blib(?:clang_rt\.)?(asan|hwasan|lsan|tsan|ubsan)(?:_standalone)?(?:-[A-Za-z0-9_]+)?\.so`)
)

// sanitized says how a library that was built with a sanitizer is loaded. It reports whether it is one that could not be for that.
func (f *failure) sanitized(e *inspect.Error) bool {
	kind, compiler := "", "clang"
	if m := sanitizerSymbol.FindStringSubmatch(f.text); m != nil {
		e.Symbol, kind = m[1], m[2]
	} else if m := sanitizerLibrary.FindStringSubmatch(f.text); m != nil {
		kind = m[1]
		if !strings.Contains(m[0], "clang") {
			compiler = "gcc"
		}
	} else {
		return false
	}
	flag := map[string]string{"asan": "address", "hwasan": "hwaddress", "lsan": "leak", "msan": "memory", "tsan": "thread", "ubsan": "undefined"}[kind]
	e.Found, e.Expected = "that it was built with -fsanitize="+flag+", whose runtime is not in this process", "the runtime, before the library"
	file := "lib" + kind + ".so"
	if compiler == "clang" {
		if kind == "msan" || kind == "tsan" { // for these clang has none that can be loaded
			e.Remedy = "Run the plug-in's own tests with that sanitizer: their program can be linked to it (see sdk-c's host for tests)"
			if kind == "tsan" {
				e.Remedy += "; gcc's can be loaded"
			}
			return true
		}
		if kind == "ubsan" {
			kind = "ubsan_standalone"
		}
		file = "libclang_rt." + kind + ".so"
		if arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}[runtime.GOARCH]; arch != "" {
			file = "libclang_rt." + kind + "-" + arch + ".so"
		}
	}
	e.Remedy = "Load the runtime before the library: LD_PRELOAD=$(" + compiler + " -print-file-name=" + file +
		") in the environment of the program, or of the worker (isolate.WithEnv)"
	return true
}

// otherwise is what to do where nobody knows the cause.
func otherwise(lib *inspect.Library) string {
	if len(lib.Needed) == 0 {
		return "Build the library for this system, with its own tools"
	}
	return "See that what it is linked to is installed: " + strings.Join(lib.Needed, ", ")
}

// failure is a library that could not be loaded.
type failure struct {
	lib      *inspect.Library
	at, text string
	brought  *Brought
}

// knownReason is a cause, by what system loaders say about it.
type knownReason struct {
	words   *regexp.Regexp
	explain func(f *failure, m []string, e *inspect.Error)
}

// reasons lists the causes, what is more particular first. The words are those of glibc, and where it says so those of
// musl, of macOS' dyld and of Windows. They are not translated: no locale is set in a Go program.
var reasons = sync.OnceValue(func() []knownReason {
	rule := func(words string, explain func(f *failure, m []string, e *inspect.Error)) knownReason {
		return knownReason{regexp.MustCompile(words), explain}
	}
	says := func(found, expected, remedy string) func(*failure, []string, *inspect.Error) {
		return func(f *failure, m []string, e *inspect.Error) {
			e.Found, e.Expected, e.Remedy = found, expected, remedy
		}
	}
	undefined := func(_ *failure, m []string, e *inspect.Error) {
		e.Symbol = m[1]
		e.Found, e.Expected = "a symbol that it uses and that nothing defines", "each to be defined by it or by a library that it is linked to"
		e.Remedy = "Link the library that defines " + m[1] + " (-l), or compile the source file that does; with -Wl,--no-undefined such names are errors when linking"
	}
	return []knownReason{
		rule("(?s)(Too many open files in system|No file descriptors available|[Tt]oo many open files)", func(f *failure, m []string, e *inspect.Error) {
			e.Found, e.Expected = "no file descriptor left to open it with", "some that are free"
			e.Remedy = libfile.NoDescriptors
			if strings.HasSuffix(m[1], "in system") {
				e.Remedy = "Close files that are not needed, or raise the system's limit (sysctl fs.file-max)"
			}
		}),
		rule(`cannot allocate memory in static TLS block|initial-exec TLS resolves to dynamic definition`, says(
			"thread-local variables of the initial-exec model, for which a process that runs has no room left", "the model that can be loaded at any time",
			"Compile the library, and what it is linked to, with -ftls-model=global-dynamic; or open it isolated (isolate.InWorker) with room for them: "+
				"isolate.WithEnv with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536")),
		rule(`cannot enable executable stack`, func(f *failure, m []string, e *inspect.Error) { executableStack(e, "it") }),
		rule(`cannot (?:restore segment prot after reloc|make segment writable for relocation)`, func(f *failure, m []string, e *inspect.Error) {
			e.Found, e.Expected = "relocations in its code, which this system does not allow to be changed (SELinux does so)", "position-independent code"
			e.Remedy = "Compile all of the library with -fPIC, and link with -Wl,-z,text to see what is not"
		}),
		rule("^(.*): version [`']([^']*)' not found \\(required by (.*)\\)", func(f *failure, m []string, e *inspect.Error) { tooOld(e, m[1], m[2], m[3] == f.lib.Path, m[3]) }),
		rule(`^(.*): symbol ([^ ]+), version ([^ ]+) not defined in file ([^ ]+) with link time reference`, func(f *failure, m []string, e *inspect.Error) {
			e.Symbol = m[2]
			tooOld(e, m[4], m[3], m[1] == f.lib.Path, m[1])
		}),
		rule(`undefined symbol: ([^ ,]+)`, undefined),
		rule(`(?i)symbol not found(?: in flat namespace)?:? '?_?([A-Za-z0-9_$.]+)`, undefined), // dyld
		rule(`Error relocating [^:]*: ([^ :]+): symbol not found`, undefined),                  // musl
		rule(`(?i)cannot allocate memory|out of memory|not enough memory|cannot map zero-fill pages`, noMemory),
		rule(`^(.*): (?:failed to map segment from shared object|cannot change memory protections)`, func(f *failure, m []string, e *inspect.Error) {
			file := f.resolve(m[1])
			if file == f.lib.Path { // which a sandbox need not grant
				file = f.at
			}
			switch {
			case f.wasUnfit(m[1], e):
			case libfile.NoExec(file):
				onNoexec(file, e)
			default:
				e.Found, e.Expected = f.text, "a file that may be mapped as code"
				e.Remedy = "See what keeps it from being run: SELinux or AppArmor"
				switch may, known := mappable(file); {
				case may, !known && limited(): // so it is not the file, as far as can be seen
					noMemory(f, m, e)
				case !known:
					e.Expected += ", and memory for it"
					e.Remedy = "Free memory, or raise the limit (ulimit -v, a memory cgroup); where there is enough, see what keeps it from being run: SELinux or AppArmor"
				}
			}
		}),
		rule(`wrong ELF class`, func(f *failure, m []string, e *inspect.Error) {
			name, _, _ := strings.Cut(f.text, ": ")
			if !f.wasUnfit(name, e) {
				notFit(deps.Unfit{Path: name, Err: deps.ErrWordSize}, e)
			}
		}),
		rule(`CPU ISA level is lower than required`, says("code for a newer processor than this one", "code that this processor runs",
			"Build the library for an older processor (-march=x86-64), or run it on a newer one")),
		rule(`^(.*?): (?:invalid ELF header|file too short|ELF file's phentsize|ELF load command|object file has no (?:loadable segments|dynamic section)|only ET_DYN and ET_EXEC|cannot dynamically load (?:position-independent )?executable|ELF file (?:version|OS ABI|ABI version|data encoding)|cannot read file data)`,
			func(f *failure, m []string, e *inspect.Error) {
				if !f.wasUnfit(m[1], e) {
					notFit(deps.Unfit{Path: m[1], Err: errors.New(strings.TrimPrefix(f.text, m[1]+": "))}, e)
				}
			}),
		rule(`^(.*?): cannot open shared object file: (.*)`, missing),
		rule(`Error loading shared library ([^:]*): (.*?)(?: \(needed by .*)?$`, missing), // musl
		rule(`Library not loaded: (\S+)()`, missing),                                      // dyld
		rule(`(?i)code signature|not valid for use in process`, says("a code signature that this system does not accept", "one that it does",
			"Sign the library (codesign -s - FILE), or open it isolated in a program that may load any (the entitlement com.apple.security.cs.disable-library-validation)")),
		rule(`(?i)specified module could not be found`, func(f *failure, m []string, e *inspect.Error) { // Windows does not say which
			e.Found, e.Expected = "that a library that it is linked to is missing", "all of them in its own folder or the system's"
			e.Remedy = "Install or link statically what is missing of " + strings.Join(f.lib.Needed, ", ")
		}),
		rule(`(?i)specified procedure could not be found`, func(f *failure, m []string, e *inspect.Error) {
			e.Found, e.Expected = "that a library that it is linked to lacks a function that it uses", "the versions that it was built with"
			e.Remedy = "Install newer ones of " + strings.Join(f.lib.Needed, ", ")
		}),
		rule(`Dynamic loading not supported`, says("a program that is linked statically", "one with a dynamic linker, without which nothing can be loaded",
			"Link the host dynamically: without -static")),
	}
})

// onNoexec says that a file lies where nothing may be run from.
func onNoexec(file string, e *inspect.Error) {
	e.Found, e.Expected = "that the file system of "+file+" is mounted noexec", "one from which programs and libraries may be run"
	e.Remedy = "Put the library on another file system, or mount that one without noexec"
}

// wasUnfit says what is wrong with the file that the search for a name led to. It reports whether there was one.
func (f *failure) wasUnfit(name string, e *inspect.Error) bool {
	var unfit []deps.Unfit
	if f.brought != nil { // as it was before a sandbox kept it from being read
		unfit = f.brought.unfit
	}
	if unfit == nil {
		_, unfit, _ = deps.Resolve(f.lib.Path, f.lib)
	}
	for _, u := range unfit {
		if u.Name == name || u.Path == name {
			notFit(u, e)
			return true
		}
	}
	return false
}

// notFit says what to do about a file that cannot be loaded.
func notFit(u deps.Unfit, e *inspect.Error) {
	base := filepath.Base(u.Path)
	if e.Err == nil {
		e.Err = fmt.Errorf("%s: %w", u.Path, u.Err)
	}
	switch {
	case errors.Is(u.Err, deps.ErrWordSize), errors.Is(u.Err, deps.ErrForeign):
		e.Found, e.Expected = u.Path+" "+u.Err.Error(), "libraries for "+runtime.GOOS+"/"+runtime.GOARCH
		e.Remedy = "Install " + base + " for " + runtime.GOARCH
	case errors.Is(u.Err, deps.ErrNoExec):
		onNoexec(u.Path, e)
	case errors.Is(u.Err, fs.ErrPermission):
		e.Found, e.Expected = "that it is linked to "+u.Path+", which the process may not read", "to be able to read it"
		e.Remedy = "Check its permissions; in a sandbox, list it in Policy.Read unless it lies in the plug-in's own folder"
	default:
		e.Found, e.Expected = u.Path+": "+u.Err.Error(), "each library that it is linked to, and all of it"
		e.Remedy = "Install " + base + " anew, or link to another one"
	}
}

// noMemory is what to do where memory is short.
func noMemory(_ *failure, _ []string, e *inspect.Error) {
	e.Found, e.Expected = "not enough memory to load it", "memory for its code, its data and its thread-local variables"
	e.Remedy = "Free memory, or raise the limit (ulimit -v, a memory cgroup; Policy.Memory in a sandbox)"
	if allMapped() {
		e.Found, e.Expected = "as many mappings of memory in this process as the system allows", "room for one for each of its segments"
		e.Remedy = "Raise the limit (sysctl vm.max_map_count), or open some plug-ins isolated (isolate.InWorker)"
	}
}

// missing is what to do about a library that is not found, or not to be read: m has its name and the system's words.
func missing(f *failure, m []string, e *inspect.Error) {
	name, words := m[1], m[2]
	if name == f.lib.Path || name == f.at {
		e.Found, e.Expected, e.Remedy = "that the file is not there any more: "+words, "it to stay as it was when it was read", "Open it again"
		return
	}
	base := filepath.Base(name)
	if f.wasUnfit(name, e) {
		return
	}
	if strings.Contains(words, "Permission denied") {
		notFit(deps.Unfit{Path: name, Err: fs.ErrPermission}, e)
		return
	}
	e.Found, e.Expected = "that it is linked to "+name+", which is not found", "all that it is linked to"
	e.Remedy = "Install " + base + ", or link it statically"
	if len(f.lib.RunPath) > 0 {
		e.Remedy += "; it was looked for in " + strings.Join(f.lib.RunPath, ", ") + ", and where the system has its libraries"
	} else if f.lib.Format == inspect.ELF {
		e.Remedy += "; if it lies beside the plug-in, link with -Wl,-rpath,'$ORIGIN'"
	}
}

// resolve returns the path of the file that the library means by a name; the name itself where that is not known.
func (f *failure) resolve(name string) string {
	found, _, err := deps.Resolve(f.lib.Path, f.lib)
	if err != nil {
		return name
	}
	for _, l := range found {
		if l.Name == name {
			return l.Path
		}
	}
	return name
}

// tooOld says that a library is installed in another version than the one that is needed. own tells that it is the plug-in's
// library that needs it, by whom, or else something that it is linked to.
func tooOld(e *inspect.Error, file, version string, own bool, by string) {
	name := filepath.Base(file)
	needs := "needs"
	if !own {
		needs = "is linked to " + filepath.Base(by) + ", which needs"
	}
	e.Found = fmt.Sprintf("%s without the version %s", file, version)
	e.Expected = fmt.Sprintf("one that has it: the plug-in %s %s", needs, version)
	switch number, glibc := strings.CutPrefix(version, "GLIBC_"); {
	case glibc:
		e.Remedy = "Build the plug-in on a system with the oldest glibc that it is to run on (it needs " + number + "), or run it on a newer system"
	case strings.HasPrefix(version, "GLIBCXX_"), strings.HasPrefix(version, "CXXABI_"), strings.HasPrefix(version, "GCC_"):
		e.Remedy = "Link with -static-libstdc++ -static-libgcc, or install the " + name + " of a newer compiler"
	default:
		e.Remedy = "The installed " + name + " is too old, or another library of that name: install one that has " + version + ", or build the plug-in against the installed one"
	}
}

// otherLibc recognizes a library that is made for the other C library of Linux.
func (f *failure) otherLibc(e *inspect.Error) bool {
	if f.lib.OS != "linux" || runtime.GOOS != "linux" {
		return false
	}
	musl := slices.ContainsFunc(f.lib.Needed, func(name string) bool { return name == "libc.so" || strings.HasPrefix(name, "libc.musl-") })
	glibc := slices.Contains(f.lib.Needed, "libc.so.6")
	if musl == glibc || musl == dl.Musl() {
		return false
	}
	other, own := "musl", "glibc"
	if glibc {
		other, own = own, other
	}
	e.Found, e.Expected = "a library built for "+other, "one built for "+own+", the C library of this host"
	e.Remedy = "Build the plug-in on a system with " + own + ", or run the host on one with " + other
	return true
}

// noProc recognizes that the path of a private copy leads nowhere because there is no /proc.
func (f *failure) noProc(e *inspect.Error) bool {
	if !strings.HasPrefix(f.at, "/proc/") || procMounted() {
		return false
	}
	e.Found, e.Expected = "no /proc in this process's file system", "to load the private copy through /proc/self/fd"
	e.Remedy = "Mount /proc where the host runs (mount -t proc proc /proc); or open the library in the process, without a digest or a private copy"
	return true
}

// executableStack says what asks for an executable stack.
func executableStack(e *inspect.Error, who string) {
	e.Kind = ErrExecStack
	e.Found = "that " + who + " asks for one"
	e.Expected = "stacks that are data: with executable ones each overflow of a buffer on a stack can run code, in the whole process"
	e.Remedy = "Link it with -Wl,-z,noexecstack, and give its assembly files .section .note.GNU-stack,\"\",%progbits; or allow it with loader.WithExecutableStack"
}

// ErrExecStack is the kind of the error for a library that asks for an executable stack.
var ErrExecStack = errors.New("asks for an executable stack")

// checkLibraries refuses a library that asks for an executable stack, or brings one along that does: the stacks of the whole
// process would become executable. It refuses one that brings a file along whose end is missing: the dynamic linker maps it
// and gets a fault of the bus, which nobody can return as an error.
func checkLibraries(lib *inspect.Library, execStack bool) error {
	if lib.Format != inspect.ELF {
		return nil // other systems do not make stacks executable for a library
	}
	e := &inspect.Error{Path: lib.Path}
	if lib.Hardening.ExecStack && !execStack {
		executableStack(e, "the library")
		return e
	}
	found, unfit, err := deps.Resolve(lib.Path, lib)
	if err != nil {
		if errors.As(err, &e) {
			e.Path = lib.Path
		}
		return err
	}
	for _, u := range unfit {
		if errors.Is(u.Err, deps.ErrShort) && !dl.Loaded(u.Name) {
			e.Kind = ErrLoad
			notFit(u, e)
			return e
		}
	}
	for _, l := range found {
		if l.ExecStack && !execStack {
			executableStack(e, l.Path+", which it is linked to,")
			return e
		}
	}
	return nil
}

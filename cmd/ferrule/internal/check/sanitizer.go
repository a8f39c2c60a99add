package check

import (
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crash"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// sanitizer is the runtime that a library built with -fsanitize=… needs in the process before anything else.
type sanitizer struct {
	name    string // of the sanitizer, such as "AddressSanitizer"; empty where none has to be loaded
	runtime string // a name or a path for LD_PRELOAD
}

// sanitizerOf says what is to be loaded before a library. That is nothing where the runtime is not found, or cannot be loaded.
func sanitizerOf(path string, lib *inspect.Library) (s sanitizer) {
	if lib.Format != inspect.ELF || lib.OS != "linux" {
		return s
	}
	names := map[string]string{"asan": "AddressSanitizer", "tsan": "ThreadSanitizer", "lsan": "LeakSanitizer", "ubsan_standalone": "UndefinedBehaviorSanitizer"}
	for _, needed := range lib.Needed {
		for kind, name := range names {
			switch {
			case strings.HasPrefix(needed, "lib"+kind+".so"): // gcc's, which is where the system looks
				if throws(path) { // the runtime looks for that when it starts
					needed += " libstdc++.so.6"
				}
				return sanitizer{name, needed}
			case strings.HasPrefix(needed, "libclang_rt."+kind+"-"), needed == "libclang_rt."+kind+".so":
				return clangs(name, kind)
			}
		}
	}
	f, err := elf.Open(path)
	if err != nil {
		return s
	}
	defer f.Close()
	wanted, _ := f.ImportedSymbols() // clang links a program to the runtime, and no library
	wants := func(prefix string) bool {
		return slices.ContainsFunc(wanted, func(s elf.ImportedSymbol) bool { return strings.HasPrefix(s.Name, prefix) && s.Library == "" })
	}
	switch {
	case wants("__asan_"): // which has the other's, too
		return clangs(names["asan"], "asan")
	case wants("__ubsan_") && !slices.ContainsFunc(lib.Needed, func(name string) bool { return strings.HasPrefix(name, "libubsan.so") }):
		return clangs(names["ubsan_standalone"], "ubsan_standalone")
	}
	return s
}

// mayBeSanitized reports whether a sanitizer may be in a process that has loaded a library: in the library, in a library beside it that it needs, or preloaded by the user.
func mayBeSanitized(path string, lib *inspect.Library) bool {
	for _, variable := range []string{"LD_PRELOAD", "DYLD_INSERT_LIBRARIES"} {
		if runtimeFile.MatchString(os.Getenv(variable)) {
			return true
		}
	}
	if throughEngine(lib) { // what is no library has none, and what it loads itself gets none without these
		return false
	}
	if slices.ContainsFunc(lib.Needed, runtimeFile.MatchString) || namesRuntime(path) {
		return true
	}
	return slices.ContainsFunc(lib.Needed, func(name string) bool { return namesRuntime(filepath.Join(filepath.Dir(path), filepath.Base(name))) })
}

// namesRuntime reports whether a file has the name of a function of a sanitizer's runtime in it, as every library has that calls one, or brings it. It does where the file cannot
// be read to its end.
func namesRuntime(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	const overlap = 16 // longer than a name
	buffer, kept := make([]byte, 1<<20), 0
	for {
		n, err := io.ReadFull(f, buffer[kept:])
		have := buffer[:kept+n]
		switch {
		case runtimeFunction.Match(have):
			return true
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return false
		case err != nil:
			return true
		}
		kept = copy(buffer, have[len(have)-overlap:])
	}
}

// throws reports whether a library can throw a C++ exception.
func throws(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, table := range []func() ([]elf.Symbol, error){f.DynamicSymbols, f.Symbols} {
		symbols, _ := table()
		if slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "__cxa_throw" }) {
			return true
		}
	}
	return false
}

// goesOn reports whether a standard error has a report of a sanitizer that goes on, unless it was told to end the process.
func goesOn(stderr string) bool { return undefined.MatchString(stderr) || raced.MatchString(stderr) }

// clangs is a runtime that clang has, or nothing. Its name has the architecture, but where each target has a folder of its own.
func clangs(name, kind string) (s sanitizer) {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	for _, file := range []string{"libclang_rt." + kind + "-" + arch + ".so", "libclang_rt." + kind + ".so"} {
		out, err := exec.Command("clang", "-print-file-name="+file).Output()
		if path := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(path) {
			return sanitizer{name, path}
		}
	}
	return s
}

// preloaded is the environment of a worker with that runtime. What is said there comes before what the user's own variables say, but for
// where and how reports are written, which are read, and that AddressSanitizer's end the process, which says whose they are. Faults are not the runtime's: the kit records them, and Go reports them. No leaks are
// looked for at the end, when Go's memory is still there; and a race that was reported does not change how the process ends. Frames are written
// as always, and behind each the file that it is in.
func (s sanitizer) preloaded() []string {
	const faults = "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:use_sigaltstack=0:detect_leaks=0:"
	env := []string{"LD_PRELOAD=" + strings.TrimSpace(s.runtime+" "+os.Getenv("LD_PRELOAD"))}
	for variable, more := range map[string]string{"ASAN_OPTIONS": "detect_odr_violation=0:", "LSAN_OPTIONS": "", "TSAN_OPTIONS": "exitcode=0:", "UBSAN_OPTIONS": ""} {
		written := ":color=never:log_path=stderr"
		if variable == "ASAN_OPTIONS" {
			written += ":halt_on_error=1:strip_path_prefix='':stack_trace_format='    #%n %p %F %L [in %m]'"
		}
		env = append(env, variable+"="+faults+more+os.Getenv(variable)+written)
	}
	return env
}

var (
	runtimeFunction  = regexp.MustCompile(`__(?:asan|hwasan|lsan|msan|tsan|ubsan)_`)
	runtimeFile      = regexp.MustCompile(`lib(?:asan|hwasan|lsan|msan|tsan|ubsan)\b|libclang_rt\.`)
	sanitizerError   = regexp.MustCompile(`(?m)^==\d+== ?(ERROR: \w+Sanitizer: .*|\w*San runtime .*|\w+Sanitizer: CHECK failed: .*)$`)
	sanitizerSummary = regexp.MustCompile(`(?m)^SUMMARY: ((?:Address|HWAddress|Leak|Memory)Sanitizer: .*)$`) // those that end the process
	sanitizerFrame   = regexp.MustCompile(`(?m)^ +#(\d+) 0x[0-9a-f]+ (?:in )?(.*) \[in (.*)\]$`)
	undefined        = regexp.MustCompile(`(?m)^(.+?:\d+:\d+): (runtime error: .*)\n?`)       // of UndefinedBehaviorSanitizer, which goes on
	raced            = regexp.MustCompile(`(?m)^SUMMARY: ThreadSanitizer: (.* (\S+) in .*)$`) // of ThreadSanitizer, which goes on
	otherReports     = regexp.MustCompile(`(?ms)^={18}\nWARNING: ThreadSanitizer: .*?^={18}\n|^ThreadSanitizer: reported [^\n]*\n|^SUMMARY: UndefinedBehaviorSanitizer: [^\n]*\n`)
)

// reported is what a sanitizer says of why it has ended the process: the summary has file and line. "" where none has.
func reported(stderr string) string {
	if m := sanitizerSummary.FindStringSubmatch(stderr); m != nil {
		return m[1]
	}
	if m := sanitizerError.FindStringSubmatch(stderr); m != nil {
		return strings.TrimPrefix(m[1], "ERROR: ")
	}
	return ""
}

// reportedFrames are the frames of a sanitizer's report: those of where it was, and what had called that, up to the library's own. A function that has called itself is
// there once.
func reportedFrames(report, library string) (frames []string) {
	const most = 12
	outermost, is := 0, crash.IsFile(library)
	for n, m := range sanitizerFrame.FindAllStringSubmatch(report, -1) {
		if m[1] != strconv.Itoa(n) {
			break // another stack, such as that on which the memory was freed
		}
		if len(frames) == 0 || frames[len(frames)-1] != m[2] {
			if len(frames) == most {
				break
			}
			frames = append(frames, m[2])
		}
		if is(m[3]) {
			outermost = len(frames)
		}
	}
	return frames[:outermost]
}

// lastReport is the end of a standard error, from the last report of a sanitizer on that has ended the process. It has 256 frames of each stack, whose names may be long.
func lastReport(stderr *os.File) string {
	said := end(stderr, 1<<20)
	if all := sanitizerError.FindAllStringIndex(said, -1); all != nil {
		return said[all[len(all)-1][0]:]
	}
	return said
}

// besidesReports is what there is in a standard error beside what sanitizers have reported that go on.
func besidesReports(stderr string) string {
	if at := strings.Index(stderr, "SUMMARY: ThreadSanitizer: "); at >= 0 && !strings.Contains(stderr[:at], "WARNING: ThreadSanitizer: ") {
		stderr = "==================\nWARNING: ThreadSanitizer: " + stderr // its beginning was cut off
	}
	return undefined.ReplaceAllString(otherReports.ReplaceAllString(stderr, ""), "")
}

// findReports reports what the sanitizers that go on have said, each place once in all cases.
func (p *parent) findReports(r *Result, stderr string) {
	report := func(place, rule string, f Finding) {
		if p.undefined[place] {
			return
		}
		p.undefined[place] = true
		f.Rule, f.Severity, f.Mend = rule, Error, "See that line: what the sanitizer reports is an error, also where the result looks right"
		r.add(f)
	}
	for _, m := range undefined.FindAllStringSubmatch(stderr, -1) {
		report(m[1], r.Rules[0], Finding{Seen: m[1] + ": " + m[2], Expected: "no undefined behaviour, which " + m[1] + " has"})
	}
	for _, m := range raced.FindAllStringSubmatch(stderr, -1) {
		f := Finding{Seen: "ThreadSanitizer: " + m[1], Expected: "nothing that ThreadSanitizer reports, as at " + m[2]}
		if strings.HasPrefix(m[1], "data race") {
			f.Expected = "memory that threads share to be locked or atomic, as at " + m[2] + ", or a manifest that says which threads may call"
		}
		report(m[2], "R13", f)
	}
}

package check

import (
	"debug/elf"
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
func goesOn(stderr string) bool { return wentOn.MatchString(stderr) }

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

// environment is that of a worker. It has the runtime, if any, before everything else, and options for every runtime that comes into the process, with whatever library. They come before what the
// user's own variables say, but for where and how reports are written, which are read, and that AddressSanitizer's end the process, which says whose they are. Each has a summary, by
// which it is told from what a plug-in writes. Faults are not the runtime's: the kit records them, and Go reports them. No leaks are
// looked for at the end, when Go's memory is still there; and a race that was reported does not change how the process ends. Frames are written
// as always, and behind each the file that it is in.
func (s sanitizer) environment() (env []string) {
	const faults = "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:use_sigaltstack=0:detect_leaks=0:"
	if s.name != "" {
		env = append(env, "LD_PRELOAD="+strings.TrimSpace(s.runtime+" "+os.Getenv("LD_PRELOAD")))
	}
	for variable, more := range map[string]string{"ASAN_OPTIONS": "detect_odr_violation=0:", "LSAN_OPTIONS": "", "TSAN_OPTIONS": "exitcode=0:", "UBSAN_OPTIONS": ""} {
		written := ":color=never:log_path=stderr:print_summary=1"
		if variable == "ASAN_OPTIONS" {
			written += ":halt_on_error=1:strip_path_prefix='':stack_trace_format='    #%n %p %F %L [in %m]'"
		}
		env = append(env, variable+"="+faults+more+os.Getenv(variable)+written)
	}
	return env
}

var (
	sanitizerError = regexp.MustCompile(`(?m)^==(\d+)== ?(ERROR: \w+Sanitizer: .*|\w*San runtime .*|\w+Sanitizer: CHECK failed: .*)$`)
	sanitizerFrame = regexp.MustCompile(`(?m)^ +#(\d+) 0x[0-9a-f]+ (?:in )?(.*) \[in (.*)\]$`)
	summary        = regexp.MustCompile(`(?m)^SUMMARY: ((\w+)Sanitizer: .*)$`)
	wentOn         = regexp.MustCompile(`(?m)^SUMMARY: (?:Thread|UndefinedBehavior)Sanitizer: `)
	undefined      = regexp.MustCompile(`(?m)^((.+?:\d+):\d+): (runtime error: .*)\n?`) // of UndefinedBehaviorSanitizer; others may write such lines, which its summary tells
	raced          = regexp.MustCompile(`^ThreadSanitizer: ((?:.* )?(\S+) in .*)$`)
	otherReports   = regexp.MustCompile(`(?ms)^={18}\nWARNING: ThreadSanitizer: .*?^={18}\n|^ThreadSanitizer: reported [^\n]*\n|^SUMMARY: UndefinedBehaviorSanitizer: [^\n]*\n`)
)

// reported is what a sanitizer says in a report of why it has ended the process: the summary has file and line. "" where there is no report.
func reported(report string) string {
	m := sanitizerError.FindStringSubmatch(report)
	if m == nil {
		return ""
	}
	why := strings.TrimPrefix(m[2], "ERROR: ")
	for _, s := range summary.FindAllStringSubmatch(report, -1) {
		if strings.HasPrefix(why, s[2]+"Sanitizer: ") {
			return s[1]
		}
	}
	return why
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

// lastReport is the end of a standard error, from the last report of a sanitizer on that has ended the process of that number; "" where none has. It has 256 frames of each stack, whose names may be long.
func lastReport(stderr *os.File, process int) (report string) {
	said := end(stderr, 1<<20)
	for _, at := range sanitizerError.FindAllStringSubmatchIndex(said, -1) {
		if said[at[2]:at[3]] == strconv.Itoa(process) {
			report = said[at[0]:]
		}
	}
	return report
}

// besidesReports is what there is in a standard error beside what sanitizers have reported that go on.
func besidesReports(stderr string) string {
	if at := strings.Index(stderr, "SUMMARY: ThreadSanitizer: "); at >= 0 && !strings.Contains(stderr[:at], "WARNING: ThreadSanitizer: ") {
		stderr = "==================\nWARNING: ThreadSanitizer: " + stderr // its beginning was cut off
	}
	all := summary.FindAllStringSubmatch(stderr, -1)
	return undefined.ReplaceAllStringFunc(otherReports.ReplaceAllString(stderr, ""), func(line string) string {
		if place := undefined.FindStringSubmatch(line)[2]; slices.ContainsFunc(all, func(s []string) bool { return isAt(s, place) }) {
			return ""
		}
		return line
	})
}

// isAt reports whether a summary is one of UndefinedBehaviorSanitizer, of that file and line.
func isAt(summary []string, place string) bool {
	return summary[2] == "UndefinedBehavior" && strings.Contains(summary[1]+" ", " "+place+":")
}

// findReports reports what sanitizers have said in a process, each place once in all cases. Where the process has lived on, that is also what those said that should have ended it.
func (p *parent) findReports(r *Result, stderr string, lived bool) {
	report := func(place, rule string, f Finding) {
		if p.reported[place] {
			return
		}
		p.reported[place] = true
		f.Rule, f.Severity, f.Mend = rule, Error, "See that line: what the sanitizer reports is an error, also where the result looks right"
		r.add(f)
	}
	lines := undefined.FindAllStringSubmatch(stderr, -1)
	for _, s := range summary.FindAllStringSubmatch(stderr, -1) {
		is := raced.FindStringSubmatch(s[1])
		i := slices.IndexFunc(lines, func(m []string) bool { return isAt(s, m[2]) })
		switch {
		case i >= 0:
			for _, m := range lines[i:] {
				if isAt(s, m[2]) {
					report(m[1], r.Rules[0], Finding{Seen: m[1] + ": " + m[3], Expected: "no undefined behaviour, which " + m[1] + " has"})
				}
			}
		case is != nil:
			f := Finding{Seen: s[1], Expected: "nothing that ThreadSanitizer reports, as at " + is[2]}
			if strings.HasPrefix(is[1], "data race") {
				f.Expected = "memory that threads share to be locked or atomic, as at " + is[2] + ", or a manifest that says which threads may call"
			}
			report(is[2], "R13", f)
		case lived || wentOn.MatchString(s[0]):
			report(s[1], r.Rules[0], Finding{Seen: s[1], Expected: "nothing that a sanitizer reports, such as " + s[1]})
		}
	}
}

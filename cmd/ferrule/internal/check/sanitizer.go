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
// user's own variables say, but for where and how reports are written, which are read, and that AddressSanitizer's end the process, which says whose they are. Each has a summary, which
// tells it from what a plug-in writes. Faults are not the runtime's: the kit records them, and Go reports them. No leaks are
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
	raced          = regexp.MustCompile(`^ThreadSanitizer: ((?:.* )?(\S+) in .*)$`)
	races          = regexp.MustCompile(`(?ms)^={18}\nWARNING: ThreadSanitizer: .*?(?:^={18}\n|\z)|^ThreadSanitizer: reported [^\n]*\n`)
	// What a report begins with, and its summary. It begins with the process's number, but for ThreadSanitizer's, and for UndefinedBehaviorSanitizer's, which begins with the summary's place.
	reportLine = regexp.MustCompile(`(?m)^(?:SUMMARY: (?P<summary>(?P<name>\w+)Sanitizer: (?P<rest>.*))|(?P<ended>==\d+== ?(?:ERROR|WARNING): \w+Sanitizer: .*)|(?P<race>WARNING: ThreadSanitizer: .*)|` +
		`(?P<before>.+): (?P<fault>runtime error: .*))$`)
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

// A report is what a sanitizer has said, from its beginning to its summary.
type report struct {
	from, to int    // in the standard error; of undefined behaviour only
	summary  string // from the sanitizer's name on
	place    string // of undefined behaviour: file, line and column
	fault    string // of undefined behaviour: what it was
	goesOn   bool   // the sanitizer does, unless it was told to end the process
}

// reports are those in a standard error. A summary alone is none: a plug-in may write such a line, and one that looks like the beginning of a report.
func reports(stderr string) (all []report) {
	const most = 16 // beginnings before a summary that may be its own, as other threads and processes write, too
	var faults []report
	ended, races := 0, 0
	for _, m := range reportLine.FindAllStringSubmatchIndex(stderr, -1) {
		group := func(name string) string {
			i := 2 * reportLine.SubexpIndex(name)
			return stderr[max(0, m[i]):max(0, m[i+1])]
		}
		switch {
		case group("fault") != "":
			faults = append(faults[max(0, len(faults)+1-most):], report{from: m[0], place: group("before"), fault: group("fault")})
			continue
		case group("ended") != "":
			ended++
			continue
		case group("race") != "":
			races++
			continue
		}
		name, r := group("name"), report{summary: group("summary"), goesOn: true}
		for _, f := range slices.Backward(faults) {
			if place := placeIn(group("rest"), f.place); place != "" && name == "UndefinedBehavior" {
				r.from, r.to = f.from+len(f.place)-len(place), min(m[1]+1, len(stderr))
				r.place, r.fault = place, f.fault
				break
			}
		}
		switch {
		case r.fault != "":
		case name == "Thread" && races > 0:
			races--
		case ended > 0:
			ended--
			r.goesOn = false
		default:
			continue
		}
		all = append(all, r)
	}
	return all
}

// placeIn is the place in a summary of UndefinedBehaviorSanitizer, such as "undefined-behavior a.c:3:5 in ", where what stands before a fault ends with it. "" where it does not: what the plug-in
// has written may stand before it in the line.
func placeIn(summary, before string) string {
	_, place, _ := strings.Cut(summary, " ")
	function := max(0, strings.LastIndex(place, " in "))
	for _, place := range []string{place, place[:function]} {
		if place != "" && strings.HasSuffix(before, place) {
			return place
		}
	}
	return ""
}

// besidesReports is what there is in a standard error beside what sanitizers have reported that go on.
func besidesReports(stderr string) string {
	var beside strings.Builder
	at := 0
	for _, r := range reports(stderr) {
		if r.fault != "" {
			beside.WriteString(stderr[at:max(at, r.from)])
			at = r.to
		}
	}
	beside.WriteString(stderr[at:])
	return races.ReplaceAllString(beside.String(), "")
}

// findReports reports what sanitizers have said in a process, each place once in all cases. Where the process has lived on, that is also what those said that should have ended it. It says
// whether there is a report of one that goes on, which may have been told to end the process.
func (p *parent) findReports(r *Result, stderr string, lived bool) (goesOn bool) {
	add := func(place, rule string, f Finding) {
		if p.reported[place] {
			return
		}
		p.reported[place] = true
		f.Rule, f.Severity, f.Mend = rule, Error, "See that line: what the sanitizer reports is an error, also where the result looks right"
		r.Findings = append(r.Findings, f) // no other has this place
	}
	for _, s := range reports(stderr) {
		goesOn = goesOn || s.goesOn
		is := raced.FindStringSubmatch(s.summary)
		switch {
		case s.fault != "":
			add(s.place, r.Rules[0], Finding{Seen: s.place + ": " + s.fault, Expected: "no undefined behaviour, which " + s.place + " has"})
		case is != nil && s.goesOn:
			f := Finding{Seen: s.summary, Expected: "nothing that ThreadSanitizer reports, as at " + is[2]}
			if strings.HasPrefix(is[1], "data race") {
				f.Expected = "memory that threads share to be locked or atomic, as at " + is[2] + ", or a manifest that says which threads may call"
			}
			add(is[2], "R13", f)
		case lived || s.goesOn:
			add(s.summary, r.Rules[0], Finding{Seen: s.summary, Expected: "nothing that a sanitizer reports, such as " + s.summary})
		}
	}
	return goesOn
}
